"""The models without align: against the equations written out plainly, and what each reads of a caption."""

from dataclasses import asdict, replace

import pytest
import torch

from tests.models import sentences
from tests.models.sentences import ENCODERS, SENTENCE
from tests.models.small import BATCH, LENGTH, PRIMES, WORDS_KNOWN, fill, inputs
from text2image.config import from_mapping
from text2image.models import align_draw, draw, noalign, reference
from text2image.models.base import Glimpse, ImageModel

LENGTHS = torch.tensor([13, 2, 5, 1, 7, 3, 11, 12, 4, 6, 10])
SHARED = {name: value for name, value in asdict(PRIMES).items() if name not in ("language_units", "align_units")}
NOALIGN = from_mapping(noalign.Config, SHARED | {"language_units": PRIMES.language_units}, "model")
LEARNED, FIXED = (from_mapping(draw.Config, SHARED | {"prior": prior}, "model") for prior in ("learned", "fixed"))
MODULES = {noalign.Config: noalign, draw.Config: draw, align_draw.Config: align_draw}


def make(config) -> ImageModel:
    if type(config) in sentences.MODULES:
        return sentences.make(config)
    return fill(MODULES[type(config)].Model(config, WORDS_KNOWN).double())


@pytest.mark.parametrize("config", [NOALIGN, LEARNED, FIXED, *(replace(SENTENCE, encoder=encoder) for encoder in ENCODERS), *(
        replace(config, **change) for config in (NOALIGN, LEARNED, SENTENCE) for change in (
    {"channels": 1}, {"height": 47, "width": 11}, {"preset": "released"}, {"read_window": 2, "write_window": 5}))], ids=str)
def test_bound_gradients_and_images_are_those_of_the_equations(config):
    model, values = make(config), inputs()
    values = (torch.rand(BATCH, *model.image_shape, dtype=torch.double, generator=torch.Generator().manual_seed(3)), *values[1:])
    bound = model.elbo(*values)
    bound.negative_elbo.mean().backward()
    ours = {name: value.grad.clone() for name, value in model.named_parameters() if value.requires_grad}
    model.zero_grad()
    expected = reference.elbo(model, *values)
    expected.negative_elbo.mean().backward()
    for name in ("reconstruction", "kl", "log_importance_weight"):
        torch.testing.assert_close(getattr(bound, name), getattr(expected, name), rtol=1e-11, atol=1e-11, msg=name)
    for name, value in model.named_parameters():
        if value.requires_grad:
            torch.testing.assert_close(ours[name], value.grad, rtol=1e-8, atol=1e-11, msg=name)
    torch.testing.assert_close(model.generate(*values[1:]), reference.generate(model, *values[1:]), rtol=1e-10, atol=1e-12)


def test_the_parts_of_the_kl():
    for config in (PRIMES, NOALIGN, FIXED):
        model, values = make(config), inputs()
        assert model.elbo(*values).kl_of_glimpses is None, "not where gradients are recorded"
        with torch.no_grad():
            bound = model.elbo(*values)
        assert bound.kl_of_glimpses.shape == (PRIMES.glimpses, BATCH)
        torch.testing.assert_close(bound.kl_of_glimpses.sum(0), bound.kl)


@pytest.mark.parametrize("config", [PRIMES, NOALIGN, LEARNED, SENTENCE], ids=["align_draw", "noalign", "draw", "sentence"])
def test_captions_are_encoded_once_for_any_number_of_images(config):
    model, (images, captions, noise) = make(config), inputs()
    encoding = model.encode(captions[:1]).expand(BATCH)
    same = captions[:1].expand(BATCH, -1)
    for one, other in zip(model.score(images, encoding, noise)[:3], model.elbo(images, same, noise)[:3], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=0)
    torch.testing.assert_close(model.draw(encoding, noise), model.generate(same, noise), rtol=1e-12, atol=0)


def test_a_padded_encoding_is_expanded_with_its_mask():
    encoding = make(PRIMES).encode(inputs()[1][1:2], LENGTHS[1:2]).expand(BATCH)
    assert (encoding.states.shape, encoding.mask.shape) == ((BATCH, LENGTH, 2 * PRIMES.language_units), (BATCH, LENGTH))
    assert (encoding.mask[:, :2] == 0).all()
    assert (encoding.mask[:, 2:] == -torch.inf).all()


@pytest.mark.parametrize("config", [NOALIGN, LEARNED, *(replace(SENTENCE, encoder=encoder) for encoder in ENCODERS)],
                         ids=lambda config: type(config).__name__)
def test_padded_captions_have_the_bounds_of_unpadded_ones(config):
    model, (images, captions, noise) = make(config), inputs()
    alone = torch.cat([model.elbo(images[n:n + 1], captions[n:n + 1, :length], noise[:, n:n + 1]).negative_elbo
                       for n, length in enumerate(LENGTHS)])
    padding = torch.arange(LENGTH + 3) >= LENGTHS.unsqueeze(1)
    padded = torch.nn.functional.pad(captions, (0, 3)).masked_fill(padding, 0)
    torch.testing.assert_close(model.elbo(images, padded, noise, LENGTHS).negative_elbo, alone, rtol=1e-12, atol=0)


def test_a_caption_is_read_whole_or_not_at_all():
    images, captions, noise = inputs()
    for config, reads in ((NOALIGN, True), (LEARNED, False), *((replace(SENTENCE, encoder=encoder), True) for encoder in ENCODERS)):
        model = make(config)
        expected = model.elbo(images, captions, noise).negative_elbo
        for word in range(LENGTH):
            other = captions.clone()
            other[:, word] = other[:, word] % (WORDS_KNOWN - 1) + 1
            changed = (model.elbo(images, other, noise).negative_elbo != expected)
            assert changed.all() if reads else not changed.any()


def test_the_fixed_prior_is_standard_normal_and_stays_so():
    model, values = make(FIXED), inputs()
    model.reset(torch.Generator().manual_seed(1))
    assert not model.prior.weight.any()
    optimizer = torch.optim.AdamW(model.parameters(), 0.1, weight_decay=0.1)
    for _ in range(2):
        model.zero_grad()
        model.elbo(*values).negative_elbo.mean().backward()
        optimizer.step()
    assert not model.prior.weight.any()
    assert model.infer.bias.any()


def test_a_model_that_does_not_attend_says_so():
    for config, attends in ((PRIMES, True), (NOALIGN, False), (LEARNED, False), (SENTENCE, False)):
        told: list[Glimpse] = []
        make(config).generate(*inputs()[1:], None, lambda t, glimpse, told=told: told.append(glimpse))
        assert [(glimpse.alpha is not None, glimpse.write_window.shape) for glimpse in told] == [(attends, (BATCH, 5))] * PRIMES.glimpses
