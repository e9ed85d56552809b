"""The metric `bounds`: bounds on log p(x | y) in nats per image, with their standard errors.

Two estimates of the same thing, and what they are to beat. The ELBO is L of the paper, with one draw of Z an image. The
IWAE bound (importance-weighted; Burda et al. 2016, equation 8) is the log of the mean of k importance weights
p(x, Z | y) / Q(Z | x, y): for k = 1 it is the ELBO on average, and it rises towards log p(x | y) with k. Of its own k draws
`iwae` has the ELBO too, the mean over them, and how much the bound lies above it, image by image. The mean of the training
images, pixel by pixel, has no latents, and its bound is its log p(x).

`other_captions` tells how much the model's images depend on their captions: the ELBO of the same images, with the same noise,
given captions of other images.

Held-out captions of MNIST's grammar are of two groups: those whose scene was trained on in its other wording, and those
whose scene never was.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from text2image import devices, seeds
from text2image.config import MAX_COUNT, MAX_SEED, frozen, parameter, require_memory
from text2image.data.datasets import Batch, Batches, Dataset
from text2image.data.mnist_captions import Grammar
from text2image.devices import Device
from text2image.models.base import ImageModel
from text2image.results.scores import Scores
from text2image.results.subject import Subject

HELD_OUT = "test_held_out"
GROUPS = ("never_seen", "other_wording")  # of held-out captions, by where else their scene was trained on
GroupOf = Callable[[Tensor], Tensor]   # captions (B, L): numbers (B,) of GROUPS


@frozen
class Config:
    """How many captions of each split are scored (0: all), and how."""

    captions: int = parameter(ge=0, le=MAX_COUNT)
    iwae_captions: int = parameter(ge=0, le=MAX_COUNT)  # of the IWAE bound, and of those that other images' captions are given
    iwae_samples: int = parameter(ge=1, le=10**6)       # k
    batch_size: int = parameter(ge=1, le=10**6)
    seed: int = parameter(ge=0, le=MAX_SEED)
    device: Device


def measure(config: Config, subject: Subject) -> dict[str, Any]:
    """Bounds on every split that there is."""
    model = subject.checkpoint.model.to(devices.choose(config.device))
    together = max(min(config.batch_size, config.captions or 1), config.iwae_samples)  # images that are scored at once
    require_memory(4 * together * (math.prod(model.noise_shape(1)) + math.prod(model.image_shape)),
                   f"{together:,} images with their noise, by batch_size and iwae_samples,")
    splits = subject.splits(config.device)
    mean = mean_image(splits["train"].sequential(config.batch_size, 0))
    grammar = subject.checkpoint.grammar
    group_of = {HELD_OUT: held_out_groups(grammar)} if grammar is not None else {}
    result: dict[str, Any] = {split: of_split(model, data, mean, config, split, group_of.get(split))
                              for split, data in splits.items()}
    return {"headline": headline(result)} | result


def headline(result: dict[str, Any]) -> dict[str, float]:
    """The ELBO of every split but training's: a run's row has room for few numbers."""
    return {f"elbo_{split.removeprefix('test_')}": numbers["elbo"]["mean"] for split, numbers in result.items()
            if split != "train"}


def held_out_groups(grammar: Grammar) -> GroupOf:
    """Which of GROUPS each of some held-out captions belongs to, by its words."""
    def group_of(words: Tensor) -> Tensor:
        return grammar.standing(words)[1].long()

    return group_of


def mean_image(batches: Batches) -> Tensor:
    """(C, H, W): the mean of a pass's images and, so that no pixel is surely black or white, one image of grey."""
    first = batches[0].images
    total = torch.full(first.shape[1:], 0.5, dtype=torch.double, device=first.device)
    known: set[int] = set()
    for i in range(len(batches)):
        batch = batches[i]
        rows = {image: row for row, image in enumerate(batch.image_index.tolist()) if image not in known}  # each once
        known |= rows.keys()
        total += batch.images[list(rows.values())].double().sum(0)
    return (total / (len(known) + 1)).to(first.dtype)


