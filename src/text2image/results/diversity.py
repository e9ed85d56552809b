"""The metric `diversity`: does a model draw many images of a caption, and does it draw the images that it was trained on?

Variety is the standard deviation of each pixel over images of one caption, the mean over pixels and captions, beside that of
as many real images of the same captions: 1 where a model varies as the data does, 0 where it draws one image. Memory is the
Euclidean distance of an image to its nearest training image, of what the stage `sample` drew beside that of real images of
test: a copy lies much nearer than those do. Blurred images lie nearer too, so look at them as well (nearest/<run>.png).
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from text2image import devices, seeds
from text2image.config import MAX_COUNT, MAX_SEED, frozen, parameter
from text2image.data import mnist_captions
from text2image.data.datasets import CaptionedDigits, CaptionedImages, Dataset, as_float
from text2image.data.mnist_captions import VOCABULARY
from text2image.data.vocabulary import Vocabulary
from text2image.devices import Device
from text2image.models.base import ImageModel
from text2image.results.subject import Subject, test_splits


@frozen
class Config:
    """How many images are drawn and compared."""

    captions: int = parameter(ge=1, le=MAX_COUNT)    # of each group, seen and held out; of data without a grammar in all
    images: int = parameter(ge=2, le=10**6)          # of each caption, drawn and real; fewer where there are fewer real ones
    least_images: int = parameter(ge=2, le=10**6)    # that a caption describes in training, else it is not compared
    training_images: int = parameter(ge=0, le=MAX_COUNT)  # searched for the nearest; 0: all, of digits as many as digits
    test_images: int = parameter(ge=1, le=MAX_COUNT)  # whose nearest training images are found, to compare with
    batch_size: int = parameter(ge=1, le=10**6)
    seed: int = parameter(ge=0, le=MAX_SEED)
    device: Device


class Group(NamedTuple):
    """Captions, and real images of each, (n, C, H, W) in [0, 1]; of no caption any where there are none to compare."""

    captions: list[list[int]]
    real: list[Tensor]


class Nearest(NamedTuple):
    """Of n images the nearest training image (n, C, H, W) in [0, 1], its Euclidean distance (n,), and among how many it is."""

    images: Tensor
    distance: Tensor
    searched: int


def measure(config: Config, subject: Subject) -> dict[str, Any]:
    """Variety of the images of a caption, and what there is to compare with; the nearest images are `compare_nearest`'s."""
    device = devices.choose(config.device)
    model = subject.checkpoint.model.to(device)
    found = {name: spread(model, group, config, name, device) for name, group in groups(subject, config).items()}
    main = next(iter(found.values()))
    headline = {} if main["ratio"] is None else {"diversity": main["ratio"]}
    return {"headline": headline, "variety": found}


def groups(subject: Subject, config: Config) -> dict[str, Group]:
    """The captions that are drawn, with real images of each. Of a grammar they are spread over those seen in training and over
    those held out, and images are composed freshly of training's digits; of other data they are captions that describe
    `least_images` training images, or the first of test, without real images, where none does."""
    data = subject.split("train", "cpu")
    if isinstance(data, CaptionedDigits):
        found = {}
        for name, held_out in (("seen", False), ("held_out", True)):
            scenes = data.grammar.combinations(held_out)
            if len(scenes):
                chosen = np.unique(np.linspace(0, len(scenes) - 1, config.captions).round().astype(int))
                found[name] = composed(data, scenes[chosen], config.images, config.seed, name)
        return found
    shared = of_several_images(data, config)
    if shared.captions:
        return {"training": shared}
    test, *_ = test_splits(subject, "cpu").values()
    rows = [ids[ids > 0].tolist() for ids in test.word_ids()[:config.captions]]
    return {"without_real": Group(rows, [torch.empty(0)] * len(rows))}


def composed(data: CaptionedDigits, scenes: np.ndarray, count: int, *stream: int | str) -> Group:
    """`count` images of each of the captions `scenes` (N, 3): template, first and second digit."""
    captions, real = [], []
    for scene in scenes:
        rng = seeds.numpy_generator(*stream, "real images", *map(int, scene))
        placed = mnist_captions.place(np.repeat(scene[None], count, 0), data.labels, data.layout, rng)
        real.append(as_float(mnist_captions.compose(placed, data.digits, data.layout.size)))
        captions.append(VOCABULARY.known(mnist_captions.caption(*map(int, scene)).split()))
    return Group(captions, real)


def of_several_images(data: CaptionedImages, config: Config) -> Group:
    """Captions that describe `least_images` images, spread over all such by how many they describe; of each the first images.

    Of two or three images the deviation says little: it is biased, and by more for sharp images than for soft ones.
    """
    by_caption: dict[tuple[int, ...], dict[int, None]] = {}
    for ids, image in zip(data.word_ids().tolist(), data.image_of_caption.tolist(), strict=True):
        by_caption.setdefault(tuple(i for i in ids if i), {})[image] = None  # each once, in their order
    several = [ids for ids, rows in by_caption.items() if len(rows) >= config.least_images]
    ranked = sorted(several, key=lambda ids: (-len(by_caption[ids]), ids))
    places = np.linspace(0, len(ranked) - 1, min(config.captions, len(ranked))).round().astype(int)
    chosen = [ranked[i] for i in np.unique(places)]
    images = [list(by_caption[ids])[:config.images] for ids in chosen]
    return Group([list(ids) for ids in chosen], [data.images_at(torch.tensor(rows)) for rows in images])


