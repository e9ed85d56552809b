"""What is written and read back: prepared data, scenes, checkpoints, pictures."""

import contextlib
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.test_training import SMALL
from text2image import archives, checkpoints, datasets, figures, mnist_captions, sampling, seeds, shapes
from text2image.captions import PADDING, UNKNOWN, Vocabulary
from text2image.checkpoints import Checkpoint
from text2image.errors import UserError
from text2image.mnist_captions import VOCABULARY, Grammar
from text2image.model import AlignDRAW
from text2image.shapes import ShapesConfig


def make_checkpoint() -> Checkpoint:
    model = AlignDRAW(SMALL, len(VOCABULARY))
    model.reset(seeds.torch_generator(3, "weights"))
    return Checkpoint(model, VOCABULARY, Grammar.draw(5))


@pytest.fixture
def saved(tmp_path):
    checkpoints.save(tmp_path / "model.safetensors", make_checkpoint())
    return tmp_path / "model.safetensors"


def test_a_checkpoint_is_all_that_is_needed(saved):
    ours, again = make_checkpoint(), checkpoints.load(saved)
    assert again.model.config == ours.model.config
    assert again.vocabulary.words == ours.vocabulary.words
    assert again.grammar == ours.grammar
    assert all(torch.equal(value, again.model.state_dict()[name]) for name, value in ours.model.state_dict().items())
    assert [path.name for path in saved.parent.iterdir()] == ["model.safetensors"]


def rewrite(path, tensors=lambda t: t, metadata=lambda m: m) -> None:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        described = json.loads(file.metadata()["text2image"])
    save_file(tensors(load_file(path)), path, {"text2image": json.dumps(metadata(described))})


@pytest.mark.parametrize(("change", "words"), [
    ({"metadata": lambda m: m | {"version": 2}}, r"of version 2, newer than this code reads \(1\); update text2image"),
    ({"metadata": lambda m: m | {"config": m["config"] | {"latent": 9}}}, "weights and configuration differ"),
    ({"metadata": lambda m: m | {"config": m["config"] | {"latten": 9}}}, r"config\.latten': did you mean 'latent'\?"),
    ({"metadata": lambda m: {"version": 1}}, "its metadata is damaged"),
    ({"metadata": lambda m: m | {"version": "1"}}, "its metadata is damaged"),
    ({"metadata": lambda m: m | {"vocabulary": None}}, "its metadata is damaged"),
    ({"metadata": lambda m: m | {"vocabulary": ["a"]}}, "a vocabulary starts with"),
    ({"metadata": lambda m: [m]}, "its metadata is damaged"),
    ({"tensors": lambda t: {k: v for k, v in t.items() if k != "c0"}}, "weights and configuration differ at 'c0'"),
])
def test_a_checkpoint_of_another_kind_is_refused(saved, change, words):
    rewrite(saved, **change)
    with pytest.raises(UserError, match=words):
        checkpoints.load(saved)


def test_weights_of_another_project(tmp_path):
    save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match="not a checkpoint of this project"):
        checkpoints.load(tmp_path / "other.safetensors")


def test_equal_checkpoints_are_equal_files(saved):
    checkpoints.save(saved.with_name("again.safetensors"), make_checkpoint())
    assert saved.with_name("again.safetensors").read_bytes() == saved.read_bytes()


