"""The variational autoencoders: their bounds against closed forms, quadrature and Monte Carlo; any image; any precision."""

import math
from dataclasses import asdict, replace

import pytest
import torch
from torch.distributions import Bernoulli, Normal, kl_divergence

from tests.models import sentences
from tests.models.sentences import CONV, FC, make, values
from text2image.config import from_mapping
from text2image.errors import UserError
from text2image.models import conv_vae, fc_vae
from text2image.models.base import Glimpse
from text2image.models.vae import BernoulliConfig, GaussianConfig

GAUSSIAN = GaussianConfig("gaussian", 0.2)
PRIOR = Normal(torch.zeros((), dtype=torch.double), 1.0)
KINDS = pytest.mark.parametrize("config", [FC, CONV, replace(FC, hidden=()), replace(FC, likelihood=GAUSSIAN), replace(CONV, likelihood=GAUSSIAN)],
                                ids=["fc", "conv", "linear", "fc-gaussian", "conv-gaussian"])


def log_likelihood(model, canvas, images) -> torch.Tensor:
    mean = canvas.sigmoid()
    if model.config.likelihood.kind == "gaussian":
        return Normal(mean, 0.2).log_prob(images).flatten(1).sum(1)
    return Bernoulli(mean, validate_args=False).log_prob(images).flatten(1).sum(1)


def posterior_of(model, images, captions) -> Normal:
    mean, log_sigma = model.posterior(model.infer(images, model.encode(captions).states[:, 0])).chunk(2, 1)
    return Normal(mean, log_sigma.exp())


@KINDS
def test_the_parts_of_the_bound_are_those_of_the_distributions(config):
    model = make(config)
    images, captions, noise = values(model)
    bound = model.elbo(images, captions, noise)
    q = posterior_of(model, images, captions)
    z = q.mean + q.stddev * noise[0]
    seen = log_likelihood(model, model.decode(z, model.encode(captions).states[:, 0]), images)
    torch.testing.assert_close(bound.reconstruction, -seen)
    torch.testing.assert_close(bound.kl, kl_divergence(q, PRIOR).sum(1))
    torch.testing.assert_close(bound.log_importance_weight, seen + (PRIOR.log_prob(z) - q.log_prob(z)).sum(1))
    assert bound.kl_of_glimpses is None
    with torch.no_grad():
        assert torch.equal(model.elbo(images, captions, noise).kl_of_glimpses, bound.kl.detach()[None])


