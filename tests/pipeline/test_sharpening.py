"""Sharpening through the pipeline: a network of our own from training to images, and the authors' from its hosts' files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from dvc.utils.serialize import load_yaml

from pipeline.sharpen import sharpen
from pipeline.train_sharpener import train_sharpener
from tests.conftest import Repository, shared
from tests.pipeline.test_pipeline import refused
from tests.sharpening import released_files as released
from text2image.data import sharpening_files, toronto_arrays
from text2image.data.vocabulary import tokenize
from text2image.errors import UserError
from text2image.models import checkpoints
from text2image.results.sampling import load_samples
from text2image.sharpening import generator, skip_thoughts
from text2image.sources import sharpening

OWN = "models/sharpeners/shapes"
THEIRS = "data/prepared/sharpening"
SMALL = {"filters": 4, "discriminator_filters": 4, "epochs": 1, "epoch_size": 64, "dev_size": 20}


@pytest.fixture(scope="module")
def sharpened(short, tmp_path_factory) -> Repository:
    """With a sharpener trained for shapes, and what it makes of the samples. Read only: `copy` it to change it."""
    def build(path: Path) -> None:
        repository = short.copy(path)
        repository.set_parameters({f"runs.shapes.train_sharpener.{name}": value for name, value in SMALL.items()} | {
            "runs.shapes.sharpen.dev_size": 30, "runs.shapes.sharpen.bound_captions": 20, "pipeline.sharpeners.shapes": {"dataset": "shapes", "remote": ""},
            "pipeline.sharpened.shapes": {"dataset": "shapes", "sharpener": OWN, "conditioning": "h_lang", "remote": ""}})
        said = repository.dvc("repro", "sharpen@shapes", "evaluate@shapes", "report")
        assert "sharpener shapes: epoch 1  step " in said
        repository.commit()

    return shared(tmp_path_factory, "sharpened", build)


@pytest.fixture
def copy(sharpened, tmp_path) -> Repository:
    return sharpened.copy(tmp_path / "text2image")


def drawn_images(repository: Repository) -> tuple[np.ndarray, np.ndarray]:
    with np.load(repository.path / "data/sharpened/shapes.npz") as file:
        return file["before"], file["after"]


def test_what_training_and_sharpening_leave(sharpened):
    before, after = drawn_images(sharpened)
    with np.load(sharpened.path / "data/samples/shapes.npz") as file:
        assert np.array_equal(before, file["images"])
    assert after.shape == before.shape
    assert ((after >= 0) & (after <= 1)).all()
    assert not np.array_equal(before, after)
    for name in ("grid.png", "dev.png"):
        assert (sharpened.path / "sharpened/shapes" / name).stat().st_size > 1000
    metrics = json.loads(sharpened.read("results/shapes/sharpen.json"))
    assert metrics["samples"]["images"] == before.shape[0] * before.shape[1]
    assert metrics["dev"]["captions"] == 30
    assert metrics["dev"]["coarse_error"] == metrics["dev"]["real_energy"]
    assert set(metrics["bounds"]) == {"train", "dev", "test"}
    for numbers in metrics["bounds"].values():
        assert numbers["captions"] == 20
        assert numbers["sharpened_elbo"]["mean"] != numbers["elbo"]["mean"] < 0 < numbers["difference"]["se"]
    assert metrics["dev"]["sharpened_error"]["mean"] > 0 < metrics["dev"]["sharpened_error"]["se"]
    trained = json.loads(sharpened.read("results/shapes/train_sharpener.json"))
    assert trained["epochs"] == 1
    header, row = (line.split("\t") for line in sharpened.read("plots/train_sharpener/shapes.tsv").splitlines())
    assert trained["last"]["sharpened_error"] == float(row[header.index("sharpened_error")])
    assert json.loads(sharpened.dvc("status", "--json")) == {}
    assert not list((sharpened.path / "state").iterdir()), "the state goes when the run is done"


def test_what_a_change_runs_again(copy):
    copy.set_parameters({"runs.shapes.train_sharpener.learning_rate": 0.1})
    assert set(json.loads(copy.dvc("status", "--json"))) == {"train_sharpener@shapes"}
    copy.run("git", "checkout", "-q", "params.yaml")
    copy.set_parameters({"runs.shapes.sharpen.dev_size": 10})
    assert set(json.loads(copy.dvc("status", "--json"))) == {"sharpen@shapes"}


def test_sharpening_again_gives_the_same_images(copy):
    before = (copy.path / "data/sharpened/shapes.npz").read_bytes()
    copy.dvc("repro", "-f", "-s", "sharpen@shapes")
    assert (copy.path / "data/sharpened/shapes.npz").read_bytes() == before


def parameters(repository: Repository) -> dict:
    return load_yaml(str(repository.path / "params.yaml"))


def test_what_cannot_be_trained_or_sharpened(copy, monkeypatch):
    monkeypatch.chdir(copy.path)
    given = parameters(copy)
    with pytest.raises(UserError, match=r"digits: its vocabulary is not that of models/shapes/model\.safetensors"):
        train_sharpener(given, "shapes", "digits")
    with pytest.raises(UserError, match=r"\(C, H, W\) = \(3, 24, 24\), these are \(1, 18, 18\)"):
        sharpen(given, "shapes", "digits", OWN, "h_lang")
    given["runs"]["shapes"]["train_sharpener"] |= {
        "learning_rate": 100, "optimizer": {"kind": "sgd", "lr_decay": 1, "momentum_growth": 0, "max_momentum": 0}, "mse_weight": 1e6}
    with pytest.raises(UserError, match=r"lower train_sharpener\.learning_rate"):
        train_sharpener(given, "shapes", "shapes")
    assert Path(OWN, generator.FILE).exists(), "what was there is still there"
    model = Path("models/shapes/model.safetensors")
    checkpoint = checkpoints.load(model)
    with torch.no_grad():
        checkpoint.model.caption_encoder.h0 += 1
    model.unlink()
    checkpoints.save(model, checkpoint)
    with pytest.raises(UserError, match="was trained with the captions of another model; `dvc repro` trains it again"):
        sharpen(given, "shapes", "shapes", OWN, "h_lang")
    assert not list(copy.path.rglob("*.partial*")), "something is half-written"


def test_samples_that_are_damaged_or_none(tmp_path):
    path, drawn = tmp_path / "shapes.npz", np.random.default_rng(0).random((2, 3, 3, 5, 4), np.float32)
    good = {"images": drawn, "captions": np.array(["a circle .", "a square ."])}
    np.savez_compressed(path, **good)
    whole = path.read_bytes()
    found, captions = load_samples(path)
    assert np.array_equal(found.numpy(), drawn)
    assert captions == ["a circle .", "a square ."]
    for content in (*(whole[:size] for size in range(0, len(whole), 40)), b"<html></html>", b"\x93NUMPY" + whole):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"shapes\.npz: not readable as samples .*; run `dvc repro` to draw them again"):
            load_samples(path)
    for damage in ({"images": drawn + 1}, {"images": -drawn}, {"images": drawn * np.float32("nan")}, {"images": drawn.astype(str)},
                   {"images": drawn.astype(np.float64)}, {"images": drawn[0]}, {"images": drawn[:0]}, {"captions": good["captions"][1:]},
                   {"captions": np.arange(2)}, {"captions": np.array("a circle .")}, {"captions": np.array([None, None])}):
        np.savez(path, **good | damage)
        with pytest.raises(UserError, match=r"shapes\.npz: .*; run `dvc repro` to draw them again"):
            load_samples(path)


@pytest.fixture
def theirs(copy, tmp_path) -> tuple[Repository, str]:
    """The authors' network, made for images of 24x24 so that it fits the run shapes, and its page as a folder."""
    released.write(tmp_path / "mirror")
    released.write_gan(tmp_path / "mirror" / toronto_arrays.FOLDER / sharpening.GAN, released.gan(np.random.default_rng(0), 24))
    copy.set_parameters({"pipeline.datasets.sharpening": {"source": "sharpening", "remote": "scratch"},
                         "pipeline.sharpened.shapes": {"dataset": "shapes", "sharpener": THEIRS, "conditioning": "skip_thoughts", "remote": ""},
                         "pipeline.sharpened.digits": {"dataset": "digits", "sharpener": THEIRS, "conditioning": "skip_thoughts", "remote": ""},
                         "runs.digits.sharpen": {"dev_size": 10, "bound_captions": 10, "batch_size": 10, "seed": 0, "device": "cpu"}})
    return copy, str(tmp_path / "mirror")


def test_the_authors_network_through_the_pipeline(theirs):
    repository, mirror = theirs
    repository.dvc("repro", "sharpen@shapes", TEXT2IMAGE_MIRROR=mirror)
    before, after = drawn_images(repository)
    network = generator.load(repository.path / THEIRS)
    assert network.config.conditioning == sharpening_files.SKIP_THOUGHTS
    with np.load(repository.path / "data/samples/shapes.npz") as file:
        vectors = skip_thoughts.SkipThoughts(repository.path / THEIRS).encode([tokenize(str(text)) for text in file["captions"]])
    by_hand = network.sharpen(torch.from_numpy(before[2]), vectors[2].expand(len(before[2]), -1)).numpy()
    assert np.allclose(after[2], by_hand, atol=1e-6)
    assert "sharpens images of (C, H, W) = (3, 24, 24), these are (1, 18, 18)" in refused(
        repository, "sharpen", "digits", "digits", THEIRS, "skip_thoughts")
