"""Training a model of images by its ELBO (paper, section 4 and appendix), whatever the model's kind."""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from text2image import seeds
from text2image.data.datasets import Batches, Dataset
from text2image.errors import UserError
from text2image.models.base import ImageModel, count_parameters
from text2image.training import loop
from text2image.training.distributed import DistributedContext
from text2image.training.progress import StepReport
from text2image.training.resume import ResumableState
from text2image.training.step import make_step, sums
from text2image.training.train_config import TrainConfig


class BoundMeans(NamedTuple):
    """Means over images, in nats: ELBO = -(reconstruction + KL), a lower bound on log p(x | y)."""

    elbo: float
    reconstruction: float
    kl: float


class History(NamedTuple):
    """One epoch. Training's means are over weights that change while they are taken. Epoch 0 is the start, where it is
    scored: no step was made, its rate is 0 and its training means are nan."""

    epoch: int
    step: int
    learning_rate: float
    train: BoundMeans
    dev: BoundMeans

    def line(self) -> str:
        """What a person reads of it."""
        trained = f"train {self.train.elbo:.2f}  " if self.epoch else ""
        return f"{trained}dev {self.dev.elbo:.2f} nats (KL {self.dev.kl:.2f})"


def columns(rows: Iterable[History]) -> list[dict[str, float]]:
    """The history as flat rows, for a table."""
    return [{"epoch": row.epoch, "step": row.step, "learning_rate": round(row.learning_rate, 8)}
            | {f"{split}_{name}": round(value, 4) for split, means in (("train", row.train), ("dev", row.dev))
               for name, value in means._asdict().items()} for row in rows]


def summarize(history: list[History], model: ImageModel) -> dict[str, Any]:
    """What results/<run>/train.json and the checkpoint's card say of a training."""
    best, last = max(history, key=lambda row: row.dev.elbo), history[-1]
    summary = {"parameters": count_parameters(model), "epochs": last.epoch, "steps": last.step, "best_epoch": best.epoch,
               "best_dev": {name: round(value, 4) for name, value in best.dev._asdict().items()}}
    if last.epoch:
        summary["last_train"] = {name: round(value, 4) for name, value in last.train._asdict().items()}
    return summary


def total_steps(data: Dataset, config: TrainConfig) -> int:
    """Steps of the whole training."""
    return config.epochs * len(data.shuffled(config.batch_size, config.epoch_size, "count", bucket=config.bucket))


def mean_elbo(model: ImageModel, batches: Batches, context: DistributedContext, *stream: int | str) -> BoundMeans:
    """Mean ELBO over a pass without gradients, its batches divided among processes; the noise comes from the stream."""
    totals = torch.zeros(2, dtype=torch.float64, device=context.device)
    with torch.no_grad():
        for i in range(context.rank, len(batches), context.world_size):
            batch = batches[i]
            totals += sums(model.elbo(batch.images, batch.words, _noise(model, len(batch.words), context, *stream, i),
                                      batch.lengths))
    return _means(context.all_reduce_sum(totals), sum(batches.sizes))


def _noise(model: ImageModel, captions: int, context: DistributedContext, *stream: int | str) -> Tensor:
    return seeds.noise(model.noise_shape(captions), *stream, device=context.device)


def _means(totals: Tensor, count: int) -> BoundMeans:
    reconstruction, kl = (totals / count).tolist()
    return BoundMeans(-(reconstruction + kl), reconstruction, kl)


