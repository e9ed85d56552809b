"""A linear map used at every glimpse, whose weight gradient is one product for all glimpses.

Autograd would add up T small products, (4H, B) by (B, I) at each glimpse, each of which reads and writes the
whole gradient. Here each use leaves its input and its output's gradient behind, and when the last use has been
differentiated the weight's gradient is one (4H, T*B) by (T*B, I) product. The numbers are the same up to the
order of summation; `tests/test_gathered.py` holds it to autograd.
"""

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F


class GatheredLinear:
    """y = x W^T + b, for one forward pass: build it anew from the parameters each time.

    weight (O, I); bias (O,) or None; x (B, I) gives y (B, O). `dtype` is the type that the product is taken in
    (bfloat16 halves its cost on hardware that has it); inputs, outputs and gradients keep the type of x.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None, dtype: torch.dtype | None = None):
        self._uses: list[tuple[Tensor, Tensor]] = []
        bias = weight.new_zeros(weight.shape[0]) if bias is None else bias
        # In the graph `_Gather` stands between the parameters and every use, so it is differentiated last.
        self._weight, self._bias = _Gather.apply(weight, bias, self._uses)
        self._product_weight = self._weight.detach().to(dtype or weight.dtype)

    def __call__(self, x: Tensor) -> Tensor:
        return _Use.apply(x, self._weight, self._bias, self._product_weight, self._uses)


class _Gather(Function):
    @staticmethod
    def forward(ctx, weight, bias, uses):
        ctx.uses, ctx.dtype = uses, weight.dtype
        ctx.set_materialize_grads(False)
        return weight.view_as(weight), bias.view_as(bias)

    @staticmethod
    def backward(ctx, *_):
        if not ctx.uses:
            return None, None, None
        inputs, gradients = (torch.cat(parts) for parts in zip(*ctx.uses, strict=True))
        ctx.uses.clear()
        return (gradients.mT @ inputs).to(ctx.dtype), gradients.sum(0, dtype=ctx.dtype), None


class _Use(Function):
    @staticmethod
    def forward(ctx, x, weight, bias, product_weight, uses):
        ctx.uses = uses
        ctx.save_for_backward(x, product_weight)
        if product_weight.dtype == x.dtype:
            return F.linear(x, product_weight, bias)
        return F.linear(x.to(product_weight.dtype), product_weight).to(x.dtype) + bias

    @staticmethod
    def backward(ctx, gradient):
        x, product_weight = ctx.saved_tensors
        narrow = gradient.to(product_weight.dtype)
        ctx.uses.append((x.to(narrow.dtype), narrow))
        return (narrow @ product_weight).to(x.dtype), None, None, None, None
