"""Where and how precisely the arithmetic is done."""

import ctypes
import sys
from typing import Literal

import torch

from text2image.errors import UserError

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["float32", "tf32", "bfloat16"]
MAX_THREADS = 1024


def choose(device: Device) -> torch.device:
    """The device that a parameter names; 'auto' is a GPU where there is one. Raises UserError without the GPU asked for.

    TF32 is off from then on, unless `product_type` is asked for it: PyTorch would have convolutions in TF32.
    """
    allow_tf32(False)
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("parameter 'device' is cuda, but PyTorch finds no GPU here: set it to auto or cpu, "
                        "or install a CUDA build of torch")
    return torch.device("cuda" if device == "cuda" or (device == "auto" and torch.cuda.is_available()) else "cpu")


def product_type(precision: Precision) -> torch.dtype | None:
    """The type of the large products for `ImageModel.precision`; sets TF32 for this process."""
    allow_tf32(precision == "tf32")
    return torch.bfloat16 if precision == "bfloat16" else None


def allow_tf32(allowed: bool) -> None:
    """The one switch of TF32 on GPUs, for all of this process: matrix products and convolutions alike."""
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def use_threads(count: int) -> None:
    """Compute with so many threads of the CPU; 0: with as many as PyTorch takes, one a core. Another number of them adds up in
    another order, so that what is trained differs by rounding; small models are no faster with several."""
    if count:
        torch.set_num_threads(count)


def keep_freed_memory() -> None:
    """Have the C library keep freed memory instead of returning it to the system after each step.

    A step frees some hundred megabytes in blocks over a megabyte; taking them back page by page costs a fifth of
    a step's time on a CPU. Linux with glibc; elsewhere nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        trim_threshold, mmap_threshold = -1, -3
        mallopt(mmap_threshold, 2**30)
        mallopt(trim_threshold, 2**31 - 1)