class ELBOTrainer:
    """What `loop.run` trains: the model, its optimizer's step, the weights of the best dev ELBO so far."""

    sums = 2  # reconstruction and KL

    def __init__(self, model: ImageModel, data: Dataset, dev: Dataset, config: TrainConfig, seed: int,
                 context: DistributedContext):
        if context.world_size > 1 and model.mixes_batch:
            raise UserError("the released encoder reads a batch backward, which several processes would divide otherwise: "
                            "train it with one process, or set the model's backward_words to paper")
        self.model, self.data, self.dev, self.config, self.seed, self.context = model, data, dev, config, seed, context
        self.train_step = make_step(model, config, context)
        self.best = self._weights()
        self.learning_rate = 0.0

    def _weights(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self.model.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        """The model, its optimizer, and the best weights so far."""
        return {"model": self.model.state_dict(), "optimizer": self.train_step.state_dict(), "best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.model.load_state_dict(state["model"])
        self.train_step.load_state_dict(state["optimizer"])
        self.best = state["best"]

    def row(self, values: tuple[Any, ...]) -> History:
        """A row of the history from its saved form."""
        epoch, step, learning_rate, train, dev = values
        return History(epoch, step, learning_rate, BoundMeans(*train), BoundMeans(*dev))

    def batches(self, epoch: int) -> Batches:
        """The pass over the data of an epoch, in an order of its own."""
        c = self.config
        return self.data.shuffled(c.batch_size, c.epoch_size, self.seed, "pictures", epoch, bucket=c.bucket)

    def step(self, batches: Batches, epoch: int, i: int) -> Tensor:
        """Train on batch i; returns the sums of reconstruction and KL, (2,) float64."""
        done = epoch + i / len(batches)
        self.learning_rate = self.config.schedule.rate(self.config.learning_rate, done, self.config.epochs)
        noise = _noise(self.model, batches.sizes[i], self.context, self.seed, "noise", epoch, i)
        return self.train_step(batches[i], noise, self.learning_rate, self.config.kl_weight(done))

    def status(self, totals: Tensor, batches: Batches, done: int) -> str:
        """The mean ELBO of the epoch so far."""
        return f"{_means(totals, sum(batches.sizes[:done])).elbo:.2f} nats"

    def check(self, value: float, epoch: int, step: int) -> None:
        """Raise UserError unless the ELBO, or a sum of weights, is a finite number."""
        if not math.isfinite(value):
            raise UserError(f"the ELBO is {-value} at epoch {epoch + 1}, step {step + 1}: "
                            "lower train.learning_rate or train.clip_norm")

    def weights_sum(self) -> float:
        """The sum of all weights."""
        return sum(value.sum().item() for value in self.model.parameters())

    def _score_dev(self) -> BoundMeans:
        batches = self.dev.sequential(self.config.batch_size, self.config.dev_size, bucket=self.config.bucket)
        return mean_elbo(self.model, batches, self.context, self.seed, "dev noise")

    def start(self) -> History | None:
        """The first row where weights were given, or are not trained: the start is scored then."""
        if self.config.init == "random" and self.config.epochs:
            return None
        dev = self._score_dev()
        if not math.isfinite(dev.elbo):
            raise UserError(f"the ELBO of the weights that training starts from is {dev.elbo}: they are no model")
        return History(0, 0, 0.0, BoundMeans(math.nan, math.nan, math.nan), dev)

    def end_epoch(self, epoch: int, steps: int, totals: Tensor, batches: Batches, history: list[History]) -> History:
        """Score dev, and keep the weights where they are the best so far; returns the epoch's row."""
        dev = self._score_dev()
        self.check(dev.elbo, epoch, len(batches) - 1)
        if not history or dev.elbo > max(row.dev.elbo for row in history):
            self.best = self._weights()
        return History(epoch + 1, steps, self.learning_rate, _means(totals, sum(batches.sizes)), dev)


def train(model: ImageModel, data: Dataset, dev: Dataset, config: TrainConfig, seed: int, saved: ResumableState,
          context: DistributedContext, report: Callable[[StepReport], None],
          save_every: float | None = None) -> tuple[list[History], dict[str, Tensor]]:
    """Train `model` in place, from where `saved` stands; returns the history and the weights of the best dev ELBO.

    Saves as `loop.run` says. Raises UserError when the ELBO stops being a number, and where the model's batches cannot be
    divided among processes.
    """
    trainer = ELBOTrainer(model, data, dev, config, seed, context)
    history = loop.run(trainer, config.epochs, saved, context, report, save_every)
    return history, trainer.best
