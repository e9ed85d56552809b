"""The bound with a sharpened mean image."""

import pytest
import torch

from tests.small import DEV, SMALL, make
from text2image import seeds
from text2image.sharpening import comparison
from text2image.sharpening.generator import Sharpener, SharpenerConfig

CONFIG = SharpenerConfig(channels=1, height=18, width=18, language=3, filters=2, kernels=(3, 1), factor=2, conditioning="none")


def adding(residual: float) -> Sharpener:
    """It adds the same to every pixel of every image."""
    sharpener = Sharpener(CONFIG)
    with torch.no_grad():
        for value in sharpener.parameters():
            value.zero_()
        sharpener.layers[-1].bias.fill_(residual)
    return sharpener


def vectors(words: torch.Tensor) -> torch.Tensor:
    return torch.zeros(len(words), CONFIG.language)


@pytest.mark.parametrize("residual", [0.0, 0.2, -2.0])
def test_the_bound_after_sharpening_is_of_the_sharpened_mean_image(residual):
    """By hand: the image that the posterior draws, changed, kept from 0 and 1, is what real pixels are scored by."""
    model, batches = make(), DEV.sequential(20, 60)
    found = comparison.bound(model, adding(residual), vectors, batches, 0, "test")
    expected = []
    for i in range(3):
        images, words, _, _ = batches[i]
        last = {}
        noise = seeds.noise(model.noise_shape(20), 0, "test", i, device="cpu")
        kl = model.elbo(images, words, noise, on_step=lambda t, glimpse, last=last: last.update({t: glimpse.canvas})).kl
        mean = (last[SMALL.glimpses - 1].sigmoid() + residual).clamp(1 / 510, 509 / 510).double()
        expected.append((images * mean.log() + (1 - images) * (1 - mean).log()).sum((1, 2, 3)) - kl)
    assert found["captions"] == 60
    assert found["sharpened_elbo"]["mean"] == pytest.approx(torch.cat(expected).mean().item(), abs=1e-3)
    assert found["difference"]["mean"] == pytest.approx(found["sharpened_elbo"]["mean"] - found["elbo"]["mean"], abs=1e-3)
    if residual == 0:
        assert found["difference"]["mean"] == pytest.approx(0, abs=0.05), "a canvas of medium greys is not changed"
    if residual == -2:
        assert found["sharpened_elbo"]["mean"] < found["elbo"]["mean"] - 10, "black images are unlikely and not impossible"
