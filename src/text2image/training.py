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
from torch.nn.parallel import DistributedDataParallel

from text2image import seeds
from text2image.config import parameter
from text2image.datasets import Batch, Batches, Dataset
from text2image.devices import Device, Precision
from text2image.errors import UserError
from text2image.model import AlignDRAW, Bound
from text2image.processes import Processes
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
    bucket: int = parameter(least=1)               # caption lengths that share a batch, padded and masked; 1: none do
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
    recomputed_glimpses: int = parameter(least=0)  # kept as their first state alone, so many at a time; 0: all is kept
    device: Device
    precision: Precision


class RMSprop(torch.optim.Optimizer):
    """RMSprop with epsilon inside the root, as the released code has it (coco/alignDraw.py:422):
    h = decay h + (1 - decay) g^2; w = w - rate g / sqrt(h + epsilon).

    Where a gradient is sparse, of some rows of a table, the other rows' h decays when they are met again: w stays as it
    is where g is 0, so that nothing else differs.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float, decay: float, epsilon: float):
        super().__init__(parameters, {"lr": lr, "decay": decay, "epsilon": epsilon})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            weights = [w for w in group["params"] if w.grad is not None]
            for w in weights:
                if w not in self.state:
                    self.state[w]["mean_square"] = torch.zeros_like(w)
                if w.grad.is_sparse:
                    self._step_rows(w, **group)
                elif "last" in self.state[w]:  # went on from a run whose gradients were sparse
                    self._catch_up(w, **group)
            weights = [w for w in weights if not w.grad.is_sparse]
            gradients = [w.grad for w in weights]
            squares = [self.state[w]["mean_square"] for w in weights]
            torch._foreach_mul_(squares, group["decay"])
            torch._foreach_addcmul_(squares, gradients, gradients, 1 - group["decay"])
            roots = torch._foreach_add(squares, group["epsilon"])
            torch._foreach_sqrt_(roots)
            torch._foreach_addcdiv_(weights, gradients, roots, -group["lr"])

    def _step_rows(self, w: Tensor, lr: float, decay: float, epsilon: float, **_: Any) -> None:
        state, gradient = self.state[w], w.grad.coalesce()
        rows, values = gradient.indices()[0], gradient.values()
        last = state.setdefault("last", torch.zeros(len(w), dtype=torch.int64))  # step at which a row was met last
        state["step"] = state.get("step", 0) + 1
        faded = state["mean_square"][rows].mul_(decay ** (state["step"] - last[rows]).to(w.dtype).unsqueeze(1))
        square = faded.addcmul_(values, values, value=1 - decay)
        state["mean_square"][rows], last[rows] = square, state["step"]
        w.index_add_(0, rows, values / (square + epsilon).sqrt_(), alpha=-lr)

    def _catch_up(self, w: Tensor, decay: float, **_: Any) -> None:
        state = self.state[w]
        state["mean_square"] *= decay ** (state.pop("step") - state.pop("last")).to(w.dtype).unsqueeze(1)


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    if config.optimizer == "rmsprop":
        return RMSprop(model.parameters(), config.learning_rate, config.decay, config.epsilon)
    return torch.optim.AdamW(model.parameters(), config.learning_rate, (config.decay, config.second_decay),
                             config.epsilon, config.weight_decay, foreach=True)


@torch.no_grad()
def clip_gradients(model: nn.Module, how: str, limit: float) -> None:
    """Scale gradients down to a norm of `limit`: all by their common norm, or each by its own."""
    weights = [w for w in model.parameters() if w.grad is not None]
    for w in weights:
        if w.grad.is_sparse:
            w.grad = w.grad.coalesce()
    gradients = [w.grad.values() if w.grad.is_sparse else w.grad for w in weights]
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
    return config.epochs * len(data.shuffled(config.batch_size, config.epoch_size, "count", bucket=config.bucket))


def mean_bound(model: AlignDRAW, batches: Batches, processes: Processes, *stream: int | str) -> Means:
    """Mean bound over a pass without gradients; the noise comes from the stream."""
    totals = torch.zeros(2, dtype=torch.float64, device=processes.device)
    with torch.no_grad():
        for i in range(processes.rank, len(batches), processes.count):
            batch = batches[i]
            totals += _parts(model.bound(batch.images, batch.words, _noise(model, batch, *stream, i), batch.lengths))
    return _means(processes.total(totals), sum(batches.sizes))


def _noise(model: AlignDRAW, batch: Batch, *stream: int | str) -> Tensor:
    shape = (model.config.glimpses, len(batch.words), model.config.latent)
    return seeds.noise(shape, *stream, device=batch.words.device)


def _parts(bound: Bound) -> Tensor:
    """Summed reconstruction and KL, (2,) float64."""
    return torch.stack([bound.reconstruction.detach().sum(), bound.kl.detach().sum()]).double()


def _means(totals: Tensor, count: int) -> Means:
    reconstruction, kl = (totals / count).tolist()
    return Means(-(reconstruction + kl), reconstruction, kl)


def check_finite(value: float, epoch: int, step: int) -> None:
    """Raise UserError unless a bound, or a sum of weights, is a number."""
    if not math.isfinite(value):
        raise UserError(f"the bound is {value} at epoch {epoch + 1}, step {step + 1}: "
                        "lower train.learning_rate or train.clip_norm")


def train(model: AlignDRAW, data: Dataset, dev: Dataset, config: TrainConfig, seed: int, work: WorkInProgress,
          processes: Processes, report: Callable[[Report], None],
          save_every: float | None = None) -> tuple[list[History], dict[str, Tensor]]:
    """Train `model` in place, from where `work` stands; returns the history and the weights of the best dev bound.

    The state is saved after each epoch, and every `save_every` seconds (by default 30, or 20 times what it takes).

    Raises UserError when the bound stops being a number; the last saved state is then a good one. Also where the model's
    batches cannot be divided among processes.
    """
    device = processes.device
    if processes.count > 1 and model.config.released("backward_words"):
        raise UserError("the released encoder reads a batch backward, which several processes would divide otherwise: "
                        "train it with one process, or set the model's backward_words to paper")
    model.recomputed = config.recomputed_glimpses
    # On a GPU and between processes a dense gradient is faster, and its shape is always the same.
    model.caption_encoder.sparse = config.optimizer == "rmsprop" and device.type == "cpu" and processes.count == 1
    optimizer = make_optimizer(model, config)
    epoch = start = steps = 0
    totals = torch.zeros(2, dtype=torch.float64, device=device)
    history: list[History] = []
    best = {name: value.clone() for name, value in model.state_dict().items()}
    saved = work.load()
    if saved is not None:
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        epoch, start, steps = saved["epoch"], saved["next_batch"], saved["steps"]
        if processes.rank == 0:
            totals = saved["totals"].to(device)
        history = [History(*row[:3], Means(*row[3]), Means(*row[4])) for row in saved["history"]]
        best = saved["best"]
    bound_of = model if processes.count == 1 else DistributedDataParallel(model)
    last_save, save_cost = time.monotonic(), 0.0

    def save(epoch: int, next_batch: int, totals: Tensor) -> None:
        nonlocal last_save, save_cost
        begun = time.monotonic()
        state: dict[str, Any] = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch,
                                 "next_batch": next_batch, "steps": steps, "totals": totals.cpu(), "best": best,
                                 "history": [(*row[:3], tuple(row.train), tuple(row.dev)) for row in history]}
        work.save(state)
        last_save = time.monotonic()
        save_cost = last_save - begun

    def score_dev() -> Means:
        batches = dev.in_order(config.batch_size, config.dev_size, bucket=config.bucket)
        return mean_bound(model, batches, processes, seed, "dev noise")

    if not history and (config.start == "prepared" or not config.epochs):
        start_means = score_dev()
        if not math.isfinite(start_means.bound):
            raise UserError(f"the bound of the weights that training starts from is {start_means.bound}: they are no model")
        history.append(History(0, 0, 0.0, Means(math.nan, math.nan, math.nan), start_means))
        report(Report(0, 0, start_means.bound, False, history[0]))
    while epoch < config.epochs:
        batches = data.shuffled(config.batch_size, config.epoch_size, seed, "pictures", epoch, bucket=config.bucket)
        for i in range(start, len(batches)):
            rate = learning_rate(config, epoch + i / len(batches))
            for group in optimizer.param_groups:
                group["lr"] = rate
            whole = batches[i]
            noise = _noise(model, whole, seed, "noise", epoch, i)[:, processes.rows]
            batch = whole.part(processes.rows)
            bound = bound_of(batch.images, batch.words, noise, batch.lengths)
            optimizer.zero_grad()
            (bound.cost.sum() * (processes.count / batches.sizes[i])).backward()  # gradients are means over processes
            clip_gradients(model, config.clip, config.clip_norm)
            optimizer.step()
            totals += _parts(bound)
            steps += 1
            if device.type == "cpu" or i % 20 == 19 or i + 1 == len(batches):  # reading a number makes a GPU wait
                summed = processes.total(totals)
                so_far = _means(summed, sum(batches.sizes[:i + 1]))
                check_finite(so_far.bound, epoch, i)
                report(Report(epoch, steps, so_far.bound, saved is not None, None))
                pause = max(SECONDS_BETWEEN_SAVES, 20 * save_cost) if save_every is None else save_every
                if time.monotonic() - last_save > pause and i + 1 < len(batches):
                    check_finite(sum(value.sum().item() for value in model.parameters()), epoch, i)
                    save(epoch, i + 1, summed)
        train_means = _means(processes.total(totals), sum(batches.sizes))
        dev_means = score_dev()
        check_finite(dev_means.bound, epoch, i)
        if not history or dev_means.bound > max(row.dev.bound for row in history):
            best = {name: value.clone() for name, value in model.state_dict().items()}
        history.append(History(epoch + 1, steps, rate, train_means, dev_means))
        report(Report(epoch, steps, train_means.bound, saved is not None, history[-1]))
        epoch, start = epoch + 1, 0
        totals = torch.zeros_like(totals)
        save(epoch, 0, totals)
    return history, best
