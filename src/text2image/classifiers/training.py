"""Training a classifier, by the loop that all trainings share (text2image.training.loop).

Images of training are altered at random, by noise, blur and brightness, so that the classifier reads what a model draws, which
is softer than what it was trained on.
"""

import copy
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from text2image import seeds
from text2image.classifiers.labels import Labels, of_images
from text2image.classifiers.network import Classifier
from text2image.config import MAX_COUNT, frozen, parameter
from text2image.data.datasets import Batch, Batches, CaptionedDigits, CaptionedImages, Dataset, as_float
from text2image.data.mnist_captions import NOTHING_HELD_OUT, Grammar
from text2image.data.vocabulary import Vocabulary
from text2image.devices import MAX_THREADS, Device
from text2image.errors import UserError
from text2image.training import loop
from text2image.training.distributed import DistributedContext
from text2image.training.optimizers import OptimizerConfig
from text2image.training.progress import StepReport
from text2image.training.resume import ResumableState
from text2image.training.schedules import ScheduleConfig

AT_ONCE = 250  # images that are read together


@frozen
class AugmentConfig:
    """The most that is done to an image of training; how much is drawn evenly for each, from nothing on."""

    noise: float = parameter(ge=0, le=1)       # standard deviation, of a brightness from 0 to 1
    blur: float = parameter(ge=0, le=1)        # share of the blurred image, by (1 2 1)/4 along both axes
    brightness: float = parameter(ge=0, le=0.9)  # share by which the image is made darker, or brighter
    rotate: float = parameter(ge=0, le=180)    # degrees, either way; of digits each by itself, else of the image
    resize: float = parameter(ge=0, le=0.9)    # share by which it is made smaller, or larger
    shear: float = parameter(ge=0, le=0.9)     # columns a row, either way


@frozen
class TrainClassifierConfig:
    """A network and how to train it. `labels` has the parameters of its kind of labels (text2image.classifiers)."""

    labels: dict
    filters: tuple[int, ...] = parameter(ge=1, le=4096)  # of each convolution of 3x3
    pools: int = parameter(ge=0, le=12)        # after so many of them, the first, images are halved
    features: int = parameter(ge=1, le=10**5)  # of the layer before the last
    dropout: float = parameter(ge=0, le=0.99)  # of the features
    augment: AugmentConfig
    epochs: int = parameter(ge=1, le=10**6)
    epoch_size: int = parameter(ge=0, le=MAX_COUNT)  # images an epoch; 0: all there are, of digits as many
    batch_size: int = parameter(ge=1, le=10**6)
    optimizer: OptimizerConfig
    learning_rate: float = parameter(ge=1e-15, le=100)
    schedule: ScheduleConfig
    dev_size: int = parameter(ge=0, le=MAX_COUNT)  # images of dev read after each epoch; 0: all
    device: Device
    threads: int = parameter(ge=0, le=MAX_THREADS, default=0)  # of the CPU; 0: PyTorch's choice


class History(NamedTuple):
    """One epoch: the mean cost of a training image, then the accuracy on dev."""

    epoch: int
    step: int
    cost: float
    accuracy: float

    def line(self) -> str:
        """What a person reads of it."""
        return f"cost {self.cost:.4f}  accuracy on dev {self.accuracy:.2%}"


def all_captions(data: Dataset) -> Dataset:
    """The data with every caption, those too that are held out of a model's training; each image once an epoch."""
    if isinstance(data, CaptionedDigits):
        every = copy.copy(data)
        every.grammar = Grammar((NOTHING_HELD_OUT,) * 12)
        return every
    count, once = len(data.images), copy.copy(data)
    once.captions = torch.ones(count, 1, dtype=torch.long, device=data.device)
    once.lengths, once.image_of_caption = np.ones(count, np.int32), np.arange(count)
    return once


