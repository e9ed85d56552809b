"""Training a sharpener: two networks against each other (Denton et al., 2015; their coarse-to-fine recipe for CIFAR-10).

The generator makes a residual from noise, the caption and the coarse picture; the discriminator, given the same caption,
tells real pictures from coarse ones with a made residual. Each step is one of the discriminator, on as many
real pictures as made ones, then one of the generator. As in text2image.training, every random number comes from a named
stream, so that a run that goes on computes what it would have computed without the break.
"""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from text2image import seeds
from text2image.config import parameter
from text2image.datasets import Batch, Dataset
from text2image.devices import Device
from text2image.errors import UserError
from text2image.model import CaptionEncoder
from text2image.progress import WorkInProgress
from text2image.sharpener import Sharpener, make_coarse
from text2image.sharpening import caption_vectors, compare

SECONDS_BETWEEN_SAVES = 30.0


@dataclass(frozen=True)
class TrainSharpenerConfig:
    """How to train. Denton et al.: factor 2, batches of 64 real and 64 made, SGD, no squared error."""

    factor: int = parameter(least=2)                 # coarse pictures are made smaller by it, and enlarged again
    mixed_in: float = parameter(least=0, below=1)    # of the real picture: a share from 0 to this, drawn for each
    filters: int = parameter(least=1)                # of the generator's layers but the last
    kernels: tuple[int, ...]                         # of each of its layers
    discriminator_filters: int = parameter(least=1)
    dropout: float = parameter(least=0, below=1)     # of what the discriminator's last layer sees
    squared_error: float = parameter(least=0)        # weight of the residual's mean squared error in the generator's cost
    epochs: int = parameter(least=1)
    epoch_size: int = parameter(least=0)             # captions an epoch; 0: the whole split
    batch_size: int = parameter(least=1)
    optimizer: Literal["sgd", "adam"]
    learning_rate: float = parameter(above=0)        # sgd: over rate_decay after each epoch; adam: down to 0 by a cosine
    discriminator_rate: float = parameter(above=0)   # the discriminator's, as a share of that
    rate_decay: float = parameter(least=1)
    momentum_growth: float = parameter(least=0)      # sgd: an epoch, from 0
    most_momentum: float = parameter(least=0, below=1)
    decay: float = parameter(least=0, below=1)       # adam: beta 1
    second_decay: float = parameter(least=0, below=1)  # adam: beta 2
    dev_size: int = parameter(least=0)               # captions of dev sharpened after each epoch; 0: all
    device: Device


class Discriminator(nn.Module):
    """Whether a picture is real, given its caption: a logit."""

    def __init__(self, channels: int, height: int, width: int, language: int, filters: int):
        super().__init__()
        self.caption = nn.Linear(language, height * width)
        self.near = nn.Conv2d(channels + 1, filters, 5, padding=2)
        self.far = nn.Conv2d(filters, filters, 5, padding=2, stride=2)
        self.verdict = nn.Linear(filters * math.ceil(height / 2) * math.ceil(width / 2), 1)

    def forward(self, pictures: Tensor, caption: Tensor, kept: Tensor) -> Tensor:  # (B, C, H, W), (B, D), (B, features)
        heard = self.caption(caption).relu().unflatten(1, (1, *pictures.shape[2:]))
        x = self.far(self.near(torch.cat([pictures, heard], 1)).relu()).relu()
        return self.verdict(x.flatten(1) * kept)[:, 0]                         # (B,)


class History(NamedTuple):
    """One epoch: means over its steps, then of dev (text2image.sharpening.compare). A verdict is the probability that a
    picture is taken for a real one."""

    epoch: int
    step: int
    discriminator_cost: float
    generator_cost: float
    verdict_on_real: float
    verdict_on_made: float
    coarse_error: float
    sharpened_error: float
    real_energy: float
    coarse_energy: float
    sharpened_energy: float


DEV = History._fields[6:]


