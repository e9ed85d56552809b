"""Intervals of shares: Wilson's, and how many independent draws dependent ones amount to."""

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from text2image.results.proportions import cluster_shares, effective_count, proportion, wilson


@pytest.mark.parametrize(("hits", "count"), [(0, 10), (3, 10), (10, 10), (81, 263), (1, 1)])
def test_wilsons_interval_is_scipys(hits, count):
    interval = binomtest(hits, count).proportion_ci(0.95, "wilson")
    assert wilson(hits / count, count) == pytest.approx((interval.low, interval.high), abs=1e-6)


def test_draws_that_are_copies_count_once():
    """Where all draws of a cluster are alike, there are as many independent ones as clusters (less one, of the variance)."""
    hits = torch.from_numpy(np.random.default_rng(0).random(200) < 0.3)
    found = proportion(hits.repeat_interleave(7), torch.arange(200).repeat_interleave(7))
    assert found["effective_images"] == 199
    assert (found["images"], found["captions"], found["mean"]) == (1400, 200, round(hits.double().mean().item(), 4))


def test_draws_that_are_independent_count_all():
    hits = torch.rand(20_000, generator=torch.Generator().manual_seed(0)) < 0.4
    found = proportion(hits, torch.arange(20_000) % 500)
    assert 18_000 < found["effective_images"] <= 20_000
    assert effective_count(torch.tensor([0.5, 0.5]), 8) == 8


def test_clusters_count_alike_whatever_their_size():
    hits, cluster = torch.tensor([1, 1, 1, 1, 0, 1, 0]), torch.tensor([4, 4, 4, 4, 9, 7, 7])
    assert cluster_shares(hits, cluster).tolist() == [1, 0.5, 0]
    assert proportion(hits, cluster)["mean"] == 0.5


def test_where_all_hit_or_none_the_clusters_count():
    for hits in (torch.ones(12), torch.zeros(12)):
        found = proportion(hits, torch.arange(12) // 4)
        assert found["effective_images"] == 3
        assert found["low"] == round(wilson(hits[0].item(), 3)[0], 4)
    assert proportion(torch.ones(0), torch.ones(0)) == {}


def test_the_interval_covers_the_truth_as_often_as_it_says():
    """Captions of different difficulty, eight draws of each; the truth is the mean over captions that might have been."""
    rng, covered = np.random.default_rng(1), 0
    for _ in range(400):
        ease = rng.beta(2, 1, 60)  # its mean is 2/3
        hits = torch.from_numpy(rng.random((60, 8)) < ease[:, None]).flatten()
        found = proportion(hits, torch.arange(60).repeat_interleave(8))
        covered += found["low"] <= 2 / 3 <= found["high"]
    assert 0.92 < covered / 400 < 0.98
