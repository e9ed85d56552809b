"""`binarized_mnist`: MNIST whose pixels are 0 or 1, drawn once for all (Larochelle and Murray 2011).

Bounds of generative models are compared on it, those of DRAW among them. It has no captions; the prepared format wants one
of each image, and every image has the same: "a digit .". A model that is not conditioned reads none of it.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from text2image.data.vocabulary import PADDING, Vocabulary
from text2image.data.writer import Writer
from text2image.errors import UserError
from text2image.files import download
from text2image.files.download import Expected

FOLDER = "~larocheh/public/datasets/binarized_mnist"
SIDE = 28
PIXELS = SIDE**2
LINE = 2 * PIXELS    # bytes: a blank after each digit, and a line end after the last
ZEROS = np.frombuffer(b" ".join([b"0"] * PIXELS) + b"\n", np.uint8)  # a line of an image without a 1
IS_DIGIT = np.arange(LINE) % 2 == 0
BLOCK = 1000         # lines that are read at once
CAPTION = ("a", "digit", ".")
VOCABULARY = Vocabulary([PADDING, *CAPTION])


@dataclass(frozen=True)
class Published:
    """A file of the dataset, as it is published."""

    name: str
    images: int
    sha256: str


SPLITS = {  # of the prepared data
    "train": Published(
        "binarized_mnist_train.amat", 50_000, "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d"),
    "dev": Published(
        "binarized_mnist_valid.amat", 10_000, "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2"),
    "test": Published(
        "binarized_mnist_test.amat", 10_000, "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c"),
}


@dataclass(frozen=True)
class FetchConfig:
    """From where to fetch."""

    base_urls: tuple[str, ...]  # the files lie below ~larocheh/public/datasets/binarized_mnist/ of each


@dataclass(frozen=True)
class PrepareConfig:
    """Nothing to choose: images and splits are those of the files."""


def fetch(config: FetchConfig, out: Path, kept: Path, where: str) -> None:
    """Bring the three files into `out`, checked; what has come stays in `kept` until all has."""
    files = {f"{FOLDER}/{published.name}": Expected(check, published.images * LINE) for published in SPLITS.values()}
    download.put(download.fetch(files, config.base_urls, kept), out)


def prepare(config: PrepareConfig, raw: Path, out: Writer, seed: int, where: str) -> None:
    """Write the published splits: pixels 0 or 255, and one caption for all images."""
    for split, published in SPLITS.items():
        images = read(raw / published.name, published.images)
        captions = np.tile(np.array(VOCABULARY.known(CAPTION), np.int32), (len(images), 1))
        out.write_split(split, VOCABULARY, images, captions, np.full(len(images), len(CAPTION)), np.arange(len(images)))
    out.write_vocabulary(VOCABULARY)


def check(path: Path) -> None:
    """Raise UserError unless a file is whole and the published one of its name."""
    published = next(each for each in SPLITS.values() if each.name == path.name)
    digest = hashlib.sha256()
    for _, lines in _blocks(path, published.images):
        digest.update(lines.tobytes())
    if digest.hexdigest() != published.sha256:
        raise UserError(f"{path.name}: SHA-256 is {digest.hexdigest()}, not {published.sha256}: the file was altered; "
                        "fetch it from another base URL")


def read(path: Path, count: int) -> np.ndarray:
    """The `count` images of a file, (N, 1, 28, 28) uint8, 0 or 255. Raises UserError where it does not hold just those."""
    images = np.empty((count, PIXELS), np.uint8)
    for first, lines in _blocks(path, count):
        images[first:first + len(lines)] = 255 * (lines[:, ::2] & 1)  # "0" is 48, "1" is 49
    return images.reshape(-1, 1, SIDE, SIDE)


def _blocks(path: Path, count: int) -> Iterator[tuple[int, np.ndarray]]:
    """The `count` lines of a file, a block at a time: the number of lines before it, and its bytes (n, LINE) uint8.

    Every byte is one that such a file has at its place. Raises UserError where one is not, and where the file ends too early
    or goes on; it is read no further than that.
    """
    with path.open("rb") as file:
        for first in range(0, count, BLOCK):
            wanted = min(BLOCK, count - first)
            content = file.read(wanted * LINE)
            lines = np.frombuffer(content, np.uint8, len(content) // LINE * LINE).reshape(-1, LINE)
            _check_lines(path.name, lines, first)
            if len(content) < wanted * LINE:
                break
            yield first, lines
        else:
            if not file.read(1):
                return
    raise UserError(f"{path.name}: has {path.stat().st_size:,} bytes, not the {count * LINE:,} of {count:,} lines of {PIXELS} "
                    "digits; fetch it again")


def _check_lines(name: str, lines: np.ndarray, before: int) -> None:
    """Raise UserError, which names the first wrong byte, unless all are those of ZEROS, or a 1 in place of a 0."""
    wrong = np.flatnonzero((lines ^ ZEROS) > IS_DIGIT)
    if len(wrong):
        row, column = divmod(int(wrong[0]), LINE)
        expected = {"0": "0 or 1", " ": "a blank", "\n": "the line's end"}[chr(ZEROS[column])]
        raise UserError(f"{name}: line {before + row + 1:,} is not {PIXELS} digits 0 or 1 with a blank between: its character "
                        f"{column + 1:,} is {chr(lines[row, column])!a}, not {expected}; fetch it again")
