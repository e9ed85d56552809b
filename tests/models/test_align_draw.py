"""The model against the equations written out plainly, and what the protocol promises."""

import inspect
from dataclasses import fields, replace

import pytest
import torch

from tests.models.small import BATCH, LENGTH, PRIMES, WORDS_KNOWN, inputs, make
from text2image.config import from_mapping
from text2image.errors import UserError
from text2image.models import align_draw, base, reference
from text2image.models.align_draw import AlignDRAW, AlignDRAWConfig
from text2image.models.base import Glimpse, ImageModel
from text2image.models.conditional_draw import Switches

SWITCHES = [field.name for field in fields(Switches)]
LENGTHS = torch.tensor([13, 2, 5, 1, 7, 3, 11, 12, 4, 6, 10])


def with_switches(config: AlignDRAWConfig = PRIMES, **switches: str) -> AlignDRAWConfig:
    return replace(config, switches=Switches(**switches))


def is_prime(n: int) -> bool:
    return n > 1 and all(n % divisor for divisor in range(2, n))


def test_every_size_is_another_prime():
    sizes = [WORDS_KNOWN, BATCH, LENGTH, *(value for value in vars(PRIMES).values() if isinstance(value, int))]
    assert len(sizes) == 14
    assert all(map(is_prime, sizes))
    assert len(set(sizes)) == len(sizes)


@pytest.mark.parametrize("config", [
    *(replace(PRIMES, **change) for change in (
        {}, {"channels": 1}, {"height": 31}, {"height": 47, "width": 11}, {"read_window": 4}, {"write_window": 6},
        {"write_window": 5}, {"channels": 3, "read_window": 2, "write_window": 7}, {"read_window": 1, "write_window": 1},
        {"preset": "released"}, {"preset": "released", "read_window": 4, "write_window": 6})),
    *(with_switches(**{switch: "released"}) for switch in SWITCHES)], ids=str)
def test_bound_gradients_and_images_are_those_of_the_equations(config):
    model, values = make(config), inputs(config)
    bound = model.elbo(*values)
    bound.negative_elbo.mean().backward()
    ours = {name: value.grad.clone() for name, value in model.named_parameters()}
    model.zero_grad()
    expected = reference.elbo(model, *values)
    expected.negative_elbo.mean().backward()
    for name in ("reconstruction", "kl", "negative_elbo", "log_importance_weight"):
        torch.testing.assert_close(getattr(bound, name), getattr(expected, name), rtol=1e-11, atol=1e-11, msg=name)
    for name, value in model.named_parameters():
        torch.testing.assert_close(ours[name], value.grad, rtol=1e-8, atol=1e-11, msg=name)
    torch.testing.assert_close(model.generate(*values[1:]), reference.generate(model, *values[1:]), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("switch", SWITCHES)
def test_each_switch_alone_changes_the_bound_and_the_preset_is_all_of_them(switch):
    values = inputs()
    released = replace(PRIMES, preset="released")

    def mean(config: AlignDRAWConfig) -> float:
        return make(config).elbo(*values).negative_elbo.mean().item()

    assert mean(with_switches(**{switch: "released"})) != pytest.approx(mean(PRIMES), rel=1e-9)
    assert mean(with_switches(**dict.fromkeys(SWITCHES, "released"))) == mean(released)
    assert mean(with_switches(released, **dict.fromkeys(SWITCHES, "paper"))) == mean(PRIMES)


def test_switches_are_one_optional_map():
    sizes = {name: value for name, value in vars(PRIMES).items() if name != "switches"}
    assert from_mapping(AlignDRAWConfig, sizes, "model") == PRIMES
    assert from_mapping(AlignDRAWConfig, sizes | {"switches": {"filter_sum": "released"}}, "model") == with_switches(filter_sum="released")
    for wrong, words in (({"filter_sums": "paper"}, r"model\.switches\.filter_sums': did you mean 'filter_sum'"),
                         ({"filter_sum": "papr"}, r"model\.switches\.filter_sum' is 'papr'; it takes one of preset, paper, released")):
        with pytest.raises(UserError, match=words):
            from_mapping(AlignDRAWConfig, sizes | {"switches": wrong}, "model")
    with pytest.raises(UserError, match=r"model\.filter_sum': it is called 'switches\.filter_sum' now"):
        from_mapping(AlignDRAWConfig, sizes | {"filter_sum": "paper"}, "model")


@pytest.mark.parametrize("every", [1, 2, 3, 50])
def test_gradient_checkpointing_changes_no_bound_and_no_gradient(every):
    model, values = make(), inputs()
    gradients = []
    for model.checkpoint_every in (0, every):
        model.zero_grad()
        bound = model.elbo(*values)
        bound.negative_elbo.mean().backward()
        gradients.append((bound.negative_elbo.detach(), *(value.grad.clone() for value in model.parameters())))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-14)


