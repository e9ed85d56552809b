"""Distributed training under torchrun: rank, world size, all-reduce.

Each process takes its shard of every batch. The noise is drawn for the whole batch, and each process takes its shard of
it; gradients are averaged. So the ELBO is that of one process up to the order of summation.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from textwrap import shorten
from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed

from text2image import devices
from text2image.devices import Device
from text2image.errors import UserError

TIMEOUT = timedelta(minutes=10)  # of a process that waits for the others; gloo's own is 30, NCCL's 10


class DistributedContext(NamedTuple):
    """Which process this is, of how many, and where it computes."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def shard(self) -> slice:
        """The rows of a batch that this process takes."""
        return slice(self.rank, None, self.world_size)

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """The sum of `values` over the processes, in a new tensor where there are several."""
        if self.world_size == 1:
            return values
        summed = values.clone()
        distributed.all_reduce(summed)
        return summed

    def broadcast(self, value: Any) -> Any:
        """What the first process has, in every process; tensors in it must be on the CPU."""
        if self.world_size == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box)
        return box[0]

    def require_same(self, value: str, what: str) -> None:
        """Raise UserError, in every process, where `value` differs between them; `what` says what it stands for."""
        if self.world_size == 1:
            return
        values: list[str | None] = [None] * self.world_size
        distributed.all_gather_object(values, value)
        others = [rank for rank, other in enumerate(values) if other != values[0]]
        if others:
            raise UserError(f"process {others[0]} of {self.world_size} has not the {what} of process 0: bring every machine to "
                            "the same commit, and `dvc pull` or copy the same data to it")


@contextmanager
def init_distributed(device: Device) -> Iterator[DistributedContext]:
    """Join the processes that torchrun started; without torchrun, a world of this process alone.

    Raises UserError where there are fewer GPUs than processes, and where one of the others is lost.
    """
    chosen = devices.choose(device)
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield DistributedContext(0, 1, chosen)
        return
    if chosen.type == "cuda":
        chosen = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        if chosen.index >= torch.cuda.device_count():
            raise UserError(f"there are more processes than the {torch.cuda.device_count()} GPUs of this machine: "
                            "lower --nproc-per-node in pipeline.launcher")
        torch.cuda.set_device(chosen)
    distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=TIMEOUT)
    try:
        yield DistributedContext(distributed.get_rank(), distributed.get_world_size(), chosen)
    except RuntimeError as error:
        if isinstance(error, distributed.DistError) or "gloo" in str(error):
            raise UserError("another process of this training ended, or is not heard of any more; see what it printed, and run "
                            f"again: training goes on from what was saved last ({shorten(str(error), 200)})") from error
        raise
    finally:
        distributed.destroy_process_group()
