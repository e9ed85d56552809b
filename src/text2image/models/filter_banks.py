"""Where alignDRAW reads and writes: DRAW's Gaussian filter banks (Gregor et al. 2015, equations 19 to 29).

The gradient of each function stands below it: text2image.models.recurrence goes forward and backward through them by hand.
Letter code: B batch, C channels, H W image, N window. `rows` are images as (B, H, C, W): rows first, so that one product
reads or writes all channels.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from text2image.models.fusing import fusible, into


class Geometry(NamedTuple):
    """Where the released code's filters depart from DRAW's; `coco/attention.py`."""

    centred_grid: bool    # filters lie evenly around the centre; else shifted by half a stride (odd N) or one (even N)
    centred_origin: bool  # a window centre of 0 is the image's centre; else one pixel right of and below it
    epsilon: float        # added to each filter's sum before it is divided by it


PAPER = Geometry(centred_grid=True, centred_origin=True, epsilon=1e-8)
RELEASED = Geometry(centred_grid=False, centred_origin=False, epsilon=1e-4)


class Window(NamedTuple):
    """A window in pixels, counted from 0 at the centre of the first pixel; each (B, 1)."""

    centre_x: Tensor
    centre_y: Tensor
    delta: Tensor     # stride between neighbouring filters
    variance: Tensor  # of each filter
    gamma: Tensor     # intensity


def decode_window(parameters: Float[Tensor, "B 5"], height: int, width: int, size: int, geometry: Geometry) -> Window:
    """Network outputs (g_x, g_y, log delta, log sigma^2, log gamma) as a window in pixels; DRAW, equations 22 to 24.

    The order of the five is that of the released code. A window of `size` 1 has no stride.
    """
    delta, variance, gamma = parameters[:, 2:].exp().unsqueeze(-1).unbind(1)
    origin = 1 if geometry.centred_origin else 0  # DRAW counts pixels from 1; the released code mixes both counts
    from_centre = parameters[:, :2].unsqueeze(-1) + 1                           # (B, 2, 1)
    if height == width:  # both axes at once
        centre_x, centre_y = ((width + 1) / 2 * from_centre - origin).unbind(1)
    else:
        centre_x, centre_y = ((extent + 1) / 2 * g - origin for extent, g in zip((width, height), from_centre.unbind(1),
                                                                                 strict=True))
    return Window(centre_x=centre_x, centre_y=centre_y, delta=(max(height, width) - 1) / max(size - 1, 1) * delta,
                  variance=variance, gamma=gamma)


def grid(size: int, geometry: Geometry, like: Float[Tensor, "..."]) -> Float[Tensor, " N"]:
    """The filters' places in strides from the window's centre; DRAW, equations 19 and 20."""
    first = (size - 1) / 2 if geometry.centred_grid else size // 2 + 0.5
    return torch.arange(size, dtype=like.dtype, device=like.device) - first


class Places(NamedTuple):
    """What all windows of one size on one canvas have in common."""

    steps: Tensor   # (N,): see `grid`
    pixels: Tensor  # (max(H, W),): 0, 1, ...

    @classmethod
    def of(cls, height: int, width: int, size: int, geometry: Geometry, like: Float[Tensor, "..."]) -> "Places":
        """Those of windows of `size`."""
        pixels = torch.arange(max(height, width), dtype=like.dtype, device=like.device)
        return cls(grid(size, geometry, like), pixels)


class FilterBank(NamedTuple):
    """What images are read or written through."""

    f_y: Tensor    # (B, N, H)
    f_x: Tensor    # (B, N, W)
    gamma: Tensor  # (B, 1, 1)


class FilterBankCache(NamedTuple):
    """Filter banks of B windows, and what their gradient takes."""

    window: Window
    places: Places
    distance: Tensor  # (B, N, H + W) of each pixel from each filter's centre: rows, then columns
    filters: Tensor   # (B, N, H + W): F_y, then F_x

    def bank(self, first: int, last: int, height: int) -> FilterBank:
        """That of the windows `first` to `last`."""
        f_y, f_x = self.filters[first:last].split((height, self.filters.shape[2] - height), 2)
        return FilterBank(f_y, f_x, self.window.gamma[first:last].unsqueeze(2))


def by_axis(both: Float[Tensor, "B N H_and_W"], height: int) -> tuple[Float[Tensor, "B N *axis"], ...]:
    """Rows and columns apart; of a square canvas as one tensor (B, N, 2, H), so that one operation does both."""
    width = both.shape[2] - height
    return (both.unflatten(2, (2, height)),) if height == width else both.split((height, width), 2)


@fusible
def filter_banks(parameters: Float[Tensor, "B 5"], height: int, width: int, size: int, geometry: Geometry,
                 places: Places | None = None) -> FilterBankCache:
    """Network outputs as filter banks F_y and F_x; DRAW, equations 25 and 26. `places` spares making them anew."""
    window = decode_window(parameters, height, width, size, geometry)
    places = places or Places.of(height, width, size, geometry, parameters)
    offsets, pixels = window.delta * places.steps, places.pixels                # (B, N)
    distance = parameters.new_empty(len(parameters), size, height + width)
    into(distance[..., :height], torch.sub, pixels[:height], (window.centre_y + offsets).unsqueeze(2))
    into(distance[..., height:], torch.sub, pixels[:width], (window.centre_x + offsets).unsqueeze(2))
    # Below e^-80 a filter is nothing, but an exponential that underflows takes ten times as long.
    filters = distance.square().mul_((-0.5 / window.variance).unsqueeze(2)).clamp_(min=-80).exp_()
    for axis in by_axis(filters, height):
        axis.div_(axis.sum(-1, keepdim=True).add_(geometry.epsilon))
    return FilterBankCache(window, places, distance, filters)


@fusible
def filter_banks_backward(cache: FilterBankCache, grad_filters: Float[Tensor, "B N H_and_W"],
                          grad_log_gamma: Float[Tensor, " B"], height: int) -> Float[Tensor, "B 5"]:
    """The gradient of `filter_banks` by its parameters, from those by the filters, overwritten, and by log gamma.

    With q = sum_k F_k dF_k the gradient through exponential and sum is (dF - q) F.
    """
    window, places, distance, filters = cache
    through = grad_filters.mul_(filters)
    width = filters.shape[2] - height
    for axis, of_axis in zip(by_axis(through, height), by_axis(filters, height), strict=True):
        axis.addcmul_(axis.sum(-1, keepdim=True), of_axis, value=-1)
    grad_distance = through.mul_(distance)                                      # of -distance^2 / 2, in units of sigma^2
    grad_centres = [axis.sum(2) for axis in grad_distance.split((height, width), 2)]  # (B, N) each: rows, columns
    grad_log_variance = 0.5 * grad_distance.mul_(distance).sum((1, 2)) / window.variance.squeeze(1)
    grad_y, grad_x = (grad_centre / window.variance for grad_centre in grad_centres)
    grad_log_delta = ((grad_y + grad_x) @ places.steps) * window.delta.squeeze(1)
    return torch.stack([grad_x.sum(1) * ((width + 1) / 2), grad_y.sum(1) * ((height + 1) / 2),
                        grad_log_delta, grad_log_variance, grad_log_gamma], 1)


class Reading(NamedTuple):
    """Images seen through a filter bank, without gamma."""

    columns: Tensor  # F_y x, (B, N, C*W)
    patch: Tensor    # F_y x F_x^T, (B, N*C, N)


def read(rows: Float[Tensor, "B H C W"], bank: FilterBank) -> Reading:
    """F_y x F_x^T for every channel; DRAW, equation 27 before gamma."""
    b, h, c, w = rows.shape
    n = bank.f_y.shape[1]
    columns = torch.bmm(bank.f_y, rows.view(b, h, c * w))
    return Reading(columns, torch.bmm(columns.view(b, n * c, w), bank.f_x.mT))


def read_backward(grad_patch: Float[Tensor, "B NC N"], reading: Reading, rows: Float[Tensor, "B H C W"], bank: FilterBank,
                  ) -> tuple[Float[Tensor, "B N H"], Float[Tensor, "B N W"], Float[Tensor, "B N CW"]]:
    """The gradients of `read` by f_y, by f_x, and by F_y x, from which `read_backward_rows` has that by the images."""
    b, h, c, w = rows.shape
    n = bank.f_y.shape[1]
    grad_columns = torch.bmm(grad_patch, bank.f_x).view(b, n, c * w)
    grad_f_x = torch.bmm(grad_patch.mT, reading.columns.view(b, n * c, w))
    return torch.bmm(grad_columns, rows.view(b, h, c * w).mT), grad_f_x, grad_columns


def read_backward_rows(grad_columns: Float[Tensor, "B N CW"], bank: FilterBank) -> Float[Tensor, "B H CW"]:
    """The gradient of `read` by the images that were read."""
    return torch.bmm(bank.f_y.mT, grad_columns)


def write_(canvas: Float[Tensor, "B H C W"], patch: Float[Tensor, "B NC N"], bank: FilterBank) -> Float[Tensor, "B N CW"]:
    """Add F_y^T w F_x for every channel of a patch w to the canvas, in place; DRAW, equation 29 before gamma.

    Returns w F_x, which `write_backward` takes.
    """
    b, h, c, w = canvas.shape
    columns = torch.bmm(patch, bank.f_x).view(b, bank.f_x.shape[1], c * w)
    canvas.view(b, h, c * w).baddbmm_(bank.f_y.mT, columns)
    return columns


def write_backward(grad_canvas: Float[Tensor, "B H C W"], patch: Float[Tensor, "B NC N"], columns: Float[Tensor, "B N CW"],
                   bank: FilterBank) -> tuple[Float[Tensor, "B N H"], Float[Tensor, "B N W"], Float[Tensor, "B NC N"]]:
    """The gradients of `write_` by f_y, by f_x and by the patch, from that by the canvas."""
    b, h, c, w = grad_canvas.shape
    grad_rows = grad_canvas.view(b, h, c * w)
    grad_columns = torch.bmm(bank.f_y, grad_rows).view(b, patch.shape[1], w)    # (B, N*C, W)
    return torch.bmm(columns, grad_rows.mT), torch.bmm(patch.mT, grad_columns), torch.bmm(grad_columns, bank.f_x.mT)