def test_padded_captions_have_the_bound_and_the_gradients_of_unpadded_ones():
    model, (images, captions, noise) = make(), inputs()
    losses = []
    for n, length in enumerate(LENGTHS):  # each caption alone
        one = slice(n, n + 1)
        losses.append(model.elbo(images[one], captions[one, :length], noise[:, one]).negative_elbo)
    torch.cat(losses).sum().backward()
    alone = {name: value.grad.clone() for name, value in model.named_parameters()}
    model.zero_grad()
    padding = torch.arange(LENGTH + 3) >= LENGTHS.unsqueeze(1)
    padded = torch.nn.functional.pad(captions, (0, 3)).masked_fill(padding, 0)
    together = model.elbo(images, padded, noise, LENGTHS).negative_elbo
    together.sum().backward()
    torch.testing.assert_close(together, torch.cat(losses), rtol=1e-12, atol=0)
    for name, value in model.named_parameters():
        torch.testing.assert_close(value.grad, alone[name], rtol=1e-8, atol=1e-11, msg=name)
    glimpses: list[Glimpse] = []
    drawn = model.generate(padded, noise, LENGTHS, lambda t, glimpse: glimpses.append(glimpse))
    assert all((glimpse.alpha[padding] == 0).all() for glimpse in glimpses)
    torch.testing.assert_close(drawn[1:2], model.generate(captions[1:2, :2], noise[:, 1:2]))


def test_the_released_encoder_takes_no_padding_and_mixes_its_batch():
    """It reads another caption backward than forward, whose padding would be elsewhere."""
    images, captions, noise = inputs()
    model = make(replace(PRIMES, preset="released"))
    assert (model.supports_padding, model.mixes_batch) == (False, True)
    assert (make().supports_padding, make().mixes_batch) == (True, False)
    with pytest.raises(UserError, match=r"need the model's backward_words: paper"):
        model.elbo(images, captions, noise, LENGTHS)
    with pytest.raises(UserError, match=r"need the model's backward_words: paper"):
        model.generate(captions, noise, LENGTHS)
    for one, mixes in ((model, True), (make(), False)):
        alone = one.generate(captions[:1], noise[:, :1])
        assert torch.allclose(one.generate(captions, noise)[:1], alone, rtol=1e-9) != mixes


def test_generation_and_inference_share_the_recurrence():
    """With a posterior that is the prior, inference draws what generation draws, at no KL."""
    model, (images, captions, noise) = make(), inputs()
    with torch.no_grad():
        for value in (model.posterior.weight, model.posterior.bias, model.prior.weight):
            value.zero_()
    canvases: list[torch.Tensor] = []
    bound = model.elbo(images, captions, noise, on_step=lambda t, glimpse: canvases.append(glimpse.canvas))
    assert bound.kl.abs().max() < 1e-12
    torch.testing.assert_close(canvases[-1].sigmoid(), model.generate(captions, noise))


def test_what_is_told_of_each_glimpse():
    model, (images, captions, noise) = make(), inputs()
    c = model.config
    told: dict[str, list[Glimpse]] = {"elbo": [], "generate": []}

    def keep(name: str):
        def on_step(t: int, glimpse: Glimpse) -> None:
            assert t == len(told[name])
            told[name].append(glimpse)
        return on_step

    bound = model.elbo(images, captions, noise, on_step=keep("elbo"))
    assert not bound.negative_elbo.requires_grad
    assert torch.equal(bound.negative_elbo, model.elbo(images, captions, noise).negative_elbo.detach())
    assert torch.equal(bound.elbo, -bound.negative_elbo)
    drawn = model.generate(captions, noise, on_step=keep("generate"))
    assert drawn.shape == images.shape
    assert not drawn.requires_grad
    assert torch.equal(told["generate"][-1].canvas.sigmoid(), drawn)
    for glimpses in told.values():
        assert len(glimpses) == c.glimpses
        for glimpse in glimpses:
            assert tuple(map(lambda part: part.shape, glimpse)) == (images.shape, (BATCH, 5), (BATCH, 5), (BATCH, LENGTH))
            torch.testing.assert_close(glimpse.alpha.sum(1), torch.ones(BATCH, dtype=torch.double))
        assert not torch.equal(glimpses[0].canvas, glimpses[1].canvas), "each its own copy"