def columns(rows: Iterable[History]) -> list[dict[str, float]]:
    """The history as flat rows, for a table."""
    return [{name: round(value, 4) for name, value in row._asdict().items()} for row in rows]


class Report(NamedTuple):
    """Where training stands: for a progress bar."""

    step: int       # of all steps
    going_on: bool  # from a saved state
    history: History | None  # of the epoch that has just ended


def steps_of(data: Dataset, config: TrainSharpenerConfig) -> int:
    """Steps of the whole training."""
    return config.epochs * len(data.shuffled(config.batch_size, config.epoch_size, "count"))


def make_optimizer(network: nn.Module, config: TrainSharpenerConfig) -> torch.optim.Optimizer:
    if config.optimizer == "sgd":
        return torch.optim.SGD(network.parameters(), config.learning_rate)
    return torch.optim.Adam(network.parameters(), config.learning_rate, (config.decay, config.second_decay))


def set_pace(optimizer: torch.optim.Optimizer, config: TrainSharpenerConfig, rate: float, epoch: int, share: float) -> None:
    """Rate, from a first one, and momentum when `epoch` epochs are done, and `share` of the whole training."""
    for group in optimizer.param_groups:
        if config.optimizer == "sgd":
            group["lr"] = rate / config.rate_decay**epoch
            group["momentum"] = min(config.momentum_growth * epoch, config.most_momentum)
        else:
            group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * share))


class Game:
    """Both networks, their optimizers, and one step of each."""

    def __init__(self, sharpener: Sharpener, encoder: CaptionEncoder, config: TrainSharpenerConfig, seed: int):
        c = sharpener.config
        self.sharpener, self.encoder, self.config, self.seed = sharpener, encoder, config, seed
        self.discriminator = seeded(seed, "discriminator", lambda: Discriminator(c.channels, c.height, c.width, c.language,
                                                                                 config.discriminator_filters))
        self.device = next(encoder.parameters()).device
        self.networks = {"sharpener": sharpener.to(self.device), "discriminator": self.discriminator.to(self.device)}
        self.optimizers = {name: make_optimizer(network, config) for name, network in self.networks.items()}
        self.rates = {"sharpener": config.learning_rate, "discriminator": config.learning_rate * config.discriminator_rate}

    def state(self) -> dict[str, Any]:
        return {name: (network.state_dict(), self.optimizers[name].state_dict()) for name, network in self.networks.items()}

    def load(self, state: dict[str, Any]) -> None:
        for name, network in self.networks.items():
            network.load_state_dict(state[name][0])
            self.optimizers[name].load_state_dict(state[name][1])

    def step(self, batch: Batch, epoch: int, share: float, *stream: int) -> Tensor:
        """One step of both networks: costs of the discriminator and the generator, verdicts on real and on made (4,)."""
        fine, coarse = batch.images, make_coarse(batch.images, self.config.factor)
        share_mixed = self._uniform((len(fine), 1, 1, 1), *stream, "mixed in") * self.config.mixed_in
        coarse = coarse.lerp(fine, share_mixed)
        caption = caption_vectors(self.encoder, batch.words)
        noise = self._uniform((len(fine), 1, *fine.shape[2:]), *stream, "noise") * 2 - 1
        residual = self.sharpener(coarse, caption, noise)
        kept = self._uniform((3, len(fine), self.discriminator.verdict.in_features), *stream, "dropout") >= self.config.dropout
        kept = kept / (1 - self.config.dropout)
        made_picture = (coarse + residual).clamp(0, 1)                         # as it is shown; else the range gives it away
        real = self.discriminator(fine, caption, kept[0])
        made = self.discriminator(made_picture.detach(), caption, kept[1])
        cost = (F.softplus(-real).mean() + F.softplus(made).mean()) / 2        # -log D(real), -log(1 - D(made))
        self._descend("discriminator", cost, epoch, share)
        judged = self.discriminator(made_picture, caption, kept[2])
        generator_cost = F.softplus(-judged).mean()                            # -log D(made)
        error = F.mse_loss(residual, fine - coarse)
        self._descend("sharpener", generator_cost + self.config.squared_error * error, epoch, share)
        return torch.stack([cost, generator_cost, real.sigmoid().mean(), made.sigmoid().mean()]).detach().double()

    def _uniform(self, shape: tuple[int, ...], *stream: int | str) -> Tensor:
        generator = seeds.torch_generator(self.seed, "sharpener", *stream, device=self.device)
        return torch.rand(shape, generator=generator, device=self.device)

    def _descend(self, name: str, cost: Tensor, epoch: int, share: float) -> None:
        set_pace(self.optimizers[name], self.config, self.rates[name], epoch, share)
        parameters = list(self.networks[name].parameters())
        for weights, gradient in zip(parameters, torch.autograd.grad(cost, parameters), strict=True):
            weights.grad = gradient
        self.optimizers[name].step()


