"""`digits`: scikit-learn's 1,797 handwritten digits, composed as MNIST with captions; the quick start's stand-in for MNIST.

They come with scikit-learn: nothing is downloaded.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from text2image.data import digit_bank
from text2image.data.digit_bank import ComposeConfig, DigitBank
from text2image.data.writer import Writer
from text2image.errors import UserError
from text2image.files.hdf5 import UNREADABLE
from text2image.files.npz import write_npz

FILE = "digits.npz"


@dataclass(frozen=True)
class FetchConfig:
    """Nothing to choose."""


PrepareConfig = ComposeConfig


def fetch(config: FetchConfig, out: Path, kept: Path, where: str) -> None:
    """Write the digits into `out`."""
    write_digits(out / FILE)


def prepare(config: ComposeConfig, raw: Path, out: Writer, seed: int, where: str) -> None:
    """Divide the digits and compose images of dev and test."""
    digit_bank.prepare(read_digits(raw / FILE), config, out, seed, where)


def write_digits(path: Path) -> None:
    """Digits of 8x8 pixels in 17 shades (UCI, Alpaydin and Kaynak 1998) as an .npz: images (N, 8, 8) uint8, labels (N,)."""
    from sklearn.datasets import load_digits  # takes a second to import, and only here is it needed

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    write_npz(path, {"images": images, "labels": digits.target.astype(np.uint8)})


def read_digits(path: Path) -> DigitBank:
    """What `write_digits` wrote, in the order it is published. Raises UserError where it is no such file."""
    try:
        with path.open("rb") as opened, np.load(opened) as file:
            return DigitBank(file["images"], file["labels"])
    except UNREADABLE as error:
        raise UserError(f"{path}: not readable ({error}); run `dvc repro` to fetch it again") from error
