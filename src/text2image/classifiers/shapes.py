"""`shapes`: what a scene of the source `shapes` shows, as its captions say it: colours, shapes, arrangement, place, size.

The first thing is the one alone, at the left or at the top, whichever of the two a caption names first.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from text2image.classifiers.labels import UNSAID, Views, right, share, whole
from text2image.config import frozen
from text2image.data.datasets import Dataset
from text2image.data.vocabulary import Vocabulary
from text2image.errors import UserError

COLOURS = ("red", "green", "blue", "yellow", "purple", "white")
SHAPES = ("circle", "square", "triangle")
CHOICES = {"first colour": COLOURS, "first shape": SHAPES, "second colour": COLOURS, "second shape": SHAPES,
           "arrangement": ("alone", "above", "beside"), "size": ("small", "large"),
           "place": ("middle", "top left", "top right", "bottom left", "bottom right")}
QUESTIONS = tuple(CHOICES)
OUTPUTS = tuple(f"{question}: {choice}" for question, choices in CHOICES.items() for choice in choices)
SIZES = [len(choices) for choices in CHOICES.values()]
# What is reported apart; `relation` is how two things stand to each other, or where one stands.
PARTS = {"colour": ("first colour", "second colour"), "shape": ("first shape", "second shape"),
         "relation": ("arrangement", "place"), "size": ("size",)}
# Between two things: their arrangement, whether the second one is named first, and what comes after both.
PAIRS: dict[tuple[str, ...], tuple[str, bool, tuple[str, ...]]] = {
    ("above",): ("above", False, ()), ("below",): ("above", True, ()),
    ("to", "the", "left", "of"): ("beside", False, ()), ("to", "the", "right", "of"): ("beside", True, ()),
    ("at", "the", "top", "and"): ("above", False, ("at", "the", "bottom")),
    ("on", "the", "left", "and"): ("beside", False, ("on", "the", "right"))}
# Where one thing stands; "" where nothing is said of it.
PLACES = {(): "", ("in", "the", "middle"): "middle", ("in", "the", "middle", "of", "the", "picture"): "middle"} | {
    ("in", "the", *corner.split(), "corner"): corner for corner in CHOICES["place"][1:]}


@frozen
class Settings:
    """Nothing to choose."""


def make(data: Dataset, vocabulary: Vocabulary, settings: Settings) -> tuple["Scenes", Views]:
    """The questions, and one view of all the image."""
    return Scenes(), whole(data)


def load(outputs: Sequence[str]) -> "Scenes":
    """The questions of a classifier. Raises UserError where its outputs are others."""
    if tuple(outputs) != OUTPUTS:
        raise UserError(f"a classifier of 'shapes' has outputs {', '.join(OUTPUTS)}; this one was made by other code")
    return Scenes()


def parse(words: Sequence[str]) -> dict[str, str]:
    """The questions that a caption answers. Where a word stands that is no answer, such as UNK, it says nothing.

    Raises UserError where the words are no caption of the source `shapes`.
    """
    rest = list(words[2:] if list(words[:2]) == ["there", "is"] else words)
    if rest[:1] == ["a"] and rest[-1:] == ["."]:
        named = rest[1:-1]
        found = _pair(named) if "a" in named else _alone(named)
        if found is not None:
            return {question: answer for question, answer in found.items() if answer in CHOICES[question]}
    raise UserError(f"'{' '.join(words)}' is no caption of the source shapes, which labels 'shapes' are of: take 'words'")


def _pair(words: list[str]) -> dict[str, str] | None:
    """Two things, each `colour shape`, as in PAIRS."""
    at = words.index("a")
    between, other = tuple(words[2:at]), words[at + 1:]
    arrangement, turned, end = PAIRS.get(between, ("", False, ()))
    if not arrangement or tuple(other[2:]) != end or len(other) < 2:
        return None
    first, second = (other, words) if turned else (words, other)
    return {"arrangement": arrangement, "first colour": first[0], "first shape": first[1], "second colour": second[0],
            "second shape": second[1]}


def _alone(words: list[str]) -> dict[str, str] | None:
    """One thing, `[size] colour shape`, and where it stands."""
    at = words.index("in") if "in" in words else len(words)
    named, place = words[:at], PLACES.get(tuple(words[at:]))
    if place is None or len(named) not in (2, 3):
        return None
    *size, colour, shape = named
    return {"arrangement": "alone", "place": place, "size": (*size, "")[0], "first colour": colour, "first shape": shape}


class Scenes:
    """Labels (text2image.classifiers.labels): a question has as many outputs of the one view as it has answers."""

    questions, outputs = QUESTIONS, OUTPUTS

    def named(self, words: Tensor, vocabulary: Vocabulary) -> Tensor:
        """As Labels.named."""
        known: dict[str, list[int]] = {}
        rows = []
        for caption in (vocabulary.decode(ids) for ids in words.tolist()):
            text = " ".join(caption)
            if text not in known:
                said = parse(caption)
                known[text] = [choices.index(said[question]) if question in said else UNSAID
                               for question, choices in CHOICES.items()]
            rows.append(known[text])
        return torch.tensor(rows).view(-1, len(QUESTIONS))

    def targets(self, named: Tensor) -> Tensor:
        """As Labels.targets: what is said, and nothing else."""
        return named

    def cost(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Cross entropy, summed over the questions that are answered, the mean over images."""
        parts = zip(logits[:, 0].split(SIZES, 1), targets.T, strict=True)
        return torch.stack([F.cross_entropy(part, answer, ignore_index=UNSAID, reduction="sum") for part, answer in parts]
                           ).sum() / len(targets)

    def answers(self, logits: Tensor) -> Tensor:
        """The likeliest answer of each question."""
        return torch.stack([part.argmax(1) for part in logits[:, 0].split(SIZES, 1)], 1)

    def parts(self, answers: Tensor, named: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Of each of PARTS whether all that the caption says of it is right, and whether it says anything, (B,) each."""
        found = {}
        for name, questions in PARTS.items():
            columns = [QUESTIONS.index(question) for question in questions]
            found[name] = right(answers[:, columns], named[:, columns]), (named[:, columns] != UNSAID).any(1)
        return found

    def accuracy(self, logits: Tensor, targets: Tensor) -> dict[str, float]:
        """Of answers the share that is right; of images those in which a part is right, and those in which all is."""
        answers = self.answers(logits)
        numbers = {"accuracy": share(answers == targets, targets != UNSAID)}
        numbers |= {name: share(*part) for name, part in self.parts(answers, targets).items()}
        return numbers | {"images": round(right(answers, targets).double().mean().item(), 6)}
