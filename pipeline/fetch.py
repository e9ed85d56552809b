"""fetch: raw data as it is published, checked, into data/raw/<dataset>."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline import stage
from text2image import archives, fetching, shapes
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


SOURCES = {"scikit-learn": Embedded, "drawn": Drawn, "archive": Mnist, "h5": Mnist}


def fetch(parameters: dict[str, Any], name: str) -> None:
    config = stage.variant(parameters, ("datasets", name, "fetch"), "source", SOURCES)
    keep = stage.state_folder() / f"fetch-{name}"
    keep.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    with stage.output_folder(Path("data/raw") / name) as out:
        if isinstance(config, Embedded):
            archives.write_digits(out / archives.DIGITS_FILE)
        elif isinstance(config, Drawn):
            archives.write_scenes(out, {split: shapes.draw_split(split, getattr(config.scenes, split), config.scenes)
                                        for split in archives.SPLITS})
        elif config.source == "archive":
            files = [fetching.fetch(f"mnist/{file}", config.archive_urls, keep, archives.check_mnist_file)
                     for file in archives.MNIST_FILES]
        else:
            files = [fetching.fetch(f"~emansim/datasets/{archives.MNIST_H5}", config.h5_urls, keep, archives.read_mnist_h5)]
        for file in files:  # `keep` may lie on another disk, and goes when all is in place
            shutil.copyfile(file, out / file.name)
    shutil.rmtree(keep)


if __name__ == "__main__":
    stage.main("fetch", fetch)
