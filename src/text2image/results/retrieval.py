"""The metric `retrieval`: how well a caption finds its image, as in the paper's table 1.

A shortlist is the caption's own image and 99 others: its nearest neighbours in the features of a classifier, or any, at
random. They are ranked by log p(x | y), for which the ELBO stands. Some images are likely whatever the caption says; so the
paper ranks by log p(x | y) - log p(x | mean sentence), whose vector is the mean over the training captions of the mean over
their words of what the model reads. Both rankings are given, and beside them what chance gives.

R@K is the share of captions, in percent, whose own image is among the first K. Images that score alike, up to rounding, are
in no order: each order is taken to be as likely, so that a model which ignores captions is exactly at chance.

An image has noise of its own, the same for every caption and for the mean sentence: differences between captions are of the
same draws of Z, and log p(x | mean sentence) is computed once.

Letter code: B batch, T glimpses, D latent, M images of the split, N images of a shortlist, F features.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from text2image import devices, seeds
from text2image.classifiers import network
from text2image.config import MAX_COUNT, MAX_SEED, frozen, parameter, require_memory
from text2image.data.datasets import Batches
from text2image.devices import Device
from text2image.errors import UserError
from text2image.models.base import Encoding, ImageModel
from text2image.results import captioned
from text2image.results.captioned import Captioned
from text2image.results.scores import Scores
from text2image.results.subject import Subject

Features = Callable[[Tensor], Tensor]  # images (B, C, H, W) in [0, 1]: (B, F)
RECALLS = (1, 5, 10, 50)               # K of R@K
LISTS = ("nearest", "random")
RANKINGS = ("corrected", "uncorrected")
ROUNDING = 1e-5     # of log p(x), in float32: images whose scores differ by less of it score alike
RESAMPLES = 1000    # of the bootstrap


@frozen
class Config:
    """Which captions are ranked, and how."""

    captions: int = parameter(ge=0, le=MAX_COUNT)     # of the test split, drawn from the seed; 0: all
    shortlist: int = parameter(ge=2, le=10**6)        # N, the caption's own image among them
    draws: int = parameter(ge=1, le=10**4)            # of Z for each image: the mean of their ELBOs is its score
    batch_size: int = parameter(ge=1, le=10**6)       # draws that are scored at once
    seed: int = parameter(ge=0, le=MAX_SEED)
    device: Device


class Rank(NamedTuple):
    """Where an image stands among others: how many score higher, and how many alike, it not included."""

    better: int
    alike: int

    @property
    def expected(self) -> float:
        """Its rank, from 1 on, in the mean over the orders of those alike."""
        return 1 + self.better + self.alike / 2

    def within(self, k: int) -> float:
        """The share of these orders in which it is among the first k."""
        return min(1.0, max(0.0, (k - self.better) / (self.alike + 1)))


def measure(config: Config, subject: Subject) -> dict[str, Any]:
    """R@K and median rank of both lists by both rankings; neighbours by the features of the dataset's classifier."""
    classifier = network.load(subject.classifier_folder).to(devices.choose(config.device)).eval()
    classifier.check(subject.checkpoint.model.image_shape, f"{subject.classifier_folder}/{network.FILE}")
    return by_features(config, subject, classifier.features)


def by_features(config: Config, subject: Subject, features: Features) -> dict[str, Any]:
    """As `measure`; neighbours are those whose features are near."""
    model = subject.checkpoint.model.to(devices.choose(config.device))
    chosen = captioned.choose(subject, config.device, config.captions, config.seed, "retrieval", "captions")
    mean = mean_sentence(model, subject.split("train", config.device).sequential(config.batch_size, 0))
    ranks = rank(model, chosen, mean, features, config)
    return {"headline": {"R@1": ranks["nearest"]["corrected"]["R@1"]["mean"]}, "split": chosen.split} | ranks


@torch.no_grad()
def rank(model: ImageModel, chosen: Captioned, mean: Encoding, features: Features, config: Config) -> dict[str, Any]:
    """As `by_features`, of the chosen captions; `mean` is the mean sentence. Raises UserError where a split is too small."""
    pool = torch.from_numpy(np.unique(chosen.data.image_of_caption)).long()    # (M,), each image once
    if len(pool) < config.shortlist:
        raise UserError(f"{chosen.split} has {len(pool):,} images with captions, fewer than the {config.shortlist:,} of a "
                        "shortlist: lower retrieval.shortlist")
    scorer = Scorer(model, chosen, config)
    found = torch.cat([features(chosen.images(part)).flatten(1).cpu() for part in pool.split(config.batch_size)])  # (M, F)
    at_mean = scorer.scores(mean, pool)                                        # (M,)
    image_index, ranks = [], []
    for row in chosen.rows.tolist():
        own = int(torch.searchsorted(pool, chosen.image_of(row)))
        lists = torch.stack([nearest(found, own, config.shortlist),
                             at_random(len(pool), own, config.shortlist, config.seed, "retrieval", "random", row)])
        distinct, back = lists.unique(return_inverse=True)                     # an image of both lists is scored once
        scores = scorer.scores(model.encode(chosen.words(row)), pool[distinct])
        rounding, rankings = ROUNDING * scores.abs().max().item(), (scores - at_mean[distinct], scores)
        ranks.append([[rank_of_first(values[each], rounding) for values in rankings] for each in back])
        image_index.append(int(pool[own]))
    return summary(torch.tensor(image_index), ranks, config)


