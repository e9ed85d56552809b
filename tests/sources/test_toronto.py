"""The dataset host's captioned images: fetched from a mirror, through the pipeline, real ones among them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from dvc.utils.serialize import load_yaml

from pipeline import fetch
from tests.conftest import ROOT, Repository
from tests.data.toronto_files import CAPTIONS, IMAGES, SIDE, WORDS, repickle, replace, write
from tests.models.test_golden import golden_arrays, write_weights
from text2image.data import datasets, toronto_arrays
from text2image.data.vocabulary import Vocabulary, tokenize
from text2image.data.writer import SPLITS
from text2image.errors import UserError

N = toronto_arrays.names("train", SIDE)


def test_coco_through_the_pipeline(checkout, tmp_path):
    """From a mirror in the host's layout to bounds and images, with the paper's rule of 7 to 29 words made 3 to 6."""
    write(tmp_path / "mirror" / toronto_arrays.FOLDER)
    copy = Repository(checkout.copy(tmp_path / "text2image").path)
    copy.replace("params.yaml", "    # coco: {", "    coco: {")
    model = {"height": SIDE, "width": SIDE, "glimpses": 2, "infer_units": 8, "generate_units": 8, "latent": 4, "align_units": 8,
             "language_units": 4, "read_window": 3, "write_window": 3}
    train = {"epochs": 2, "schedule.after": 1, "min_words": 3, "max_words": 6, "batch_size": 4}
    copy.set_parameters({f"runs.coco.model.{k}": v for k, v in model.items()} | {f"runs.coco.train.{k}": v for k, v in train.items()}
                        | {"datasets.coco.fetch.side": SIDE,
                           "runs.coco.bounds.iwae_captions": 10, "runs.coco.bounds.iwae_samples": 2})
    said = copy.dvc("repro", "bounds@coco", "sample@coco", TEXT2IMAGE_MIRROR=str(tmp_path / "mirror"))
    assert "warning: the word 'bus' of the caption" in said
    measured = json.loads(copy.read("results/coco/bounds.json"))
    assert {split: numbers["captions"] for split, numbers in measured.items() if split != "headline"} == {s: n * CAPTIONS for s, n in IMAGES.items()}
    counts = json.loads(copy.read("results/datasets/coco.json"))
    assert (counts["vocabulary"], counts["skipped"]) == (len(WORDS) + 1, {"images": 0, "captions": 0})
    assert {split: (counts[split]["images"], counts[split]["captions"]) for split in IMAGES} == {
        split: (n, n * CAPTIONS) for split, n in IMAGES.items()}
    unknown = np.load(copy.path / "data/fetched/coco" / N.captions) == WORDS["UNK"]
    assert counts["train"]["unknown_words"] == round(unknown.sum() / np.load(copy.path / "data/fetched/coco" / N.lengths).sum(), 6) > 0
    rows = copy.read("plots/train/coco.tsv").splitlines()[1:]
    assert [row.split("\t")[2] for row in rows] == ["0.001", "0.0001"]


def test_flickr8k_from_a_mirror(checkout, mirror, tmp_path):
    """Real photographs and captions in the host's layout; the captions to draw are in their words. No host is known for them."""
    if not (mirror / toronto_arrays.FOLDER / "dictionary.pkl").is_file():
        pytest.skip(f"TEXT2IMAGE_MIRROR has no {toronto_arrays.FOLDER}")
    copy = checkout.copy(tmp_path / "text2image")
    copy.replace("params.yaml", "    # flickr8k: {", "    flickr8k: {")
    assert "error: the list of base URLs is empty: name at least one in params.yaml" in copy.stage("fetch", "flickr8k", "toronto", code=1)
    copy.stage("fetch", "flickr8k", "toronto", TEXT2IMAGE_MIRROR=str(mirror))
    copy.stage("preprocess", "flickr8k", "toronto")
    vocabulary = Vocabulary.load(copy.path / "data/prepared/flickr8k/vocabulary.json")
    counts = json.loads(copy.read("results/datasets/flickr8k.json"))
    for split in SPLITS:
        data = datasets.load(copy.path / f"data/prepared/flickr8k/{split}.h5")
        assert (counts[split]["images"], counts[split]["captions"]) == (len(data.images), len(data.lengths))
        assert data.images.dtype == torch.uint8, "bytes, where they lose nothing"
    assert counts["vocabulary"] == len(vocabulary)
    assert 0 < counts["dev"]["unknown_words"] < 0.2
    if counts["train"]["images"] < 6000:
        pytest.skip("the mirror has a part of Flickr8k, which may lack words of captions/flickr8k.yaml; the rest was checked")
    drawn = yaml.safe_load((ROOT / "captions/flickr8k.yaml").read_text(encoding="utf-8"))
    assert len(drawn) == 10
    for caption in drawn:
        assert " ".join(tokenize(caption)) == caption
        assert set(caption.split()) <= set(vocabulary.words), caption


