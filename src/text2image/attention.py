"""Where alignDRAW looks and draws: DRAW's Gaussian filter banks (Gregor et al. 2015, equations 19 to 26).

Each function's gradient stands below it: text2image.recurrence goes forward and back through them by hand.
Letter code: B batch, C channels, H W image, N window.
"""

from typing import NamedTuple

import torch
from torch import Tensor


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


class Lens(NamedTuple):
    """What pictures are read or written through."""

    f_y: Tensor    # (B, N, H)
    f_x: Tensor    # (B, N, W)
    gamma: Tensor  # (B, 1, 1)


class Banks(NamedTuple):
    """Filter banks of B windows, and what their gradient takes."""

    place: Window
    distance: Tensor  # (B, N, H + W) of each pixel from each filter's centre: rows, then columns
    bells: Tensor     # (B, N, H + W), each filter's two bells, divided by their sums

    def lens(self, first: int, last: int, height: int) -> Lens:
        """Of the windows `first` to `last`."""
        f_y, f_x = self.bells[first:last].split((height, self.bells.shape[2] - height), 2)
        return Lens(f_y, f_x, self.place.gamma[first:last].unsqueeze(2))


def look(parameters: Tensor, height: int, width: int, size: int, geometry: Geometry) -> Banks:
    """(B, 5) network outputs as filter banks; DRAW equations 25 and 26."""
    place = window(parameters, height, width, size, geometry)
    offsets = place.stride * grid(size, geometry, parameters)                  # (B, N)
    pixels = torch.arange(max(height, width), dtype=parameters.dtype, device=parameters.device)
    distance = parameters.new_empty(len(parameters), size, height + width)
    torch.sub(pixels[:height], (place.y + offsets).unsqueeze(2), out=distance[..., :height])
    torch.sub(pixels[:width], (place.x + offsets).unsqueeze(2), out=distance[..., height:])
    # Below e^-80 a bell is nothing, but an exponential that underflows takes ten times as long.
    bells = distance.square().mul_((-0.5 / place.variance).unsqueeze(2)).clamp_(min=-80).exp_()
    for axis in bells.split((height, width), 2):
        axis.div_(axis.sum(2, keepdim=True).add_(geometry.epsilon))
    return Banks(place, distance, bells)


def look_back(banks: Banks, by_bells: Tensor, by_log_gamma: Tensor, height: int, geometry: Geometry) -> Tensor:
    """The gradient by the (B, 5) parameters, from those by the bells (B, N, H + W), overwritten, and by log gamma (B,).

    With q = sum_k F_k dF_k the gradient through bell and sum is (dF - q) F.
    """
    place, distance, bells = banks
    through = by_bells.mul_(bells)
    width = bells.shape[2] - height
    for axis, bell in zip(through.split((height, width), 2), bells.split((height, width), 2), strict=True):
        axis.addcmul_(axis.sum(2, keepdim=True), bell, value=-1)
    by_distance = through.mul_(distance)                                       # of -distance^2 / 2, in units of sigma^2
    by_centre = [axis.sum(2) for axis in by_distance.split((height, width), 2)]  # (B, N) each: rows, columns
    by_log_variance = 0.5 * by_distance.mul_(distance).sum((1, 2)) / place.variance.squeeze(1)
    by_y, by_x = (centre / place.variance for centre in by_centre)
    steps = grid(bells.shape[1], geometry, bells)
    by_log_stride = ((by_y + by_x) @ steps) * place.stride.squeeze(1)
    return torch.stack([by_x.sum(1) * ((width + 1) / 2), by_y.sum(1) * ((height + 1) / 2),
                        by_log_stride, by_log_variance, by_log_gamma], 1)


class Reading(NamedTuple):
    """A picture seen through a lens, without gamma."""

    columns: Tensor  # (B, N, C*W): F_y x
    patch: Tensor    # (B, N*C, N): F_y x F_x^T


def read(rows: Tensor, lens: Lens) -> Reading:
    """F_y x F_x^T for every channel of (B, H, C, W)."""
    b, h, c, w = rows.shape
    n = lens.f_y.shape[1]
    columns = torch.bmm(lens.f_y, rows.view(b, h, c * w))
    return Reading(columns, torch.bmm(columns.view(b, n * c, w), lens.f_x.mT))


def read_back(by_patch: Tensor, reading: Reading, rows: Tensor, lens: Lens) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients by f_y, by f_x, and by F_y x, from which `by_rows` has that by the picture."""
    b, h, c, w = rows.shape
    n = lens.f_y.shape[1]
    by_columns = torch.bmm(by_patch, lens.f_x).view(b, n, c * w)
    by_f_x = torch.bmm(by_patch.mT, reading.columns.view(b, n * c, w))
    return torch.bmm(by_columns, rows.view(b, h, c * w).mT), by_f_x, by_columns


def by_rows(by_columns: Tensor, lens: Lens) -> Tensor:
    """The gradient by the picture that was read, (B, H, C*W)."""
    return torch.bmm(lens.f_y.mT, by_columns)


def write_(canvas: Tensor, patch: Tensor, lens: Lens) -> Tensor:
    """Add F_y^T w F_x for every channel of a patch (B, N*C, N) to the canvas (B, H, C, W); gives w F_x (B, N, C*W)."""
    b, h, c, w = canvas.shape
    columns = torch.bmm(patch, lens.f_x).view(b, lens.f_x.shape[1], c * w)
    canvas.view(b, h, c * w).baddbmm_(lens.f_y.mT, columns)
    return columns


def write_back(by_canvas: Tensor, patch: Tensor, columns: Tensor, lens: Lens) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients by f_y, by f_x and by the patch, from that by the canvas (B, H, C, W)."""
    b, h, c, w = by_canvas.shape
    by_canvas = by_canvas.view(b, h, c * w)
    by_columns = torch.bmm(lens.f_y, by_canvas).view(b, patch.shape[1], w)     # (B, N*C, W)
    return torch.bmm(columns, by_canvas.mT), torch.bmm(patch.mT, by_columns), torch.bmm(by_columns, lens.f_x.mT)
