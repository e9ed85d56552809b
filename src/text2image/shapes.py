"""`shapes`: small scenes of coloured shapes with captions, drawn from a seed; the quick start's stand-in for photographs.

Captions have 4 to 16 words. Some words occur once, and some in dev and test alone, as they do in every real
collection.
"""

from dataclasses import dataclass

import numpy as np

from text2image.config import parameter
from text2image.seeds import numpy_generator

COLOURS = {"red": (230, 40, 40), "green": (40, 190, 70), "blue": (50, 90, 235),
           "yellow": (240, 215, 50), "purple": (160, 60, 200), "white": (240, 240, 240)}
SHAPES = ("circle", "square", "triangle")
SIZES = {"small": 0.17, "large": 0.27}     # half a shape's extent, in canvas sides
SIZE_OF_PAIR = 0.19
# Words that occur once each in training, so that the model has met an unknown word; they are what it then reads.
ONCE = {"red": ("crimson", "scarlet", "ruby", "cherry"), "green": ("emerald", "lime", "jade", "olive"),
        "blue": ("azure", "navy", "cobalt", "sapphire"), "yellow": ("golden", "amber", "lemon", "mustard"),
        "purple": ("violet", "lilac", "plum", "mauve"), "white": ("ivory", "pearl", "snowy", "chalk")}
UNSEEN = {"circle": "disc", "square": "box", "large": "huge", "small": "tiny"}  # in dev and test alone
UNSEEN_SHARE = 0.02
OVERSAMPLING = 4  # subpixels a pixel and axis, averaged: smooth edges


@dataclass(frozen=True)
class ShapesConfig:
    """How many scenes and how large; `seed` draws all of them."""

    size: int = parameter(least=8)
    train: int = parameter(least=1)
    dev: int = parameter(least=1)
    test: int = parameter(least=1)
    captions: int = parameter(least=1)  # of each scene
    seed: int = parameter(least=0)


@dataclass(frozen=True)
class Thing:
    colour: str
    shape: str
    size: str       # a key of SIZES, or nothing where two share the scene
    x: float        # centre, in canvas sides
    y: float

    @property
    def words(self) -> str:
        return f"{self.colour} {self.shape}"


def draw_split(split: str, count: int, config: ShapesConfig) -> tuple[np.ndarray, list[tuple[int, str]]]:
    """`count` scenes (N, H, W, 3) uint8 and their captions, each with the row of its scene."""
    rng = numpy_generator(config.seed, "shapes", split)
    pictures = np.empty((count, config.size, config.size, 3), np.uint8)
    captions: list[tuple[int, str]] = []
    for row in range(count):
        things, ways = _scene(rng)
        pictures[row] = _paint(things, config.size)
        for way in rng.permutation(len(ways))[:config.captions]:
            captions.append((row, ways[way] if split == "train" else _with_unseen_words(ways[way], rng)))
    return pictures, _with_words_used_once(captions, rng) if split == "train" else captions


def _scene(rng: np.random.Generator) -> tuple[list[Thing], list[str]]:
    """The things of one scene and all the ways to say it."""
    colours = rng.choice(list(COLOURS), 2, replace=False)
    shapes = rng.choice(SHAPES, 2)
    shift = rng.uniform(-0.04, 0.04, (2, 2))
    if rng.random() < 0.4:
        size = str(rng.choice(list(SIZES)))
        vertical = (("top", 0.28), ("bottom", 0.72))[rng.integers(2)]
        horizontal = (("left", 0.28), ("right", 0.72))[rng.integers(2)]
        corner = rng.random() < 0.6
        x, y = (horizontal[1], vertical[1]) if corner else (0.5, 0.5)
        thing = Thing(str(colours[0]), str(shapes[0]), size, x + shift[0, 0], y + shift[0, 1])
        place = f"in the {vertical[0]} {horizontal[0]} corner" if corner else "in the middle"
        named = f"{size} {thing.words}"
        return [thing], [f"a {named} {place} .", f"there is a {named} {place} of the picture ."
                         if not corner else f"there is a {named} {place} .", f"a {thing.words} ."]
    upright = rng.random() < 0.5
    at = ((0.5, 0.26), (0.5, 0.74)) if upright else ((0.26, 0.5), (0.74, 0.5))
    first, second = (Thing(str(c), str(s), "", x + dx, y + dy)
                     for c, s, (x, y), (dx, dy) in zip(colours, shapes, at, shift, strict=True))
    if upright:
        ways = [f"a {first.words} above a {second.words} .", f"a {second.words} below a {first.words} .",
                f"there is a {first.words} at the top and a {second.words} at the bottom ."]
    else:
        ways = [f"a {first.words} to the left of a {second.words} .",
                f"a {second.words} to the right of a {first.words} .",
                f"there is a {first.words} on the left and a {second.words} on the right ."]
    return [first, second], ways


def _with_unseen_words(caption: str, rng: np.random.Generator) -> str:
    return " ".join(UNSEEN[word] if word in UNSEEN and rng.random() < UNSEEN_SHARE else word for word in caption.split())


def _with_words_used_once(captions: list[tuple[int, str]], rng: np.random.Generator) -> list[tuple[int, str]]:
    changed = list(captions)
    for colour, synonyms in ONCE.items():
        rows = [n for n, (_, text) in enumerate(captions) if colour in text.split()]
        for word, n in zip(synonyms, rng.permutation(rows)[:len(synonyms)], strict=False):
            row, text = changed[n]
            changed[n] = row, text.replace(colour, word, 1)
    return changed


def _paint(things: list[Thing], size: int) -> np.ndarray:
    fine = size * OVERSAMPLING
    y, x = (np.mgrid[:fine, :fine] + 0.5) / fine
    picture = np.zeros((fine, fine, 3))
    for thing in things:
        half = SIZES.get(thing.size, SIZE_OF_PAIR)
        dx, dy = x - thing.x, y - thing.y
        inside = {"circle": dx**2 + dy**2 < half**2,
                  "square": (abs(dx) < 0.88 * half) & (abs(dy) < 0.88 * half),
                  "triangle": (dy < 0.8 * half) & (dy > 2 * abs(dx) - half)}[thing.shape]
        picture[inside] = COLOURS[thing.colour]
    means = picture.reshape(size, OVERSAMPLING, size, OVERSAMPLING, 3).mean((1, 3))
    return means.round().astype(np.uint8)
