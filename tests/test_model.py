"""The model against itself written out plainly, its parts against autograd, its sizes against the published ones."""

import math
from dataclasses import replace
from zlib import crc32

import pytest
import torch

from benchmarks import plain
from benchmarks.step import COCO, MNIST
from text2image import attention
from text2image.attention import PAPER, RELEASED
from text2image.errors import UserError
from text2image.model import SWITCHES, AlignDRAW, ModelConfig, count_parameters
from text2image.recurrence import LSTMStep

# Every size another prime, so that no transposed axis can pass.
PRIMES = replace(MNIST, channels=2, height=13, width=17, glimpses=3, language_units=5, align_units=11, infer_units=19,
                 generate_units=23, latent=7, read_window=5, write_window=3, init_std=0.3, canvas_init=-1.0)
WORDS_KNOWN, BATCH, LENGTH = 31, 4, 6


def make(config: ModelConfig) -> AlignDRAW:
    model = AlignDRAW(config, WORDS_KNOWN).double()
    with torch.no_grad():
        for name, value in model.named_parameters():  # each of its own seed: one more moves no other
            value.normal_(0, 0.3, generator=torch.Generator().manual_seed(crc32(name.encode())))
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
    lens = attention.look(parameters, 13, 17, 3, PAPER).lens(0, 1, 13)
    picture = torch.arange(13 * 17, dtype=torch.double).view(1, 13, 1, 17)
    torch.testing.assert_close(attention.read(picture, lens).patch[0], picture[0, 3:6, 0, 10:13])


@pytest.mark.parametrize(("size", "extent", "geometry", "centre"), [
    (8, 60, PAPER, 29.5), (9, 32, PAPER, 15.5), (8, 60, RELEASED, 22.07), (9, 32, RELEASED, 14.56)])
def test_where_a_window_of_zeros_lies(size, extent, geometry, centre):
    """The centres that the two codes give a network that says nothing."""
    place = attention.window(torch.zeros(1, 5), extent, extent, size, geometry)
    grid = place.x + place.stride * attention.grid(size, geometry, place.stride)
    assert grid.mean().item() == pytest.approx(centre, abs=0.005)


def test_filters_sum_to_one_inside_and_are_damped_by_the_released_sum():
    def sums(geometry: attention.Geometry) -> torch.Tensor:
        return attention.look(torch.zeros(1, 5), 20, 20, 4, geometry).lens(0, 1, 20).f_y.sum(-1)

    torch.testing.assert_close(sums(PAPER), torch.ones(1, 4))
    assert (sums(PAPER._replace(epsilon=RELEASED.epsilon)) < sums(PAPER)).all()


def test_write_is_the_transpose_of_read():
    """<write(w), x> = <w, read(x)> for all w and x."""
    generator = torch.Generator().manual_seed(3)
    lens = attention.look(torch.randn(2, 5, generator=generator, dtype=torch.double), 13, 17, 5, PAPER).lens(0, 2, 13)
    x = torch.randn(2, 13, 3, 17, generator=generator, dtype=torch.double)
    w = torch.randn(2, 5 * 3, 5, generator=generator, dtype=torch.double)
    canvas = torch.zeros_like(x)
    attention.write_(canvas, w, lens)
    torch.testing.assert_close((canvas * x).sum(), (w * attention.read(x, lens).patch).sum())


def test_the_gradient_of_an_lstm_step():
    generator = torch.Generator().manual_seed(4)
    gates, cell = (torch.randn(3, size, generator=generator, dtype=torch.double, requires_grad=True) for size in (20, 5))
    assert torch.autograd.gradcheck(LSTMStep.apply, (gates, cell))


@pytest.mark.parametrize("recomputed", [1, 2, 3, 50])
def test_recomputed_glimpses_have_the_same_bound_and_gradients(recomputed):
    model, values = make(replace(PRIMES, glimpses=5)), inputs(replace(PRIMES, glimpses=5))
    gradients = []
    for model.recomputed in (0, recomputed):
        model.zero_grad()
        bound = model.bound(*values)
        bound.cost.mean().backward()
        gradients.append((bound.cost.detach(), *(value.grad.clone() for value in model.parameters())))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-14)


def test_padded_captions_have_the_bound_and_the_gradients_of_unpadded_ones():
    model, (images, words, noise) = make(PRIMES), inputs(PRIMES)
    lengths = torch.tensor([6, 2, 5, 1])
    costs = []
    for n, length in enumerate(lengths):  # each caption alone
        one = slice(n, n + 1)
        costs.append(model.bound(images[one], words[one, :length], noise[:, one]).cost)
    torch.cat(costs).sum().backward()
    alone = {name: value.grad.clone() for name, value in model.named_parameters()}
    model.zero_grad()
    padding = torch.arange(9) >= lengths.unsqueeze(1)
    padded = torch.nn.functional.pad(words, (0, 3)).masked_fill(padding, 0)
    together = model.bound(images, padded, noise, lengths).cost
    together.sum().backward()
    torch.testing.assert_close(together, torch.cat(costs), rtol=1e-12, atol=0)
    for name, value in model.named_parameters():
        torch.testing.assert_close(value.grad, alone[name], rtol=1e-8, atol=1e-12, msg=name)
    assert (model.generate_trace(padded, noise, lengths).alphas[:, padding] == 0).all()
    torch.testing.assert_close(model.generate_trace(padded, noise, lengths).canvases[:, 1:2],
                               model.generate_trace(words[1:2, :2], noise[:, 1:2]).canvases)


def test_the_released_encoder_takes_no_padding():
    """It reads another caption backward than forward, whose padding would be elsewhere."""
    images, words, noise = inputs(PRIMES)
    with pytest.raises(UserError, match=r"need the model's backward_words: paper"):
        make(replace(PRIMES, preset="released")).bound(images, words, noise, torch.tensor([6, 2, 5, 1]))


def test_generation_and_inference_share_the_recurrence():
    """With a posterior that is the prior, inference draws what generation draws, at no cost of KL."""
    model, (images, words, noise) = make(PRIMES), inputs(PRIMES)
    with torch.no_grad():
        for value in (model.posterior.weight, model.posterior.bias, model.prior.weight):
            value.zero_()
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
