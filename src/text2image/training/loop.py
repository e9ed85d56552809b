"""The training loop, of alignDRAW and of a sharpener alike: epochs of steps, saving, resuming, reporting.

The loop's only state is the trainer's (weights, optimizer), the place in the epoch and the history so far: every random
number comes from a named stream (text2image.seeds). So a run that is resumed from a saved state computes what it would
have computed without the break, bit for bit on a CPU.
"""

import time
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from text2image.data.datasets import Batches
from text2image.training.distributed import DistributedContext
from text2image.training.progress import StepReport
from text2image.training.resume import ResumableState

SECONDS_BETWEEN_SAVES = 30.0
SAVE_SHARE = 20           # a save is made at most every so many times its own duration
STEPS_BETWEEN_READS = 20  # on a GPU: reading a number makes it wait


class Trainer(Protocol):
    """What the loop trains. All its randomness comes from named streams."""

    sums: int  # numbers that a step adds up

    def state_dict(self) -> dict[str, Any]:
        """Everything that later steps depend on."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        ...

    def row(self, values: tuple[Any, ...]) -> Any:
        """A row of the history from its saved form."""
        ...

    def batches(self, epoch: int) -> Batches:
        """The pass over the data of an epoch."""
        ...

    def step(self, batches: Batches, epoch: int, i: int) -> Tensor:
        """Train on batch i; returns (sums,) float64, this process's share of what is added up over an epoch."""
        ...

    def status(self, totals: Tensor, batches: Batches, done: int) -> str:
        """What stands beside the progress bar after `done` batches whose sums are `totals`."""
        ...

    def check(self, value: float, epoch: int, step: int) -> None:
        """Raise UserError unless a sum, or a sum of weights, is a finite number."""
        ...

    def weights_sum(self) -> float:
        """The sum of all weights: finite where they all are."""
        ...

    def start(self) -> Any | None:
        """The history's row of the weights that training starts from, where they are scored."""
        ...

    def end_epoch(self, epoch: int, steps: int, totals: Tensor, batches: Batches, history: list[Any]) -> Any:
        """Score dev; returns the history's row of epoch `epoch`, counted from 0, after `steps` steps in all."""
        ...


def run(trainer: Trainer, epochs: int, saved: ResumableState, context: DistributedContext,
        report: Callable[[StepReport], None], save_every: float | None = None) -> list[Any]:
    """Train for `epochs` epochs, from where `saved` stands; returns the history.

    The state is saved after each epoch, and every `save_every` seconds (by default 30, or 20 times what a save takes).

    Raises UserError when a number stops being finite; the last saved state is then a good one.
    """
    epoch = first = steps = 0
    totals = torch.zeros(trainer.sums, dtype=torch.float64, device=context.device)
    history: list[Any] = []
    state = context.broadcast(saved.load() if context.rank == 0 else None)  # other hosts have an older one, or none
    if state is not None:
        trainer.load_state_dict(state["trainer"])
        epoch, first, steps = state["epoch"], state["next_batch"], state["steps"]
        if context.rank == 0:  # it holds the sums of all processes
            totals = state["totals"].to(context.device)
        history = [trainer.row(values) for values in state["history"]]
    last_save, save_seconds = time.monotonic(), 0.0

    def save(epoch: int, next_batch: int, totals: Tensor) -> None:
        nonlocal last_save, save_seconds
        begun = time.monotonic()
        saved.save({"trainer": trainer.state_dict(), "epoch": epoch, "next_batch": next_batch, "steps": steps,
                    "totals": totals.cpu(), "history": [plain(row) for row in history]})
        last_save = time.monotonic()
        save_seconds = last_save - begun

    if not history and (start := trainer.start()) is not None:
        history.append(start)
        report(StepReport(0, 0, "", False, start))
    while epoch < epochs:
        batches = trainer.batches(epoch)
        for i in range(first, len(batches)):
            totals += trainer.step(batches, epoch, i)
            steps += 1
            last = i + 1 == len(batches)
            if context.device.type == "cpu" or i % STEPS_BETWEEN_READS == STEPS_BETWEEN_READS - 1 or last:
                summed = context.all_reduce_sum(totals)
                trainer.check(summed.sum().item(), epoch, i)
                report(StepReport(epoch, steps, trainer.status(summed, batches, i + 1), state is not None, None))
                pause = max(SECONDS_BETWEEN_SAVES, SAVE_SHARE * save_seconds) if save_every is None else save_every
                if time.monotonic() - last_save > pause and not last:
                    trainer.check(trainer.weights_sum(), epoch, i)
                    save(epoch, i + 1, summed)
        summed = context.all_reduce_sum(totals)
        history.append(trainer.end_epoch(epoch, steps, summed, batches, history))
        report(StepReport(epoch, steps, trainer.status(summed, batches, len(batches)), state is not None, history[-1]))
        epoch, first = epoch + 1, 0
        totals = torch.zeros_like(totals)
        trainer.check(trainer.weights_sum(), epoch - 1, len(batches) - 1)
        save(epoch, 0, totals)
    return history


def plain(value: Any) -> Any:
    """A row as nested plain tuples, which is what a saved state may hold."""
    return tuple(plain(item) for item in value) if isinstance(value, tuple) else value


