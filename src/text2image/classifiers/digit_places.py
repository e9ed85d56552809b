"""`digit_places`: which digit, or nothing, stands at each of the eight places where MNIST with captions puts one.

It is a judge and not the model: it learns all captions, those too that are held out of the model's training.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from text2image.classifiers.labels import UNSAID, Views, share
from text2image.config import frozen
from text2image.data import mnist_captions
from text2image.data.datasets import CaptionedDigits, Dataset
from text2image.data.mnist_captions import TEMPLATES, TWO_DIGITS, Grammar
from text2image.data.vocabulary import Vocabulary
from text2image.errors import UserError

# The place of the first digit of each template, then of the second, as numbers of QUESTIONS.
QUESTIONS = ("left", "right", "top", "bottom", "top left", "bottom right", "top right", "bottom left")
FIRST, SECOND = (0, 0, 2, 2, 4, 5, 6, 7), (1, 1, 3, 3)
NOTHING = 10
OUTPUTS = (*map(str, range(10)), "nothing")


@frozen
class Settings:
    """Nothing to choose."""


def make(data: Dataset, vocabulary: Vocabulary, settings: Settings) -> tuple["DigitPlaces", Views]:
    """The questions, and a view of each place. Raises UserError unless the images are of digits."""
    if not isinstance(data, CaptionedDigits):
        raise UserError("labels 'digit_places' are of MNIST with captions, and this dataset is none: take 'words', or "
                        "'shapes' for the source of that name")
    places = {FIRST[template]: mnist_captions.PLACES[template][0] for template in range(len(TEMPLATES))}
    places |= {SECOND[template]: mnist_captions.PLACES[template][-1] for template in range(TWO_DIGITS)}
    spans = {name: getattr(data.layout, name) for name in ("top", "middle", "bottom", "left", "right")}
    side = data.digits.shape[-1] + max(span.max - span.min for span in spans.values())
    corners = tuple((spans[row].min, spans[column].min) for row, column in (places[n] for n in range(len(QUESTIONS))))
    return DigitPlaces(), Views(corners, side, side)


def load(outputs: Sequence[str]) -> "DigitPlaces":
    """The questions of a classifier. Raises UserError where its outputs are others."""
    if tuple(outputs) != OUTPUTS:
        raise UserError(f"a classifier of 'digit_places' has outputs {', '.join(OUTPUTS)}; this one was made by other code")
    return DigitPlaces()


class DigitPlaces:
    """Labels (text2image.classifiers.labels): a question a place, answered by a digit or NOTHING. A view is a place."""

    questions, outputs = QUESTIONS, OUTPUTS

    def named(self, words: Tensor, vocabulary: Vocabulary) -> Tensor:
        """As Labels.named: the digits at the places that a caption names."""
        scenes = mnist_captions.scenes_of(words)
        found = torch.full((len(scenes), len(QUESTIONS)), UNSAID)
        template, first, second = torch.from_numpy(scenes).T
        rows = torch.arange(len(scenes))
        found[rows, torch.tensor(FIRST)[template]] = first
        two = template < TWO_DIGITS
        found[rows[two], torch.tensor(SECOND)[template[two]]] = second[two]
        return found

    def targets(self, named: Tensor) -> Tensor:
        """As Labels.targets: at every other place stands nothing."""
        return named.masked_fill(named == UNSAID, NOTHING)

    def cost(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Cross entropy, the mean over places."""
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())

    def answers(self, logits: Tensor) -> Tensor:
        """The likeliest digit, or NOTHING, of each place."""
        return logits.argmax(2)

    def parts(self, answers: Tensor, named: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """`empty_elsewhere`: whether nothing stands at the places that the caption does not name, (B,), of all images."""
        empty = ((answers == NOTHING) | (named != UNSAID)).all(1)
        return {"empty_elsewhere": (empty, torch.ones_like(empty))}

    def confusion(self, grammar: Grammar, scenes: np.ndarray, answers: Tensor) -> list[dict[str, Any]]:
        """For each digit that is held out of a place: what is read at that place of images whose captions put it there.

        scenes (B, 3) as mnist_captions.scenes_of; answers (B, Q). Shares of images, the largest first.
        """
        rows = []
        for template, of_second in [(k, second) for k in range(TWO_DIGITS) for second in (0, 1)] + [
                (k, 0) for k in range(TWO_DIGITS, len(TEMPLATES))]:
            digit = grammar.held_out[2 * template + of_second if template < TWO_DIGITS else template + TWO_DIGITS]
            chosen = torch.from_numpy((scenes[:, 0] == template) & (scenes[:, 1 + of_second] == digit))
            place = (SECOND if of_second else FIRST)[template]
            counts = answers[chosen, place].bincount(minlength=len(OUTPUTS))
            if counts.sum():
                order = counts.argsort(descending=True, stable=True)
                drawn = {OUTPUTS[i]: round((counts[i] / counts.sum()).item(), 4) for i in order if counts[i]}
                rows.append({"caption": TEMPLATES[template], "place": QUESTIONS[place], "digit": digit,
                             "images": int(counts.sum()), "drawn": drawn})
        return rows

    def accuracy(self, logits: Tensor, targets: Tensor) -> dict[str, float]:
        """Of the digits that stand somewhere the share that is read right; of empty places; of images all places of them."""
        hits, there = self.answers(logits) == targets, targets != NOTHING
        return {"accuracy": share(hits, there), "empty_places": share(hits, ~there),
                "images": round(hits.all(1).double().mean().item(), 6)}