class Scorer:
    """log p(x | y) of images of one split, by the ELBO, with noise that belongs to the image."""

    def __init__(self, model: ImageModel, chosen: Captioned, config: Config):
        self.model, self.chosen, self.config = model, chosen, config
        self.together = max(1, config.batch_size // config.draws)  # images
        numbers = self.together * config.draws * (math.prod(model.image_shape) + math.prod(model.noise_shape(1)))
        require_memory(4 * numbers, f"{self.together:,} images with {config.draws:,} draws each, by batch_size and draws,")

    def scores(self, encoding: Encoding, images: Tensor) -> Tensor:
        """(n,) float64 for images by their numbers (n,), given the encoding of one caption."""
        return torch.cat([self._batch(encoding, part) for part in images.split(self.together)])

    def _batch(self, encoding: Encoding, numbers: Tensor) -> Tensor:
        images, draws = self.chosen.images(numbers), self.config.draws
        noise = torch.cat([seeds.noise(self.model.noise_shape(draws), self.config.seed, "retrieval", image, device="cpu")
                           for image in numbers.tolist()], 1).to(images.device)
        bound = self.model.score(images.repeat_interleave(draws, 0), encoding.expand(len(numbers) * draws), noise)
        return bound.elbo.view(-1, draws).double().mean(1).cpu()


@torch.no_grad()
def mean_sentence(model: ImageModel, batches: Batches) -> Encoding:
    """One vector a caption, (1, 1, S): the mean over captions of the mean over their words of what the model reads."""
    sums, captions = [], 0
    for i in range(len(batches)):
        _, words, _, lengths = batches[i]
        states, mask = model.encode(words, lengths)
        kept = torch.ones_like(states[..., :1]) if mask is None else (mask == 0).to(states.dtype)[..., None]
        sums.append(((states * kept).sum(1) / kept.sum(1)).sum(0, dtype=torch.double))
        captions += len(words)
    return Encoding((torch.stack(sums).sum(0) / captions).to(states.dtype)[None, None])


def nearest(features: Tensor, own: int, size: int) -> Tensor:
    """The image `own` first, then the size - 1 others that are nearest to it (Euclid) by their features (M, F)."""
    distance = (features - features[own]).square().sum(1)
    distance[own] = -1  # so that it is first, whoever equals it
    return distance.argsort(stable=True)[:size]


def at_random(images: int, own: int, size: int, *stream: int | str) -> Tensor:
    """The image `own` first, then size - 1 others of all `images`."""
    others = seeds.numpy_generator(*stream).choice(images - 1, size - 1, replace=False)
    return torch.from_numpy(np.concatenate([[own], others + (others >= own)]))


def rank_of_first(scores: Tensor, rounding: float) -> Rank:
    """Where the first of some scores (N,) stands; those within `rounding` of it are alike."""
    higher = scores[1:] - scores[0]
    return Rank(int((higher > rounding).sum()), int((higher.abs() <= rounding).sum()))


def summary(image_index: Tensor, ranks: list[list[list[Rank]]], config: Config) -> dict[str, Any]:
    """R@K and median ranks over captions: ranks[caption][list][ranking]; image_index (captions,): of which image each is."""
    result: dict[str, Any] = {"shortlist": config.shortlist, "draws": config.draws, "chance": chance(config.shortlist)}
    for i, name in enumerate(LISTS):
        result[name] = {}
        for j, ranking in enumerate(RANKINGS):
            own, scores = [of_caption[i][j] for of_caption in ranks], Scores()
            scores.add(image_index, **{f"R@{k}": torch.tensor([100 * one.within(k) for one in own]) for k in RECALLS})
            numbers = scores.summary()
            result |= {count: numbers.pop(count) for count in ("captions", "images")}
            expected = np.array([one.expected for one in own])
            error = bootstrap_error(expected, image_index.numpy(), config.seed, "retrieval", "bootstrap")
            result[name][ranking] = numbers | {"median_rank": {"median": float(np.median(expected)), "se": round(error, 4)}}
    return result


def chance(size: int) -> dict[str, float]:
    """What a ranking gives that knows nothing, in expectation."""
    return {f"R@{k}": 100 * min(1.0, k / size) for k in RECALLS} | {"median_rank": (size + 1) / 2}


def bootstrap_error(values: np.ndarray, image_index: np.ndarray, *stream: int | str) -> float:
    """The standard error of the median of `values` (n,): images are drawn again, with all of their captions."""
    _, image = np.unique(image_index, return_inverse=True)
    order = np.argsort(values, kind="stable")
    values, image = values[order], image[order]
    rng, images = seeds.numpy_generator(*stream), int(image.max()) + 1
    return float(np.std([_weighted_median(values, rng.multinomial(images, np.full(images, 1 / images))[image])
                         for _ in range(RESAMPLES)]))


def _weighted_median(values: np.ndarray, times: np.ndarray) -> float:
    """The median of sorted values (n,), each taken so many times."""
    through = np.cumsum(times)
    low, high = (through.searchsorted(place, "right") for place in ((through[-1] - 1) // 2, through[-1] // 2))
    return float(values[low] + values[high]) / 2