@KINDS
def test_the_mean_importance_weight_is_the_elbo(config):
    """E_Q[log p(x, z | y) - log Q(z | x, y)] = E_Q[log p(x | y, z)] - KL, which is exact here."""
    model = make(replace(config, height=7, width=5))
    images, captions, _ = values(model, batch=1)
    count = 2000
    noise = torch.randn(1, count, 17, dtype=torch.double, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        bound = model.elbo(images.expand(count, -1, -1, -1), captions.expand(count, -1), noise)
    difference = bound.log_importance_weight - bound.elbo
    assert difference.mean().abs() < 4 * difference.std() / count**0.5
    assert difference.std() > 0.01


@pytest.mark.parametrize("likelihood", [BernoulliConfig("bernoulli"), GAUSSIAN], ids=lambda one: one.kind)
def test_bounds_of_a_model_whose_likelihood_is_known(likelihood):
    """One latent and a linear decoder: log p(x | y) by quadrature over z. The bound of many importance weights meets it, and
    the ELBO lies below it by the KL between Q and the true posterior."""
    model = make(replace(FC, channels=1, height=3, width=5, latent=1, hidden=(), likelihood=likelihood))
    images, captions, _ = values(model, batch=1)
    images = images.round()
    sentence = model.encode(captions).states[:, 0]
    with torch.no_grad():
        z = torch.linspace(-8, 8, 4001, dtype=torch.double)[:, None]
        joint = log_likelihood(model, model.decode(z, sentence.expand(len(z), -1)), images) + PRIOR.log_prob(z[:, 0])
        step = float(z[1] - z[0])
        known = float(joint.logsumexp(0)) + math.log(step)
        log_q = posterior_of(model, images, captions).log_prob(z)[:, 0]
        gap = float((log_q.exp() * (log_q - joint + known)).sum() * step)  # KL(Q || P(z | x, y))
    count = 10_000
    noise = torch.randn(1, count, 1, dtype=torch.double, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        bound = model.elbo(images.expand(count, -1, -1, -1), captions.expand(count, -1), noise)
    weights = (bound.log_importance_weight - known).exp()  # of mean 1: p(x | y) / p(x | y)
    assert weights.mean().item() == pytest.approx(1, abs=4 * float(weights.std()) / count**0.5)
    assert weights.std() < 10
    error = float(bound.elbo.std()) / count**0.5
    assert gap > 0.01
    assert bound.elbo.mean().item() == pytest.approx(known - gap, abs=4 * error)


@pytest.mark.parametrize("side", [(18, 18), (24, 24), (28, 28), (32, 32), (60, 60), (1, 1), (7, 60), (29, 2)], ids=str)
@pytest.mark.parametrize("config", [FC, CONV, replace(CONV, filters=(5,), kernel=7), replace(CONV, filters=(2, 3, 5, 7, 11), kernel=1)],
                         ids=["fc", "conv", "conv-1", "conv-5"])
def test_any_image(config, side):
    for channels in (1, 3):
        model = make(replace(config, channels=channels, height=side[0], width=side[1]))
        images, captions, noise = values(model, batch=2)
        told: list[tuple[int, Glimpse]] = []
        drawn = model.generate(captions, noise, None, lambda t, glimpse, told=told: told.append((t, glimpse)))
        assert drawn.shape == images.shape == (2, channels, *side)
        assert [t for t, _ in told] == [0]
        assert torch.equal(told[0][1].canvas.sigmoid(), drawn), "what is told is what is drawn"
        assert told[0][1][1:] == (None, None, None)
        assert model.elbo(images, captions, noise).negative_elbo.isfinite().all()


@KINDS
def test_image_and_caption_reach_the_posterior_caption_and_latent_the_image(config):
    model = make(config)
    images, captions, noise = values(model)
    other = captions % (model.vocabulary_size - 1) + 1
    q, changed = posterior_of(model, images, captions).mean, posterior_of(model, images, other).mean
    assert (q != changed).any(1).all()
    assert (q != posterior_of(model, images.flip(0), captions).mean).any(1)[[0, 1, 2]].all()
    drawn = model.generate(captions, noise)
    assert (drawn != model.generate(other, noise)).flatten(1).any(1).all()
    assert (drawn != model.generate(captions, -noise)).flatten(1).any(1).all()


@KINDS
def test_captions_are_encoded_once_for_any_number_of_images_and_an_image_depends_on_its_own_caption(config):
    model = make(config)
    images, captions, noise = values(model)
    encoding, same = model.encode(captions[:1]).expand(11), captions[:1].expand(11, -1)
    for one, other in zip(model.score(images, encoding, noise)[:3], model.elbo(images, same, noise)[:3], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=0)
    torch.testing.assert_close(model.draw(encoding, noise), model.generate(same, noise), rtol=1e-12, atol=0)
    lengths = torch.tensor([13, 2, 5, 1, 7, 3, 11, 12, 4, 6, 10])
    alone = torch.cat([model.elbo(images[n:n + 1], captions[n:n + 1, :length], noise[:, n:n + 1]).negative_elbo
                       for n, length in enumerate(lengths)])
    torch.testing.assert_close(model.elbo(images, captions, noise, lengths).negative_elbo, alone, rtol=1e-12, atol=0)


@KINDS
def test_large_products_in_bfloat16_leave_float32_bounds(config):
    model = make(config).float()
    images, captions, noise = (value.float() if value.is_floating_point() else value for value in values(model))
    expected = model.elbo(images, captions, noise)
    model.precision = torch.bfloat16
    bound = model.elbo(images, captions, noise)
    assert bound.reconstruction.dtype == bound.kl.dtype == model.generate(captions, noise).dtype == torch.float32
    torch.testing.assert_close(bound.reconstruction, expected.reconstruction, rtol=0.05, atol=1)
    assert not torch.equal(bound.reconstruction, expected.reconstruction)
    bound.negative_elbo.mean().backward()
    assert all(value.grad.dtype == torch.float32 for value in model.parameters() if value.requires_grad)


def test_weights_are_drawn_so_that_what_a_layer_gives_is_of_the_size_of_what_it_takes():
    for config in (replace(FC, height=60, width=60, hidden=(500, 300)), replace(CONV, height=60, width=60, filters=(32, 64), kernel=5, hidden=300)):
        model = make(config)
        model.reset(torch.Generator().manual_seed(1))
        z = torch.randn(50, 17, dtype=torch.double, generator=torch.Generator().manual_seed(2))
        canvas = model.decode(z, torch.zeros(50, 38, dtype=torch.double))
        assert 0.2 < canvas.std() < 2


@pytest.mark.parametrize(("config", "change", "said"), [
    (FC, {"hidden": [3] * 17}, "'model.hidden' has 17 layers; at most 16"),
    (FC, {"hidden": [0]}, r"'model.hidden\[0\]' is 0; it must be at least 1"),
    (CONV, {"filters": []}, "'model.filters' has 0 layers; 1 to 16"),
    (CONV, {"kernel": 4}, "'model.kernel' is 4; it must be odd"),
    (CONV, {"likelihood": {"kind": "gauss"}}, "'model.likelihood.kind' is 'gauss'.*did you mean 'gaussian'"),
    (CONV, {"likelihood": {"kind": "gaussian", "sigma": 0.0}}, "'model.likelihood.sigma' is 0.0; it must be at least")], ids=str)
def test_sizes_that_cannot_be_meant(config, change, said):
    kind = {type(FC): fc_vae, type(CONV): conv_vae}[type(config)]
    with pytest.raises(UserError, match=said):
        from_mapping(kind.Config, asdict(config) | change, "model")
    assert sentences.MODULES[type(config)] is kind
