"""The prepared format: written and read back, counted; files that are not what they should be."""

import json

import h5py
import numpy as np
import pytest

from text2image.data import datasets
from text2image.data.layout import Layout, Span
from text2image.data.mnist_captions import VOCABULARY, Grammar
from text2image.data.prepared import PreparedWriter
from text2image.data.vocabulary import Vocabulary
from text2image.errors import UserError, UserWarningLine


def test_prepared_images_come_back(tmp_path):
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
    with h5py.File(tmp_path / "train.h5", "w") as h5:
        h5.attrs["format"] = "text2image prepared 9"
    with pytest.raises(UserError, match="its format is 'text2image prepared 9'"):
        datasets.load(tmp_path / "train.h5")


def test_a_layout_of_an_older_version_is_named(tmp_path):
    with h5py.File(tmp_path / "train.h5", "w") as h5:
        h5.attrs["format"], h5.attrs["kind"] = "text2image prepared 1", "digits"
    with pytest.raises(UserError, match=r"is 'text2image prepared 1', this version reads 'text2image prepared 2'; run `dvc repro`"):
        datasets.load(tmp_path / "train.h5")


LAYOUT = Layout(17, top=Span(0, 1), bottom=Span(9, 12), left=Span(0, 2), right=Span(10, 12), middle=Span(4, 6))


def test_digits_are_kept_for_training_and_composed_for_the_rest(tmp_path):
    rng = np.random.default_rng(0)
    banks = {name: (rng.integers(0, 256, (count, 5, 5), np.uint8), np.arange(count, dtype=np.uint8) % 10)
             for name, count in (("train", 23), ("dev", 11), ("test", 13))}
    out = PreparedWriter(tmp_path)
    out.write_digits(banks, LAYOUT, {"dev": 7, "test": 3}, 1)
    assert out.counts == {"train": {"digits": 23}, "vocabulary": len(VOCABULARY), **{
        name: {"images": count, "captions": count, "unknown_words": 0} for name, count in (("dev", 7), ("test", 3), ("test_held_out", 3))}}
    train = datasets.load(tmp_path / "train.h5")
    assert (train.shape, train.layout, train.grammar) == ((1, 17, 17), LAYOUT, Grammar.from_seed(1))
    assert np.array_equal(train.digits.numpy(), banks["train"][0])
    with h5py.File(tmp_path / "train.h5") as h5:
        assert json.loads(h5.attrs["layout"])["bottom"] == {"min": 9, "max": 12}
    for name, bank, held_out in (("dev", "dev", False), ("test", "test", False), ("test_held_out", "test", True)):
        images, words = datasets.CaptionedDigits(*banks[bank], Grammar.from_seed(1), LAYOUT).compose(out.counts[name]["images"], held_out, 1, name)
        found = datasets.load(tmp_path / f"{name}.h5")
        assert np.array_equal(found.images.numpy(), images)
        assert np.array_equal(found.captions.numpy(), words)


def test_words_are_numbered_by_those_of_training(tmp_path):
    images = {name: np.full((count, 1, 2, 3), count, np.uint8) for name, count in (("train", 2), ("dev", 1))}
    captions = {"train": [(0, ["a", "dog"]), (1, ["a", "dog", "."]), (0, ["a", "cat"])], "dev": [(0, ["a", "zebra", "."])]}
    out = PreparedWriter(tmp_path)
    with pytest.warns(UserWarningLine) as shown:
        out.write_captioned(images, captions, min_count=2)
    assert [str(line.message).partition(" of the words")[0] for line in shown] == ["train: 28.6%", "dev: 66.7%"]
    assert Vocabulary.load(tmp_path / "vocabulary.json").words == ("<pad>", "UNK", "a", "dog")
    assert out.counts == {"vocabulary": 4, "train": {"images": 2, "captions": 3, "unknown_words": round(2 / 7, 6)},
                          "dev": {"images": 1, "captions": 1, "unknown_words": round(2 / 3, 6)}}
    train = datasets.load(tmp_path / "train.h5")
    assert train.captions.tolist() == [[2, 3, 0], [2, 3, 1], [2, 1, 0]]
    assert train.image_of_caption.tolist() == [0, 1, 0]
