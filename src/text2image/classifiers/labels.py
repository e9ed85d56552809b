"""What a kind of labels is: questions about an image, which its captions answer and a classifier learns to answer.

A kind is one module of this room with `Settings`, its parameters, a frozen dataclass; `make(data, vocabulary, settings)`, which
gives the `Labels` of a dataset and where a classifier looks for them; and `load(outputs)`, which gives the `Labels` of a
classifier that is there, from the names of its outputs.

Letter code: B batch, L words, Q questions, V views, K outputs of a view (text2image.classifiers.network).
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from text2image.data.datasets import CaptionedImages, Dataset
from text2image.data.vocabulary import Vocabulary

UNSAID = -1  # the answer of captions that say nothing about it


class Views(NamedTuple):
    """Where a classifier looks, in pixels."""

    corners: tuple[tuple[int, int], ...]  # row and column of the upper left corner of each
    height: int
    width: int


class Labels(Protocol):
    """The questions of one kind. Answers are numbers from 0 on."""

    questions: tuple[str, ...]
    outputs: tuple[str, ...]           # names of the network's outputs

    def named(self, words: Tensor, vocabulary: Vocabulary) -> Tensor:
        """Captions as word ids (B, L), zero padded: what each says, (B, Q) int64, UNSAID where it says nothing."""
        ...

    def targets(self, named: Tensor) -> Tensor:
        """What is learned of an image, (B, Q), from all that its captions say; UNSAID is not learned."""
        ...

    def cost(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean cost of logits (B, V, K) for targets (B, Q)."""
        ...

    def answers(self, logits: Tensor) -> Tensor:
        """What logits (B, V, K) say, (B, Q) int64."""
        ...

    def accuracy(self, logits: Tensor, targets: Tensor) -> dict[str, float]:
        """How right a classifier is on images with targets (B, Q); `accuracy` is the number to compare."""
        ...


class Judge(Labels, Protocol):
    """Labels by which it can be said whether an image shows what one caption says."""

    def parts(self, answers: Tensor, named: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """What is reported apart, of answers (B, Q) to what captions say (B, Q): whether it is right, and whether it is asked,
        (B,) bool each."""
        ...


def of_images(data: CaptionedImages, labels: Labels, vocabulary: Vocabulary) -> Tensor:
    """What is learned of each image of a dataset, (N, Q), from all its captions together."""
    named = labels.named(data.word_ids(), vocabulary)
    rows = torch.from_numpy(data.image_of_caption).long()[:, None].expand_as(named)
    joined = torch.full((len(data.images), named.shape[1]), UNSAID).scatter_reduce(0, rows, named, "amax")
    return labels.targets(joined)


def right(answers: Tensor, named: Tensor) -> Tensor:
    """(B,): whether every answer that was named, of (B, Q), is the one given."""
    return ((answers == named) | (named == UNSAID)).all(1)


def share(hits: Tensor, asked: Tensor) -> float:
    """The share of hits among what was asked, both boolean of one shape; 0 where nothing was."""
    return round((hits & asked).sum().item() / max(1, int(asked.sum())), 6)


def whole(data: Dataset) -> Views:
    """One view: all of the image."""
    _, height, width = data.shape
    return Views(((0, 0),), height, width)
