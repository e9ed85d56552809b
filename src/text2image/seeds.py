"""Every random number of the project comes from a named stream, so that nothing of a generator needs to be saved.

A stream is a seed and what it is for: (seed, "noise", epoch, step). Work that stops and goes on draws the same
numbers, whatever was drawn in between. Numbers that decide which images are seen come from the CPU, so that
they are the same on every device.
"""

import hashlib
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


def stream_seed(*stream: int | str) -> int:
    """A 63-bit seed for a stream."""
    return int.from_bytes(hashlib.sha256(repr(stream).encode()).digest()[:8], "little") >> 1


def numpy_generator(*stream: int | str) -> np.random.Generator:
    """NumPy's generator for a stream."""
    return np.random.default_rng(stream_seed(*stream))


def torch_generator(*stream: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """PyTorch's generator for a stream, on a device."""
    return torch.Generator(device).manual_seed(stream_seed(*stream))


def network(make: Callable[[], Network], *stream: int | str) -> Network:
    """What `make` builds, with PyTorch's own first weights, drawn from a stream."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(*stream))
        return make()


def noise(shape: tuple[int, ...], *stream: int | str, device: torch.device | str) -> Tensor:
    """Standard normal numbers of `shape`, drawn on `device`."""
    return torch.randn(shape, generator=torch_generator(*stream, device=device), device=device)