def seeded(seed: int, name: str, make: Callable[[], nn.Module]) -> nn.Module:
    """A network with PyTorch's own first weights, drawn from a stream."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.number(seed, name, "weights"))
        return make()


def check_finite(value: float, epoch: int, step: int) -> None:
    """Raise UserError unless a cost, or a sum of weights, is a number."""
    if not math.isfinite(value):
        raise UserError(f"training the sharpener gives {value} at epoch {epoch + 1}, step {step + 1}: lower "
                        "train_sharpener.learning_rate")


def train(sharpener: Sharpener, encoder: CaptionEncoder, data: Dataset, dev: Dataset, config: TrainSharpenerConfig, seed: int,
          work: WorkInProgress, report: Callable[[Report], None], save_every: float = SECONDS_BETWEEN_SAVES) -> list[History]:
    """Train `sharpener` in place, from where `work` stands; returns the history. The last weights are the result.

    The state is saved after each epoch and every `save_every` seconds. Raises UserError when a cost stops being a number;
    the last saved state is then a good one.
    """
    game = Game(sharpener, encoder, config, seed)
    epoch = start = steps = 0
    totals = torch.zeros(4, dtype=torch.float64, device=game.device)
    history: list[History] = []
    saved = work.load()
    if saved is not None:
        game.load(saved["game"])
        epoch, start, steps, totals = saved["epoch"], saved["next_batch"], saved["steps"], saved["totals"].to(game.device)
        history = [History(*row) for row in saved["history"]]
    last_save = time.monotonic()

    def save(epoch: int, next_batch: int) -> None:
        nonlocal last_save
        check_finite(sum(value.sum().item() for network in game.networks.values() for value in network.parameters()), epoch,
                     next_batch)
        work.save({"game": game.state(), "epoch": epoch, "next_batch": next_batch, "steps": steps, "totals": totals.cpu(),
                   "history": [tuple(row) for row in history]})
        last_save = time.monotonic()

    while epoch < config.epochs:
        batches = data.shuffled(config.batch_size, config.epoch_size, seed, "sharpened pictures", epoch)
        for i in range(start, len(batches)):
            totals += game.step(batches[i], epoch, (epoch + i / len(batches)) / config.epochs, epoch, i)
            steps += 1
            check_finite(totals.sum().item(), epoch, i)
            report(Report(steps, saved is not None, None))
            if time.monotonic() - last_save > save_every and i + 1 < len(batches):
                save(epoch, i + 1)
        found = compare(sharpener, partial(caption_vectors, encoder), dev.in_order(config.batch_size, config.dev_size))
        history.append(History(epoch + 1, steps, *(totals / len(batches)).tolist(), *(found[name]["mean"] for name in DEV)))
        report(Report(steps, saved is not None, history[-1]))
        epoch, start = epoch + 1, 0
        totals = torch.zeros_like(totals)
        save(epoch, 0)
    return history
