"""Classifiers, caption accuracy and diversity through the pipeline."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.diversity import diversity
from pipeline.train_classifier import train_classifier
from tests.conftest import Repository
from tests.pipeline.test_sharpening import parameters
from text2image.classifiers import network
from text2image.data import datasets
from text2image.errors import UserError


def read(repository: Repository, name: str) -> dict:
    return json.loads(repository.read(f"results/{name}.json"))


def test_what_repro_leaves_of_classifiers(short):
    for dataset, labels in (("digits", "digit_places"), ("shapes", "shapes")):
        classifier, result = network.load(short.path / "models/classifiers" / dataset), read(short, f"classifiers/{dataset}")
        assert classifier.config.labels == result["labels"] == labels
        assert result["epochs"] == 1 and result["parameters"] == sum(p.numel() for p in classifier.parameters())
        assert {"dev", "test"} <= set(result) and ("test_held_out" in result) == (dataset == "digits")
        assert result["steps"] == 200 / (25 if dataset == "digits" else 50) and 0 <= result["test"]["accuracy"] <= 1
        images = datasets.load(short.path / "data/prepared" / dataset / "test.h5").images[:3].float() / 255
        assert classifier.features(images).shape == (3, len(classifier.config.views) * classifier.config.features)


def test_what_repro_leaves_of_what_they_judge(short):
    rows = {run: json.loads(short.read(f"metrics/{run}.json")) for run in ("digits", "shapes")}
    assert rows["digits"].keys() >= {"right", "right_held_out", "diversity"}
    assert "right" in rows["shapes"] and "diversity" not in rows["shapes"], "of 200 images none share a caption by tens"
    digits, shapes = (read(short, f"{run}/caption_accuracy") for run in ("digits", "shapes"))
    assert {name: group["right"]["images"] for name, group in digits["drawn"].items() if name in ("seen", "held_out")} == {
        "seen": 10, "held_out": 10}
    assert set(shapes["drawn"]["test"]) == {"right", "colour", "shape", "relation", "size"}
    assert shapes["drawn"]["test"]["right"]["captions"] == 10
    for run in ("digits", "shapes"):
        found, samples = read(short, f"{run}/diversity"), short.path / f"data/samples/{run}.npz"
        assert found["nearest"]["training_images"] == 200
        with np.load(samples) as file:
            captions, each = file["images"].shape[:2]
        counted = sum(found["nearest"].get(name, {"images": 0})["images"] for name in ("samples", "samples_held_out"))
        assert counted == captions * each
        with Image.open(short.path / f"nearest/{run}.png") as image:
            assert image.height > 2 * captions * 30, "a row a caption, and one of its nearest training images"


def test_what_cannot_be_trained_or_compared(short, monkeypatch, tmp_path):
    monkeypatch.chdir(short.path)
    monkeypatch.setenv("TEXT2IMAGE_STATE", str(tmp_path))
    for dataset, labels, change, words in (
            ("digits", "digitplaces", {}, "'pipeline.classifiers.digits.labels' is 'digitplaces'; it takes one of digit_places, shapes"),
            ("shapes", "digit_places", {}, "'digit_places' are of MNIST with captions, and this dataset is none"),
            ("digits", "words", {"labels": {"words": 5}}, "'words' are of images with captions of their own"),
            ("shapes", "words", {}, "missing parameter 'datasets.shapes.train_classifier.labels.words'"),
            ("digits", "shapes", {"labels": {"word": 5}}, "unknown parameter 'datasets.digits.train_classifier.labels.word'"),
            ("digits", "shapes", {}, "'the digit .*' is no caption of the source shapes"),
            ("digits", "digit_places", {"pools": 5}, "'datasets.digits.train_classifier.pools' is 5: .* lower it"),
            ("digits", "digit_places", {"filters": []}, "'datasets.digits.train_classifier.filters' has 0 items"),
            ("digits", "digit_places", {"epochs": 0}, "'datasets.digits.train_classifier.epochs' is 0; it must be at least 1")):
        given = parameters(short)
        given["datasets"][dataset]["train_classifier"] |= change
        with pytest.raises(UserError, match=words):
            train_classifier(given, dataset, labels)
    given = parameters(short)
    given["runs"]["digits"]["diversity"]["images"] = 1
    with pytest.raises(UserError, match=r"'runs\.digits\.diversity\.images' is 1; it must be at least 2"):
        diversity(given, "digits", "digits")
    assert not list(tmp_path.iterdir()), "nothing was begun"
    assert torch.isfinite(network.load(short.path / "models/classifiers/digits").output.weight).all(), "what was there is still there"
