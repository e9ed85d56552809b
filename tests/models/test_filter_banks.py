"""DRAW's filter banks: where they lie, what they sum to, and what is read and written through them."""

import math

import pytest
import torch

from text2image.models import filter_banks
from text2image.models.filter_banks import PAPER, RELEASED

HEIGHT, WIDTH = 13, 17


def draw(*shape: int, seed: int = 3) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def test_windows_of_an_oblong_image_read_what_is_there():
    # A sharp window of stride 1 around column 11, row 4: g = 2 (place + 1) / (extent + 1) - 1.
    parameters = torch.tensor([[2 * 12 / 18 - 1, 2 * 5 / 14 - 1, math.log(2 / 16), math.log(0.05**2), 0.0]], dtype=torch.double)
    bank = filter_banks.filter_banks(parameters, HEIGHT, WIDTH, 3, PAPER).bank(0, 1, HEIGHT)
    image = torch.arange(HEIGHT * WIDTH, dtype=torch.double).view(1, HEIGHT, 1, WIDTH)
    torch.testing.assert_close(filter_banks.read(image, bank).patch[0], image[0, 3:6, 0, 10:13])


@pytest.mark.parametrize(("size", "extent", "geometry", "centre"), [
    (8, 60, PAPER, 29.5), (9, 32, PAPER, 15.5), (8, 60, RELEASED, 22.07), (9, 32, RELEASED, 14.56)])
def test_where_a_window_of_zeros_lies(size, extent, geometry, centre):
    """The centres that the two codes give a network that says nothing."""
    window = filter_banks.decode_window(torch.zeros(1, 5), extent, extent, size, geometry)
    grid = window.centre_x + window.delta * filter_banks.grid(size, geometry, window.delta)
    assert grid.mean().item() == pytest.approx(centre, abs=0.005)


def test_filters_sum_to_one_inside_and_are_damped_by_the_released_sum():
    def sums(geometry: filter_banks.Geometry) -> torch.Tensor:
        return filter_banks.filter_banks(torch.zeros(1, 5), 20, 20, 4, geometry).bank(0, 1, 20).f_y.sum(-1)

    torch.testing.assert_close(sums(PAPER), torch.ones(1, 4))
    assert (sums(PAPER._replace(epsilon=RELEASED.epsilon)) < sums(PAPER)).all()


def test_write_is_the_transpose_of_read():
    """<write(w), x> = <w, read(x)> for all w and x."""
    bank = filter_banks.filter_banks(draw(2, 5), HEIGHT, WIDTH, 5, PAPER).bank(0, 2, HEIGHT)
    x, w = draw(2, HEIGHT, 3, WIDTH, seed=4), draw(2, 5 * 3, 5, seed=5)
    canvas = torch.zeros_like(x)
    filter_banks.write_(canvas, w, bank)
    torch.testing.assert_close((canvas * x).sum(), (w * filter_banks.read(x, bank).patch).sum())


@pytest.mark.parametrize("geometry", [PAPER, RELEASED])
@pytest.mark.parametrize("size", [1, 4, 5])
def test_the_gradient_of_filter_banks(size, geometry):
    """Against autograd through a plain copy of the equations."""
    parameters = (0.3 * draw(7, 5)).requires_grad_()
    cache = filter_banks.filter_banks(parameters.detach(), HEIGHT, WIDTH, size, geometry)
    wanted = draw(7, size, HEIGHT + WIDTH, seed=6)
    window = filter_banks.decode_window(parameters, HEIGHT, WIDTH, size, geometry)
    offsets = window.delta * filter_banks.grid(size, geometry, parameters)
    total = window.gamma.sum()
    for centre, extent, part in ((window.centre_y, HEIGHT, wanted[..., :HEIGHT]), (window.centre_x, WIDTH, wanted[..., HEIGHT:])):
        distance = torch.arange(extent, dtype=torch.double) - (centre + offsets).unsqueeze(2)
        filters = torch.exp(-distance**2 / (2 * window.variance.unsqueeze(2)))
        total = total + (filters / (filters.sum(2, keepdim=True) + geometry.epsilon) * part).sum()
    total.backward()
    ours = filter_banks.filter_banks_backward(cache, wanted.clone(), cache.window.gamma.squeeze(1), HEIGHT)
    torch.testing.assert_close(ours, parameters.grad, rtol=1e-9, atol=1e-12)
