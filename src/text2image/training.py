"""One training loop, its optimizers and its schedule (paper, section 4 and appendix).

The loop's only state is the weights, the optimizer, the place in the epoch and the history so far: every random
number comes from a named stream (text2image.seeds). So a run that goes on from a saved state computes what it
would have computed without the break, bit for bit on a CPU.
"""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from text2image import seeds
from text2image.config import parameter
from text2image.datasets import Dataset
from text2image.devices import Device, Precision
from text2image.errors import UserError
from text2image.model import AlignDRAW
from text2image.progress import WorkInProgress

SECONDS_BETWEEN_SAVES = 30.0


@dataclass(frozen=True)
class TrainConfig:
    """How to train. The paper: RMSprop, 0.001 and after the drop 0.0001, decay 0.9, clip at 10, batches of 100."""

    start: Literal["random", "prepared"]           # weights drawn from the seed, or those that came with the data
    epochs: int = parameter(least=0)
    epoch_size: int = parameter(least=0)           # captions, or fresh pictures, an epoch; 0: the whole split
    least_words: int = parameter(least=1)          # captions of fewer or of more words than these are not trained on
    most_words: int = parameter(least=1)
    batch_size: int = parameter(least=1)
    optimizer: Literal["rmsprop", "adamw"]
    learning_rate: float = parameter(above=0)
    final_learning_rate: float = parameter(above=0)
    schedule: Literal["drop", "cosine"]            # drop: to the final rate after epoch drop_after; cosine: down to it
    drop_after: int = parameter(least=0)           # epochs; 0: never
    decay: float = parameter(least=0, below=1)      # rmsprop: of the mean square; adamw: beta 1
    second_decay: float = parameter(least=0, below=1)  # adamw: beta 2
    epsilon: float = parameter(above=0)            # rmsprop: inside the root; adamw: outside
    weight_decay: float = parameter(least=0)       # adamw
    clip: Literal["global", "per_tensor"]          # the norm of all gradients (paper), or of each (released)
    clip_norm: float = parameter(above=0)
    dev_size: int = parameter(least=0)             # captions of dev scored each epoch; 0: all
    device: Device
    precision: Precision


class RMSprop(torch.optim.Optimizer):
    """RMSprop with epsilon inside the root, as the released code has it (coco/alignDraw.py:422):
    h = decay h + (1 - decay) g^2; w = w - rate g / sqrt(h + epsilon)."""

    def __init__(self, parameters: Iterable[Tensor], lr: float, decay: float, epsilon: float):
        super().__init__(parameters, {"lr": lr, "decay": decay, "epsilon": epsilon})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            weights = [w for w in group["params"] if w.grad is not None]
            gradients = [w.grad for w in weights]
            for w in weights:
                if w not in self.state:
                    self.state[w]["mean_square"] = torch.zeros_like(w)
            squares = [self.state[w]["mean_square"] for w in weights]
            torch._foreach_mul_(squares, group["decay"])
            torch._foreach_addcmul_(squares, gradients, gradients, 1 - group["decay"])
            roots = torch._foreach_add(squares, group["epsilon"])
            torch._foreach_sqrt_(roots)
            torch._foreach_addcdiv_(weights, gradients, roots, -group["lr"])


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    if config.optimizer == "rmsprop":
        return RMSprop(model.parameters(), config.learning_rate, config.decay, config.epsilon)
    return torch.optim.AdamW(model.parameters(), config.learning_rate, (config.decay, config.second_decay),
                             config.epsilon, config.weight_decay, foreach=True)


@torch.no_grad()
def clip_gradients(model: nn.Module, how: str, limit: float) -> None:
    """Scale gradients down to a norm of `limit`: all by their common norm, or each by its own."""
    gradients = [w.grad for w in model.parameters() if w.grad is not None]
    norms = torch._foreach_norm(gradients)
    if how == "global":
        norms = [torch.linalg.vector_norm(torch.stack(norms))] * len(gradients)
    torch._foreach_mul_(gradients, [(limit / norm).clamp(max=1) for norm in norms])


def learning_rate(config: TrainConfig, done: float) -> float:
    """The rate after `done` epochs, fractions included."""
    if config.schedule == "cosine":
        share = 0.5 * (1 + math.cos(math.pi * done / config.epochs))
        return config.final_learning_rate + share * (config.learning_rate - config.final_learning_rate)
    return config.final_learning_rate if config.drop_after and done >= config.drop_after else config.learning_rate


class Means(NamedTuple):
    """Means over pictures, in nats: L = -(reconstruction + KL), a lower bound on log p(x | y)."""

    bound: float
    reconstruction: float
    kl: float


class History(NamedTuple):
    """One epoch. Training's means are over weights that change while they are taken. Epoch 0 is the start, where it is
    scored: no step was made, its rate is 0 and its training means are nan."""

    epoch: int
    step: int
    learning_rate: float
    train: Means
    dev: Means


def columns(rows: Iterable[History]) -> list[dict[str, float]]:
    """The history as flat rows, for a table."""
    return [{"epoch": row.epoch, "step": row.step, "learning_rate": round(row.learning_rate, 8)}
            | {f"{split}_{name}": round(value, 4) for split, means in (("train", row.train), ("dev", row.dev))
               for name, value in means._asdict().items()} for row in rows]


class Report(NamedTuple):
    """Where training stands: for a progress bar."""

    epoch: int
    step: int       # of all steps
    bound: float    # mean of this epoch so far, nats
    going_on: bool  # from a saved state
    history: History | None  # of the epoch that has just ended


