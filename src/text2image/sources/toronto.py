"""`toronto`: captioned images as the dataset host publishes them; COCO at 32x32 is the paper's.

The files and what is checked of them: text2image.data.toronto_arrays.
"""

from dataclasses import dataclass
from pathlib import Path

from text2image.config import MAX_SIDE, frozen, parameter
from text2image.data import toronto_arrays
from text2image.data.writer import Writer
from text2image.errors import UserError
from text2image.files import download, released_arrays
from text2image.files.download import Expected

# Bytes. The largest published files have 2 billion (images of training in float64), 190 million, 8 million, 132 million.
MOST_IMAGES = 1 << 17  # of a split; COCO has 82,783
LARGEST = {".npy": 1 << 30, ".pkl": 1 << 28, ".h5": 1 << 31}


@frozen
class FetchConfig:
    """Which of the host's files, and from where."""

    base_urls: tuple[str, ...]
    weights: str                   # '': none; else the authors' weights, an .h5 file below each base URL
    side: int = parameter(ge=1, le=MAX_SIDE)  # of the images, in pixels


@dataclass(frozen=True)
class PrepareConfig:
    """Nothing to choose: ids and splits are those of the files."""


def fetch(config: FetchConfig, out: Path, kept: Path, where: str) -> None:
    """Bring the files into `out`, checked alone and together; what has come stays in `kept` until all has.

    `where` names the parameters in a message.
    """
    checks = toronto_arrays.checks(config.side)
    if config.weights and not config.weights.endswith(".h5"):
        raise UserError(f"parameter '{where}.weights' is {config.weights!r}; it must be '' or an .h5 file below the base URLs")
    if config.weights:
        checks[config.weights] = released_arrays.read
    files = {name: Expected(check, largest(name, config.side)) for name, check in checks.items()}
    come = download.fetch(files, config.base_urls, kept)
    _check_together(kept, config)
    download.put(come, out)


def prepare(config: PrepareConfig, raw: Path, out: Writer, seed: int, where: str) -> None:
    """Write the files' own splits, captions and vocabulary."""
    toronto_arrays.prepare(raw, out)


def largest(name: str, side: int) -> int:
    """The most bytes that a file may have, by its kind."""
    if name.endswith(f"-images-{side}x{side}.npy"):
        return MOST_IMAGES * toronto_arrays.CHANNELS * side**2 * 8
    return LARGEST[Path(name).suffix]


def _check_together(kept: Path, config: FetchConfig) -> None:
    """Files that contradict each other are not kept, since either may be the wrong one; the others are."""
    vocabulary = toronto_arrays.read_dictionary(kept / toronto_arrays.DICTIONARY)
    try:
        for split in toronto_arrays.splits(config.side):
            toronto_arrays.read_split(kept, split, config.side, vocabulary)
        if config.weights:
            toronto_arrays.with_rows_of(kept / Path(config.weights).name, vocabulary)
    except toronto_arrays.Contradiction as error:
        for name in error.files:
            (kept / name).unlink()
        raise
