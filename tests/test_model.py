"""The model against itself written out plainly, its parts against autograd, its sizes against the published ones."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from benchmarks import plain
from benchmarks.step import COCO, MNIST
from text2image import attention
from text2image.attention import PAPER, RELEASED
from text2image.errors import UserError
from text2image.gathered import GatheredLinear, GatheredScores
from text2image.model import SWITCHES, AlignDRAW, ModelConfig, _LSTMStep, count_parameters

# Every size another prime, so that no transposed axis can pass.
PRIMES = replace(MNIST, channels=2, height=13, width=17, glimpses=3, language_units=5, align_units=11, infer_units=19,
                 generate_units=23, latent=7, read_window=5, write_window=3, init_std=0.3, canvas_init=-1.0)
WORDS_KNOWN, BATCH, LENGTH = 31, 4, 6


def make(config: ModelConfig) -> AlignDRAW:
    model = AlignDRAW(config, WORDS_KNOWN).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in model.parameters():
            value.normal_(0, 0.3, generator=generator)
    return model


def inputs(config: ModelConfig):
    generator = torch.Generator().manual_seed(2)
    images = torch.rand(BATCH, config.channels, config.height, config.width, generator=generator, dtype=torch.double)
    words = torch.randint(1, WORDS_KNOWN, (BATCH, LENGTH), generator=generator)
    return images, words, torch.randn(config.glimpses, BATCH, config.latent, generator=generator, dtype=torch.double)


@pytest.mark.parametrize("change", [{}, {"channels": 1}, {"height": 17}, {"height": 19, "width": 11}, {"read_window": 4},
                                    {"write_window": 6}, {"channels": 3, "read_window": 2, "write_window": 7}])
def test_bound_and_gradients_are_those_of_the_equations(change):
    config = replace(PRIMES, **change)
    model, values = make(config), inputs(config)
    cost = model.bound(*values).cost.mean()
    cost.backward()
    ours = {name: value.grad.clone() for name, value in model.named_parameters()}
    model.zero_grad()
    expected = plain.bound(model, *values)
    expected.backward()
    assert cost.item() == pytest.approx(expected.item(), rel=1e-12)
    for name, value in model.named_parameters():
        torch.testing.assert_close(ours[name], value.grad, rtol=1e-8, atol=1e-12, msg=name)


@pytest.mark.parametrize(("config", "words", "parameters"), [(MNIST, 23, 2_371_746), (COCO, 25_323, 33_098_147)])
def test_published_configurations_have_the_published_number_of_parameters(config, words, parameters):
    with torch.device("meta"):
        released = AlignDRAW(replace(config, preset="released"), words)
        paper = AlignDRAW(config, words)
    assert count_parameters(released) == parameters
    assert count_parameters(paper) == parameters - 2 * config.latent  # the paper's prior has no bias


@pytest.mark.parametrize("switch", SWITCHES)
def test_each_switch_alone_changes_the_bound_and_the_preset_is_all_of_them(switch):
    values = inputs(PRIMES)
    paper, released = PRIMES, replace(PRIMES, preset="released")

    def bound(config: ModelConfig) -> float:
        return make(config).bound(*values).cost.mean().item()

    assert bound(replace(paper, **{switch: "released"})) != pytest.approx(bound(paper), rel=1e-9)
    everything = replace(paper, **dict.fromkeys(SWITCHES, "released"))
    assert bound(everything) == bound(released)
    assert bound(replace(released, **dict.fromkeys(SWITCHES, "paper"))) == bound(paper)


def test_windows_of_one_pixel_work_and_oblong_pictures_read_what_is_there():
    config = replace(PRIMES, read_window=1, write_window=1)
    assert torch.isfinite(make(config).bound(*inputs(config)).cost).all()
    # A sharp window of stride 1 around column 11, row 4: g = 2 (place + 1) / (extent + 1) - 1.
    parameters = torch.tensor([[2 * 12 / 18 - 1, 2 * 5 / 14 - 1, math.log(2 / 16), math.log(0.05**2), 0.0]], dtype=torch.double)
    lens = attention.look(parameters, 13, 17, 3, PAPER)
    picture = torch.arange(13 * 17, dtype=torch.double).view(1, 13, 1, 17)
    seen = attention.read(picture, lens)[0, :, 0]
    torch.testing.assert_close(seen, picture[0, 3:6, 0, 10:13])


@pytest.mark.parametrize(("size", "extent", "geometry", "centre"), [
    (8, 60, PAPER, 29.5), (9, 32, PAPER, 15.5), (8, 60, RELEASED, 22.07), (9, 32, RELEASED, 14.56)])
def test_where_a_window_of_zeros_lies(size, extent, geometry, centre):
    """The centres that the two codes give a network that says nothing."""
    place = attention.window(torch.zeros(1, 5), extent, extent, size, geometry)
    grid = place.x + place.stride * attention.grid(size, geometry, place.stride)
    assert grid.mean().item() == pytest.approx(centre, abs=0.005)


def test_filters_sum_to_one_inside_and_are_damped_by_the_released_sum():
    whole = attention.look(torch.zeros(1, 5), 20, 20, 4, PAPER)
    torch.testing.assert_close(whole.f_y.sum(-1), torch.ones(1, 4))
    damped = attention.look(torch.zeros(1, 5), 20, 20, 4, PAPER._replace(epsilon=RELEASED.epsilon))
    assert (damped.f_y.sum(-1) < whole.f_y.sum(-1)).all()


def test_write_is_the_transpose_of_read():
    """<write(w), x> = <w, read(x)> for all w and x."""
    generator = torch.Generator().manual_seed(3)
    lens = attention.look(torch.randn(2, 5, generator=generator, dtype=torch.double), 13, 17, 5, PAPER)
    x = torch.randn(2, 13, 3, 17, generator=generator, dtype=torch.double)
    w = torch.randn(2, 5, 3, 5, generator=generator, dtype=torch.double)
    torch.testing.assert_close((attention.write(w, lens) * x).sum(), (w * attention.read(x, lens)).sum())


def test_hand_written_gradients():
    generator = torch.Generator().manual_seed(4)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.double, requires_grad=True)

    assert torch.autograd.gradcheck(_LSTMStep.apply, (random(3, 20), random(3, 5)))
    centres = (5 + 4 * random(3, 2, 1)).detach().requires_grad_()
    precision = (-random(3, 1, 1).detach().exp()).requires_grad_()
    assert torch.autograd.gradcheck(lambda c, p: attention._Bank.apply(c, p, 11, 1e-4), (centres, precision))


def test_gathered_products_have_autograds_gradients():
    generator = torch.Generator().manual_seed(5)
    layer = nn.Linear(5, 3).double()
    first = torch.randn(4, 5, generator=generator, dtype=torch.double, requires_grad=True)

    def chain(product) -> torch.Tensor:
        y = product(first)
        return (product(torch.cat([y.tanh(), y[:, :2]], 1)).square().sum() + y.sum())

    chain(layer).backward()
    expected = [value.grad.clone() for value in (layer.weight, layer.bias, first)]
    for value in (layer.weight, layer.bias, first):
        value.grad = None
    chain(GatheredLinear(layer.weight, layer.bias)).backward()
    for value, gradient in zip((layer.weight, layer.bias, first), expected, strict=True):
        torch.testing.assert_close(value.grad, gradient)


def test_generation_and_inference_share_the_recurrence():
    """With a posterior that is the prior, inference draws what generation draws, at no cost of KL."""
    config = replace(PRIMES, glimpses=1)
    model, (images, words, noise) = make(config), inputs(config)
    with torch.no_grad():
        model.posterior.weight.zero_()
        model.posterior.bias.zero_()
    bound, trace = model.infer_trace(images, words, noise)
    assert bound.kl.abs().max() < 1e-12
    torch.testing.assert_close(trace.canvases, model.generate_trace(words, noise).canvases)


def test_captions_are_encoded_apart_and_both_ways():
    """In the paper's encoder a caption's states depend on that caption alone, and each on all its words."""
    model = make(PRIMES)
    words = inputs(PRIMES)[1]
    states = model.caption_encoder(words)
    torch.testing.assert_close(model.caption_encoder(words[:1]), states[:1])
    changed = words.clone()
    changed[0, 0] = words[0, 0] % (WORDS_KNOWN - 1) + 1
    other = model.caption_encoder(changed)
    moved = (other[0] != states[0]).any(-1)
    assert moved.all()
    units = PRIMES.language_units
    assert (other[0, 1:, units:] == states[0, 1:, units:]).all(), "the backward state of word 2 has not read word 1"


def test_bfloat16_products_stay_near():
    model, values = make(PRIMES).float(), [v.float() if v.is_floating_point() else v for v in inputs(PRIMES)]
    exact = model.bound(*values).cost.mean()
    model.precision = torch.bfloat16
    near = model.bound(*values).cost.mean()
    assert near.item() == pytest.approx(exact.item(), rel=0.01)
    assert near.item() != exact.item()
    near.backward()
    assert all(value.grad.dtype == torch.float32 for value in model.parameters())


def test_pictures_of_another_shape_are_refused_in_words():
    images, words, noise = inputs(PRIMES)
    with pytest.raises(UserError, match=r"pictures of \(C, H, W\) = \(2, 13, 17\), the data holds \(2, 17, 13\)"):
        make(PRIMES).bound(images.mT, words, noise)


def test_gathered_scores_have_autograds_gradients():
    generator = torch.Generator().manual_seed(6)
    keys, v, query = (torch.randn(*shape, generator=generator, dtype=torch.double, requires_grad=True)
                      for shape in ((2, 3, 5), (5,), (2, 5)))

    def chain(scores) -> torch.Tensor:
        first = scores(query)
        return scores(torch.cat([first, first[:, :2]], 1)).square().sum() + first.sum()

    chain(lambda q: (keys + q.unsqueeze(1)).tanh() @ v).backward()
    expected = [value.grad.clone() for value in (keys, v, query)]
    for value in (keys, v, query):
        value.grad = None
    chain(GatheredScores(keys, v)).backward()
    for value, gradient in zip((keys, v, query), expected, strict=True):
        torch.testing.assert_close(value.grad, gradient)
