"""Bounds, and their standard errors."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.small import DEV, MEAN, make
from text2image.results import bounds


def test_the_bounds_of_a_model():
    """L has its two parts; one importance weight gives L on average, and more of them a higher bound."""
    model = make()
    config = bounds.Config(captions=300, iwae_captions=300, iwae_samples=1, batch_size=50, seed=0, device="cpu")
    one = bounds.of_split(model, DEV, MEAN, config, "dev")
    assert one["elbo"]["mean"] == pytest.approx(-(one["reconstruction"]["mean"] + one["kl"]["mean"]), abs=1e-3)
    assert one["captions"] == one["images"] == 300
    pairs = [bounds.of_split(model, DEV, MEAN, replace(config, seed=seed), "dev") for seed in range(1, 4)]
    error = pairs[0]["iwae"]["bound"]["se"] * math.sqrt(2 / 3)
    means = [np.mean([p["elbo"]["mean"] for p in pairs]), np.mean([p["iwae"]["bound"]["mean"] for p in pairs])]
    assert means[0] == pytest.approx(means[1], abs=4 * error)
    many = bounds.of_split(model, DEV, MEAN, replace(config, iwae_samples=20), "dev")
    assert many["iwae"]["bound"]["mean"] > one["iwae"]["bound"]["mean"]
    assert bounds.of_split(model, DEV, MEAN, config, "dev") == one


def test_the_mean_image_is_scored_by_its_pixels():
    batches = DEV.sequential(30, 100)
    mean = bounds.mean_image(batches)
    images = torch.cat([batches[i].images for i in range(4)]).double()
    torch.testing.assert_close(mean, ((images.sum(0) + 0.5) / 101).float())
    lit = (images * mean.double().log() + (1 - images) * (1 - mean.double()).log()).sum((1, 2, 3))
    numbers = bounds.elbo(make(), batches, mean, 0)
    assert numbers["mean_image"]["mean"] == pytest.approx(lit.mean().item(), abs=1e-3)
