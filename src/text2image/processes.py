"""Several processes at one training, as torchrun starts them: who this one is, and the few things they say to each other.

Each takes its rows of every batch. The noise is that of the whole batch, of which each takes its rows, and gradients
are averaged, so that the bound is that of one process up to the order of summation.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, distributed

from text2image import devices
from text2image.devices import Device
from text2image.errors import UserError


class Processes(NamedTuple):
    """This process is the `rank`-th of `count`."""

    rank: int
    count: int
    device: torch.device

    @property
    def rows(self) -> slice:
        """This process's rows of a batch."""
        return slice(self.rank, None, self.count)

    def total(self, values: Tensor) -> Tensor:
        """The sum over the processes."""
        if self.count == 1:
            return values
        summed = values.clone()
        distributed.all_reduce(summed)
        return summed


@contextmanager
def together(device: Device) -> Iterator[Processes]:
    """The processes that torchrun started, this one among them; without torchrun, this one alone.

    Raises UserError where there are fewer GPUs than processes.
    """
    chosen = devices.choose(device)
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield Processes(0, 1, chosen)
        return
    if chosen.type == "cuda":
        chosen = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        if chosen.index >= torch.cuda.device_count():
            raise UserError(f"there are more processes than the {torch.cuda.device_count()} GPUs of this machine: "
                            "lower --nproc-per-node in pipeline.launcher")
        torch.cuda.set_device(chosen)
    distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size(), chosen)
    finally:
        distributed.destroy_process_group()
