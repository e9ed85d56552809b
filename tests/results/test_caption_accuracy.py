"""Caption accuracy, of models that draw what is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.classifiers import small
from tests.results import drawing
from tests.small import TRAIN
from text2image.classifiers import network, shapes
from text2image.classifiers.labels import right
from text2image.classifiers.network import Classifier, ClassifierConfig
from text2image.data import datasets, mnist_captions
from text2image.data.mnist_captions import VOCABULARY
from text2image.data.vocabulary import Vocabulary, pad
from text2image.errors import UserError
from text2image.models.checkpoints import Checkpoint
from text2image.results import caption_accuracy
from text2image.results.caption_accuracy import Config
from text2image.results.subject import Subject

CONFIG = Config(captions=0, images=3, real_images=0, batch_size=64, seed=0, device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("digits")


def test_a_model_that_draws_real_images_gets_the_ceiling(folder):
    found = caption_accuracy.measure(CONFIG, drawing.subject(folder, drawing.real_of_dev))
    drawn, ceiling = found["drawn"], found["ceiling"]
    assert {name: group["right"]["captions"] for name, group in drawn.items()} == {
        "seen": 360, "held_out": 80, "other_wording": 52, "never_seen": 28}
    assert {name: group["right"]["images"] for name, group in drawn.items()} == {
        "seen": 1080, "held_out": 240, "other_wording": 156, "never_seen": 84}
    assert ceiling["seen"]["right"]["images"] == ceiling["held_out"]["right"]["images"] == 600
    # Nine in ten of all captions have two digits, of the images of test one in two: so other images of all captions are read.
    labels, classifier = small.examples()[1].labels, small.trained()
    for name, held_out in (("seen", False), ("held_out", True)):
        scenes = TRAIN.grammar.combinations(held_out).tolist()
        words = torch.tensor([VOCABULARY.known(mnist_captions.caption(*scene).split()) for scene in scenes]).repeat_interleave(5, 0)
        read = caption_accuracy.read(classifier, labels, drawing.real_of_dev(words, 99))
        again, numbers = right(read, labels.named(words, VOCABULARY)).double().mean().item(), drawn[name]["right"]
        assert again == pytest.approx(numbers["mean"], abs=numbers["high"] - numbers["low"]), name
        assert numbers["mean"] > 0.6 and numbers["high"] - numbers["low"] < 0.16
    assert found["headline"] == {"right": drawn["seen"]["right"]["mean"], "right_held_out": drawn["held_out"]["right"]["mean"]}
    assert all(str(row["digit"]) == next(iter(row["drawn"])) for row in found["held_out_digits"] if row["images"] > 20)


def test_the_same_images_get_the_same_number_drawn_and_real(folder):
    """A model that draws the images of test, of the captions of test."""
    subject = drawing.subject(folder, drawing.real)
    test = subject.splits("cpu")["test"]
    labels, classifier = small.examples()[1].labels, small.trained()
    at_once = caption_accuracy.read_real(subject, classifier, labels, replace(CONFIG, real_images=100))
    assert len(at_once.answers) == 200
    by_hand = labels.answers(classifier(datasets.as_float(test.images[:100])))
    assert torch.equal(at_once.answers[:100], by_hand)
    rows = torch.arange(100)
    share = caption_accuracy.summary(at_once.rows(rows), labels)["right"]["mean"]
    named = labels.named(test.captions[:100], VOCABULARY)
    of_caption: dict[tuple, list[bool]] = {}
    for answer, said in zip(by_hand.tolist(), named.tolist(), strict=True):
        of_caption.setdefault((*said,), []).append(all(a == n for a, n in zip(answer, said, strict=True) if n >= 0))
    assert share == pytest.approx(np.mean([np.mean(hits) for hits in of_caption.values()]), abs=0.02), "two wordings say the same"


def test_a_model_that_ignores_its_captions_gets_nothing(folder):
    found = caption_accuracy.measure(replace(CONFIG, captions=20, real_images=10), drawing.subject(folder, drawing.constant))
    assert found["headline"] == {"right": 0.0, "right_held_out": 0.0}
    assert found["drawn"]["seen"]["right"]["captions"] == 20


def test_captions_whose_scene_was_trained_on_in_other_words():
    """Counted from the two wordings themselves, not by the numbers of templates."""
    grammar = TRAIN.grammar
    shown = {}
    for scene in (*grammar.combinations(False).tolist(), *grammar.combinations(True).tolist()):
        words = torch.tensor([VOCABULARY.known(mnist_captions.caption(*scene).split())])
        shown.setdefault(tuple(small.examples()[1].labels.named(words, VOCABULARY)[0].tolist()), []).append(scene)
    expected = {tuple(scene) for scenes in shown.values() if len(scenes) == 2 for scene, other in (scenes, scenes[::-1])
                if grammar.is_held_out(*scene) and not grammar.is_held_out(*other)}
    held_out = [tuple(scene) for scene in grammar.combinations(True).tolist()]
    assert {scene for scene in held_out if grammar.trained_in_other_wording(*scene)} == expected
    assert len(expected) == 52


def test_captions_of_any_length_are_drawn_one_length_a_batch(monkeypatch):
    vocabulary = Vocabulary.count([["a", "red", "blue", "circle", "square", "above", "."]], 1)
    texts = ["a red circle .", "a red circle above a blue square .", "a blue square ."]
    captions = torch.from_numpy(pad([vocabulary.known(text.split()) for text in texts])[0]).long()
    sizes = ClassifierConfig("shapes", 3, 8, 8, (3,), 1, 5, ((0, 0),), 8, 8, shapes.OUTPUTS)
    seen = []

    def drawn(words: torch.Tensor, seed: int) -> torch.Tensor:
        assert (words > 0).all(), "no padding"
        seen.append(len(words))
        return words[:, 1].float()[:, None, None, None].expand(-1, 3, 8, 8) / 10  # tells its caption by its grey

    read = []
    monkeypatch.setattr(caption_accuracy, "read", lambda classifier, labels, images: images[:, 0, 0, :1].expand(-1, 7) * 10)
    found = caption_accuracy.read_drawn(drawing.Drawing((3, 8, 8), drawn), Classifier(sizes), shapes.Scenes(), vocabulary, captions,
                                        replace(CONFIG, images=5, batch_size=4), torch.device("cpu"))
    read = found.answers[:, 0].round().long()
    assert torch.equal(read, captions[:, 1].repeat_interleave(5)), "each image with its caption"
    assert sorted(seen) == [1, 2, 4, 4, 4] and found.named.shape == (15, 7)


def test_what_cannot_be_judged(folder, tmp_path):
    subject = drawing.subject(folder, drawing.real)
    with pytest.raises(UserError, match=r"no classifier of digits.* is named"):
        caption_accuracy.measure(CONFIG, Subject(subject.checkpoint, folder))
    with pytest.raises(UserError, match="no such classifier"):
        caption_accuracy.measure(CONFIG, Subject(subject.checkpoint, folder, tmp_path))
    sizes = ClassifierConfig("words", 1, 18, 18, (3,), 1, 5, ((0, 0),), 18, 18, ("dog",))
    network.save(tmp_path, Classifier(sizes))
    with pytest.raises(UserError, match="labels 'words' do not tell it: train a classifier of digit_places or shapes"):
        caption_accuracy.measure(CONFIG, Subject(subject.checkpoint, folder, tmp_path))
    network.save(tmp_path, Classifier(replace(sizes, labels="wrods")))
    with pytest.raises(UserError, match="labels is 'wrods'; it takes one of digit_places, shapes, words"):
        caption_accuracy.measure(CONFIG, Subject(subject.checkpoint, folder, tmp_path))
    network.save(tmp_path, small.trained())
    larger = Checkpoint(drawing.Drawing((3, 18, 18), drawing.real), VOCABULARY, TRAIN.grammar)
    with pytest.raises(UserError, match=r"reads images of \(C, H, W\) = \(1, 18, 18\), these are \(3, 18, 18\)"):
        caption_accuracy.measure(CONFIG, Subject(larger, folder, tmp_path))
