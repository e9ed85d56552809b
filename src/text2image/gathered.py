"""Maps used at every glimpse, whose parameters' gradients are taken once for all glimpses.

Autograd would add up T small products, (4H, B) by (B, I) at each glimpse, each of which reads and writes the
whole gradient. Here each use leaves its input and its output's gradient behind, and when the last use has been
differentiated the weight's gradient is one (4H, T*B) by (T*B, I) product. The numbers are the same up to the
order of summation; tests hold it to autograd.
"""

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
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
    @once_differentiable
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
    @once_differentiable
    def backward(ctx, gradient):
        x, product_weight = ctx.saved_tensors
        narrow = gradient.to(product_weight.dtype)
        ctx.uses.append((x.to(narrow.dtype), narrow))
        return (narrow @ product_weight).to(x.dtype), None, None, None, None


class GatheredScores:
    """e = tanh(keys + query) v for one forward pass: keys (B, L, A), v (A,), query (B, A) gives e (B, L).

    With t = tanh(keys + query) and de the gradient of e, that of keys + query is de v (1 - t^2). Its sum over the
    words is v (sum_l de - sum_l de t^2), a batched product; its sum over the glimpses, the keys' gradient, is added
    up without v. So a glimpse makes one pass of (B, L, A) to square t, and two that read it.
    """

    def __init__(self, keys: Tensor, v: Tensor):
        self._uses = _ScoreGradients()
        self._keys, self._v = _GatherScores.apply(keys, v, self._uses)

    def __call__(self, query: Tensor) -> Tensor:
        return _UseScores.apply(query, self._keys, self._v, self._uses)


class _ScoreGradients:
    """What the uses leave behind: sums over the glimpses of de (1 - t^2), (B, L, A), and of de t, (A,)."""

    keys: Tensor | None = None
    v: Tensor | None = None


class _GatherScores(Function):
    @staticmethod
    def forward(ctx, keys, v, uses):
        ctx.uses = uses
        ctx.save_for_backward(v)
        ctx.set_materialize_grads(False)
        return keys.view_as(keys), v.view_as(v)

    @staticmethod
    @once_differentiable
    def backward(ctx, *_):
        uses, (v,) = ctx.uses, ctx.saved_tensors
        if uses.keys is None:
            return None, None, None
        keys, uses.keys = uses.keys.mul_(v), None
        return keys, uses.v, None


class _UseScores(Function):
    @staticmethod
    def forward(ctx, query, keys, v, uses):
        t = (keys + query.unsqueeze(1)).tanh_()
        ctx.uses = uses
        ctx.save_for_backward(t, v)
        return t @ v

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        (t, v), uses = ctx.saved_tensors, ctx.uses
        row = gradient.reshape(1, -1)
        from_t = (row @ t.flatten(0, 1)).squeeze(0)                            # (A,): sum of de t
        square = t.square()
        per_word = gradient.unsqueeze(-1)                                      # (B, L, 1)
        if uses.keys is None:
            uses.keys, uses.v = per_word.expand_as(t).clone(), from_t
        else:
            uses.keys.add_(per_word)
            uses.v = uses.v + from_t
        uses.keys.addcmul_(per_word, square, value=-1)
        squares = torch.bmm(gradient.unsqueeze(1), square).squeeze(1)          # (B, A)
        return v * (gradient.sum(1, keepdim=True) - squares), None, None, None
