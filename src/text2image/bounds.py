"""The numbers: bounds on log p(x | y), in nats per picture, with their standard errors.

Two estimates of the same thing. The variational bound is L of the paper, with one draw of Z a picture. The
importance-weighted bound (Burda et al. 2016, equation 8) is log of the mean of k weights p(x, Z | y) / Q(Z | x, y):
for k = 1 it is L on average, and it rises towards log p(x | y) with k.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

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


@dataclass
class Estimate:
    """A mean over captions, its standard error, and how many captions it is over."""

    values: list[Tensor]

    def summary(self) -> dict[str, float]:
        values = torch.cat(self.values).double()
        error = values.std().item() / math.sqrt(len(values)) if len(values) > 1 else 0.0
        return {"mean": round(values.mean().item(), 4), "se": round(error, 4)}


@torch.no_grad()
def variational(model: AlignDRAW, batches: Batches, *stream: int | str) -> dict[str, Any]:
    """L, and its parts apart; L = -(reconstruction + KL)."""
    parts: dict[str, Estimate] = {name: Estimate([]) for name in ("bound", "reconstruction", "kl")}
    for i in range(len(batches)):
        images, words = batches[i]
        bound = model.bound(images, words, _noise(model, len(words), *stream, i))
        for name, value in (("bound", -bound.cost), ("reconstruction", bound.reconstruction), ("kl", bound.kl)):
            parts[name].values.append(value.cpu())
    return {name: part.summary() for name, part in parts.items()} | {
        "captions": sum(batches.sizes), "images": batches.images}


@torch.no_grad()
def importance_weighted(model: AlignDRAW, batches: Batches, samples: int, *stream: int | str) -> dict[str, Any]:
    """The bound of `samples` importance weights a caption; each picture is scored with all its draws in one batch."""
    values = Estimate([])
    for i in range(len(batches)):
        images, words = (part.repeat_interleave(samples, 0) for part in batches[i])
        weights = model.bound(images, words, _noise(model, len(words), *stream, i)).log_weight.view(-1, samples)
        values.values.append((weights.logsumexp(1) - math.log(samples)).cpu())
    return {"bound": values.summary(), "captions": sum(batches.sizes), "samples": samples}


def _noise(model: AlignDRAW, batch: int, *stream: int | str) -> Tensor:
    device = next(model.parameters()).device
    return seeds.noise((model.config.glimpses, batch, model.config.latent), *stream, device=device)


def evaluate(model: AlignDRAW, data: Dataset, config: EvaluateConfig, split: str) -> dict[str, Any]:
    """Every number of one split."""
    some = max(1, config.batch_size // config.importance_samples)
    return variational(model, data.in_order(config.batch_size, config.captions), config.seed, split, "bound") | {
        "importance_weighted": importance_weighted(model, data.in_order(some, config.importance_captions),
                                                   config.importance_samples, config.seed, split, "importance")}
