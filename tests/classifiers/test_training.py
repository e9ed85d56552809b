"""Training a classifier: it learns, it is resumed bit for bit, and what is done to its images."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.classifiers.small import CONFIG, NO_CHANGE, SOME, examples, make, trained
from tests.small import DEV, TRAIN
from text2image.classifiers import digit_places, shapes, training
from text2image.classifiers.labels import UNSAID, of_images
from text2image.data import mnist_captions
from text2image.data.datasets import CaptionedImages
from text2image.data.vocabulary import Vocabulary
from text2image.errors import UserError
from text2image.training.optimizers import RMSpropConfig
from text2image.training.resume import ResumableState


def run(state: ResumableState, config=CONFIG, stop_at: int = 0, save_every: float = 30.0):
    """Train to the end, or as far as step `stop_at`, where the power goes."""
    def report(report) -> None:
        if report.step == stop_at and report.row is None:
            raise KeyboardInterrupt

    classifier = make(config)
    with state:
        return classifier, training.train(classifier, *examples(), config, 1, state, report, save_every)


@pytest.mark.parametrize("stop_at", [2, 5, 8])
def test_training_that_was_broken_off_ends_bit_for_bit_like_training_that_was_not(tmp_path, stop_at):
    whole, history = run(ResumableState(tmp_path, "whole", "f" * 64))
    assert history[-1].step == training.total_steps(examples()[0], CONFIG) == 10 > stop_at
    with pytest.raises(KeyboardInterrupt):
        run(ResumableState(tmp_path, "broken", "f" * 64), stop_at=stop_at, save_every=0)
    broken, again = run(ResumableState(tmp_path, "broken", "f" * 64))
    assert all(torch.equal(value, broken.state_dict()[name]) for name, value in whole.state_dict().items())
    assert history == again
    assert "accuracy on dev" in history[-1].line()
    assert training.summarize(history, whole)["steps"] == 10


def test_it_learns_to_read_digits_that_it_was_not_trained_on():
    found = training.accuracy(trained(), examples()[1], 300)
    assert found["accuracy"] > 0.8
    assert found["empty_places"] > 0.99
    assert training.accuracy(make(), examples()[1], 300)["accuracy"] < 0.3


def test_it_learns_every_caption_those_held_out_too():
    every = training.all_captions(TRAIN)
    drawn = mnist_captions.scenes_of(every.shuffled(100, 4000, "x")[0].words)
    assert any(TRAIN.grammar.is_held_out(*scene) for scene in drawn.tolist())
    assert not any(every.grammar.is_held_out(*scene) for scene in drawn.tolist())


def test_an_image_is_learned_once_an_epoch_from_all_its_captions():
    vocabulary = Vocabulary.count([text.split() for text in ("a red circle .", "there is a small red circle in the middle .")] * 2, 1)
    ids = [vocabulary.known(text.split()) for text in ("a red circle .", "there is a small red circle in the middle .")]
    captions = np.zeros((4, 10), np.int32)
    for row, caption in zip(captions, [ids[1], ids[0], ids[0], ids[0]], strict=True):
        row[:len(caption)] = caption
    data = CaptionedImages(np.zeros((2, 3, 8, 8), np.uint8), captions, (captions > 0).sum(1), np.array([0, 0, 1, 1]))
    labels, _ = shapes.make(data, vocabulary, shapes.Settings())
    table = of_images(data, labels, vocabulary)
    said = [{question: shapes.CHOICES[question][answer] for question, answer in zip(shapes.QUESTIONS, row, strict=True) if answer != UNSAID}
            for row in table.tolist()]
    alone = {"arrangement": "alone", "first colour": "red", "first shape": "circle"}
    assert said == [alone | {"size": "small", "place": "middle"}, alone]
    found = training.Examples(data, labels, vocabulary)
    passed = found.images.shuffled(1, 0, "pass")
    assert sorted(passed[i].image_index.item() for i in range(len(passed))) == [0, 1]
    assert torch.equal(found.targets(passed[0]), table[passed[0].image_index])


def test_what_is_done_to_images():
    images = DEV.sequential(40, 40)[0].images
    assert torch.equal(training.augment(images, NO_CHANGE, 1), images)
    assert torch.equal(training.warped(images, NO_CHANGE, 1), images)
    changed = training.augment(images, SOME, 1)
    assert torch.equal(changed, training.augment(images, SOME, 1)) and not torch.equal(changed, training.augment(images, SOME, 2))
    assert (changed >= 0).all() and (changed <= 1).all()
    assert (changed - images).abs().mean() < 0.1
    darker = training.augment(torch.full((500, 1, 2, 2), 0.5), replace(NO_CHANGE, brightness=0.2), 1)
    assert 0.4 <= darker.min() < 0.41 and 0.59 < darker.max() <= 0.6
    noisy = training.augment(torch.full((2000, 1, 5, 5), 0.5), replace(NO_CHANGE, noise=0.1), 1)
    # Of a deviation drawn evenly from 0 to 0.1 the mean square is a third of its greatest.
    assert noisy.std().item() == pytest.approx(0.1 / math.sqrt(3), rel=0.05)


def test_a_blurred_point_and_a_turned_bar():
    point = torch.zeros(1, 2, 5, 5)
    point[0, 0, 2, 2] = 1
    expected = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
    assert torch.allclose(training.blurred(point)[0, 0, 1:4, 1:4], expected) and not training.blurred(point)[0, 1].any()
    bar = torch.zeros(400, 1, 9, 9)
    bar[:, :, 4, 1:8] = 1
    turned = training.warped(bar, replace(NO_CHANGE, rotate=90.0), 1)
    upright = turned[:, 0, 1:8, 4].sum(1) > 5.5
    assert upright.any() and (turned[:, 0, 4, 4] > 0.9).all(), "about the middle"
    larger = training.warped(bar, replace(NO_CHANGE, resize=0.5), 1).sum((1, 2, 3))
    assert larger.min() < 5 and larger.max() > 9
    sheared = training.warped(bar.mT.contiguous(), replace(NO_CHANGE, shear=0.5), 1)
    assert torch.allclose(sheared[:, 0, 4, 4], torch.ones(400)) and (sheared[:, 0, 1, 4] < 0.9).any()


def test_digits_are_warped_each_by_itself_and_the_bank_stays_as_it_is():
    config = replace(CONFIG, augment=replace(NO_CHANGE, rotate=15.0))
    before = TRAIN.digits.clone()
    train, dev = examples()
    trainer = training.ClassifierTrainer(make(), train, dev, config, 1)
    plain = training.ClassifierTrainer(make(), train, dev, replace(CONFIG, augment=NO_CHANGE), 1)
    first, again, other, unchanged = (t.batches(epoch)[0] for t, epoch in ((trainer, 0), (trainer, 0), (trainer, 1), (plain, 0)))
    assert torch.equal(first.images, again.images) and not torch.equal(first.images, other.images)
    assert torch.equal(first.words, unchanged.words) and not torch.equal(first.images, unchanged.images)
    assert torch.equal(TRAIN.digits, before)


def test_a_cost_that_is_no_number_stops_training_with_advice(tmp_path):
    state = ResumableState(tmp_path, "run", "f" * 64)
    with pytest.raises(UserError, match=r"training the classifier gives .* at epoch 1, step .*: lower train_classifier\.learning_rate"):
        run(state, replace(CONFIG, optimizer=RMSpropConfig("rmsprop", 0.0, 1e-30), learning_rate=1e30))
    assert not state.path.exists(), "nothing that is no number is kept"


def test_digit_places_are_of_digits_alone():
    data = CaptionedImages(np.zeros((2, 3, 8, 8), np.uint8), np.ones((2, 3), np.int32), np.full(2, 3), np.arange(2))
    with pytest.raises(UserError, match="'digit_places' are of MNIST with captions, and this dataset is none"):
        digit_places.make(data, mnist_captions.VOCABULARY, digit_places.Settings())
