"""The numbers: bounds on log p(x | y), in nats per picture, with their standard errors.

Two estimates of the same thing, and what they are to beat. The variational bound is L of the paper, with one draw of
Z a picture. The importance-weighted bound (Burda et al. 2016, equation 8) is log of the mean of k weights
p(x, Z | y) / Q(Z | x, y): for k = 1 it is L on average, and it rises towards log p(x | y) with k. The mean of the
training pictures, pixel by pixel, has no latents, and its bound is its log p(x).
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from text2image import seeds
from text2image.config import parameter
from text2image.datasets import Batches, Dataset
from text2image.devices import Device
from text2image.model import AlignDRAW


@dataclass(frozen=True)
class EvaluateConfig:
    """How many captions of each split are scored (0: all), and how."""

    captions: int = parameter(least=0)
    importance_captions: int = parameter(least=0)  # of the importance-weighted bound
    importance_samples: int = parameter(least=1)   # k
    batch_size: int = parameter(least=1)
    seed: int = parameter(least=0)
    device: Device


class Scores:
    """Values of captions, in nats, and the picture of each."""

    def __init__(self) -> None:
        self.pictures: list[Tensor] = []
        self.values: dict[str, list[Tensor]] = {}

    def add(self, picture: Tensor, **values: Tensor) -> None:
        self.pictures.append(picture)
        for name, value in values.items():
            self.values.setdefault(name, []).append(value.cpu().double())

    def summary(self) -> dict[str, Any]:
        """Mean and standard error over pictures, each the mean of its captions: captions of one picture are no two draws."""
        _, row, captions = torch.cat(self.pictures).unique(return_inverse=True, return_counts=True)
        numbers: dict[str, Any] = {"captions": len(row), "images": len(captions)}
        for name, parts in self.values.items():
            means = torch.zeros(len(captions), dtype=torch.double).index_add_(0, row, torch.cat(parts)) / captions
            error = means.std().item() / math.sqrt(len(means)) if len(means) > 1 else 0.0
            numbers[name] = {"mean": round(means.mean().item(), 4), "se": round(error, 4)}
        return numbers


def mean_picture(batches: Batches) -> Tensor:
    """(C, H, W): the mean of a pass's pictures and, so that no pixel is surely black or white, one picture of grey."""
    first = batches[0].images
    total = torch.full(first.shape[1:], 0.5, dtype=torch.double, device=first.device)
    known: set[int] = set()
    for i in range(len(batches)):
        batch = batches[i]
        rows = {picture: row for row, picture in enumerate(batch.picture.tolist()) if picture not in known}  # each once
        known |= rows.keys()
        total += batch.images[list(rows.values())].double().sum(0)
    return (total / (len(known) + 1)).to(first.dtype)


@torch.no_grad()
def variational(model: AlignDRAW, batches: Batches, mean: Tensor, *stream: int | str) -> dict[str, Any]:
    """L, and its parts apart, L = -(reconstruction + KL); log p(x) of the picture `mean`."""
    scores = Scores()
    for i in range(len(batches)):
        images, words, picture, lengths = batches[i]
        bound = model.bound(images, words, _noise(model, len(words), *stream, i), lengths)
        cost = F.binary_cross_entropy(mean.expand_as(images), images, reduction="none").flatten(1).sum(1)
        scores.add(picture, bound=-bound.cost, reconstruction=bound.reconstruction, kl=bound.kl, mean_picture=-cost)
    return scores.summary()


@torch.no_grad()
def importance_weighted(model: AlignDRAW, batches: Batches, samples: int, *stream: int | str) -> dict[str, Any]:
    """The bound of `samples` importance weights a caption; each picture is scored with all its draws in one batch."""
    scores = Scores()
    for i in range(len(batches)):
        images, words, picture, _ = batches[i]
        images, words = (part.repeat_interleave(samples, 0) for part in (images, words))
        weights = model.bound(images, words, _noise(model, len(words), *stream, i)).log_weight.view(-1, samples)
        scores.add(picture, bound=weights.logsumexp(1) - math.log(samples))
    return scores.summary() | {"samples": samples}


def _noise(model: AlignDRAW, batch: int, *stream: int | str) -> Tensor:
    device = next(model.parameters()).device
    return seeds.noise((model.config.glimpses, batch, model.config.latent), *stream, device=device)


def evaluate(model: AlignDRAW, data: Dataset, mean: Tensor, config: EvaluateConfig, split: str) -> dict[str, Any]:
    """Every number of one split; `mean` is the training split's `mean_picture`."""
    some = max(1, config.batch_size // config.importance_samples)
    return variational(model, data.in_order(config.batch_size, config.captions), mean, config.seed, split, "bound") | {
        "importance_weighted": importance_weighted(model, data.in_order(some, config.importance_captions),
                                                   config.importance_samples, config.seed, split, "importance")}
