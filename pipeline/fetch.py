"""fetch: raw data as it is published, checked, into data/raw/<dataset>."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline import stage
from text2image import archives, fetching, shapes, sharpener, skip_thoughts, toronto
from text2image.config import parameter
from text2image.errors import UserError
from text2image.shapes import ShapesConfig


@dataclass(frozen=True)
class Embedded:
    """Data that comes with the project's packages: scikit-learn's digits."""

    source: Literal["scikit-learn"]


@dataclass(frozen=True)
class Drawn:
    """Data drawn from a seed."""

    source: Literal["drawn"]
    scenes: ShapesConfig


@dataclass(frozen=True)
class Mnist:
    """MNIST: the archive's four files, below mnist/ of each base URL, or mnist.h5 of the dataset host."""

    source: Literal["archive", "h5"]
    archive_urls: tuple[str, ...]
    h5_urls: tuple[str, ...]


@dataclass(frozen=True)
class Toronto:
    """The dataset host's captioned pictures."""

    source: Literal["toronto"]
    base_urls: tuple[str, ...]
    side: int = parameter(least=1)


@dataclass(frozen=True)
class Sharpening:
    """The authors' sharpening network, of the dataset host, and the skip-thoughts that it hears, of their own page."""

    source: Literal["sharpening"]
    base_urls: tuple[str, ...]
    models_urls: tuple[str, ...]


SOURCES = {"scikit-learn": Embedded, "drawn": Drawn, "archive": Mnist, "h5": Mnist, "toronto": Toronto,
           "sharpening": Sharpening}


def fetch(parameters: dict[str, Any], name: str) -> None:
    config = stage.variant(parameters, ("datasets", name, "fetch"), "source", SOURCES)
    keep = stage.state_folder() / f"fetch-{name}"
    files: list[Path] = []
    with stage.output_folder(Path("data/raw") / name) as out:
        if isinstance(config, Embedded):
            archives.write_digits(out / archives.DIGITS_FILE)
        elif isinstance(config, Drawn):
            archives.write_scenes(out, {split: shapes.draw_split(split, getattr(config.scenes, split), config.scenes)
                                        for split in archives.SPLITS})
        elif isinstance(config, Toronto):
            files = fetching.fetch(toronto.checks(config.side), config.base_urls, keep)
            check_together(keep, config.side)
        elif isinstance(config, Sharpening):
            files = fetching.fetch({f"{toronto.FOLDER}/{sharpener.GAN}": sharpener.read_gan}, config.base_urls, keep)
            files += fetching.fetch(skip_thoughts.checks(), config.models_urls, keep)
            check_vectors(keep)
        elif config.source == "archive":
            files = fetching.fetch({f"mnist/{file}": archives.check_mnist_file for file in archives.MNIST_FILES},
                                   config.archive_urls, keep)
        else:
            files = fetching.fetch({f"~emansim/datasets/{archives.MNIST_H5}": archives.read_mnist_h5}, config.h5_urls, keep)
        for file in files:  # `keep` may lie on another disk, and goes when all is in place
            shutil.copyfile(file, out / file.name)
    shutil.rmtree(keep, ignore_errors=True)


def check_together(keep: Path, side: int) -> None:
    """Files that contradict each other are not kept."""
    vocabulary = toronto.read_dictionary(keep / toronto.DICTIONARY)
    for split in toronto.SPLITS:
        try:
            toronto.read_split(keep, split, side, vocabulary)
        except UserError:
            for name in toronto.names(split, side):
                (keep / name).unlink()
            raise


def check_vectors(keep: Path) -> None:
    """As `check_together`, for skip-thoughts and the network that takes them."""
    try:
        skip_thoughts.check_together(keep, sharpener.read_gan(keep / sharpener.GAN).config.language)
    except UserError:
        for file in (*skip_thoughts.PUBLISHED, sharpener.GAN):
            (keep / file).unlink()
        raise


if __name__ == "__main__":
    stage.main("fetch", fetch)