@torch.no_grad()
def elbo(model: ImageModel, batches: Batches, mean: Tensor, *stream: int | str, others: int = 0,
         group_of: GroupOf | None = None) -> tuple[Scores, Scores]:
    """The ELBO and its parts apart, ELBO = -(reconstruction + KL); and log p(x) of the image `mean` (C, H, W).

    Second, of `others` captions at least (0: all), the ELBO with captions of other images.
    """
    own, exchanged, chosen = Scores(), Scores(), spread(batches, others)
    for i in range(len(batches)):
        images, words, image_index, lengths = batch = batches[i]
        noise = _noise(model, len(words), images.device, *stream, i)
        bound = model.elbo(images, words, noise, lengths)
        cost = F.binary_cross_entropy(mean.expand_as(images), images, reduction="none").flatten(1).sum(1)
        of_glimpses = {} if bound.kl_of_glimpses is None else {"kl_of_glimpses": bound.kl_of_glimpses.T}
        group = None if group_of is None else group_of(words)
        own.add(image_index, group, elbo=bound.elbo, reconstruction=bound.reconstruction, kl=bound.kl, mean_image=-cost,
                **of_glimpses)
        if i in chosen:
            shift, differs = exchange(batch)
            other = model.elbo(images, words.roll(shift, 0), noise, None if lengths is None else lengths.roll(shift)).elbo
            rows = differs.to(other.device)
            exchanged.add(image_index[differs], None if group is None else group[differs], elbo=other[rows],
                          own_elbo=bound.elbo[rows], difference=(bound.elbo - other)[rows])
    return own, exchanged


def spread(batches: Batches, captions: int) -> set[int]:
    """Batches that hold `captions` captions (0: all) or some more, spread over a pass, which is in order of length."""
    wanted = min(captions or sum(batches.sizes), sum(batches.sizes))
    number = next(n for n in range(1, len(batches) + 1)
                  if sum(batches.sizes[i] for i in _evenly(n, len(batches))) >= wanted)
    return set(_evenly(number, len(batches)))


def _evenly(number: int, of: int) -> list[int]:
    return [i * of // number for i in range(number)]


def exchange(batch: Batch) -> tuple[int, Tensor]:
    """By how many rows a batch's captions are rolled, so that images have captions of other images; and which rows (B,) have.

    It is the first shift by which no image has a caption of its own or one of the same words; else that of the most.
    """
    best, most = 0, torch.zeros(len(batch.words), dtype=torch.bool)
    for shift in range(1, len(batch.words)):
        differs = batch.image_index.roll(shift) != batch.image_index
        differs &= (batch.words.roll(shift, 0) != batch.words).any(1).cpu()
        if differs.sum() > most.sum():
            best, most = shift, differs
        if differs.all():
            break
    return best, most


@torch.no_grad()
def iwae_bound(model: ImageModel, batches: Batches, samples: int, *stream: int | str,
               group_of: GroupOf | None = None) -> Scores:
    """The IWAE bound of `samples` importance weights a caption; an image is scored with all its draws in one batch.

    Of the same draws the ELBO, which is their mean, and `gap`: the bound minus the ELBO.
    """
    scores = Scores()
    for i in range(len(batches)):
        images, words, image_index, _ = batches[i]
        group = None if group_of is None else group_of(words)
        images, words = (part.repeat_interleave(samples, 0) for part in (images, words))
        drawn = model.elbo(images, words, _noise(model, len(words), images.device, *stream, i))
        bound = drawn.log_importance_weight.view(-1, samples).logsumexp(1) - math.log(samples)
        mean = drawn.elbo.view(-1, samples).mean(1)
        scores.add(image_index, group, bound=bound, elbo=mean, gap=bound - mean)
    return scores


def _noise(model: ImageModel, batch: int, device: torch.device, *stream: int | str) -> Tensor:
    """Drawn on the CPU, so that every device gives the same numbers."""
    return seeds.noise(model.noise_shape(batch), *stream, device="cpu").to(device)


def of_split(model: ImageModel, data: Dataset, mean: Tensor, config: Config, split: str,
             group_of: GroupOf | None = None) -> dict[str, Any]:
    """Every number of one split, and of its groups where there are any; `mean` is the training split's `mean_image`."""
    size = max(1, config.batch_size // config.iwae_samples)
    # The last string of a stream is hashed: it stays as it was when the results in Git were made.
    own, exchanged = elbo(model, data.sequential(config.batch_size, config.captions), mean, config.seed, split, "bound",
                          others=config.iwae_captions, group_of=group_of)
    iwae = iwae_bound(model, data.sequential(size, config.iwae_captions), config.iwae_samples, config.seed, split, "importance",
                      group_of=group_of)

    def numbers(group: int | None) -> dict[str, Any]:
        return own.summary(group) | {"other_captions": exchanged.summary(group),
                                     "iwae": iwae.summary(group) | {"samples": config.iwae_samples}}

    groups = {} if group_of is None else {name: numbers(group) for group, name in enumerate(GROUPS)}
    return numbers(None) | groups