def test_the_box_of_a_write_window():
    """A window of zeros: 3 filters over the longer side, 31, from the first pixel's centre to the last one's."""
    boxes = make().write_box(torch.zeros(7, 11, 5))
    assert boxes.shape == (7, 11, 4)
    assert boxes[3, 5].tolist() == [0.5, -0.5, 30.5, 29.5], "left, top, right, bottom: 15 +- 15 + 0.5, 14 +- 15 + 0.5"
    smaller = make().write_box(torch.tensor([[0.5, 0.0, -1e9, 0.0, 0.0]]))
    assert smaller.tolist() == [[23.5, 14.5, 23.5, 14.5]], "no stride: the centre, 32 / 2 * 1.5 - 1 + 0.5 from the left"


def test_the_protocol():
    model = make()
    assert isinstance(model, ImageModel)
    assert model.kind == "align_draw"
    assert (align_draw.Config, align_draw.Model) == (AlignDRAWConfig, AlignDRAW)
    assert model.image_shape == (2, 29, 31)
    assert model.noise_shape(5) == (7, 5, 17)
    assert model.vocabulary_size == WORDS_KNOWN
    assert (model.precision, model.checkpoint_every, model.sparse_gradients) == (None, 0, False)
    model.sparse_gradients = True
    assert model.caption_encoder.sparse
    model.elbo(*inputs()).negative_elbo.sum().backward()
    assert model.caption_encoder.forward_lstm.table.grad.is_sparse
    for name in ("elbo", "generate"):
        ours, promised = (list(inspect.signature(getattr(cls, name)).parameters) for cls in (AlignDRAW, ImageModel))
        assert ours == promised
    assert torch.equal(model(*inputs()).kl, model.elbo(*inputs()).kl)
    with pytest.raises(TypeError, match="abstract"):
        ImageModel(PRIMES, 3)


class Plain(ImageModel):
    """A model kind that defines what it must and nothing else."""

    image_shape = (1, 2, 3)

    def reset(self, generator=None):
        pass

    def noise_shape(self, batch):
        return 1, batch, 1

    def encode(self, captions, lengths=None):
        return base.Encoding(torch.zeros(len(captions), 1, 0))

    def score(self, images, encoding, noise, on_step=None):
        zero = torch.zeros(len(images))
        return base.Bound(zero, zero, zero)

    def draw(self, encoding, noise, on_step=None):
        return torch.zeros(len(encoding.states), *self.image_shape)


def test_a_model_without_windows():
    model = Plain(None, 3)
    assert (model.kind, model.supports_padding, model.mixes_batch) == ("test_align_draw", False, False)
    with pytest.raises(NotImplementedError, match="has no write windows"):
        model.write_box(torch.zeros(1, 5))


def test_weights_are_drawn_in_one_order():
    """The names and their order are those of the checkpoints, and of the random numbers."""
    model = AlignDRAW(replace(PRIMES, preset="released"), WORDS_KNOWN)
    assert list(model.state_dict()) == [
        "h0_infer", "h0_generate", "c0", *(f"caption_encoder.{name}" for name in (
            "h0", "forward_lstm.table", "forward_lstm.weight_hidden", "forward_lstm.bias",
            "backward_lstm.table", "backward_lstm.weight_hidden", "backward_lstm.bias")),
        "align.language", "align.v", "align.generate.weight", "align.generate.bias", "read.weight", "read.bias",
        "infer.weight_input", "infer.weight_hidden", "infer.bias", "posterior.weight", "posterior.bias", "prior.weight", "prior.bias",
        "generate.weight_input", "generate.weight_hidden", "generate.bias", "write.weight", "write.bias", "patch.weight", "patch.bias"]
    one, other = (AlignDRAW(PRIMES, WORDS_KNOWN) for _ in range(2))
    for drawn in (one, other):
        drawn.reset(torch.Generator().manual_seed(5))
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
        if name == "c0":
            assert (value == PRIMES.canvas_init).all()
        elif name.endswith("bias") or "h0" in name:
            assert (value == 0).all(), name
        else:
            assert value.std().item() == pytest.approx(PRIMES.init_std, rel=0.35), name


def test_bfloat16_products_stay_near():
    model, values = make().float(), [v.float() if v.is_floating_point() else v for v in inputs()]
    exact = model.elbo(*values).negative_elbo.mean()
    model.precision = torch.bfloat16
    near = model.elbo(*values).negative_elbo.mean()
    assert near.item() == pytest.approx(exact.item(), rel=0.01)
    assert near.item() != exact.item()
    near.backward()
    assert all(value.grad.dtype == torch.float32 for value in model.parameters())


def test_images_and_noise_of_another_shape_are_refused_in_words():
    images, captions, noise = inputs()
    with pytest.raises(UserError, match=r"of \(C, H, W\) = \(2, 29, 31\), the data holds \(2, 31, 29\)"):
        make().elbo(images.mT, captions, noise)
    with pytest.raises(ValueError, match=r"noise must be \(T, 11, 17\), not \(7, 11, 16\)"):
        make().generate(captions, noise[..., :-1])
