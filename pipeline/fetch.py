"""fetch: raw data as it is published, checked, into data/raw/<dataset>."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline import stage
from text2image import (
    archives,
    coco_archive,
    fetching,
    folders,
    released_arrays,
    shapes,
    sharpener,
    skip_thoughts,
    skipped,
    toronto,
)
from text2image.coco_archive import CocoConfig
from text2image.config import parameter
from text2image.errors import UserError
from text2image.shapes import ShapesConfig
from text2image.skipped import Skipped


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
    weights: str                   # '': none; else the authors' weights, an .h5 file below each base URL
    side: int = parameter(least=1)


@dataclass(frozen=True)
class Folder:
    """Any folder of pictures with a captions.csv. Once it is fetched it is needed no more."""

    source: Literal["folder"]
    folder: str  # absolute, below ~, or relative to the repository's root


@dataclass(frozen=True)
class CocoArchive:
    """A folder with COCO's pictures and captions of 2014, packed or not; as the dataset host's files."""

    source: Literal["coco_archive"]
    folder: str
    files: CocoConfig


@dataclass(frozen=True)
class Sharpening:
    """The authors' sharpening network, of the dataset host, and the skip-thoughts that it hears, of their own page."""

    source: Literal["sharpening"]
    base_urls: tuple[str, ...]
    models_urls: tuple[str, ...]


SOURCES = {"scikit-learn": Embedded, "drawn": Drawn, "archive": Mnist, "h5": Mnist, "toronto": Toronto, "folder": Folder,
           "coco_archive": CocoArchive, "sharpening": Sharpening}


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
            files = fetching.fetch(published(config, f"datasets.{name}.fetch"), config.base_urls, keep)
            check_together(keep, config)
        elif isinstance(config, Folder):
            list_skipped(name, out, folders.copy(Path(config.folder).expanduser(), out))
        elif isinstance(config, CocoArchive):
            list_skipped(name, out, coco_archive.convert(Path(config.folder).expanduser(), out, config.files))
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


def published(config: Toronto, where: str) -> dict[str, fetching.Check]:
    files = toronto.checks(config.side)
    if config.weights and not config.weights.endswith(".h5"):
        raise UserError(f"parameter '{where}.weights' is {config.weights!r}; it must be '' or an .h5 file below the base URLs")
    return files | ({config.weights: released_arrays.read} if config.weights else {})


def check_together(keep: Path, config: Toronto) -> None:
    """Files that contradict each other are not kept, since either may be the wrong one; the others are."""
    vocabulary = toronto.read_dictionary(keep / toronto.DICTIONARY)
    try:
        for split in toronto.splits(config.side):
            toronto.read_split(keep, split, config.side, vocabulary)
        if config.weights:
            toronto.with_rows_of(keep / Path(config.weights).name, vocabulary)
    except toronto.Contradiction as error:
        for name in error.files:
            (keep / name).unlink()
        raise


def list_skipped(name: str, out: Path, left_out: list[Skipped]) -> None:
    skipped.write(out, left_out)
    skipped.tell(left_out, Path("data/raw") / name / skipped.FILE)


def check_vectors(keep: Path) -> None:
    """As `check_together`, for skip-thoughts and the network that takes them; files whose SHA-256 was found right are kept."""
    try:
        skip_thoughts.check_together(keep, sharpener.read_gan(keep / sharpener.GAN).config.language)
    except UserError:
        for name in (*skip_thoughts.PUBLISHED, sharpener.GAN):
            published = skip_thoughts.PUBLISHED.get(name)
            if published is None or (keep / name).stat().st_size != published.size:
                (keep / name).unlink()
        raise


if __name__ == "__main__":
    stage.main("fetch", fetch)
