"""Prepared data of one dataset, written split by split and counted."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from text2image.data import datasets, mnist_captions
from text2image.data.layout import Layout
from text2image.data.mnist_captions import Grammar
from text2image.data.vocabulary import UNKNOWN, Vocabulary, pad
from text2image.data.writer import Tokens
from text2image.errors import UserWarningLine
from text2image.files.image_blocks import ImageBlocks

MANY_UNKNOWN = 0.1  # of a split's words; above it there is a warning


class PreparedWriter:
    """A text2image.data.writer.Writer of the prepared format (text2image.data.datasets)."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.counts: dict[str, Any] = {}

    def write_captioned(self, images: Mapping[str, np.ndarray | ImageBlocks], captions: Mapping[str, Tokens],
                        min_count: int) -> None:
        """As Writer.write_captioned."""
        vocabulary = Vocabulary.count((words for _, words in captions["train"]), min_count)
        for name, tokens in captions.items():
            ids, lengths = pad([vocabulary.known(words) for _, words in tokens])
            self.write_split(name, vocabulary, images[name], ids, lengths, np.array([row for row, _ in tokens]))
        self.write_vocabulary(vocabulary)

    def write_split(self, name: str, vocabulary: Vocabulary, images: np.ndarray | ImageBlocks, captions: np.ndarray,
                    lengths: np.ndarray, image_of_caption: np.ndarray) -> None:
        """As Writer.write_split."""
        datasets.write_images(self.folder / f"{name}.h5", images, captions, lengths, image_of_caption)
        unknown = (captions == vocabulary.words.index(UNKNOWN)).sum() / lengths.sum() if UNKNOWN in vocabulary.words else 0
        if unknown > MANY_UNKNOWN:
            warnings.warn(f"{name}: {unknown:.1%} of the words of its captions are outside the vocabulary of "
                          f"{len(vocabulary) - 2:,} words and read as {UNKNOWN}: add captions to training, or lower min_count "
                          "where the dataset has one", UserWarningLine, stacklevel=2)
        self.counts[name] = {"images": images.shape[0], "captions": len(captions), "unknown_words": round(float(unknown), 6)}

    def write_vocabulary(self, vocabulary: Vocabulary) -> None:
        """As Writer.write_vocabulary."""
        vocabulary.save(self.folder / "vocabulary.json")
        self.counts["vocabulary"] = len(vocabulary)

    def write_digits(self, banks: Mapping[str, tuple[np.ndarray, np.ndarray]], layout: Layout, images: Mapping[str, int],
                     seed: int) -> None:
        """As Writer.write_digits; `seed` draws the captions that are held out and the scenes of dev and test."""
        grammar, vocabulary = Grammar.from_seed(seed), mnist_captions.VOCABULARY
        datasets.write_digits(self.folder / "train.h5", *banks["train"], grammar, layout)
        self.counts["train"] = {"digits": len(banks["train"][1])}
        for name, bank, held_out in (("dev", "dev", False), ("test", "test", False), ("test_held_out", "test", True)):
            digits = datasets.CaptionedDigits(*banks[bank], grammar, layout)
            composed, words = digits.compose(images[bank], held_out, seed, name)
            lengths = np.full(len(words), words.shape[1])
            self.write_split(name, vocabulary, composed, words, lengths, np.arange(len(words)))
        self.write_vocabulary(vocabulary)