class Examples:
    """A dataset's images, and of each batch of them what is to be learned."""

    def __init__(self, data: Dataset, labels: Labels, vocabulary: Vocabulary):
        self.labels, self.vocabulary, self.images = labels, vocabulary, all_captions(data)
        self.table = of_images(data, labels, vocabulary) if isinstance(data, CaptionedImages) else None

    def targets(self, batch: Batch) -> Tensor:
        """(B, Q), on the images' device."""
        found = (self.labels.targets(self.labels.named(batch.words, self.vocabulary)) if self.table is None
                 else self.table[batch.image_index])
        return found.to(batch.images.device)


@torch.no_grad()
def read(classifier: Classifier, batches: Batches, targets: Callable[[Batch], Tensor]) -> tuple[Tensor, Tensor]:
    """Logits (N, V, K) and targets (N, Q) of a pass, on the CPU."""
    classifier.eval()
    found = [(classifier(batch.images).cpu(), targets(batch).cpu()) for batch in (batches[i] for i in range(len(batches)))]
    logits, wanted = zip(*found, strict=True)
    return torch.cat(logits), torch.cat(wanted)


def accuracy(classifier: Classifier, examples: Examples, size: int) -> dict[str, float]:
    """How right a classifier is on the first `size` images (0: all)."""
    return examples.labels.accuracy(*read(classifier, examples.images.sequential(AT_ONCE, size), examples.targets))


def augment(images: Tensor, config: AugmentConfig, *stream: int | str) -> Tensor:
    """images (B, C, H, W) in [0, 1], altered; what is drawn comes from the CPU, and is the same on every device."""
    generator = seeds.torch_generator(*stream)
    share = torch.rand(3, len(images), 1, 1, 1, generator=generator).to(images.device)
    if config.blur:
        images = images.lerp(blurred(images), share[0] * config.blur)
    images = images * (1 + config.brightness * (2 * share[1] - 1))
    if config.noise:
        noise = torch.randn(images.shape, generator=generator).to(images.device)
        images = images + share[2] * config.noise * noise
    return images.clamp(0, 1)


def warped(images: Tensor, config: AugmentConfig, *stream: int | str) -> Tensor:
    """images (B, C, H, W), each rotated, resized and sheared about its middle by what is drawn for it, 0 beyond its edges."""
    most = torch.tensor([math.radians(config.rotate), config.resize, config.shear])
    if not most.any():
        return images
    drawn = 2 * torch.rand(3, len(images), generator=seeds.torch_generator(*stream)) - 1
    turn, size, shear = (most[:, None] * drawn).to(images.device)
    size, zero = 1 + size, torch.zeros_like(turn)
    rows = torch.stack([turn.cos() / size, shear - turn.sin() / size, zero, turn.sin() / size, turn.cos() / size, zero], 1)
    grid = F.affine_grid(rows.view(-1, 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def blurred(images: Tensor) -> Tensor:
    """(B, C, H, W): each pixel a mean of its neighbourhood, by (1 2 1)/4 along both axes."""
    kernel = torch.tensor([1.0, 2.0, 1.0], device=images.device) / 4
    channels = images.shape[1]
    weight = (kernel[:, None] * kernel).expand(channels, 1, 3, 3)
    return F.conv2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), weight, groups=channels)


