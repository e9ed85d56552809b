"""Training a sharpener: two networks against each other (Denton et al., 2015; their coarse-to-fine recipe for CIFAR-10).

The generator makes a residual from noise, the caption and the coarse image; the discriminator, given the same caption,
tells real images from fake ones, which are coarse images with a generated residual. Each step updates the discriminator,
on as many real images as fake ones, then the generator. As in text2image.training, every random number comes from a
named stream, so that a resumed run computes what it would have computed without the break.
"""

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from text2image import seeds
from text2image.config import MAX_COUNT, frozen, parameter
from text2image.data.datasets import Batch, Batches, Dataset
from text2image.devices import MAX_THREADS, Device
from text2image.errors import UserError
from text2image.models.caption_encoder import CaptionEncoder
from text2image.sharpening.comparison import compare
from text2image.sharpening.discriminator import Discriminator
from text2image.sharpening.generator import Sharpener, make_coarse
from text2image.sharpening.h_lang import caption_vectors
from text2image.training import loop
from text2image.training.distributed import DistributedContext
from text2image.training.progress import StepReport
from text2image.training.resume import ResumableState

MOST_LAYERS = 64
LOWEST_RATE = 30  # powers of ten below the first: a float32 ends at 10^-38


@frozen
class SGDConfig:
    """Denton et al.'s: the rate divided by lr_decay after each epoch, the momentum growing by epochs."""

    kind: Literal["sgd"]
    lr_decay: float = parameter(ge=1, le=100)
    momentum_growth: float = parameter(ge=0, le=1)  # an epoch, from 0
    max_momentum: float = parameter(ge=0, lt=1)

    def make(self, network: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        """The optimizer of a network."""
        return torch.optim.SGD(network.parameters(), learning_rate)

    def group(self, learning_rate: float, epoch: int, share: float) -> dict[str, float]:
        """Learning rate and momentum after `epoch` epochs."""
        return {"lr": learning_rate / self.lr_decay**epoch, "momentum": min(self.momentum_growth * epoch, self.max_momentum)}


@frozen
class AdamConfig:
    """Adam, the rate going down to 0 by half a cosine."""

    kind: Literal["adam"]
    beta1: float = parameter(ge=0, lt=1)
    beta2: float = parameter(ge=0, lt=1)

    def make(self, network: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        """The optimizer of a network."""
        return torch.optim.Adam(network.parameters(), learning_rate, (self.beta1, self.beta2))

    def group(self, learning_rate: float, epoch: int, share: float) -> dict[str, float]:
        """The learning rate after a `share` of the whole training."""
        return {"lr": learning_rate * 0.5 * (1 + math.cos(math.pi * share))}


@frozen
class TrainSharpenerConfig:
    """How to train. Denton et al.: factor 2, batches of 64 real and 64 fake, SGD, no squared error."""

    factor: int = parameter(ge=2, le=64)          # coarse images are made smaller by it, and enlarged again
    blend: float = parameter(ge=0, lt=1)          # of the real image into the coarse: a share from 0 to this, drawn for each
    filters: int = parameter(ge=1, le=4096)       # of the generator's layers but the last
    kernels: tuple[int, ...] = parameter(ge=1, le=99)  # of each of its layers, pixels
    discriminator_filters: int = parameter(ge=1, le=4096)
    dropout: float = parameter(ge=0, le=0.99)     # of what the discriminator's last layer takes
    mse_weight: float = parameter(ge=0, le=1e6)   # of the residual's mean squared error in the generator's cost
    epochs: int = parameter(ge=1, le=10**6)
    epoch_size: int = parameter(ge=0, le=MAX_COUNT)  # captions an epoch; 0: the whole split
    batch_size: int = parameter(ge=1, le=10**6)
    optimizer: SGDConfig | AdamConfig             # of both networks
    learning_rate: float = parameter(ge=1e-15, le=100)
    discriminator_lr_scale: float = parameter(ge=1e-6, le=1000)  # the discriminator's rate as a share of that
    dev_size: int = parameter(ge=0, le=MAX_COUNT)  # captions of dev sharpened after each epoch; 0: all
    device: Device
    threads: int = parameter(ge=0, le=MAX_THREADS, default=0)  # of the CPU; 0: PyTorch's choice

    def validate(self, where: str) -> None:
        """Raise UserError where there are too many layers, or the rate of the last epoch is too small for a float."""
        if len(self.kernels) > MOST_LAYERS:
            raise UserError(f"parameter '{where}.kernels' has {len(self.kernels):,} layers; it may have {MOST_LAYERS}")
        if isinstance(self.optimizer, SGDConfig) and self.epochs * math.log10(self.optimizer.lr_decay) > LOWEST_RATE:
            raise UserError(f"parameter '{where}.optimizer.lr_decay' is {self.optimizer.lr_decay}: after {self.epochs} epochs "
                            f"the rate would be divided by more than 10^{LOWEST_RATE}; lower it towards 1")


class History(NamedTuple):
    """One epoch: means over its steps, then of dev (text2image.sharpening.comparison). `p_real_of_fake` is the probability
    that the discriminator gives a fake image to be real."""

    epoch: int
    step: int
    discriminator_cost: float
    generator_cost: float
    p_real_of_real: float
    p_real_of_fake: float
    coarse_error: float
    sharpened_error: float
    real_energy: float
    coarse_energy: float
    sharpened_energy: float

    def line(self) -> str:
        """What a person reads of it."""
        return (f"p(real): real {self.p_real_of_real:.2f}, fake {self.p_real_of_fake:.2f}  squared error on dev: coarse "
                f"{self.coarse_error:.3f}, sharpened {self.sharpened_error:.3f}")


DEV = History._fields[6:]


def columns(rows: Iterable[History]) -> list[dict[str, float]]:
    """The history as flat rows, for a table."""
    return [{name: round(value, 4) for name, value in row._asdict().items()} for row in rows]


def summarize(history: list[History], sharpener: Sharpener) -> dict[str, Any]:
    """What results/<run>/train_sharpener.json and the sharpener's card say of a training."""
    last = columns(history[-1:])[0]
    return {"parameters": sum(weights.numel() for weights in sharpener.parameters()), "epochs": last.pop("epoch"),
            "steps": last.pop("step"), "last": last}


def total_steps(data: Dataset, config: TrainSharpenerConfig) -> int:
    """Steps of the whole training."""
    return config.epochs * len(data.shuffled(config.batch_size, config.epoch_size, "count"))


class GANTrainer:
    """What `loop.run` trains: both networks, their optimizers, and one step of each."""

    sums = 4  # costs of the discriminator and the generator, p(real) of real and of fake images

    def __init__(self, sharpener: Sharpener, encoder: CaptionEncoder, data: Dataset, dev: Dataset,
                 config: TrainSharpenerConfig, seed: int):
        c = sharpener.config
        self.sharpener, self.encoder, self.data, self.dev = sharpener, encoder, data, dev
        self.config, self.seed = config, seed
        self.discriminator = seeds.network(
            lambda: Discriminator(c.channels, c.height, c.width, c.language, config.discriminator_filters),
            seed, "discriminator", "weights")
        self.device = next(encoder.parameters()).device
        self.networks = {"sharpener": sharpener.to(self.device), "discriminator": self.discriminator.to(self.device)}
        self.rates = {"sharpener": config.learning_rate,
                      "discriminator": config.learning_rate * config.discriminator_lr_scale}
        self.optimizers = {name: config.optimizer.make(network, config.learning_rate)
                           for name, network in self.networks.items()}

    def state_dict(self) -> dict[str, Any]:
        """Weights and optimizer of each network."""
        return {name: (network.state_dict(), self.optimizers[name].state_dict()) for name, network in self.networks.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        for name, network in self.networks.items():
            network.load_state_dict(state[name][0])
            self.optimizers[name].load_state_dict(state[name][1])

    def row(self, values: tuple[Any, ...]) -> History:
        """A row of the history from its saved form."""
        return History(*values)

    def batches(self, epoch: int) -> Batches:
        """The pass over the data of an epoch."""
        return self.data.shuffled(self.config.batch_size, self.config.epoch_size, self.seed, "sharpened pictures", epoch)

    def step(self, batches: Batches, epoch: int, i: int) -> Tensor:
        """Update both networks on batch i; returns (sums,) float64."""
        share = (epoch + i / len(batches)) / self.config.epochs
        return self.update_both(batches[i], epoch, share, epoch, i)

    def update_both(self, batch: Batch, epoch: int, share: float, *stream: int) -> Tensor:
        """One step of the discriminator, then one of the generator; returns the four numbers of `sums`."""
        config = self.config
        fine, coarse = batch.images, make_coarse(batch.images, config.factor)
        blend = self._uniform((len(fine), 1, 1, 1), *stream, "mixed in") * config.blend
        coarse = coarse.lerp(fine, blend)
        caption = caption_vectors(self.encoder, batch.words)
        noise = self._uniform((len(fine), 1, *fine.shape[2:]), *stream, "noise") * 2 - 1
        residual = self.sharpener(coarse, caption, noise)
        keep = self._uniform((3, len(fine), self.discriminator.features), *stream, "dropout") >= config.dropout
        keep = keep / (1 - config.dropout)
        fake = (coarse + residual).clamp(0, 1)                                 # as it is shown; else the range gives it away
        on_real = self.discriminator(fine, caption, keep[0])
        on_fake = self.discriminator(fake.detach(), caption, keep[1])
        cost = (F.softplus(-on_real).mean() + F.softplus(on_fake).mean()) / 2  # -log D(real), -log(1 - D(fake))
        self._update("discriminator", cost, epoch, share)
        generator_cost = F.softplus(-self.discriminator(fake, caption, keep[2])).mean()  # -log D(fake)
        mse = F.mse_loss(residual, fine - coarse)
        self._update("sharpener", generator_cost + config.mse_weight * mse, epoch, share)
        return torch.stack([cost, generator_cost, on_real.sigmoid().mean(), on_fake.sigmoid().mean()]).detach().double()

    def _uniform(self, shape: tuple[int, ...], *stream: int | str) -> Tensor:
        generator = seeds.torch_generator(self.seed, "sharpener", *stream, device=self.device)
        return torch.rand(shape, generator=generator, device=self.device)

    def _update(self, name: str, cost: Tensor, epoch: int, share: float) -> None:
        for group in self.optimizers[name].param_groups:
            group |= self.config.optimizer.group(self.rates[name], epoch, share)
        parameters = list(self.networks[name].parameters())
        for weights, gradient in zip(parameters, torch.autograd.grad(cost, parameters), strict=True):
            weights.grad = gradient
        self.optimizers[name].step()

    def status(self, totals: Tensor, batches: Batches, done: int) -> str:
        """Nothing but the bar: two costs against each other say little."""
        return ""

    def check(self, value: float, epoch: int, step: int) -> None:
        """Raise UserError unless a sum of costs, or of weights, is a finite number."""
        if not math.isfinite(value):
            raise UserError(f"training the sharpener gives {value} at epoch {epoch + 1}, step {step + 1}: lower "
                            "train_sharpener.learning_rate")

    def weights_sum(self) -> float:
        """The sum of all weights of both networks."""
        return sum(value.sum().item() for network in self.networks.values() for value in network.parameters())

    def start(self) -> None:
        """The first weights are not scored."""

    def end_epoch(self, epoch: int, steps: int, totals: Tensor, batches: Batches, history: list[History]) -> History:
        """Sharpen images of dev; returns the epoch's row."""
        found = compare(self.sharpener, partial(caption_vectors, self.encoder),
                        self.dev.sequential(self.config.batch_size, self.config.dev_size))
        return History(epoch + 1, steps, *(totals / len(batches)).tolist(), *(found[name]["mean"] for name in DEV))


def train(sharpener: Sharpener, encoder: CaptionEncoder, data: Dataset, dev: Dataset, config: TrainSharpenerConfig, seed: int,
          saved: ResumableState, report: Callable[[StepReport], None], save_every: float | None = None) -> list[History]:
    """Train `sharpener` in place, from where `saved` stands; returns the history. The last weights are the result.

    Saves as `loop.run` says. Raises UserError when a cost stops being a number; the last saved state is then a good one.
    """
    trainer = GANTrainer(sharpener, encoder, data, dev, config, seed)
    return loop.run(trainer, config.epochs, saved, DistributedContext(0, 1, trainer.device), report, save_every)
