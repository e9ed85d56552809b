"""Sharpening through the pipeline: a network of our own from training to pictures, and the authors' from its hosts' files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from dvc.utils.serialize import load_yaml

from pipeline.fetch import fetch
from pipeline.preprocess import preprocess
from pipeline.sharpen import read_samples, sharpen
from pipeline.train_sharpener import train_sharpener
from tests import released_sharpening as released
from tests.conftest import ROOT, Repository
from tests.test_pipeline import refused
from text2image import checkpoints, sharpener, skip_thoughts, toronto
from text2image.captions import tokenize
from text2image.errors import UserError

OWN = "models/sharpeners/shapes"
THEIRS = "data/prepared/sharpening"
SMALL = {"filters": 4, "discriminator_filters": 4, "epochs": 1, "epoch_size": 64, "dev_size": 20}


@pytest.fixture(scope="module")
def sharpened(short, tmp_path_factory) -> Repository:
    """With a sharpener trained for shapes, and what it makes of the samples. Read only: `copy` it to change it."""
    repository = short.copy(tmp_path_factory.mktemp("sharpened") / "text2image")
    repository.set_parameters({f"runs.shapes.train_sharpener.{name}": value for name, value in SMALL.items()} | {
        "runs.shapes.sharpen.dev_size": 30, "pipeline.sharpeners.shapes": {"dataset": "shapes", "remote": ""},
        "pipeline.sharpened.shapes": {"dataset": "shapes", "sharpener": OWN, "remote": ""}})
    said = repository.dvc("repro", "sharpen@shapes")
    assert "sharpener shapes: epoch 1  step " in said
    repository.commit()
    return repository


@pytest.fixture
def copy(sharpened, tmp_path) -> Repository:
    return sharpened.copy(tmp_path / "text2image")


def pictures(repository: Repository) -> tuple[np.ndarray, np.ndarray]:
    with np.load(repository.path / "data/sharpened/shapes.npz") as file:
        return file["before"], file["after"]


def test_what_training_and_sharpening_leave(sharpened):
    before, after = pictures(sharpened)
    with np.load(sharpened.path / "data/samples/shapes.npz") as file:
        assert np.array_equal(before, file["pictures"])
    assert after.shape == before.shape
    assert ((after >= 0) & (after <= 1)).all()
    assert not np.array_equal(before, after)
    for name in ("grid.png", "dev.png"):
        assert (sharpened.path / "sharpened/shapes" / name).stat().st_size > 1000
    metrics = json.loads(sharpened.read("metrics/sharpen/shapes.json"))
    assert metrics["samples"]["images"] == before.shape[0] * before.shape[1]
    assert metrics["dev"]["captions"] == 30
    assert metrics["dev"]["coarse_error"] == metrics["dev"]["real_energy"]
    assert metrics["dev"]["sharpened_error"]["mean"] > 0 < metrics["dev"]["sharpened_error"]["se"]
    trained = json.loads(sharpened.read("metrics/train_sharpener/shapes.json"))
    assert trained["epochs"] == 1
    header, row = (line.split("\t") for line in sharpened.read("plots/train_sharpener/shapes.tsv").splitlines())
    assert trained["last"]["sharpened_error"] == float(row[header.index("sharpened_error")])
    assert json.loads(sharpened.dvc("status", "--json")) == {}
    assert not list((sharpened.path / "state").iterdir()), "work in progress goes when the work is done"


def test_what_a_change_runs_again(copy):
    copy.set_parameters({"runs.shapes.train_sharpener.learning_rate": 0.1})
    assert set(json.loads(copy.dvc("status", "--json"))) == {"train_sharpener@shapes"}
    copy.run("git", "checkout", "-q", "params.yaml")
    copy.set_parameters({"runs.shapes.sharpen.dev_size": 10})
    assert set(json.loads(copy.dvc("status", "--json"))) == {"sharpen@shapes"}


def test_sharpening_again_gives_the_same_pictures(copy):
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
        sharpen(given, "shapes", "digits", OWN)
    given["runs"]["shapes"]["train_sharpener"]["learning_rate"] = 1e30
    with pytest.raises(UserError, match=r"lower train_sharpener\.learning_rate"):
        train_sharpener(given, "shapes", "shapes")
    assert Path(OWN, sharpener.FILE).exists(), "what was there is still there"
    model = Path("models/shapes/model.safetensors")
    checkpoint = checkpoints.load(model)
    with torch.no_grad():
        checkpoint.model.caption_encoder.h0 += 1
    model.unlink()
    checkpoints.save(model, checkpoint)
    with pytest.raises(UserError, match="was trained with the captions of another model; `dvc repro` trains it again"):
        sharpen(given, "shapes", "shapes", OWN)
    assert not list(copy.path.rglob("*.partial*")), "something is half-written"


def test_samples_that_are_damaged_or_none(tmp_path):
    path, drawn = tmp_path / "shapes.npz", np.random.default_rng(0).random((2, 3, 3, 5, 4), np.float32)
    good = {"pictures": drawn, "captions": np.array(["a circle .", "a square ."])}
    np.savez_compressed(path, **good)
    whole = path.read_bytes()
    found, captions = read_samples(path)
    assert np.array_equal(found.numpy(), drawn)
    assert captions == ["a circle .", "a square ."]
    for content in (*(whole[:size] for size in range(0, len(whole), 40)), b"<html></html>", b"\x93NUMPY" + whole):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"shapes\.npz: not readable as samples .*; run `dvc repro` to draw them again"):
            read_samples(path)
    for damage in ({"pictures": drawn + 1}, {"pictures": -drawn}, {"pictures": drawn * np.float32("nan")}, {"pictures": drawn.astype(str)},
                   {"pictures": drawn.astype(np.float64)}, {"pictures": drawn[0]}, {"pictures": drawn[:0]}, {"captions": good["captions"][1:]},
                   {"captions": np.arange(2)}, {"captions": np.array("a circle .")}, {"captions": np.array([None, None])}):
        np.savez(path, **good | damage)
        with pytest.raises(UserError, match=r"shapes\.npz: .*; run `dvc repro` to draw them again"):
            read_samples(path)


@pytest.fixture
def theirs(copy, tmp_path) -> tuple[Repository, str]:
    """The authors' network, made for pictures of 24x24 so that it fits the run shapes, and its page as a folder."""
    released.write(tmp_path / "mirror")
    released.write_gan(tmp_path / "mirror" / toronto.FOLDER / sharpener.GAN, released.gan(np.random.default_rng(0), 24))
    copy.set_parameters({"pipeline.datasets.sharpening": {"remote": "scratch"},
                         "pipeline.sharpened.shapes": {"dataset": "shapes", "sharpener": THEIRS, "remote": ""},
                         "pipeline.sharpened.digits": {"dataset": "digits", "sharpener": THEIRS, "remote": ""},
                         "runs.digits.sharpen": {"dev_size": 10, "batch_size": 10, "device": "cpu"}})
    return copy, str(tmp_path / "mirror")