class ClassifierTrainer:
    """What `loop.run` trains: the network and its optimizer's step."""

    sums = 1  # the cost of each image

    def __init__(self, classifier: Classifier, train: Examples, dev: Examples, config: TrainClassifierConfig, seed: int):
        self.classifier, self.train, self.dev, self.config, self.seed = classifier, train, dev, config, seed
        self.optimizer = config.optimizer.make(classifier.parameters(), config.learning_rate)

    def state_dict(self) -> dict[str, Any]:
        """Weights and optimizer."""
        return {"classifier": self.classifier.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.classifier.load_state_dict(state["classifier"])
        self.optimizer.load_state_dict(state["optimizer"])

    def row(self, values: tuple[Any, ...]) -> History:
        """A row of the history from its saved form."""
        return History(*values)

    def batches(self, epoch: int) -> Batches:
        """The pass over the data of an epoch."""
        config, images, stream = self.config, self.train.images, (self.seed, "classifier", "warp", epoch)
        if isinstance(images, CaptionedDigits):
            digits = warped(as_float(images.digits[:, None]), config.augment, *stream)[:, 0]
            images = copy.copy(images)
            images.digits = (digits * 255).round().byte()
        return images.shuffled(config.batch_size, config.epoch_size, self.seed, "classifier images", epoch)

    def step(self, batches: Batches, epoch: int, i: int) -> Tensor:
        """Train on batch i; returns the sum of its images' costs, (1,) float64."""
        config, batch = self.config, batches[i]
        images = batch.images
        if not isinstance(self.train.images, CaptionedDigits):  # whose digits are warped, each by itself
            images = warped(images, config.augment, self.seed, "classifier", "warp", epoch, i)
        images = augment(images, config.augment, self.seed, "classifier", "augment", epoch, i)
        self.classifier.train()
        cost = self.train.labels.cost(self.classifier(images, self._keep(len(images), epoch, i)), self.train.targets(batch))
        parameters = list(self.classifier.parameters())
        for weights, gradient in zip(parameters, torch.autograd.grad(cost, parameters), strict=True):
            weights.grad = gradient
        for group in self.optimizer.param_groups:
            group["lr"] = config.schedule.rate(config.learning_rate, epoch + i / len(batches), config.epochs)
        self.optimizer.step()
        return (cost.detach() * len(images)).double().reshape(1)

    def _keep(self, count: int, epoch: int, i: int) -> Tensor | None:
        c, config = self.classifier.config, self.config
        if not config.dropout:
            return None
        generator = seeds.torch_generator(self.seed, "classifier", "dropout", epoch, i)
        drawn = torch.rand(count, len(c.views), c.features, generator=generator)
        return ((drawn >= config.dropout) / (1 - config.dropout)).to(self.classifier.output.weight)

    def status(self, totals: Tensor, batches: Batches, done: int) -> str:
        """The mean cost of the epoch so far."""
        return f"cost {totals.item() / sum(batches.sizes[:done]):.4f}"

    def check(self, value: float, epoch: int, step: int) -> None:
        """Raise UserError unless a sum of costs, or of weights, is a finite number."""
        if not math.isfinite(value):
            raise UserError(f"training the classifier gives {value} at epoch {epoch + 1}, step {step + 1}: lower "
                            "train_classifier.learning_rate")

    def weights_sum(self) -> float:
        """The sum of all weights."""
        return sum(value.sum().item() for value in self.classifier.parameters())

    def start(self) -> None:
        """The first weights are not scored."""

    def end_epoch(self, epoch: int, steps: int, totals: Tensor, batches: Batches, history: list[History]) -> History:
        """Read images of dev; returns the epoch's row."""
        found = accuracy(self.classifier, self.dev, self.config.dev_size)
        return History(epoch + 1, steps, totals.item() / sum(batches.sizes), found["accuracy"])


def total_steps(data: Examples, config: TrainClassifierConfig) -> int:
    """Steps of the whole training."""
    return config.epochs * len(data.images.shuffled(config.batch_size, config.epoch_size, "count"))


def summarize(history: list[History], classifier: Classifier) -> dict[str, Any]:
    """What results/classifiers/<dataset>.json and the classifier's card say of a training."""
    last = history[-1]
    return {"parameters": sum(weights.numel() for weights in classifier.parameters()), "epochs": last.epoch, "steps": last.step,
            "last": {"cost": round(last.cost, 4), "accuracy": round(last.accuracy, 4)}}


def train(classifier: Classifier, data: Examples, dev: Examples, config: TrainClassifierConfig, seed: int,
          saved: ResumableState, report: Callable[[StepReport], None], save_every: float | None = None) -> list[History]:
    """Train `classifier` in place, from where `saved` stands; returns the history. The last weights are the result.

    Saves as `loop.run` says. Raises UserError when a cost stops being a number; the last saved state is then a good one.
    """
    trainer = ClassifierTrainer(classifier, data, dev, config, seed)
    context = DistributedContext(0, 1, classifier.output.weight.device)
    return loop.run(trainer, config.epochs, saved, context, report, save_every)
