"""Scenes of coloured shapes: drawn as their captions say, written and read back, prepared."""

import contextlib
import re

import numpy as np
import pytest

from text2image.data.prepared import PreparedWriter
from text2image.data.vocabulary import UNKNOWN, Vocabulary
from text2image.data.writer import SPLITS
from text2image.errors import UserError, UserWarningLine
from text2image.sources import shapes
from text2image.sources.shapes import FetchConfig, PrepareConfig, SceneConfig

SHAPES = SceneConfig(size=24, train=300, dev=300, test=20, captions=2, seed=1)


def nearest_colour(pixel: np.ndarray) -> str:
    return min(shapes.COLOURS, key=lambda name: np.abs(pixel.astype(int) - shapes.COLOURS[name]).sum())


def test_scenes_show_what_their_captions_say():
    """The colour that a caption names first is where it says, the second where it follows."""
    images, captions = shapes.draw_split("train", 300, SHAPES)
    checked = 0
    for row, text in captions:
        match = re.fullmatch(r"a (\w+) (\w+) above a (\w+) (\w+) \.", text)
        if match and {match[1], match[3]} <= shapes.COLOURS.keys():
            assert nearest_colour(images[row, 7, 12]) == match[1], text
            assert nearest_colour(images[row, 18, 12]) == match[3], text
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
    drawn = {split: shapes.draw_split(split, 20, SHAPES) for split in SPLITS}
    shapes.write_scenes(tmp_path, drawn)
    again = shapes.read_scenes(tmp_path)
    for split, (images, captions) in drawn.items():
        assert np.array_equal(again[split][0], images)
        assert again[split][1] == captions
    for name in ("images-dev.npz", "captions.csv"):
        content = (tmp_path / name).read_bytes()
        for size in (0, 10, len(content) // 2, len(content) - 30):
            (tmp_path / name).write_bytes(content[:size])
            with contextlib.suppress(UserError):  # a table cut after a whole row is a shorter table
                shapes.read_scenes(tmp_path)
                assert name == "captions.csv"
        (tmp_path / name).unlink()
        with pytest.raises(UserError, match="run `dvc repro` to draw the scenes again"):
            shapes.read_scenes(tmp_path)
        (tmp_path / name).write_bytes(content)


def test_fetched_and_prepared(tmp_path):
    config = SceneConfig(size=11, train=7, dev=3, test=2, captions=2, seed=5)
    for folder in ("raw", "prepared"):
        (tmp_path / folder).mkdir()
    shapes.fetch(FetchConfig(config), tmp_path / "raw", tmp_path / "kept", "here")
    out = PreparedWriter(tmp_path / "prepared")
    with pytest.warns(UserWarningLine) as shown:
        shapes.prepare(PrepareConfig(2), tmp_path / "raw", out, 1, "here")
    assert all("outside the vocabulary of 18 words" in str(line.message) for line in shown), "of seven scenes few words occur twice"
    assert {split: (out.counts[split]["images"], out.counts[split]["captions"]) for split in SPLITS} == {
        "train": (7, 14), "dev": (3, 6), "test": (2, 4)}
    assert {path.name for path in (tmp_path / "prepared").iterdir()} == {*(f"{split}.h5" for split in SPLITS), "vocabulary.json"}
    table = (tmp_path / "raw/captions.csv").read_text()
    first = table.splitlines()[1]
    assert first.startswith("train,0,")
    (tmp_path / "raw/captions.csv").write_text(table.replace(first, "train,0,#"))
    with pytest.raises(UserError, match="caption 1 of train is empty: give it at least one word"):
        shapes.prepare(PrepareConfig(2), tmp_path / "raw", out, 1, "here")
