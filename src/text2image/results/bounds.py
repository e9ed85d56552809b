"""The metric `bounds`: bounds on log p(x | y) in nats per image, with their standard errors.

Two estimates of the same thing, and what they are to beat. The ELBO is L of the paper, with one draw of Z an image. The
IWAE bound (importance-weighted; Burda et al. 2016, equation 8) is the log of the mean of k importance weights
p(x, Z | y) / Q(Z | x, y): for k = 1 it is the ELBO on average, and it rises towards log p(x | y) with k. The mean of the
training images, pixel by pixel, has no latents, and its bound is its log p(x).
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from text2image import devices, seeds
from text2image.config import MAX_COUNT, MAX_SEED, frozen, parameter, require_memory
from text2image.data.datasets import Batches, Dataset
from text2image.devices import Device
from text2image.models.base import ImageModel
from text2image.results.scores import Scores
from text2image.results.subject import Subject


@frozen
class Config:
    """How many captions of each split are scored (0: all), and how."""

    captions: int = parameter(ge=0, le=MAX_COUNT)
    iwae_captions: int = parameter(ge=0, le=MAX_COUNT)  # of the IWAE bound
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
    result: dict[str, Any] = {split: of_split(model, data, mean, config, split) for split, data in splits.items()}
    return {"headline": headline(result)} | result


def headline(result: dict[str, Any]) -> dict[str, float]:
    """The ELBO of every split; the IWAE bound and KL of test, or of dev where there is no test split."""
    main = "test" if "test" in result else "dev"
    return ({f"elbo_{split.removeprefix('test_')}": numbers["elbo"]["mean"] for split, numbers in result.items()}
            | {f"iwae_{main}": result[main]["iwae"]["bound"]["mean"], f"kl_{main}": result[main]["kl"]["mean"]})


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
def elbo(model: ImageModel, batches: Batches, mean: Tensor, *stream: int | str) -> dict[str, Any]:
    """The ELBO and its parts apart, ELBO = -(reconstruction + KL); and log p(x) of the image `mean` (C, H, W)."""
    scores = Scores()
    for i in range(len(batches)):
        images, words, image_index, lengths = batches[i]
        bound = model.elbo(images, words, _noise(model, len(words), images.device, *stream, i), lengths)
        cost = F.binary_cross_entropy(mean.expand_as(images), images, reduction="none").flatten(1).sum(1)
        scores.add(image_index, elbo=-bound.negative_elbo, reconstruction=bound.reconstruction, kl=bound.kl, mean_image=-cost)
    return scores.summary()


@torch.no_grad()
def iwae_bound(model: ImageModel, batches: Batches, samples: int, *stream: int | str) -> dict[str, Any]:
    """The IWAE bound of `samples` importance weights a caption; an image is scored with all its draws in one batch."""
    scores = Scores()
    for i in range(len(batches)):
        images, words, image_index, _ = batches[i]
        images, words = (part.repeat_interleave(samples, 0) for part in (images, words))
        noise = _noise(model, len(words), images.device, *stream, i)
        weights = model.elbo(images, words, noise).log_importance_weight.view(-1, samples)
        scores.add(image_index, bound=weights.logsumexp(1) - math.log(samples))
    return scores.summary() | {"samples": samples}


def _noise(model: ImageModel, batch: int, device: torch.device, *stream: int | str) -> Tensor:
    return seeds.noise(model.noise_shape(batch), *stream, device=device)


def of_split(model: ImageModel, data: Dataset, mean: Tensor, config: Config, split: str) -> dict[str, Any]:
    """Every number of one split; `mean` is the training split's `mean_image`."""
    size = max(1, config.batch_size // config.iwae_samples)
    # The last string of a stream is hashed: it stays as it was when the results in Git were made.
    return elbo(model, data.sequential(config.batch_size, config.captions), mean, config.seed, split, "bound") | {
        "iwae": iwae_bound(model, data.sequential(size, config.iwae_captions), config.iwae_samples, config.seed, split,
                           "importance")}
