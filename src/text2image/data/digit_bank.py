"""A bank of labelled digits, from which images with captions are composed: shared by the sources digits and mnist."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np

from text2image.config import MAX_COUNT, frozen, parameter
from text2image.data.layout import Layout
from text2image.data.writer import Writer
from text2image.errors import UserError


class DigitBank(NamedTuple):
    """N digits of S x S pixels and what they show."""

    images: np.ndarray  # (N, S, S) uint8
    labels: np.ndarray  # (N,) uint8


@frozen
class BankSizes:
    """Digits of the bank for each split, in the order in which they are published."""

    train: int = parameter(ge=1, le=MAX_COUNT)
    dev: int = parameter(ge=1, le=MAX_COUNT)
    test: int = parameter(ge=1, le=MAX_COUNT)


@frozen
class ImageCounts:
    """Images composed once, when the data is prepared; those of training are composed as they are needed."""

    dev: int = parameter(ge=1, le=MAX_COUNT)
    test: int = parameter(ge=1, le=MAX_COUNT)  # of captions seen in training, and as many of captions held out


@dataclass(frozen=True)
class ComposeConfig:
    """Digits in a layout, with captions from a grammar."""

    digits: BankSizes
    images: ImageCounts
    layout: Layout


def split(bank: DigitBank, sizes: Mapping[str, int]) -> dict[str, DigitBank]:
    """The bank divided, in its order, into splits of `sizes`. Raises UserError where it has too few digits."""
    if sum(sizes.values()) > len(bank.images):
        raise UserError(f"the splits of the digits ask for {sum(sizes.values())}, the bank has {len(bank.images)}")
    ends = np.cumsum(list(sizes.values()))
    return {name: DigitBank(bank.images[end - sizes[name]:end], bank.labels[end - sizes[name]:end])
            for name, end in zip(sizes, ends, strict=True)}


def prepare(bank: DigitBank, config: ComposeConfig, out: Writer, seed: int, where: str) -> None:
    """Write the bank's splits: digits to train on, composed images for dev and test. `where` names the parameters."""
    config.layout.check(bank.images.shape[-1], f"{where}.layout")
    out.write_digits(split(bank, asdict(config.digits)), config.layout, asdict(config.images), seed)
