"""MNIST with captions (the paper's appendix; mnist-captions/create-captions.py of the released code).

One digit in a corner, or two side by side or one above the other; eight templates of twelve words. A scene is a row of
integers. Images are composed from a bank of digits, all of a batch at once, on any device.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from text2image.config import from_mapping
from text2image.data.layout import Layout, Span  # noqa: F401 (Span is looked for here)
from text2image.data.vocabulary import PADDING, Vocabulary
from text2image.errors import UserError
from text2image.seeds import numpy_generator

# `first` is the digit at the left, at the top or alone; `second` the one at the right or below.
TEMPLATES = ("the digit {first} is on the left of the digit {second} .",
             "the digit {second} is on the right of the digit {first} .",
             "the digit {first} is at the top of the digit {second} .",
             "the digit {second} is at the bottom of the digit {first} .",
             "the digit {first} is at the top left of the image .",
             "the digit {first} is at the bottom right of the image .",
             "the digit {first} is at the top right of the image .",
             "the digit {first} is at the bottom left of the image .")
WORDS = 12      # of every caption
TWO_DIGITS = 4  # the first four templates name two
# Rows and columns of the first and of the second digit, by the names of `Layout`.
PLACES = ((("middle", "left"), ("middle", "right")),) * 2 + ((("top", "middle"), ("bottom", "middle")),) * 2 + (
    (("top", "left"),), (("bottom", "right"),), (("top", "right"),), (("bottom", "left"),))
# 22 words; an id is that of the released code plus one, since our 0 is padding.
VOCABULARY = Vocabulary([PADDING, *"0123456789", "the", "digit", "is", "on", "at", "left", "right", "bottom", "top",
                         "of", "image", "."])
NOTHING_HELD_OUT = 10


class Scenes(NamedTuple):
    """What N images show."""

    template: Tensor  # (N,)
    digits: Tensor    # (N, 2), labels; the second is 0 and means nothing where there is one digit alone
    source: Tensor    # (N, 2), rows of the bank of digits
    offset: Tensor    # (N, 2, 2), row and column of each digit's upper left corner

    def rows(self, rows: slice) -> "Scenes":
        """Some of them."""
        return Scenes(*(part[rows] for part in self))

    def to(self, device: torch.device) -> "Scenes":
        """The same on a device."""
        return Scenes(*(part.to(device) for part in self))


@dataclass(frozen=True)
class Grammar:
    """Every caption there is, and which are held out of training.

    `held_out` has twelve digits, as `banned` of the released code (mnist-captions/alignDraw.py:321): for each of
    the four templates of two digits one for the first place and one for the second, then one for each corner. A
    caption that puts a held-out digit in its place is never trained on. 10 holds out nothing.
    """

    held_out: tuple[int, ...]

    @classmethod
    def from_seed(cls, seed: int) -> "Grammar":
        """Twelve digits from the seed. (The released code draws 0 to 10, anew at each run, and forgets them.)"""
        return cls(tuple(int(d) for d in numpy_generator(seed, "held-out digits").integers(0, 10, 12)))

    @classmethod
    def of(cls, mapping: Mapping[str, Any], where: str) -> "Grammar":
        """The grammar of `as_dict`. Raises UserError where it is none; `where` names it in the message."""
        grammar = from_mapping(cls, mapping, where)
        if len(grammar.held_out) != 12 or not all(0 <= d <= NOTHING_HELD_OUT for d in grammar.held_out):
            raise UserError(f"{where}: held_out must be twelve numbers from 0 to 10, not {list(grammar.held_out)}")
        return grammar

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"held_out": list(self.held_out)}

    def is_held_out(self, template: int, first: int, second: int) -> bool:
        """Whether the caption of a template and its digits is held out; `second` counts where the template names two."""
        if template < TWO_DIGITS:
            return first == self.held_out[2 * template] or second == self.held_out[2 * template + 1]
        return first == self.held_out[template + TWO_DIGITS]

    def combinations(self, held_out: bool) -> np.ndarray:
        """(n, 3) template, first and second digit of every caption that is, or is not, held out."""
        every = [(k, a, b) for k in range(len(TEMPLATES)) for a in range(10) for b in range(10 if k < TWO_DIGITS else 1)]
        return np.array([row for row in every if self.is_held_out(*row) == held_out]).reshape(-1, 3)

    def draw_scenes(self, count: int, labels: np.ndarray, layout: Layout, held_out: bool, *stream: int | str) -> Scenes:
        """`count` scenes as create-captions draws them: a template evenly, digits evenly over the bank, again if held out.

        labels (N,) are those of the bank. Drawing again until a scene fits is the same as drawing once from the
        scenes that fit, each in proportion to how often it would be drawn: that is done here.
        """
        rng = numpy_generator(*stream)
        shares = np.bincount(labels, minlength=10) / len(labels)
        rows = self.combinations(held_out)
        weight = shares[rows[:, 1]] * np.where(rows[:, 0] < TWO_DIGITS, shares[rows[:, 2]], 1.0)
        if not weight.sum():
            raise UserError(f"no caption is {'held out' if held_out else 'left to train on'}: change the seed or the bank")
        return place(rows[rng.choice(len(rows), count, p=weight / weight.sum())], labels, layout, rng)

    def trained_in_other_wording(self, template: int, first: int, second: int) -> bool:
        """Whether a caption's other wording was trained on: templates 2 j and 2 j + 1 of two digits show the same scene."""
        return template < TWO_DIGITS and not self.is_held_out(template ^ 1, first, second)

    def standing(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Of captions (N, 12): whether they are held out, and whether their other wording was trained on, (N,) bool each.

        Raises UserError where one is no caption of the grammar.
        """
        scenes = scenes_of(ids).tolist()
        return (torch.tensor([self.is_held_out(*scene) for scene in scenes], dtype=torch.bool),
                torch.tensor([self.trained_in_other_wording(*scene) for scene in scenes], dtype=torch.bool))


def place(drawn: np.ndarray, labels: np.ndarray, layout: Layout, rng: np.random.Generator) -> Scenes:
    """Scenes of the captions `drawn`, (N, 3) template, first and second digit: which digits of the bank, and where.

    labels (N,) are those of the bank; a digit that it has none of is one of another label.
    """
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], np.arange(11))
    sizes = np.maximum(np.diff(starts), 1)
    digits = drawn[:, 1:]
    within = (rng.random(digits.shape) * sizes[digits]).astype(np.int64)
    source = order[np.minimum(starts[digits] + within, len(labels) - 1)]
    spans = np.zeros((len(TEMPLATES), 2, 2, 2), np.int64)  # template, digit, axis, min and max
    for k, places in enumerate(PLACES):
        for d in range(2):
            for axis, name in enumerate(places[min(d, len(places) - 1)]):
                spans[k, d, axis] = getattr(layout, name).min, getattr(layout, name).max
    span = spans[drawn[:, 0]]                                              # (N, 2, 2, 2)
    offset = rng.integers(span[..., 0], span[..., 1] + 1)
    two = np.flatnonzero(drawn[:, 0] < TWO_DIGITS)
    # Side by side (or one above the other) two digits share the row (or column) of the first.
    shared = np.where(drawn[two, 0] < TWO_DIGITS // 2, 0, 1)
    offset[two, 1, shared] = offset[two, 0, shared]
    return Scenes(*(torch.from_numpy(np.ascontiguousarray(a)) for a in (drawn[:, 0], digits, source, offset)))


def caption(template: int, first: int, second: int) -> str:
    """The words of a template with its digits."""
    return TEMPLATES[template].format(first=first, second=second)


_ZERO = VOCABULARY.known("0")[0]
_WORDS = torch.tensor([VOCABULARY.known(caption(k, 0, 0).split()) for k in range(len(TEMPLATES))])   # (8, 12)
_FIRST = torch.tensor([t.split().index("{first}") for t in TEMPLATES])                              # (8,)
_SECOND = torch.tensor([t.split().index("{second}") for t in TEMPLATES[:TWO_DIGITS]])               # (4,)


def words(scenes: Scenes) -> Tensor:
    """(N, 12) ids of the scenes' captions."""
    ids = _WORDS[scenes.template].clone()
    rows = torch.arange(len(ids))
    two = scenes.template < TWO_DIGITS
    ids[rows, _FIRST[scenes.template]] = scenes.digits[:, 0] + _ZERO
    ids[rows[two], _SECOND[scenes.template[two]]] = scenes.digits[two, 1] + _ZERO
    return ids


def scenes_of(ids: Tensor) -> np.ndarray:
    """The captions (N, 12) as template, first and second digit, (N, 3); the second is 0 where a template names one.

    Raises UserError where one is no caption of the grammar.
    """
    ids = ids.cpu()
    digits = (ids >= _ZERO) & (ids < _ZERO + 10)
    if ids.shape[1:] != _WORDS.shape[1:]:
        raise UserError(f"captions of MNIST have {WORDS} words, these have {ids.shape[1]}")
    same = (ids.masked_fill(digits, _ZERO)[:, None] == _WORDS).all(2)          # (N, 8)
    if not same.any(1).all():
        wrong = VOCABULARY.decode(ids[int((~same.any(1)).int().argmax())].tolist())
        raise UserError(f"'{' '.join(wrong)}' is no caption of MNIST with captions")
    template = same.int().argmax(1)
    rows, last = torch.arange(len(ids)), torch.cat([_SECOND, _FIRST[TWO_DIGITS:]])
    first, second = (ids[rows, at[template]] - _ZERO for at in (_FIRST, last))
    return torch.stack([template, first, second * (template < TWO_DIGITS)], 1).numpy()


def compose(scenes: Scenes, bank: Tensor, size: int) -> Tensor:
    """The scenes' images, (N, 1, size, size) uint8, on the bank's device; bank (M, S, S) uint8.

    The second digit lies over the first where they meet, with its background (create-captions.py:44).
    """
    scenes = scenes.to(bank.device)
    count = len(scenes.template)
    images = bank.new_zeros(count, size, size)
    steps = torch.arange(bank.shape[-1], device=bank.device)
    at = torch.arange(count, device=bank.device)[:, None, None]
    two = (scenes.template < TWO_DIGITS)[:, None, None]
    for d in range(2):
        row, column = (scenes.offset[:, d, axis, None] + steps for axis in (0, 1))
        place = at, row[:, :, None], column[:, None, :]
        # A digit alone is written over itself: which scenes have two is not read, so that a GPU need not be waited for.
        images[place] = bank[scenes.source[:, d]] if d == 0 else torch.where(two, bank[scenes.source[:, d]], images[place])
    return images.unsqueeze(1)
