"""Captions of the test split, chosen for a metric, each with its image."""

from typing import NamedTuple

import numpy as np
from torch import Tensor

from text2image import seeds
from text2image.data.datasets import CaptionedDigits, CaptionedImages
from text2image.devices import Device
from text2image.errors import UserError
from text2image.results.subject import Subject


class Captioned(NamedTuple):
    """A split, and which of its captions are taken."""

    split: str
    data: CaptionedImages
    rows: np.ndarray  # (n,), in ascending order

    def words(self, row: int) -> Tensor:
        """The words of one caption, (1, L), without padding."""
        return self.data.words_at(row)

    def image_of(self, row: int) -> int:
        """Which image a caption is of."""
        return int(self.data.image_of_caption[row])

    def images(self, indices: Tensor) -> Tensor:
        """Some images by their numbers (B,), (B, C, H, W) in [0, 1]."""
        return self.data.images_at(indices)


def choose(subject: Subject, device: Device, captions: int, *stream: int | str) -> Captioned:
    """`captions` captions (0: all) of test, or of dev where there is no test split, drawn from the stream.

    Raises UserError where the split's images are composed as they are needed, so that none is the image of a caption.
    """
    split = "test" if "test" in subject.names else "dev"
    data = subject.split(split, device)
    if isinstance(data, CaptionedDigits):
        raise UserError(f"{subject.prepared}/{split}.h5 holds digits and no images with captions; run `dvc repro` to prepare "
                        "it again")
    every = np.arange(len(data.lengths))
    few = captions and captions < len(every)
    return Captioned(split, data, np.sort(seeds.numpy_generator(*stream).choice(every, captions, False)) if few else every)
