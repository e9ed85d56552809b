"""`shapes`: small scenes of coloured shapes with captions, drawn from a seed; the quick start's stand-in for photographs.

Captions have 4 to 16 words. Some words occur once, and some in dev and test alone, as they do in every real
collection. Fetched they are one images-{split}.npz (N, H, W, 3) a split, and captions.csv: split, image, caption.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from text2image.config import MAX_COUNT, MAX_SEED, frozen, parameter, require_memory
from text2image.data.vocabulary import tokenize
from text2image.data.writer import SPLITS, Writer
from text2image.errors import UserError
from text2image.files.hdf5 import UNREADABLE
from text2image.files.npz import write_npz
from text2image.seeds import numpy_generator

IMAGES, CAPTIONS = "images-{split}.npz", "captions.csv"

COLOURS = {"red": (230, 40, 40), "green": (40, 190, 70), "blue": (50, 90, 235),
           "yellow": (240, 215, 50), "purple": (160, 60, 200), "white": (240, 240, 240)}
SHAPES = ("circle", "square", "triangle")
EXTENTS = {"small": 0.17, "large": 0.27}   # half a shape's extent, as a share of the image's side
EXTENT_IN_PAIR = 0.19
# Words that occur once each in training, so that the model has met an unknown word; they are what it then reads.
ONCE = {"red": ("crimson", "scarlet", "ruby", "cherry"), "green": ("emerald", "lime", "jade", "olive"),
        "blue": ("azure", "navy", "cobalt", "sapphire"), "yellow": ("golden", "amber", "lemon", "mustard"),
        "purple": ("violet", "lilac", "plum", "mauve"), "white": ("ivory", "pearl", "snowy", "chalk")}
UNSEEN = {"circle": "disc", "square": "box", "large": "huge", "small": "tiny"}  # in dev and test alone
UNSEEN_SHARE = 0.02
OVERSAMPLING = 4  # subpixels a pixel and axis, averaged: smooth edges


Scenes = tuple[np.ndarray, list[tuple[int, str]]]  # images (N, H, W, 3) uint8; the row of an image, a caption of it


@frozen
class SceneConfig:
    """How many scenes and how large; `seed` draws all of them."""

    size: int = parameter(ge=8, le=512)
    train: int = parameter(ge=1, le=MAX_COUNT)
    dev: int = parameter(ge=1, le=MAX_COUNT)
    test: int = parameter(ge=1, le=MAX_COUNT)
    captions: int = parameter(ge=1, le=100)  # of each scene
    seed: int = parameter(ge=0, le=MAX_SEED)


@dataclass(frozen=True)
class FetchConfig:
    """The scenes to draw."""

    images: SceneConfig


@frozen
class PrepareConfig:
    """The vocabulary's words."""

    min_count: int = parameter(ge=1, le=MAX_COUNT)  # times a word must occur in training; else it is UNK


def fetch(config: FetchConfig, out: Path, kept: Path, where: str) -> None:
    """Draw the scenes into `out`."""
    count = sum(getattr(config.images, split) for split in SPLITS)
    require_memory(count * 3 * config.images.size**2, f"the {count:,} images that '{where}.images' asks for")
    write_scenes(out, {split: draw_split(split, getattr(config.images, split), config.images) for split in SPLITS})


def prepare(config: PrepareConfig, raw: Path, out: Writer, seed: int, where: str) -> None:
    """Number the words of the captions. Raises UserError for a caption without words."""
    scenes = read_scenes(raw)
    captions = {split: [(row, tokenize(text)) for row, text in pairs] for split, (_, pairs) in scenes.items()}
    for split, tokens in captions.items():
        empty = [n for n, (_, words) in enumerate(tokens) if not words]
        if empty:
            raise UserError(f"{raw}: caption {empty[0] + 1} of {split} is empty: give it at least one word, or leave it out")
    planar = {split: np.ascontiguousarray(rows.transpose(0, 3, 1, 2)) for split, (rows, _) in scenes.items()}
    out.write_captioned(planar, captions, config.min_count)


@dataclass(frozen=True)
class Thing:
    """A shape of a scene."""

    colour: str
    shape: str
    size: str       # a key of EXTENTS, or nothing where two share the scene
    x: float        # centre, as a share of the image's side
    y: float

    @property
    def words(self) -> str:
        """What a caption calls it, its size aside."""
        return f"{self.colour} {self.shape}"


def draw_split(split: str, count: int, config: SceneConfig) -> Scenes:
    """`count` scenes (N, H, W, 3) uint8 and their captions, each with the row of its scene."""
    rng = numpy_generator(config.seed, "shapes", split)
    images = np.empty((count, config.size, config.size, 3), np.uint8)
    captions: list[tuple[int, str]] = []
    for row in range(count):
        things, phrasings = _scene(rng)
        images[row] = _paint(things, config.size)
        for n in rng.permutation(len(phrasings))[:config.captions]:
            captions.append((row, phrasings[n] if split == "train" else _with_unseen_words(phrasings[n], rng)))
    return images, _with_words_used_once(captions, rng) if split == "train" else captions


def _scene(rng: np.random.Generator) -> tuple[list[Thing], list[str]]:
    """The things of one scene and all the phrasings of what it shows."""
    colours = rng.choice(list(COLOURS), 2, replace=False)
    shapes = rng.choice(SHAPES, 2)
    shift = rng.uniform(-0.04, 0.04, (2, 2))
    if rng.random() < 0.4:
        size = str(rng.choice(list(EXTENTS)))
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
        phrasings = [f"a {first.words} above a {second.words} .", f"a {second.words} below a {first.words} .",
                     f"there is a {first.words} at the top and a {second.words} at the bottom ."]
    else:
        phrasings = [f"a {first.words} to the left of a {second.words} .",
                     f"a {second.words} to the right of a {first.words} .",
                     f"there is a {first.words} on the left and a {second.words} on the right ."]
    return [first, second], phrasings


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
    image = np.zeros((fine, fine, 3))
    for thing in things:
        half = EXTENTS.get(thing.size, EXTENT_IN_PAIR)
        dx, dy = x - thing.x, y - thing.y
        inside = {"circle": dx**2 + dy**2 < half**2,
                  "square": (abs(dx) < 0.88 * half) & (abs(dy) < 0.88 * half),
                  "triangle": (dy < 0.8 * half) & (dy > 2 * abs(dx) - half)}[thing.shape]
        image[inside] = COLOURS[thing.colour]
    means = image.reshape(size, OVERSAMPLING, size, OVERSAMPLING, 3).mean((1, 3))
    return means.round().astype(np.uint8)


def write_scenes(folder: Path, splits: Mapping[str, Scenes]) -> None:
    """Drawn scenes as files of `folder`."""
    with (folder / CAPTIONS).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["split", "image", "caption"])
        for split, (images, captions) in splits.items():
            write_npz(folder / IMAGES.format(split=split), {"images": images})
            writer.writerows([split, image, caption] for image, caption in captions)


def read_scenes(folder: Path) -> dict[str, Scenes]:
    """What `write_scenes` wrote. Raises UserError where a file is not readable."""
    try:
        with (folder / CAPTIONS).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        splits = {}
        for split in SPLITS:
            with (folder / IMAGES.format(split=split)).open("rb") as opened, np.load(opened) as archive:
                splits[split] = archive["images"], [(int(r["image"]), r["caption"]) for r in rows if r["split"] == split]
    except UNREADABLE as error:
        raise UserError(f"{folder}: not readable ({error}); run `dvc repro` to draw the scenes again") from error
    return splits
