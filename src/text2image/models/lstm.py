"""LSTMs as the released code has them: forget gates, one bias, no peepholes; the cell with its gradient by hand.

Letter code: B batch, U units, K vocabulary.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from text2image.models.fusing import fusible, into


class LSTM(nn.Module):
    """An LSTM's parameters. Gates in the order i, f, g, o, as torch.nn.LSTM's."""

    def __init__(self, inputs: int, units: int):
        super().__init__()
        self.weight_input = nn.Parameter(torch.empty(4 * units, inputs))
        self.weight_hidden = nn.Parameter(torch.empty(4 * units, units))
        self.bias = nn.Parameter(torch.empty(4 * units))


class WordLSTM(nn.Module):
    """As `LSTM`; a word's input weights are a row of `table` (K, 4U): looked up, never multiplied."""

    def __init__(self, words: int, units: int):
        super().__init__()
        self.table = nn.Parameter(torch.empty(words, 4 * units))
        self.weight_hidden = nn.Parameter(torch.empty(4 * units, units))
        self.bias = nn.Parameter(torch.empty(4 * units))


class LSTMCache(NamedTuple):
    """What a step of an LSTM keeps for its gradient."""

    gates: Tensor        # i, f, g, o after sigmoid and tanh, (..., 4U)
    cell_before: Tensor  # (..., U)
    tanh_cell: Tensor    # tanh of the cell after, (..., U)


@fusible
def lstm(gates: Float[Tensor, "*batch four_U"], cell: Float[Tensor, "*batch U"], out: Float[Tensor, "*batch U"] | None = None,
         ) -> tuple[Float[Tensor, "*batch U"], Float[Tensor, "*batch U"], LSTMCache]:
    """One step: h = o tanh(cell'), cell' = f cell + i g. Returns h, cell' and the cache.

    `gates` before sigmoid and tanh; h is written into `out` where it is given.
    """
    activated = gates.sigmoid()
    into(activated.chunk(4, -1)[2], torch.tanh, gates.chunk(4, -1)[2])
    i, f, g, o = activated.chunk(4, -1)
    cell_after = torch.addcmul(f * cell, i, g)
    tanh_cell = cell_after.tanh()
    return into(out, torch.mul, o, tanh_cell), cell_after, LSTMCache(activated, cell, tanh_cell)


@fusible
def lstm_backward(grad_h: Float[Tensor, "*batch U"], grad_cell_after: Float[Tensor, "*batch U"], cache: LSTMCache,
                  out: Float[Tensor, "*batch four_U"] | None = None, one: Float[Tensor, ""] | None = None,
                  ) -> tuple[Float[Tensor, "*batch four_U"], Float[Tensor, "*batch U"]]:
    """The gradient of `lstm`: by the gates, written into `out` where it is given, and by the cell before.

    `one` is 1, where it is at hand.
    """
    activated, cell_before, tanh_cell = cache
    i, f, g, o = activated.chunk(4, -1)
    through_h = grad_h * o
    grad_cell = torch.addcmul(grad_cell_after + through_h, through_h, tanh_cell.square(), value=-1)
    grad_gates = into(out, torch.addcmul, activated, activated, activated, value=-1)  # of the sigmoid: right for i, f and o
    by_gate = grad_gates.unflatten(-1, (4, -1))
    grad_i, grad_f, grad_g, grad_o = by_gate.unbind(-2)
    into(grad_g, torch.addcmul, g.new_ones(()) if one is None else one, g, g, value=-1)
    grad_i.mul_(g)
    grad_f.mul_(cell_before)
    grad_g.mul_(i)
    by_gate[..., :3, :].mul_(grad_cell.unsqueeze(-2))
    grad_o.mul_(tanh_cell).mul_(grad_h)
    return grad_gates, grad_cell * f


class LSTMCellFunction(Function):
    """`lstm` for autograd: gates (..., 4U) and cell (..., U) give h and the cell after."""

    @staticmethod
    def forward(ctx, gates, cell):
        """h and the cell after, (..., U) each."""
        h, cell_after, cache = lstm(gates, cell)
        ctx.save_for_backward(*cache)
        return h, cell_after

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_h, grad_cell_after):
        """The gradients by gates (..., 4U) and cell (..., U)."""
        return lstm_backward(grad_h, grad_cell_after, LSTMCache(*ctx.saved_tensors))