def test_the_authors_network_through_the_pipeline(theirs):
    repository, mirror = theirs
    repository.dvc("repro", "sharpen@shapes", TEXT2IMAGE_MIRROR=mirror)
    before, after = pictures(repository)
    network = sharpener.load(repository.path / THEIRS)
    assert network.config.hears == sharpener.SKIP_THOUGHTS
    with np.load(repository.path / "data/samples/shapes.npz") as file:
        heard = skip_thoughts.SkipThoughts(repository.path / THEIRS).encode([tokenize(str(text)) for text in file["captions"]])
    by_hand = network.sharpen(torch.from_numpy(before[2]), heard[2].expand(len(before[2]), -1)).numpy()
    assert np.allclose(after[2], by_hand, atol=1e-6)
    assert "sharpens pictures of (C, H, W) = (3, 24, 24), these are (1, 18, 18)" in refused(
        repository, "sharpen", "digits", "digits", THEIRS)


def test_files_that_are_missing_damaged_or_contradict_each_other(tmp_path, monkeypatch):
    released.write(tmp_path / "mirror")
    models, host = tmp_path / "mirror" / skip_thoughts.FOLDER, tmp_path / "mirror" / toronto.FOLDER
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("TEXT2IMAGE_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.delenv("TEXT2IMAGE_STATE", raising=False)
    given = load_yaml(str(ROOT / "params.yaml"))

    def line() -> str:
        with pytest.raises(UserError) as error:
            fetch(given, "sharpening")
        assert not list(Path("data/raw").iterdir()), "something is half-written"
        return str(error.value)

    for path in (host / sharpener.GAN, models / "btable.npy"):  # in the order in which they are fetched, and kept
        content = path.read_bytes()
        path.write_bytes(content[:-9])
        assert line().startswith(f"cannot fetch {path.relative_to(tmp_path / 'mirror')}: {tmp_path / 'mirror'}: {path.name}: ")
        path.unlink()
        assert "No such file" in line()
        path.write_bytes(content)
    dictionary = (models / "dictionary.txt").read_bytes()
    (models / "dictionary.txt").write_bytes(dictionary + b"more\n")
    kept = Path("state/fetch-sharpening")
    (kept / "dictionary.txt").unlink(missing_ok=True)
    assert line() == "utable.npy: 9 rows, dictionary.txt has 10 lines; fetch both again"
    assert not [file for file in kept.iterdir() if file.is_file()], "files that contradict each other are not kept"
    (models / "dictionary.txt").write_bytes(dictionary)
    fetch(given, "sharpening")
    assert {file.name for file in Path("data/raw/sharpening").iterdir()} == {sharpener.GAN, *skip_thoughts.PUBLISHED}
    assert not kept.exists()
    Path("data/raw/sharpening", "uni_skip.npz").write_bytes(b"")
    with pytest.raises(UserError, match=r"uni_skip\.npz: not readable as NumPy arrays"):
        preprocess(given, "sharpening")
    assert not list(Path("data/prepared").iterdir()), "something is half-written"