@pytest.mark.parametrize(("name", "change", "other"), [
    (N.captions, lambda a: np.where(a == 6, 7, a), "dictionary.pkl"), (N.lengths, lambda a: a[:-1], N.captions),
    (N.lengths, lambda a: a % 6 + 1, N.captions), (N.image_rows, lambda d: {k: v for k, v in d.items() if k < 59}, N.captions),
    (N.images, lambda a: a[:-1], N.image_rows), ("dictionary.pkl", lambda d: {k: v for k, v in d.items() if v < 6}, N.captions),
    ("aligndraw.h5", lambda a: a | dict.fromkeys(("W_y_hLangEnc", "W_yRev_hLangEncRev"), np.zeros((6, 24), "f4")), "dictionary.pkl"),
    ("aligndraw.h5", lambda a: a | dict.fromkeys(("W_y_hLangEnc", "W_yRev_hLangEncRev"), np.zeros((9, 24), "f4")), "dictionary.pkl"),
    ("aligndraw.h5", lambda a: a, "dictionary.pkl")])
def test_of_files_that_contradict_each_other_both_are_fetched_again_and_no_other(tmp_path, monkeypatch, name, change, other):
    """Whichever of them is the wrong one: a mirror that has the right one puts an end to it."""
    folder, place = tmp_path / "mirror" / toronto_arrays.FOLDER, {"aligndraw.h5": tmp_path / "mirror"}
    write(folder)
    right = golden_arrays() | dict.fromkeys(("W_y_hLangEnc", "W_yRev_hLangEncRev"), np.zeros((7, 24), "f4"))
    write_weights(tmp_path / "mirror/aligndraw.h5", right)
    good = (place.get(name, folder) / name).read_bytes()
    if name == "aligndraw.h5":
        write_weights(tmp_path / "mirror/aligndraw.h5", change(golden_arrays()))
    else:
        (replace if name.endswith(".npy") else repickle)(folder, name, change)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TEXT2IMAGE_MIRROR", str(tmp_path / "mirror"))
    parameters = {"datasets": {"coco": {"fetch": {"base_urls": [], "weights": "aligndraw.h5", "side": SIDE}}}}
    with pytest.raises(UserError, match="fetch both again"):
        fetch.fetch(parameters, "coco", "toronto")
    everything = {*(n for split in IMAGES for n in toronto_arrays.names(split, SIDE)), "dictionary.pkl", "aligndraw.h5"}
    kept = {path.name for path in Path("state/fetch-coco").iterdir() if path.is_file()}
    assert kept == everything - {name, other}
    assert not Path("data/fetched/coco").exists()
    (place.get(name, folder) / name).write_bytes(good)
    fetch.fetch(parameters, "coco", "toronto")
    assert {path.name for path in Path("data/fetched/coco").iterdir()} == everything
    assert not Path("state/fetch-coco").exists()


def test_the_lengths_of_real_captions(mirror):
    """Every id up to a caption's length is one of its words, the full stop as well, and no mark of an end comes after them;
    training takes 7 <= length < 30 (coco/alignDraw.py:339, homogeneous-data.py:20), dev and test all."""
    folder = mirror / toronto_arrays.FOLDER
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    vocabulary = toronto_arrays.read_dictionary(folder / toronto_arrays.DICTIONARY)
    stop = vocabulary.words.index(".")
    runs = load_yaml(str(ROOT / "params.yaml"))["runs"]
    for split in SPLITS:
        names = toronto_arrays.names(split, 32)
        published, ids = np.load(folder / names.lengths), np.load(folder / names.captions)
        captions, lengths = toronto_arrays.read_caption_ids(folder / names.captions), toronto_arrays.read_lengths(folder / names.lengths)
        assert np.array_equal(lengths, published[:, -1])
        assert np.array_equal(lengths, (ids > 0).sum(1))
        ends = ids[np.arange(len(ids)), lengths - 1]
        assert (ends == stop).mean() > 0.3
        for row in range(0, len(ids), max(1, len(ids) // 50)):
            assert vocabulary.encode(" ".join(vocabulary.decode(captions[row]))) == ids[row, :lengths[row]].tolist()
        data = datasets.CaptionedImages(np.zeros((1, 1, 1, 1), np.uint8), captions, lengths, np.zeros_like(lengths))
        assert sum(data.sequential(100, 0).sizes) == len(ids)
        for run in ("coco", "coco_released"):
            train = runs[run]["train"]
            kept = data.filter_by_length(train["min_words"], train["max_words"])
            wanted = [n for n in published[:, -1] if n >= 7 and n < 30]
            assert sorted(kept.lengths) == sorted(wanted)
            batches = kept.shuffled(100, 0, 1)
            assert sum(batches.sizes) == len(wanted)
            assert {batches[i].words.shape[1] for i in range(len(batches))} == set(wanted)