def spread(model: ImageModel, group: Group, config: Config, name: str, device: torch.device) -> dict[str, Any]:
    """The mean standard deviation of drawn and of real images, and their ratio with its standard error over captions."""
    drawn, real = [], []
    for i, (caption, images) in enumerate(zip(group.captions, group.real, strict=True)):
        count = len(images) or config.images
        words = torch.tensor([caption], device=device).expand(count, -1)
        parts = []
        for k, rows in enumerate(words.split(config.batch_size)):
            noise = seeds.noise(model.noise_shape(len(rows)), config.seed, "diversity", name, i, k, device="cpu").to(device)
            parts.append(model.generate(rows, noise).cpu())
        drawn.append(deviation(torch.cat(parts)))
        real.append(deviation(images) if len(images) else math.nan)
    return {"captions": len(drawn), "drawn": round(float(np.mean(drawn)), 5),
            **ratio(np.array(drawn), np.array(real)),
            "images": sum(len(images) or config.images for images in group.real)}


def deviation(images: Tensor) -> float:
    """The standard deviation of each pixel over images (n, C, H, W), the mean over pixels."""
    return images.double().std(0).mean().item()


def ratio(drawn: np.ndarray, real: np.ndarray) -> dict[str, float | None]:
    """The ratio of two means over captions, and its standard error by linearisation; None where nothing real is there."""
    if not np.isfinite(real).all() or not real.sum():
        return {"real": None, "ratio": None, "se": None}
    value = float(drawn.sum() / real.sum())
    residuals = drawn - value * real
    error = float(residuals.std(ddof=1) / math.sqrt(len(real)) / real.mean()) if len(real) > 1 else 0.0
    return {"real": round(float(real.mean()), 5), "ratio": round(value, 4), "se": round(error, 4)}


def training_images(data: Dataset, config: Config) -> Iterator[Tensor]:
    """Training images (B, C, H, W), each once, as a model was trained on them; digits are composed."""
    if isinstance(data, CaptionedDigits):
        batches = data.shuffled(config.batch_size, config.training_images, config.seed, "nearest")
        yield from (batches[i].images for i in range(len(batches)))
        return
    for part in torch.arange(len(data.images))[:config.training_images or None].split(config.batch_size):
        yield data.images_at(part)


@torch.no_grad()
def nearest(images: Tensor, training: Iterator[Tensor]) -> Nearest:
    """The nearest of the training images to each of images (n, C, H, W), on one device."""
    flat = images.flatten(1)
    best = torch.full((len(flat),), math.inf, device=images.device)
    found, searched = torch.zeros_like(flat), 0
    for batch in training:
        others = batch.flatten(1)
        searched += len(others)
        squares = (others.square().sum(1) - 2 * flat @ others.T)               # (n, B), less the square of each image
        least, row = squares.min(1)
        closer = least < best
        best[closer], found[closer] = least[closer], others[row[closer]]
    return Nearest(found.view_as(images), (flat - found).double().square().sum(1).sqrt(), searched)


def compare_nearest(config: Config, subject: Subject, samples: Tensor, captions: list[str]) -> tuple[dict[str, Any], Nearest]:
    """Distances of samples (M, n, C, H, W) of M captions, and of real images of test, to their nearest training images; and
    the nearest ones of the samples, (M n, C, H, W)."""
    device = devices.choose(config.device)
    train = subject.split("train", config.device)
    test = {name: data.images_at(torch.arange(min(config.test_images, len(data.images))))
            for name, data in test_splits(subject, config.device).items()}
    names = groups_of_samples(subject, captions)
    flat = samples.to(device).flatten(0, 1)
    found = nearest(torch.cat([flat, *test.values()]), training_images(train, config))
    parts = found.distance.split([len(flat), *map(len, test.values())])
    result = {name: summary(parts[0].view(samples.shape[:2])[rows].flatten()) for name, rows in names.items()}
    result |= {f"real_{name}": summary(part) for name, part in zip(test, parts[1:], strict=True)}
    return {**result, "training_images": found.searched}, Nearest(found.images[:len(flat)], parts[0], found.searched)


def groups_of_samples(subject: Subject, captions: list[str]) -> dict[str, Tensor]:
    """The rows of the samples' captions: all of them, or those seen in training and those held out."""
    grammar = subject.checkpoint.grammar
    if grammar is None:
        return {"samples": torch.ones(len(captions), dtype=torch.bool)}
    vocabulary: Vocabulary = subject.checkpoint.vocabulary
    held_out, _ = grammar.standing(torch.tensor([vocabulary.encode(caption) for caption in captions]))
    return {name: rows for name, rows in (("samples", ~held_out), ("samples_held_out", held_out)) if rows.any()}


def summary(distance: Tensor) -> dict[str, float | int]:
    """Of distances (n,) the mean, the median and the smallest."""
    return {"images": len(distance), "mean": round(distance.mean().item(), 4), "median": round(distance.median().item(), 4),
            "smallest": round(distance.min().item(), 4)}
