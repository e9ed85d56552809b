"""Bounds, and their standard errors."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.results import toy
from tests.small import DEV, LAYOUT, MEAN, SMALL, make
from text2image import seeds
from text2image.data import mnist_captions
from text2image.data.datasets import Batch, Batches
from text2image.data.mnist_captions import Grammar
from text2image.models import draw
from text2image.results import bounds
from text2image.results.scores import Scores

CONFIG = bounds.Config(captions=300, iwae_captions=300, iwae_samples=1, batch_size=50, seed=0, device="cpu")


def test_the_bounds_of_a_model():
    """L has its two parts; one importance weight gives L on average, and more of them a higher bound."""
    model = make()
    one = bounds.of_split(model, DEV, MEAN, CONFIG, "dev")
    assert one["elbo"]["mean"] == pytest.approx(-(one["reconstruction"]["mean"] + one["kl"]["mean"]), abs=1e-3)
    assert one["captions"] == one["images"] == 300
    assert len(one["kl_of_glimpses"]) == SMALL.glimpses
    assert sum(one["kl_of_glimpses"]) == pytest.approx(one["kl"]["mean"], abs=1e-3)
    pairs = [bounds.of_split(model, DEV, MEAN, replace(CONFIG, seed=seed), "dev") for seed in range(1, 4)]
    error = pairs[0]["iwae"]["bound"]["se"] * math.sqrt(2 / 3)
    means = [np.mean([p["elbo"]["mean"] for p in pairs]), np.mean([p["iwae"]["bound"]["mean"] for p in pairs])]
    assert means[0] == pytest.approx(means[1], abs=4 * error)
    many = bounds.of_split(model, DEV, MEAN, replace(CONFIG, iwae_samples=20), "dev")
    assert many["iwae"]["bound"]["mean"] > one["iwae"]["bound"]["mean"]
    assert bounds.of_split(model, DEV, MEAN, CONFIG, "dev") == one


def test_the_mean_image_is_scored_by_its_pixels():
    batches = DEV.sequential(30, 100)
    mean = bounds.mean_image(batches)
    images = torch.cat([batches[i].images for i in range(4)]).double()
    torch.testing.assert_close(mean, ((images.sum(0) + 0.5) / 101).float())
    lit = (images * mean.double().log() + (1 - images) * (1 - mean.double()).log()).sum((1, 2, 3))
    own, _ = bounds.elbo(make(), batches, mean, 0)
    assert own.summary()["mean_image"]["mean"] == pytest.approx(lit.mean().item(), abs=1e-3)


def known() -> tuple[toy.OneLatent, object]:
    """A model of known likelihood, and 40 of its images with captions."""
    model, rng = toy.OneLatent(), np.random.default_rng(2)
    captions = rng.integers(1, 7, (40, 3))
    drawn = model.draw(model.encode(torch.from_numpy(captions)), torch.from_numpy(rng.normal(size=(1, 40, 1))))
    return model, toy.captioned((rng.random(drawn.shape) < drawn.numpy()).astype(np.uint8) * 255, captions)


def test_the_iwae_bound_meets_a_known_likelihood_and_the_elbo_its_own():
    """The likelihood of a model with one latent number, by integration: 3,000 draws reach it to a hundredth of a nat."""
    model, data = known()
    batch = data.sequential(40, 0)[0]
    log_p, elbo = model.exactly(batch.images, model.encode(batch.words))
    assert (log_p > elbo).all()
    gap = (log_p - elbo).mean().item()
    assert gap > 0.05
    mean = torch.full(toy.SHAPE, 0.5)
    found = bounds.of_split(model, data, mean, replace(CONFIG, captions=0, iwae_samples=3000), "test")["iwae"]
    assert found["bound"]["mean"] == pytest.approx(log_p.mean().item(), abs=0.02)
    assert found["elbo"]["mean"] == pytest.approx(elbo.mean().item(), abs=0.02)
    assert found["gap"]["mean"] == pytest.approx(gap, abs=0.03)
    assert found["gap"]["se"] == pytest.approx(((log_p - elbo).std() / math.sqrt(40)).item(), rel=0.1)
    few = bounds.of_split(model, data, mean, replace(CONFIG, captions=0, iwae_samples=5), "test")["iwae"]
    assert found["elbo"]["mean"] < few["bound"]["mean"] < found["bound"]["mean"]
    assert few["gap"]["mean"] == pytest.approx(few["bound"]["mean"] - few["elbo"]["mean"], abs=1e-3)
    assert few["gap"]["se"] < few["bound"]["se"], "a paired difference is known better than each of the two"


def test_with_captions_of_other_images_a_model_that_reads_them_loses_and_one_that_does_not_loses_nothing():
    model, data = known()
    found = bounds.of_split(model, data, torch.full(toy.SHAPE, 0.5), replace(CONFIG, captions=0), "test")["other_captions"]
    batch = data.sequential(40, 0)[0]
    shift, differs = bounds.exchange(batch)
    assert differs.all()
    elbo = [model.exactly(batch.images, model.encode(words))[1].mean().item() for words in (batch.words, batch.words.roll(shift, 0))]
    assert found["own_elbo"]["mean"] == pytest.approx(elbo[0], abs=0.5)
    assert found["elbo"]["mean"] == pytest.approx(elbo[1], abs=1)
    assert found["difference"]["mean"] == pytest.approx(found["own_elbo"]["mean"] - found["elbo"]["mean"], abs=1e-3)
    assert found["difference"]["mean"] > 5 * found["difference"]["se"]
    blind = bounds.of_split(draw.Model(UNCONDITIONAL, 23), DEV, MEAN, CONFIG, "dev")["other_captions"]
    assert blind["captions"] == 300
    assert blind["difference"] == {"mean": 0.0, "se": 0.0}


UNCONDITIONAL = draw.Config(channels=1, height=18, width=18, glimpses=3, infer_units=16, generate_units=16, latent=5, read_window=4,
                            write_window=5, init_std=0.1, canvas_init=-3.0, preset="paper", prior="learned")


def batch_of(words: list[int], images: list[int]) -> Batch:
    return Batch(torch.zeros(len(words), 1, 2, 3), torch.tensor(words)[:, None], torch.tensor(images))


@pytest.mark.parametrize(("words", "images", "shift", "left"), [
    ([1, 2, 3, 4], [0, 1, 2, 3], 1, [True] * 4),
    ([1, 2, 3, 4, 5, 6], [0, 0, 0, 1, 1, 2], 3, [True] * 6),                 # three captions of one image
    ([1, 1, 2, 2], [0, 1, 2, 3], 2, [True] * 4),                              # captions of two images that read the same
    ([1, 1, 1, 2], [0, 1, 2, 3], 1, [True, False, False, True]),              # most say the same
    ([1, 2], [5, 5], 0, [False] * 2), ([1], [0], 0, [False])])
def test_no_image_gets_its_own_caption(words, images, shift, left):
    found, differs = bounds.exchange(batch_of(words, images))
    assert (found, differs.tolist()) == (shift, left)


def test_captions_that_cannot_be_exchanged_are_counted_out():
    sizes = (1, 1)
    batches = Batches(sizes, lambda i: Batch(torch.rand(1, *toy.SHAPE), torch.tensor([[1 + i]]), torch.tensor([i])))
    own, others = bounds.elbo(toy.OneLatent(), batches, torch.full(toy.SHAPE, 0.5), 0)
    assert own.summary()["captions"] == 2
    assert others.summary() == {"captions": 0, "images": 0}


@pytest.mark.parametrize(("sizes", "captions", "chosen"), [
    ((10, 10, 10, 10), 0, {0, 1, 2, 3}), ((10, 10, 10, 10), 20, {0, 2}), ((10, 10, 10, 10), 21, {0, 1, 2}),
    ((10, 10, 10, 10), 99, {0, 1, 2, 3}), ((1, 10), 3, {0, 1}), ((7,), 1, {0})])
def test_batches_are_spread_over_a_pass(sizes, captions, chosen):
    assert bounds.spread(Batches(sizes, lambda i: None), captions) == chosen


def test_held_out_captions_are_of_two_groups():
    """Their means, weighted by their captions, are those of all."""
    grammar = Grammar.from_seed(1)
    images, captions = DEV.compose(300, True, 7, "held out")
    data = toy.captioned(images, captions)
    found = bounds.of_split(make(), data, MEAN, replace(CONFIG, captions=0, iwae_samples=2), bounds.HELD_OUT,
                            bounds.held_out_groups(grammar))
    other = sum(grammar.trained_in_other_wording(*scene) for scene in mnist_captions.scenes_of(torch.from_numpy(captions)).tolist())
    parts = [found[name] for name in ("never_seen", "other_wording")]
    assert [part["captions"] for part in parts] == [300 - other, other]
    assert 0 < other < 300
    for name in ("elbo", "kl", "mean_image"):
        assert found[name]["mean"] == pytest.approx(sum(part["captions"] * part[name]["mean"] for part in parts) / 300, abs=1e-3)
    bound = sum(part["captions"] * part["iwae"]["bound"]["mean"] for part in parts) / 300
    assert found["iwae"]["bound"]["mean"] == pytest.approx(bound, abs=1e-3)
    assert sum(part["other_captions"]["captions"] for part in parts) == found["other_captions"]["captions"] > 290
    assert DEV.layout == LAYOUT


def test_how_many_captions_of_mnist_are_of_each_group():
    grammar = Grammar.from_seed(1)
    words = [mnist_captions.VOCABULARY.known(mnist_captions.caption(*scene).split()) for scene in grammar.combinations(True).tolist()]
    groups = bounds.held_out_groups(grammar)(torch.tensor(words))
    assert [int((groups == number).sum()) for number in range(2)] == [28, 52]
    one_digit = torch.tensor([mnist_captions.scenes_of(torch.tensor([each]))[0, 0] >= 4 for each in words])
    assert not groups[one_digit].any(), "a digit alone has one wording"


def test_noise_is_drawn_on_the_cpu(monkeypatch):
    """So that a GPU gives the same numbers."""
    devices, noise = set(), seeds.noise

    def drawn(shape, *stream, device):
        devices.add(str(device))
        return noise(shape, *stream, device=device)

    monkeypatch.setattr(seeds, "noise", drawn)
    bounds.of_split(make().to("cpu"), DEV, MEAN, replace(CONFIG, captions=50, iwae_captions=50), "dev")
    assert devices == {"cpu"}


def test_an_empty_group_has_counts_alone():
    scores = Scores()
    scores.add(torch.arange(3), torch.zeros(3, dtype=torch.long), value=torch.rand(3), vector=torch.rand(3, 2))
    assert scores.summary(1) == {"captions": 0, "images": 0}
    assert scores.summary(0) == scores.summary()
    assert len(scores.summary()["vector"]) == 2