def steps_of(data: Dataset, config: TrainConfig) -> int:
    """Steps of the whole training."""
    return config.epochs * len(data.shuffled(config.batch_size, config.epoch_size, "count"))


def mean_bound(model: AlignDRAW, batches, *stream: int | str, device: torch.device) -> Means:
    """Mean bound over a pass without gradients; the noise comes from the stream."""
    totals = torch.zeros(2, dtype=torch.float64, device=device)
    with torch.no_grad():
        for i in range(len(batches)):
            totals += _costs(model, batches[i], *stream, i, device=device)[1]
    return _means(totals, sum(batches.sizes))


def _costs(model: AlignDRAW, batch, *stream: int | str, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean -L of a batch, and its summed reconstruction and KL (2,) float64."""
    noise = seeds.noise((model.config.glimpses, len(batch.words), model.config.latent), *stream, device=device)
    bound = model.bound(batch.images, batch.words, noise)
    return bound.cost.mean(), torch.stack([bound.reconstruction.detach().sum(), bound.kl.detach().sum()]).double()


def _means(totals: Tensor, count: int) -> Means:
    reconstruction, kl = (totals / count).tolist()
    return Means(-(reconstruction + kl), reconstruction, kl)


def check_finite(value: float, epoch: int, step: int) -> None:
    """Raise UserError unless a bound, or a sum of weights, is a number."""
    if not math.isfinite(value):
        raise UserError(f"the bound is {value} at epoch {epoch + 1}, step {step + 1}: "
                        "lower train.learning_rate or train.clip_norm")


def train(model: AlignDRAW, data: Dataset, dev: Dataset, config: TrainConfig, seed: int, work: WorkInProgress,
          report: Callable[[Report], None], save_every: float | None = None) -> tuple[list[History], dict[str, Tensor]]:
    """Train `model` in place, from where `work` stands; returns the history and the weights of the best dev bound.

    The state is saved after each epoch, and every `save_every` seconds (by default 30, or 20 times what it takes).

    Raises UserError when the bound stops being a number; the last saved state is then a good one.
    """
    device = next(model.parameters()).device
    optimizer = make_optimizer(model, config)
    epoch = start = steps = 0
    totals = torch.zeros(2, dtype=torch.float64, device=device)
    history: list[History] = []
    best = {name: value.clone() for name, value in model.state_dict().items()}
    saved = work.load()
    if saved is not None:
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        epoch, start, steps, totals = saved["epoch"], saved["next_batch"], saved["steps"], saved["totals"].to(device)
        history = [History(*row[:3], Means(*row[3]), Means(*row[4])) for row in saved["history"]]
        best = saved["best"]
    last_save, save_cost = time.monotonic(), 0.0

    def save(epoch: int, next_batch: int) -> None:
        nonlocal last_save, save_cost
        begun = time.monotonic()
        state: dict[str, Any] = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch,
                                 "next_batch": next_batch, "steps": steps, "totals": totals.cpu(), "best": best,
                                 "history": [(*row[:3], tuple(row.train), tuple(row.dev)) for row in history]}
        work.save(state)
        last_save = time.monotonic()
        save_cost = last_save - begun

    def score_dev() -> Means:
        return mean_bound(model, dev.in_order(config.batch_size, config.dev_size), seed, "dev noise", device=device)

    if not history and (config.start == "prepared" or not config.epochs):
        start_means = score_dev()
        if not math.isfinite(start_means.bound):
            raise UserError(f"the bound of the weights that training starts from is {start_means.bound}: they are no model")
        history.append(History(0, 0, 0.0, Means(math.nan, math.nan, math.nan), start_means))
        report(Report(0, 0, start_means.bound, False, history[0]))
    while epoch < config.epochs:
        batches = data.shuffled(config.batch_size, config.epoch_size, seed, "pictures", epoch)
        for i in range(start, len(batches)):
            rate = learning_rate(config, epoch + i / len(batches))
            for group in optimizer.param_groups:
                group["lr"] = rate
            cost, parts = _costs(model, batches[i], seed, "noise", epoch, i, device=device)
            optimizer.zero_grad()
            cost.backward()
            clip_gradients(model, config.clip, config.clip_norm)
            optimizer.step()
            totals += parts
            steps += 1
            pause = max(SECONDS_BETWEEN_SAVES, 20 * save_cost) if save_every is None else save_every
            due = time.monotonic() - last_save > pause
            if due or device.type == "cpu" or i % 20 == 19 or i + 1 == len(batches):  # reading a number makes a GPU wait
                so_far = _means(totals, sum(batches.sizes[:i + 1]))
                check_finite(so_far.bound, epoch, i)
                report(Report(epoch, steps, so_far.bound, saved is not None, None))
            if due and i + 1 < len(batches):
                check_finite(sum(value.sum().item() for value in model.parameters()), epoch, i)
                save(epoch, i + 1)
        train_means = _means(totals, sum(batches.sizes))
        dev_means = score_dev()
        check_finite(dev_means.bound, epoch, i)
        if not history or dev_means.bound > max(row.dev.bound for row in history):
            best = {name: value.clone() for name, value in model.state_dict().items()}
        history.append(History(epoch + 1, steps, rate, train_means, dev_means))
        report(Report(epoch, steps, train_means.bound, saved is not None, history[-1]))
        epoch, start = epoch + 1, 0
        totals = torch.zeros_like(totals)
        save(epoch, 0)
    return history, best
