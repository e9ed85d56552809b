"""What a source's `prepare` is given to write with.

It says what can be written and not how (text2image.data.prepared): sources import this module alone, so that an edit of the
code that writes the prepared format makes no fetched data stale.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from text2image.data.layout import Layout
from text2image.data.vocabulary import Vocabulary
from text2image.files.image_blocks import ImageBlocks

SPLITS = ("train", "dev", "test")

Tokens = Sequence[tuple[int, Sequence[str]]]  # of each caption: the row of its image, and its words


class Writer(Protocol):
    """Writes the prepared data of one dataset into `folder`, and counts it in `counts`, by split."""

    folder: Path
    counts: dict[str, Any]

    def write_captioned(self, images: Mapping[str, np.ndarray | ImageBlocks], captions: Mapping[str, Tokens],
                        min_count: int) -> None:
        """Every split, from images (N, C, H, W) and words; and the vocabulary.

        In the vocabulary are the words that occur at least `min_count` times in training; any other is UNK.
        """

    def write_split(self, name: str, vocabulary: Vocabulary, images: np.ndarray | ImageBlocks, captions: np.ndarray,
                    lengths: np.ndarray, image_of_caption: np.ndarray) -> None:
        """One split whose captions are word ids already; arrays as text2image.data.datasets has them."""

    def write_vocabulary(self, vocabulary: Vocabulary) -> None:
        """The words in id order; `write_captioned` and `write_digits` write them too."""

    def write_digits(self, banks: Mapping[str, tuple[np.ndarray, np.ndarray]], layout: Layout, images: Mapping[str, int],
                     seed: int) -> None:
        """MNIST with captions, from digits (N, S, S) uint8 and labels (N,) of train, dev and test; and the vocabulary.

        Training keeps its digits. Of dev and test so many images as `images` says are composed, and as many of test with
        captions that are held out.
        """
