"""Optimizers, and the clipping of gradients before them (paper, section 4 and appendix).

To add one: a dataclass with a `kind`, its parameters and `make`, named in `OptimizerConfig`.
"""

from collections.abc import Iterable
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from text2image.config import frozen, parameter


@frozen
class RMSpropConfig:
    """The released code's RMSprop. The paper: decay 0.9."""

    kind: Literal["rmsprop"]
    decay: float = parameter(ge=0, lt=1)      # of the mean square
    eps: float = parameter(ge=1e-30, le=1)    # inside the root
    takes_sparse: ClassVar[bool] = True       # gradients of the rows of a table that were looked up

    def make(self, parameters: Iterable[nn.Parameter], learning_rate: float, capturable: bool = False) -> torch.optim.Optimizer:
        """The optimizer of `parameters`; it can always be captured."""
        return RMSprop(parameters, learning_rate, self.decay, self.eps)


@frozen
class AdamWConfig:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""

    kind: Literal["adamw"]
    beta1: float = parameter(ge=0, lt=1)
    beta2: float = parameter(ge=0, lt=1)
    eps: float = parameter(ge=1e-30, le=1)    # outside the root
    weight_decay: float = parameter(ge=0, le=1000)
    takes_sparse: ClassVar[bool] = False

    def make(self, parameters: Iterable[nn.Parameter], learning_rate: float, capturable: bool = False) -> torch.optim.Optimizer:
        """The optimizer of `parameters`. `capturable`: the number of steps lies on the device, a GPU."""
        return torch.optim.AdamW(parameters, learning_rate, (self.beta1, self.beta2), self.eps, self.weight_decay,
                                 foreach=True, capturable=capturable)


OptimizerConfig = RMSpropConfig | AdamWConfig


class RMSprop(torch.optim.Optimizer):
    """RMSprop with epsilon inside the root, as in the released code (coco/alignDraw.py:422):
    h = decay h + (1 - decay) g^2; w = w - lr g / sqrt(h + eps).

    A gradient may be sparse: of some rows of a table. The mean square of the other rows decays when they occur again; since w
    does not move where g is 0, the result is that of the dense gradient.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float, decay: float, eps: float):
        super().__init__(parameters, {"lr": lr, "decay": decay, "eps": eps})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            dense, gradients = [], []
            for w in group["params"]:
                if w.grad is None:
                    continue
                if w not in self.state:
                    self.state[w]["mean_square"] = torch.zeros_like(w)
                if w.grad.is_sparse:
                    self._step_rows(w, w.grad.coalesce(), **group)
                    continue
                if "last" in self.state[w]:  # resumed from a run whose gradients were sparse
                    self._catch_up(w, **group)
                dense.append(w)
                gradients.append(w.grad)
            if dense:
                self._step_dense(dense, gradients, **group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As torch.optim.Optimizer, which would turn the step numbers `last` of sparse rows into floats."""
        super().load_state_dict(state_dict)
        parameters = [w for group in self.param_groups for w in group["params"]]
        for index, saved in state_dict["state"].items():
            if "last" in saved:
                w = parameters[int(index)]
                self.state[w]["last"] = saved["last"].to(w.device, torch.int64, copy=True)

    def _step_dense(self, weights: list[Tensor], gradients: list[Tensor], lr: float | Tensor, decay: float, eps: float,
                    **_: Any) -> None:
        squares = [self.state[w]["mean_square"] for w in weights]
        torch._foreach_mul_(squares, decay)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - decay)
        roots = torch._foreach_add(squares, eps)
        torch._foreach_sqrt_(roots)
        if isinstance(lr, Tensor):  # on the device, so that a captured step finds each time's
            torch._foreach_addcdiv_(weights, torch._foreach_mul(gradients, -lr), roots)
        else:
            torch._foreach_addcdiv_(weights, gradients, roots, -lr)

    def _step_rows(self, w: Tensor, gradient: Tensor, lr: float, decay: float, eps: float, **_: Any) -> None:
        state, rows, values = self.state[w], gradient.indices()[0], gradient.values()
        last = state.setdefault("last", torch.zeros(len(w), dtype=torch.int64))  # step at which each row occurred last
        state["step"] = state.get("step", 0) + 1
        decayed = state["mean_square"][rows].mul_(decay ** (state["step"] - last[rows]).to(w.dtype).unsqueeze(1))
        square = decayed.addcmul_(values, values, value=1 - decay)
        state["mean_square"][rows], last[rows] = square, state["step"]
        w.index_add_(0, rows, values / (square + eps).sqrt_(), alpha=-lr)

    def _catch_up(self, w: Tensor, decay: float, **_: Any) -> None:
        state = self.state[w]
        state["mean_square"] *= decay ** (state.pop("step") - state.pop("last")).to(w.dtype).unsqueeze(1)


@torch.no_grad()
def clip_gradients(model: nn.Module, how: Literal["global", "per_tensor"], max_norm: float) -> None:
    """Scale gradients down to a norm of `max_norm`: all by their common norm (paper), or each by its own (released code)."""
    gradients: list[Tensor] = []
    for w in model.parameters():
        if w.grad is not None and w.grad.is_sparse:
            w.grad = w.grad.coalesce()
            gradients.append(w.grad.values())
        elif w.grad is not None:
            gradients.append(w.grad)
    norms = torch.stack(torch._foreach_norm(gradients))
    if how == "global":
        norms = torch.linalg.vector_norm(norms)
    scales = (max_norm / norms).clamp(max=1)
    torch._foreach_mul_(gradients, scales if how == "global" else list(scales.unbind()))
