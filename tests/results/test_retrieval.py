"""Retrieval: models that know, and models that do not."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.results import toy
from tests.small import make
from text2image.errors import UserError
from text2image.models import draw
from text2image.models.base import Encoding
from text2image.results import retrieval
from text2image.results.captioned import Captioned
from text2image.results.retrieval import Rank

CONFIG = retrieval.Config(captions=0, shortlist=100, draws=1, batch_size=40, seed=0, device="cpu")
CHANCE = {"R@1": 1.0, "R@5": 5.0, "R@10": 10.0, "R@50": 50.0, "median_rank": 50.5}


def flat(images: torch.Tensor) -> torch.Tensor:
    return images.flatten(1)


def test_a_model_that_knows_the_images_ranks_them_first():
    """Images of one lit pixel each, equally far from their mean, so that the correction changes no order."""
    images = 255 * np.eye(110, dtype=np.uint8).reshape(110, 1, 10, 11)
    data = toy.captioned(images, np.arange(110)[:, None] + 1)
    found = retrieval.by_features(CONFIG, toy.Subject(toy.Oracle(images), train=data, dev=data, test=data), flat)
    assert found["headline"] == {"R@1": 100.0}
    assert (found["split"], found["captions"], found["images"], found["shortlist"], found["chance"]) == ("test", 110, 110, 100, CHANCE)
    for name in ("nearest", "random"):
        for ranking in ("corrected", "uncorrected"):
            assert found[name][ranking] == {f"R@{k}": {"mean": 100.0, "se": 0.0} for k in (1, 5, 10, 50)} | {
                "median_rank": {"median": 1.0, "se": 0.0}}


def test_a_model_that_draws_without_captions_is_at_chance():
    """With the correction exactly: images that score alike are in no order. The model is DRAW, in float32, in batches that differ."""
    model = draw.Model(draw.Config(channels=1, height=18, width=18, glimpses=3, infer_units=16, generate_units=16, latent=5,
                                   read_window=4, write_window=5, init_std=0.3, canvas_init=-1.0, preset="paper", prior="learned"), 23)
    images = toy.random_images(150, 0, (1, 18, 18))
    data = toy.captioned(images, np.random.default_rng(0).integers(1, 23, (300, 4)), np.arange(300) // 2)
    config = replace(CONFIG, captions=30)
    found = retrieval.by_features(config, toy.Subject(model, train=data, dev=data, test=data), flat)
    assert found["captions"] == 30
    for name in ("nearest", "random"):
        recalls = found[name]["corrected"]
        assert {k: recalls[k]["mean"] for k in ("R@1", "R@5", "R@10", "R@50")} | {"median_rank": recalls["median_rank"]["median"]} == CHANCE
        assert 0 < found[name]["uncorrected"]["R@50"]["mean"] < 100


def test_a_model_that_ignores_captions_is_at_chance_among_neighbours():
    """In the mean over captions, without the correction, where features have nothing to do with how likely an image is."""
    images = toy.random_images(400, 1)
    data = toy.captioned(images, np.ones((400, 2)))
    found = retrieval.by_features(replace(CONFIG, shortlist=10), toy.Subject(toy.Blind(), train=data, dev=data, test=data),
                              lambda images: torch.sin(1000 * images).flatten(1))
    for name in ("nearest", "random"):
        for k in (1, 5):
            recall = found[name]["uncorrected"][f"R@{k}"]
            assert recall["mean"] == pytest.approx(10 * k, abs=4 * recall["se"])
            assert found[name]["corrected"][f"R@{k}"]["mean"] == 10 * k
        assert found[name]["uncorrected"]["median_rank"]["median"] == pytest.approx(5.5, abs=1)


def scorer(model, data, config=CONFIG) -> retrieval.Scorer:
    return retrieval.Scorer(model, Captioned("test", data, np.arange(len(data.lengths))), config)


def test_images_are_scored_by_a_known_bound():
    """Of a model whose ELBO an integral gives; many draws meet it, few do not, and batches change nothing."""
    model, images = toy.OneLatent(), toy.random_images(5, 2)
    data, encoding = toy.captioned(images, np.ones((5, 3))), toy.OneLatent().encode(torch.tensor([[3, 1]]))
    numbers = torch.tensor([4, 0, 2])
    _, elbo = model.exactly(data.images[numbers].float() / 255, encoding.expand(3))
    many = scorer(model, data, replace(CONFIG, draws=10_000)).scores(encoding, numbers)
    torch.testing.assert_close(many, elbo, atol=0.05, rtol=0)
    one = scorer(model, data).scores(encoding, numbers)
    assert (one - elbo).abs().max() > 0.05
    torch.testing.assert_close(scorer(model, data, replace(CONFIG, batch_size=1)).scores(encoding, numbers), one)
    torch.testing.assert_close(scorer(model, data).scores(encoding, numbers.flip(0)).flip(0), one)


def test_with_one_caption_a_better_bound_ranks_higher():
    """Images drawn from captions are found by them: far above chance, and below what is perfect."""
    model, rng = toy.OneLatent(effect=3.0), np.random.default_rng(5)
    captions = rng.integers(1, 7, (60, 4))
    drawn = model.draw(model.encode(torch.from_numpy(captions)), torch.from_numpy(rng.normal(size=(1, 60, 1)))).numpy()
    data = toy.captioned((rng.random(drawn.shape) < drawn).astype(np.uint8) * 255, captions)
    found = retrieval.by_features(replace(CONFIG, shortlist=30), toy.Subject(model, train=data, dev=data, test=data), flat)
    recall = found["random"]["corrected"]["R@1"]
    assert 100 / 30 + 5 * recall["se"] < recall["mean"] < 100
    assert found["random"]["corrected"]["median_rank"]["median"] < 8


@pytest.mark.parametrize(("scores", "better", "alike", "expected", "within"), [
    ([3.0, 1.0, 2.0], 0, 0, 1, {1: 1.0, 2: 1.0}),
    ([1.0, 3.0, 2.0], 2, 0, 3, {1: 0.0, 2: 0.0, 3: 1.0}),
    ([2.0, 2.0, 2.0, 2.0], 0, 3, 2.5, {1: 0.25, 2: 0.5, 4: 1.0, 50: 1.0}),
    ([2.0, 2.0005, 3.0, 1.0], 1, 1, 2.5, {1: 0.0, 2: 0.5, 3: 1.0})])
def test_ranks_and_ties(scores, better, alike, expected, within):
    rank = retrieval.rank_of_first(torch.tensor(scores), 0.001)
    assert rank == Rank(better, alike)
    assert rank.expected == expected
    assert {k: rank.within(k) for k in within} == within


def test_the_shortlists():
    features = torch.from_numpy(np.random.default_rng(0).normal(size=(50, 3)))
    features[7] = features[3]
    distance = torch.cdist(features, features)
    for own in (0, 3, 7, 49):
        nearest = retrieval.nearest(features, own, 10).tolist()
        assert nearest[0] == own
        others = [n for n in distance[own].argsort().tolist() if n != own][:9]
        assert set(nearest[1:]) == set(others)
        random = [retrieval.at_random(50, own, 10, 0, "list", n).tolist() for n in range(200)]
        assert all(each[0] == own and len(set(each)) == 10 and max(each) < 50 for each in random)
        assert {n for each in random for n in each} == set(range(50))
    assert retrieval.at_random(10, 4, 10, 1)[1:].sort().values.tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 9]


def test_the_mean_sentence():
    """The mean over captions of the mean over words, padding left out."""
    model, rng = make(), np.random.default_rng(0)
    lengths = np.array([3, 5, 5, 2, 7])
    captions = np.where(np.arange(7) < lengths[:, None], rng.integers(1, 23, (5, 7)), 0)
    data = toy.captioned(toy.random_images(5, 0, (1, 18, 18)), captions)
    data.lengths = lengths
    with torch.no_grad():
        by_hand = torch.stack([model.encode(torch.from_numpy(captions[n:n + 1, :length])).states[0].mean(0)
                               for n, length in enumerate(lengths)]).mean(0)
    for bucket in (1, 10):
        found = retrieval.mean_sentence(model, data.sequential(2, 0, bucket))
        assert found.mask is None
        torch.testing.assert_close(found.states, by_hand[None, None])
    score = model.score(torch.rand(3, 1, 18, 18), Encoding(found.states).expand(3), torch.zeros(model.noise_shape(3)))
    assert score.elbo.shape == (3,)


def test_the_error_of_a_median():
    """Of n normal numbers about 1.2533 / sqrt(n); two captions of an image that rank alike tell no more than one."""
    values = np.random.default_rng(0).normal(size=1000)
    error = retrieval.bootstrap_error(values, np.arange(1000), 0)
    assert error == pytest.approx(math.sqrt(math.pi / 2 / 1000), rel=0.25)
    doubled = retrieval.bootstrap_error(values.repeat(2), np.arange(2000) // 2, 0)
    assert doubled == pytest.approx(error, rel=0.1)
    assert retrieval.bootstrap_error(np.ones(9), np.arange(9), 0) == 0


def test_what_is_no_shortlist_is_one_line():
    data = toy.captioned(toy.random_images(20, 0), np.ones((20, 2)))
    subject = toy.Subject(toy.OneLatent(), train=data, dev=data)
    with pytest.raises(UserError, match="dev has 20 images with captions, fewer than the 100 of a shortlist: lower retrieval"):
        retrieval.by_features(CONFIG, subject, flat)
