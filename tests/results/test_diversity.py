"""Diversity, of models that draw what is known; and the nearest image, against every distance there is."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.results import drawing
from tests.small import TRAIN
from text2image.data import datasets, mnist_captions
from text2image.data.mnist_captions import VOCABULARY
from text2image.data.vocabulary import Vocabulary, pad
from text2image.models.checkpoints import Checkpoint
from text2image.results import diversity
from text2image.results.diversity import Config
from text2image.results.subject import Subject

CONFIG = Config(captions=30, images=20, least_images=3, training_images=500, test_images=40, batch_size=64, seed=0, device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("digits")


def test_a_model_that_draws_real_images_varies_as_they_do(folder):
    found = diversity.measure(CONFIG, drawing.subject(folder, drawing.real))
    for name in ("seen", "held_out"):
        numbers = found["variety"][name]
        assert numbers["captions"] == 30 and numbers["images"] == 600
        assert numbers["ratio"] == pytest.approx(1, abs=4 * numbers["se"]) and 0 < numbers["se"] < 0.05
        assert numbers["drawn"] == pytest.approx(numbers["real"], rel=0.1) and numbers["drawn"] > 0.05
    assert found["headline"] == {"diversity": found["variety"]["seen"]["ratio"]}


def test_a_model_that_draws_one_image_does_not_vary(folder):
    found = diversity.measure(replace(CONFIG, captions=3), drawing.subject(folder, drawing.constant))
    assert found["headline"] == {"diversity": 0.0}


def test_a_model_that_draws_real_images_at_half_their_light_varies_half_as_much(folder):
    subject = drawing.subject(folder, lambda captions, seed: drawing.real(captions, seed) / 2)
    numbers = diversity.measure(CONFIG, subject)["variety"]["seen"]
    assert numbers["ratio"] == pytest.approx(0.5, abs=4 * numbers["se"])


def captioned_images(folder, captions: list[str], images: np.ndarray, drawn) -> Subject:
    """A model of three captioned splits that are alike, and captions that share images or do not."""
    vocabulary = Vocabulary.count([caption.split() for caption in captions], 1)
    words, lengths = pad([vocabulary.known(caption.split()) for caption in captions])
    for split in ("train", "dev"):
        datasets.write_images(folder / f"{split}.h5", images, words, lengths, np.arange(len(captions)) % len(images))
    return Subject(Checkpoint(drawing.Drawing(images.shape[1:], drawn), vocabulary, None), folder)


def test_captions_of_several_images_are_compared_with_those(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (12, 3, 5, 7), np.uint8)
    captions = ["a dog ."] * 6 + ["a cat runs ."] * 4 + ["a bird ."] * 2
    found = diversity.groups(captioned_images(tmp_path, captions, images, None), CONFIG)
    assert list(found) == ["training"]
    assert [len(caption) for caption in found["training"].captions] == [3, 4], "a bird is seen twice alone"
    assert torch.equal(found["training"].real[0], torch.from_numpy(images[:6]) / 255)
    assert [len(real) for real in diversity.of_several_images(
        datasets.load(tmp_path / "train.h5"), replace(CONFIG, images=5)).real] == [5, 4]

    def drawn(captions: torch.Tensor, seed: int) -> torch.Tensor:
        return torch.from_numpy(images[:6] if captions.shape[1] == 3 else images[6:10]).float()[:len(captions)] / 255

    subject = captioned_images(tmp_path, captions, images, drawn)
    numbers = diversity.measure(CONFIG, subject)["variety"]["training"]
    assert (numbers["ratio"], numbers["se"], numbers["images"]) == (1.0, 0.0, 10)


def test_where_no_caption_is_of_several_images_there_is_no_ratio(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 5, 7), np.uint8)
    subject = captioned_images(tmp_path, ["a dog .", "a cat runs .", "two .", "a bird ."], images,
                               lambda captions, seed: torch.rand(len(captions), 3, 5, 7, generator=torch.Generator().manual_seed(seed)))
    found = diversity.measure(replace(CONFIG, captions=2, images=300), subject)
    numbers = found["variety"]["without_real"]
    assert found["headline"] == {}
    assert (numbers["real"], numbers["ratio"], numbers["captions"]) == (None, None, 2)
    assert numbers["drawn"] == pytest.approx(12**-0.5, rel=0.02), "the deviation of an even distribution"


def test_the_nearest_image_is_the_nearest():
    generator = torch.Generator().manual_seed(0)
    images, others = (torch.rand(n, 3, 5, 7, generator=generator) for n in (11, 130))
    images[4] = others[77]
    found = diversity.nearest(images, iter(others.split(13)))
    distances = torch.cdist(images.flatten(1).double(), others.flatten(1).double())
    torch.testing.assert_close(found.distance, distances.min(1).values, atol=1e-6, rtol=1e-6)
    assert torch.equal(found.images, others[distances.argmin(1)])
    assert found.distance[4] == 0 and torch.equal(found.images[4], others[77])


def test_samples_that_are_training_images_lie_at_no_distance(folder):
    subject = drawing.subject(folder, drawing.real)
    train = TRAIN.shuffled(CONFIG.batch_size, CONFIG.training_images, CONFIG.seed, "nearest")[1]
    held_out = mnist_captions.caption(*TRAIN.grammar.combinations(True)[0].tolist())
    captions = [" ".join(VOCABULARY.decode(train.words[0].tolist())), held_out]
    samples = torch.stack([train.images[:3], torch.full((3, 1, 18, 18), 0.5)])
    numbers, nearest = diversity.compare_nearest(CONFIG, subject, samples, captions)
    assert numbers["samples"] == {"images": 3, "mean": 0.0, "median": 0.0, "smallest": 0.0}
    assert numbers["samples_held_out"]["smallest"] > 5
    assert numbers["real_test"]["images"] == numbers["real_test_held_out"]["images"] == 40
    assert 0.5 < numbers["real_test"]["mean"] < numbers["real_test_held_out"]["mean"]
    assert numbers["training_images"] == 500
    assert torch.equal(nearest.images[:3], samples[0]) and nearest.distance.shape == (6,)
