"""Where alignDRAW looks and draws: DRAW's Gaussian filter banks (Gregor et al. 2015, equations 19 to 26).

Letter code: B batch, C channels, H W image, N window.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


class Geometry(NamedTuple):
    """Where the released code's filters depart from DRAW's; `coco/attention.py`."""

    centred_grid: bool    # filters lie evenly around the centre; else shifted by half a stride (odd N) or one (even N)
    centred_origin: bool  # a window centre of 0 is the image's centre; else one pixel right of and below it
    epsilon: float        # added to each filter's sum before it is divided by it


PAPER = Geometry(centred_grid=True, centred_origin=True, epsilon=1e-8)
RELEASED = Geometry(centred_grid=False, centred_origin=False, epsilon=1e-4)


class Window(NamedTuple):
    """A window in pixels, counted from 0 at the centre of the first pixel; each (B, 1)."""

    x: Tensor         # centre, columns
    y: Tensor         # centre, rows
    stride: Tensor    # between neighbouring filters
    variance: Tensor  # of each filter
    gamma: Tensor     # intensity


class Lens(NamedTuple):
    """What pictures are read or written through."""

    f_y: Tensor    # (B, N, H)
    f_x: Tensor    # (B, N, W)
    gamma: Tensor  # (B, 1)


def window(parameters: Tensor, height: int, width: int, size: int, geometry: Geometry) -> Window:
    """(B, 5) network outputs (g_x, g_y, log delta, log sigma^2, log gamma) as a window in pixels.

    Equations 22 to 24 of DRAW; the order of the five is that of the released code. An N of 1 has no stride.
    """
    g_x, g_y = parameters[:, :2].unsqueeze(-1).unbind(1)
    delta, variance, gamma = parameters[:, 2:].exp().unsqueeze(-1).unbind(1)
    origin = 1 if geometry.centred_origin else 0  # DRAW counts pixels from 1; the released code mixes both counts
    return Window(x=(width + 1) / 2 * (g_x + 1) - origin, y=(height + 1) / 2 * (g_y + 1) - origin,
                  stride=(max(height, width) - 1) / max(size - 1, 1) * delta, variance=variance, gamma=gamma)


def grid(size: int, geometry: Geometry, like: Tensor) -> Tensor:
    """(N,) the filters' places in strides from the window's centre; DRAW equations 19 and 20."""
    first = (size - 1) / 2 if geometry.centred_grid else size // 2 + 0.5
    return torch.arange(size, dtype=like.dtype, device=like.device) - first


def look(parameters: Tensor, height: int, width: int, size: int, geometry: Geometry) -> Lens:
    """(B, 5) network outputs as filter banks; DRAW equations 25 and 26."""
    place = window(parameters, height, width, size, geometry)
    offsets = place.stride * grid(size, geometry, parameters)                  # (B, N)
    precision = (-0.5 / place.variance).unsqueeze(-1)                          # (B, 1, 1)
    if height == width:  # both banks at once
        centres = torch.cat([place.y + offsets, place.x + offsets], 1).unsqueeze(-1)           # (B, 2N, 1)
        f_y, f_x = _Bank.apply(centres, precision, height, geometry.epsilon).split(size, 1)
    else:
        f_y, f_x = (_Bank.apply((centre + offsets).unsqueeze(-1), precision, extent, geometry.epsilon)
                    for centre, extent in ((place.y, height), (place.x, width)))
    return Lens(f_y, f_x, place.gamma)


class _Bank(Function):
    """Gaussian bells over `extent` pixels, each divided by its sum: centres (B, N, 1), precision (B, 1, 1), -1 / 2 sigma^2.

    With q = sum_k F_k dF_k the gradient through bell and sum is (dF - q) F: two passes by hand, seven by autograd.
    """

    @staticmethod
    def forward(ctx, centres, precision, extent, epsilon):
        pixels = torch.arange(extent, dtype=centres.dtype, device=centres.device)
        distance = pixels - centres                                            # (B, N, extent)
        # Below e^-80 a bell is nothing, but an exponential that underflows takes ten times as long.
        bank = distance.square().mul_(precision).clamp_(min=-80).exp_()
        bank /= bank.sum(-1, keepdim=True).add_(epsilon)
        ctx.save_for_backward(distance, precision, bank)
        return bank

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        distance, precision, bank = ctx.saved_tensors
        through = gradient * bank
        through.addcmul_(through.sum(-1, keepdim=True), bank, value=-1)        # (dF - q) F
        by_distance = through * distance
        d_centres = by_distance.sum(-1, keepdim=True) * (-2 * precision)
        return d_centres, by_distance.mul_(distance).sum((1, 2), keepdim=True), None, None


def read(rows: Tensor, lens: Lens) -> Tensor:
    """F_y x F_x^T for every channel: (B, H, C, W) seen through the lens, (B, N, C, N)."""
    b, h, c, w = rows.shape
    n = lens.f_y.shape[1]
    columns = torch.bmm(lens.f_y, rows.reshape(b, h, c * w))                   # (B, N, C*W)
    return torch.bmm(columns.view(b, n * c, w), lens.f_x.mT).view(b, n, c, n)


def write(patch: Tensor, lens: Lens) -> Tensor:
    """F_y^T w F_x for every channel: a patch (B, N, C, N) laid on the canvas, (B, H, C, W)."""
    b, n, c, _ = patch.shape
    h, w = lens.f_y.shape[2], lens.f_x.shape[2]
    columns = torch.bmm(patch.reshape(b, n * c, n), lens.f_x)                  # (B, N*C, W)
    return torch.bmm(lens.f_y.mT, columns.view(b, n, c * w)).view(b, h, c, w)