def test_a_checkpoint_missing_or_truncated(saved):
    content = saved.read_bytes()
    for size in (0, 4, 100, len(content) // 2, len(content) - 1):
        saved.write_bytes(content[:size])
        with pytest.raises(UserError, match="not a readable checkpoint"):
            checkpoints.load(saved)
    saved.unlink()
    with pytest.raises(UserError, match="no such checkpoint; `dvc pull` fetches it"):
        checkpoints.load(saved)


def test_prepared_pictures_come_back(tmp_path):
    rng = np.random.default_rng(0)
    arrays = (rng.integers(0, 256, (5, 3, 7, 11), np.uint8), rng.integers(1, 9, (10, 4)).astype(np.int32),
              np.full(10, 4, np.int32), np.arange(10, dtype=np.int32) // 2)
    datasets.write_images(tmp_path / "train.h5", *arrays)
    again = datasets.load(tmp_path / "train.h5")
    assert again.shape == (3, 7, 11)
    assert np.array_equal(again.images.numpy(), arrays[0])
    datasets.write_images(tmp_path / "same.h5", *arrays)
    assert (tmp_path / "same.h5").read_bytes() == (tmp_path / "train.h5").read_bytes(), "equal data are equal files"


@pytest.mark.parametrize("size", [0, 50, 1000])
def test_prepared_data_truncated(tmp_path, size):
    datasets.write_images(tmp_path / "train.h5", np.zeros((5, 1, 7, 7), np.uint8), np.ones((5, 2), np.int32),
                          np.full(5, 2), np.arange(5))
    (tmp_path / "train.h5").write_bytes((tmp_path / "train.h5").read_bytes()[:size])
    with pytest.raises(UserError, match="not readable as prepared data"):
        datasets.load(tmp_path / "train.h5")


def test_prepared_data_of_another_format(tmp_path):
    import h5py

    with h5py.File(tmp_path / "train.h5", "w") as h5:
        h5.attrs["format"] = "text2image prepared 9"
    with pytest.raises(UserError, match="its format is 'text2image prepared 9'"):
        datasets.load(tmp_path / "train.h5")


SHAPES = ShapesConfig(size=24, train=300, dev=300, test=20, captions=2, seed=1)


def nearest_colour(pixel: np.ndarray) -> str:
    return min(shapes.COLOURS, key=lambda name: np.abs(pixel.astype(int) - shapes.COLOURS[name]).sum())


def test_scenes_show_what_their_captions_say():
    """The colour that a caption names first is where it says, the second where it follows."""
    pictures, captions = shapes.draw_split("train", 300, SHAPES)
    checked = 0
    for row, text in captions:
        match = re.fullmatch(r"a (\w+) (\w+) above a (\w+) (\w+) \.", text)
        if match and {match[1], match[3]} <= shapes.COLOURS.keys():
            assert nearest_colour(pictures[row, 7, 12]) == match[1], text
            assert nearest_colour(pictures[row, 18, 12]) == match[3], text
            checked += 1
    assert checked > 20


def test_captions_vary_in_length_and_dev_has_words_that_training_has_not():
    words = {}
    for split in ("train", "dev"):
        _, captions = shapes.draw_split(split, 300, SHAPES)
        assert len(captions) == 600
        words[split] = {word for _, text in captions for word in text.split()}
        assert {len(text.split()) for _, text in captions} >= {4, 8, 10, 12, 16}
    once = {word for synonyms in shapes.ONCE.values() for word in synonyms}
    assert once <= words["train"]
    assert Vocabulary.count([text.split() for _, text in shapes.draw_split("train", 300, SHAPES)[1]], 2).words[1] == UNKNOWN
    assert not once & set(Vocabulary.count([text.split() for _, text in shapes.draw_split("train", 300, SHAPES)[1]], 2).words)
    assert words["dev"] - words["train"] <= set(shapes.UNSEEN.values())
    assert words["dev"] - words["train"]
    again = shapes.draw_split("dev", 300, SHAPES)
    assert np.array_equal(again[0], shapes.draw_split("dev", 300, SHAPES)[0])


def test_scenes_come_back(tmp_path):
    drawn = {split: shapes.draw_split(split, 20, SHAPES) for split in archives.SPLITS}
    archives.write_scenes(tmp_path, drawn)
    again = archives.read_scenes(tmp_path)
    for split, (pictures, captions) in drawn.items():
        assert np.array_equal(again[split][0], pictures)
        assert again[split][1] == captions
    for name in ("images-dev.npz", "captions.csv"):
        content = (tmp_path / name).read_bytes()
        for size in (0, 10, len(content) // 2, len(content) - 30):
            (tmp_path / name).write_bytes(content[:size])
            with contextlib.suppress(UserError):  # a table cut after a whole row is a shorter table
                archives.read_scenes(tmp_path)
                assert name == "captions.csv"
        (tmp_path / name).unlink()
        with pytest.raises(UserError, match="run `dvc repro` to draw the scenes again"):
            archives.read_scenes(tmp_path)
        (tmp_path / name).write_bytes(content)


def test_a_picture_depends_on_its_caption_and_its_seed_alone():
    checkpoint = make_checkpoint()
    captions = [checkpoint.vocabulary.encode(text) for text in ("the digit 1 is at the top left of the image .",
                                                                "the digit 3 is on the left of the digit 7 .")]
    device = torch.device("cpu")
    both = sampling.draw(checkpoint, captions, 3, 0, device)
    alone = sampling.draw(checkpoint, captions[1:], 2, 1, device)
    np.testing.assert_allclose(alone.pictures[0], both.pictures[1, 1:], rtol=1e-5, atol=1e-6)
    assert both.pictures.shape == (2, 3, 1, 18, 18)
    np.testing.assert_allclose(both.alphas.sum(-1), 1, rtol=1e-5)
    np.testing.assert_allclose(both.canvases[-1], both.pictures[:, 0], rtol=1e-5)


def test_held_out_captions_are_held_out():
    checkpoint = make_checkpoint()
    captions = sampling.held_out_captions(checkpoint, 6)
    assert len(set(captions)) == 6
    assert set(captions) <= {mnist_captions.caption(*row) for row in checkpoint.grammar.combinations(held_out=True)}
    assert sampling.held_out_captions(replace(checkpoint, grammar=None), 6) == []


def test_the_box_of_a_window_is_where_its_filters_are():
    checkpoint = make_checkpoint()
    parameters = torch.zeros(1, 5)  # the whole picture
    left, top, right, bottom = sampling._corners(parameters, checkpoint)[0].tolist()
    assert (left, top, right, bottom) == pytest.approx((0.5, 0.5, 17.5, 17.5))


@pytest.mark.parametrize("channels", [1, 3])
def test_figures(tmp_path, channels):
    rng = np.random.default_rng(0)
    pictures = rng.random((2, 3, channels, 8, 12))
    figures.grid(tmp_path / "grid.png", pictures, ["one", "two"])
    canvases, corners = rng.random((4, 2, channels, 8, 12)), np.tile([1.0, 2.0, 9.0, 6.0], (4, 2, 1))
    figures.film(tmp_path / "film.gif", canvases, corners, 5)
    figures.attended_words(tmp_path / "words.png", canvases, rng.random((4, 2, 5)), [["a", "red", "dog"], ["a", "cat"]])
    with Image.open(tmp_path / "film.gif") as film:
        assert (film.n_frames, film.size) == (5, (2 * (12 * 5 + 4), 8 * 5 + 4))
        film.seek(1)
        frame = np.asarray(film.convert("RGB")).astype(int)
        assert np.abs(frame[2 + 2 * 5, 2 + 5] - figures.INK).max() < 40, "the window's corner is drawn"
    for name in ("grid.png", "words.png"):
        first = (tmp_path / name).read_bytes()
        with Image.open(tmp_path / name) as image:
            assert min(image.size) > 60
        assert len(np.unique(np.asarray(Image.open(tmp_path / name).convert("L")))) > 10
        if name == "grid.png":
            figures.grid(tmp_path / name, pictures, ["one", "two"])
            assert (tmp_path / name).read_bytes() == first, "equal pictures are equal files"


def test_a_vocabulary_of_words_with_accents_survives_a_checkpoint(tmp_path):
    vocabulary = Vocabulary([PADDING, UNKNOWN, "café", "naïve"])
    checkpoints.save(tmp_path / "m.safetensors", Checkpoint(AlignDRAW(SMALL, 4), vocabulary, None))
    again = checkpoints.load(tmp_path / "m.safetensors")
    assert again.vocabulary.words == vocabulary.words
    assert again.grammar is None
    assert json.loads(json.dumps(again.vocabulary.words)) == list(vocabulary.words)
