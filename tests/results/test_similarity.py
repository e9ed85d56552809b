"""Structural similarity."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.results import toy
from tests.small import DEV, make
from text2image.errors import UserError
from text2image.results import similarity

CONFIG = similarity.Config(captions=0, samples=5, batch_size=2, seed=0, device="cpu")
SHAPE = (3, 11, 13)


def by_hand(one: np.ndarray, other: np.ndarray) -> float:
    """Equation 13 of Wang et al. (2004), window by window and channel by channel, with c_1 = 0.01^2 and c_2 = 0.03^2."""
    found, (channels, height, width) = [], one.shape
    for c in range(channels):
        for top in range(height - 6):
            for left in range(width - 6):
                x, y = (image[c, top:top + 7, left:left + 7].astype(np.float64).ravel() for image in (one, other))
                covariance = np.cov(x, y)
                luminance = (2 * x.mean() * y.mean() + 1e-4) / (x.mean()**2 + y.mean()**2 + 1e-4)
                found.append(luminance * (2 * covariance[0, 1] + 9e-4) / (covariance[0, 0] + covariance[1, 1] + 9e-4))
    return float(np.mean(found))


def test_an_image_is_like_itself_and_less_like_another():
    one, other = (torch.from_numpy(np.random.default_rng(seed).random(SHAPE, np.float32)) for seed in range(2))
    assert similarity.similarity(one, one) == 1
    mixed = 0.7 * one + 0.3 * other
    assert similarity.similarity(one, mixed) == pytest.approx(by_hand(one.numpy(), mixed.numpy()), abs=1e-5)
    assert abs(similarity.similarity(one, other)) < 0.1 < similarity.similarity(one, mixed) < 1
    assert similarity.similarity(one[:1], mixed[:1]) == pytest.approx(by_hand(one[:1].numpy(), mixed[:1].numpy()), abs=1e-5)


def test_a_model_that_draws_the_images_themselves():
    images = toy.random_images(4, 0, SHAPE)
    data = toy.captioned(images, np.arange(4)[:, None] + 1)
    found = similarity.measure(CONFIG, toy.Subject(toy.Oracle(images), train=data, dev=data, test=data))
    assert found == {"headline": {}, "split": "test", "captions": 4, "images": 4, "samples": 5,
                     "ssi": {"mean": 1.0, "se": 0.0, "std": 0.0},
                     "settings": {"win_size": 7, "data_range": 1.0, "channel_axis": 0, "gaussian_weights": False}}


def test_the_mean_and_both_spreads():
    """One of three captions has the image drawn that it is of, the others another: the spread is over all that was drawn, the
    error over images."""
    images = toy.random_images(3, 0, SHAPE)
    data = toy.captioned(images, np.array([[1], [3], [1]]))
    found = similarity.measure(CONFIG, toy.Subject(toy.Oracle(images), train=data, dev=data))
    floats = images.astype(np.float32) / 255
    expected = np.array([1, by_hand(floats[1], floats[2]), by_hand(floats[2], floats[0])])
    assert found["split"] == "dev"
    assert found["ssi"] == {"mean": pytest.approx(expected.mean(), abs=1e-4), "std": pytest.approx(expected.std(), abs=1e-4),
                            "se": pytest.approx(expected.std(ddof=1) / np.sqrt(3), abs=1e-4)}


def test_what_is_drawn_depends_on_the_seed_and_not_on_the_batches():
    data = toy.captioned(*DEV.compose(6, False, 0))
    subject = toy.Subject(make(), train=data, dev=data, test=data)
    one, again, whole = (similarity.measure(replace(CONFIG, batch_size=size, captions=3), subject) for size in (2, 2, 5))
    assert one == again
    assert one["captions"] == 3
    assert one["ssi"]["mean"] == pytest.approx(whole["ssi"]["mean"], abs=1e-3)
    assert similarity.measure(replace(CONFIG, seed=1, captions=3), subject)["ssi"] != one["ssi"]


@pytest.mark.parametrize("shape", [(1, 6, 20), (3, 20, 5)])
def test_images_below_the_window_are_one_line(shape):
    images = toy.random_images(2, 0, shape)
    data = toy.captioned(images, np.array([[1], [2]]))
    with pytest.raises(UserError, match=rf"images of {shape[1]}x{shape[2]} are smaller than the 7x7 pixels"):
        similarity.measure(CONFIG, toy.Subject(toy.Oracle(images), train=data, dev=data))


def test_digits_have_no_captions_of_their_own():
    with pytest.raises(UserError, match=r"test\.h5 holds digits and no images with captions"):
        similarity.measure(CONFIG, toy.Subject(make(), train=DEV, dev=DEV, test=DEV))
