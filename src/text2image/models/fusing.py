"""Groups of small operations that a compiler can make one kernel of.

A GPU takes some microseconds to start a kernel, however little the kernel does, and a glimpse is some hundred and seventy of
them. `fusible` marks functions of tensors whose operations `torch.compile` may fuse; `allow` switches that on and off for the
process. Without it, and on a CPU unless it is asked for, they run as they are written.
"""

import functools
import warnings
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from text2image.errors import UserWarningLine, printable

P = ParamSpec("P")
R = TypeVar("R")
VARIANTS = 64  # of a function that are compiled: both LSTMs, with and without gradients, batches that are not full
_allowed = False


def allow(allowed: bool) -> None:
    """The one switch, for all of this process."""
    global _allowed
    _allowed = allowed
    if allowed:  # the compiler advises against float32 where a GPU has TF32; `train.precision` is the user's own choice
        warnings.filterwarnings("ignore", "TensorFloat32 tensor cores", UserWarning)


def fusible(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, compiled where that is allowed. Numbers differ from those of the function as it is by rounding alone.

    Where it cannot be compiled, one line says why, and all functions run as they are written from then on.
    """
    compiled: list[Callable[P, R]] = []

    @functools.wraps(function)
    def either(*args: P.args, **kwargs: P.kwargs) -> R:
        if not _allowed or torch.compiler.is_compiling():
            return function(*args, **kwargs)
        try:
            if not compiled:
                torch._dynamo.config.recompile_limit = VARIANTS
                compiled.append(torch.compile(function, dynamic=False))
            return compiled[0](*args, **kwargs)
        except failures() as error:  # before anything is computed
            allow(False)
            warnings.warn(f"the operations of a step could not be compiled, and are started one by one, which takes longer: "
                          f"{printable(str(error), 300)}; train.compile: off does so from the start", UserWarningLine,
                          stacklevel=2)
            return function(*args, **kwargs)

    return either


def failures() -> tuple[type[Exception], ...]:
    """What `torch.compile` raises where it cannot compile: no Triton, no C++ compiler, an operation that it does not know."""
    import torch._dynamo.exc  # only here: it takes seconds
    import torch._inductor.exc

    return (torch._dynamo.exc.TorchDynamoException, torch._inductor.exc.CppCompileError,
            torch._inductor.exc.InvalidCxxCompiler)


def into(place: Float[Tensor, "*shape"] | None, operation: Callable[..., Any], *args: Any, **kwargs: Any,
         ) -> Float[Tensor, "*shape"]:
    """`operation(*args, **kwargs)`, written into `place` where there is one: by the operation, or, where a compiler reads this,
    by a copy, which it fuses and which may go to rows that do not follow one another."""
    if place is None:
        return operation(*args, **kwargs)
    if torch.compiler.is_compiling():
        return place.copy_(operation(*args, **kwargs))
    return operation(*args, **kwargs, out=place)
