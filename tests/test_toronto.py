"""The dataset host's files, in its own formats: read, checked alone and together, prepared a block at a time."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from dvc.utils.serialize import load_yaml

from pipeline import fetch
from tests.conftest import ROOT, Repository
from tests.test_fetching import write_h5
from tests.test_golden import golden_arrays, write_weights
from tests.test_pickles import python2
from text2image import archives, datasets, released_arrays, toronto
from text2image.captions import Vocabulary, tokenize
from text2image.errors import UserError, UserWarningLine

SIDE, CAPTIONS = 8, 5
PICTURES = {"train": 12, "dev": 4, "test": 3}
WORDS = {"UNK": 1, "a": 2, "red": 3, "dog": 4, "caf\xe9": 5, ".": 6}


def write(folder: Path, kind=np.float32, side: int = SIDE, words: dict[str, int] = WORDS) -> dict[str, np.ndarray]:
    """A small set of files as published; the pictures' bytes by split."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    (folder / "dictionary.pkl").write_bytes(python2(words))
    pictures = {}
    for split in toronto.splits(side):
        count, names = PICTURES[split], toronto.names(split, side)
        pictures[split] = rng.integers(0, 256, (count, 3, side, side), np.uint8)
        flat = pictures[split].reshape(count, -1)
        np.save(folder / names.images, flat if kind == np.uint8 else (flat.astype(kind) / np.float32(255)).astype(kind))
        lengths = rng.integers(2, 7, (count * CAPTIONS, 1)).astype(np.int32)
        ids = rng.integers(1, len(words) + 1, (count * CAPTIONS, 7)).astype(np.int32) * (np.arange(7) < lengths)
        np.save(folder / names.captions, ids.astype(np.int32))
        np.save(folder / names.lengths, lengths)
        (folder / names.pictures).write_bytes(python2({row: row // CAPTIONS for row in range(count * CAPTIONS)}))
    return pictures


@pytest.fixture
def folder(tmp_path) -> Path:
    write(tmp_path / "raw")
    return tmp_path / "raw"


def read(folder: Path, split: str = "train") -> toronto.Split:
    """As `fetch` reads them: each file by itself, then together."""
    for path, check in toronto.checks(SIDE).items():
        check(folder / Path(path).name)
    return toronto.read_split(folder, split, SIDE, toronto.read_dictionary(folder / "dictionary.pkl"))


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.uint8, ">f4"])
def test_files_become_prepared_data(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(toronto, "BLOCK_ROWS", 5)
    pictures = write(tmp_path / "raw", kind)
    vocabulary = toronto.read_dictionary(tmp_path / "raw/dictionary.pkl")
    assert vocabulary.words == ("<pad>", *WORDS)
    for split, expected in pictures.items():
        parts = read(tmp_path / "raw", split)
        datasets.write_images(tmp_path / f"{split}.h5", *parts)
        prepared = datasets.load(tmp_path / f"{split}.h5")
        assert np.array_equal(prepared.images.numpy(), expected), "bytes, where they lose nothing"
        assert prepared.image_of_caption.tolist() == [row // CAPTIONS for row in range(CAPTIONS * len(expected))]
        images, words, picture, _ = prepared.in_order(100, 0)[0]
        assert vocabulary.decode(words[0].tolist()) == vocabulary.decode(parts.captions[np.flatnonzero(parts.lengths == 2)[0]].tolist())
        assert np.array_equal((images * 255).round().numpy().astype(np.uint8), expected[picture.numpy()])


def test_floats_that_are_no_bytes_stay_floats(folder, tmp_path):
    rows = np.random.default_rng(1).random((12, 3 * SIDE * SIDE)).astype(np.float32)
    np.save(folder / toronto.names("train", SIDE).images, rows)
    datasets.write_images(tmp_path / "train.h5", *read(folder))
    assert np.array_equal(datasets.load(tmp_path / "train.h5").images.numpy().reshape(12, -1), rows)


def test_pickles_of_python_3_and_of_numpy_integers(folder):
    name = toronto.names("dev", SIDE).pictures
    (folder / name).write_bytes(pickle.dumps({np.int64(row): np.int32(row // CAPTIONS) for row in range(20)}, 2))
    assert read(folder, "dev").image_of_caption.tolist() == [row // CAPTIONS for row in range(20)]


def replace(folder: Path, name: str, change) -> None:
    np.save(folder / name, change(np.load(folder / name)))


def repickle(folder: Path, name: str, change) -> None:
    (folder / name).write_bytes(pickle.dumps(change(pickle.loads((folder / name).read_bytes(), encoding="latin1")), 2))


N = toronto.names("train", SIDE)


@pytest.mark.parametrize(("name", "change", "words"), [
    (N.images, lambda a: a[:, :-1], "rows of 191 values are no 3 planes of 8x8"),
    (N.images, lambda a: a[:, :147], "rows of 147 values are no 3 planes of 8x8"),
    (N.images, lambda a: a * 255, "rows 0 to 11 hold values outside 0 to 1"),
    (N.images, lambda a: np.where(a == a.max(), np.nan, a), "hold values outside 0 to 1"),
    (N.images, lambda a: a - 0.1, "hold values outside 0 to 1"),
    (N.images, lambda a: (a * 300).astype(np.int64), "hold values outside 0 to 255"),
    (N.images, lambda a: a.astype(str), "holds <U"),
    (N.images, lambda a: a.ravel(), "its shape (2304,) is not one of 2 dimensions"),
    (N.images, lambda a: a[:0], "its shape (0, 192)"),
    (N.images, lambda a: np.asfortranarray(a), "is not one of 2 dimensions, rows first"),
    (N.images, lambda a: a[:-1], f"{N.pictures}: names picture 11, {N.images} has 11"),
    (N.captions, lambda a: a[:-1], f"{N.lengths}: 60 captions, {N.captions} has 59"),
    (N.captions, lambda a: a.astype(np.float32), f"{N.captions}: holds float32, not integers"),
    (N.captions, lambda a: a - 1, f"{N.captions}: holds the id -1"),
    (N.captions, lambda a: a.astype(np.int64) + 2**32, f"{N.captions}: holds the number {2**32 + 6}"),
    (N.captions, lambda a: np.where(a == 6, 7, a), f"{N.captions}: holds the id 7, dictionary.pkl ends at 6"),
    (N.captions, lambda a: a[:, :5], "has room for 5"),
    (N.captions, lambda a: np.roll(a, 1, 1), "has not the"),
    (N.lengths, lambda a: a[:-1], f"{N.lengths}: 59 captions, {N.captions} has 60"),
    (N.lengths, lambda a: a[:, 0], f"{N.lengths}: its shape (60,) is not one of 2 dimensions"),
    (N.lengths, lambda a: a.astype(np.uint64) + 2**63, f"{N.lengths}: holds the number"),
    (N.lengths, lambda a: np.hstack([a, a]), f"{N.lengths}: must hold one length of 1 or more a row"),
    (N.lengths, lambda a: a * 0, f"{N.lengths}: must hold one length of 1 or more a row"),
    (N.lengths, lambda a: a % 6 + 1, "has not the"),
    (N.pictures, lambda d: {k: v for k, v in d.items() if k != 7}, "its captions are not numbered 0 to 58"),
    (N.pictures, lambda d: {k: v for k, v in d.items() if k < 59}, f"{N.pictures}: 59 captions"),
    (N.pictures, lambda d: d | {7: 12}, f"{N.pictures}: names picture 12"),
    (N.pictures, lambda d: d | {7: -1}, "a picture is below 0"),
    (N.pictures, lambda d: d | {7: 2**40}, "a picture is below 0 or above 2,147,483,647"),
    (N.pictures, lambda d: d | {7: 1.5}, f"{N.pictures}: holds 7: 1.5"),
    (N.pictures, lambda d: {}, f"{N.pictures}: holds a dict, not rows"),
    (N.pictures, lambda d: {str(k): v for k, v in d.items()}, "holds '0': 0"),
    ("dictionary.pkl", lambda d: {k: v for k, v in d.items() if k != "UNK"}, "it lacks the word 'UNK'"),
    ("dictionary.pkl", lambda d: d | {"cat": 3}, "do not have an id of 1 or more each"),
    ("dictionary.pkl", lambda d: d | {"cat": 0}, "do not have an id of 1 or more each"),
    ("dictionary.pkl", lambda d: d | {"cat": 10**9}, "do not have an id of 1 or more each"),
    ("dictionary.pkl", lambda d: list(d), "holds a list"),
    ("dictionary.pkl", lambda d: d | {"<pad>": 7}, "dictionary.pkl: a vocabulary holds every word once"),
    ("dictionary.pkl", lambda d: d | {"cat": "7"}, "dictionary.pkl: holds 'cat': '7'"),
])
def test_a_file_of_the_wrong_type_shape_or_range_or_that_contradicts_another(folder, name, change, words):
    (replace if name.endswith(".npy") else repickle)(folder, name, change)
    with pytest.raises(UserError) as error:
        read(folder)
    assert words in str(error.value)
    assert "fetch" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.fixture
def checked(folder, monkeypatch):
    """What each kind of file of the host must be, by its name in the folder."""
    monkeypatch.setattr(archives, "MNIST_H5_SIZES", {"train": 3, "validation": 2, "test": 1})
    write_h5(folder / archives.MNIST_H5, archives.Digits(np.full((6, 28, 28), 7, np.uint8), np.arange(6)))
    write_weights(folder / released_arrays.FILE, golden_arrays())
    checks = {Path(path).name: check for path, check in toronto.checks(SIDE).items()}
    return checks | {archives.MNIST_H5: archives.read_mnist_h5, released_arrays.FILE: released_arrays.read}


KINDS = [*N, "dictionary.pkl", "mnist.h5", "aligndraw.h5"]


@pytest.mark.parametrize("name", KINDS)
def test_a_file_damaged_anywhere_is_taken_or_refused_in_one_line(folder, checked, name):
    """Three bytes of it altered, half of the time in its first 2,000, where headers are."""
    whole, check, rng = (folder / name).read_bytes(), checked[name], np.random.default_rng(0)
    refused = 0
    for n in range(200):
        content = np.frombuffer(whole, np.uint8).copy()
        content[rng.integers(0, len(whole) if n % 2 else min(len(whole), 2000), 3)] = rng.integers(0, 256, 3)
        (folder / name).write_bytes(content.tobytes())
        try:
            check(folder / name)
        except UserError as error:
            assert name in str(error)
            assert len(str(error)) < 400
            refused += 1
    assert refused > 10


@pytest.mark.parametrize("name", KINDS)
def test_a_file_cut_anywhere_is_refused(folder, checked, name):
    whole, check = (folder / name).read_bytes(), checked[name]
    check(folder / name)
    step = max(1, len(whole) // 150)
    for size in [*range(0, len(whole), step), len(whole) - 1]:
        (folder / name).write_bytes(whole[:size])
        with pytest.raises(UserError, match=name):
            check(folder / name)
    for content in (whole + b"more" if name.endswith(".npy") else b"", b"<html>no such page</html>"):
        (folder / name).write_bytes(content)
        with pytest.raises(UserError, match=name):
            check(folder / name)


def test_an_object_array_is_refused_unread(folder, tmp_path):
    class Attack:
        def __reduce__(self):
            return Path.touch, (tmp_path / "made-by-an-attack",)

    np.save(folder / N.captions, np.array([[Attack()]], object), allow_pickle=True)
    with pytest.raises(UserError, match="holds object, not integers"):
        read(folder)
    assert not (tmp_path / "made-by-an-attack").exists()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc to read the peak memory from")
def test_a_gigabyte_of_pictures_takes_no_memory(tmp_path):
    """COCO's 82,783 training pictures, as a file with a hole for its data: read to the end within 300 MB."""
    path = tmp_path / "train-images-32x32.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (82_783, 3072)})
        file.truncate(file.tell() + 82_783 * 3072 * 4)
    program = ("import sys; from pathlib import Path; from text2image.toronto import Images\n"
               "images = Images(Path(sys.argv[1])); assert images.lossless and sum(len(b) for b in images) == 82_783\n"
               "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))")
    done = subprocess.run([sys.executable, "-c", program, str(path)], env={"PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 300 * 1024


def test_coco_through_the_pipeline(checkout, tmp_path):
    """From a mirror in the host's layout to bounds and pictures, with the paper's rule of 7 to 29 words made 3 to 6."""
    write(tmp_path / "mirror" / toronto.FOLDER)
    copy = Repository(checkout.copy(tmp_path / "text2image").path)
    copy.replace("params.yaml", "    # coco: {", "    coco: {")
    model = {"height": SIDE, "width": SIDE, "glimpses": 2, "infer_units": 8, "generate_units": 8, "latent": 4, "align_units": 8,
             "language_units": 4, "read_window": 3, "write_window": 3}
    train = {"epochs": 2, "drop_after": 1, "least_words": 3, "most_words": 6, "batch_size": 4}
    copy.set_parameters({f"runs.coco.model.{k}": v for k, v in model.items()} | {f"runs.coco.train.{k}": v for k, v in train.items()}
                        | {"datasets.coco.fetch.side": SIDE,
                           "runs.coco.evaluate.importance_captions": 10, "runs.coco.evaluate.importance_samples": 2})
    said = copy.dvc("repro", "evaluate@coco", "sample@coco", TEXT2IMAGE_MIRROR=str(tmp_path / "mirror"))
    assert "warning: the word 'bus' of the caption" in said
    metrics = json.loads(copy.read("metrics/evaluate/coco.json"))
    assert {split: numbers["captions"] for split, numbers in metrics.items()} == {s: n * CAPTIONS for s, n in PICTURES.items()}
    counts = json.loads(copy.read("metrics/preprocess/coco.json"))
    assert (counts["vocabulary"], counts["skipped"]) == (len(WORDS) + 1, {"pictures": 0, "captions": 0})
    assert {split: (counts[split]["pictures"], counts[split]["captions"]) for split in PICTURES} == {
        split: (n, n * CAPTIONS) for split, n in PICTURES.items()}
    unknown = np.load(copy.path / "data/raw/coco" / N.captions) == WORDS["UNK"]
    assert counts["train"]["unknown_words"] == round(unknown.sum() / np.load(copy.path / "data/raw/coco" / N.lengths).sum(), 6) > 0
    rows = copy.read("plots/train/coco.tsv").splitlines()[1:]
    assert [row.split("\t")[2] for row in rows] == ["0.001", "0.0001"]


def test_flickr8k_from_a_mirror(checkout, mirror, tmp_path):
    """Real photographs and captions in the host's layout; the captions to draw are in their words. No host is known for them."""
    if not (mirror / toronto.FOLDER / "dictionary.pkl").is_file():
        pytest.skip(f"TEXT2IMAGE_MIRROR has no {toronto.FOLDER}")
    copy = checkout.copy(tmp_path / "text2image")
    copy.replace("params.yaml", "    # flickr8k: {", "    flickr8k: {")
    assert "error: the list of base URLs is empty: name at least one in params.yaml" in copy.stage("fetch", "flickr8k", code=1)
    copy.stage("fetch", "flickr8k", TEXT2IMAGE_MIRROR=str(mirror))
    copy.stage("preprocess", "flickr8k")
    vocabulary = Vocabulary.load(copy.path / "data/prepared/flickr8k/vocabulary.json")
    counts = json.loads(copy.read("metrics/preprocess/flickr8k.json"))
    for split in toronto.SPLITS:
        data = datasets.load(copy.path / f"data/prepared/flickr8k/{split}.h5")
        assert (counts[split]["pictures"], counts[split]["captions"]) == (len(data.images), len(data.lengths))
        assert data.images.dtype == torch.uint8, "bytes, where they lose nothing"
    assert counts["vocabulary"] == len(vocabulary)
    assert 0 < counts["dev"]["unknown_words"] < 0.2
    if counts["train"]["pictures"] < 6000:
        pytest.skip("the mirror has a part of Flickr8k, which may lack words of captions/flickr8k.yaml; the rest was checked")
    drawn = yaml.safe_load((ROOT / "captions/flickr8k.yaml").read_text(encoding="utf-8"))
    assert len(drawn) == 10
    for caption in drawn:
        assert " ".join(tokenize(caption)) == caption
        assert set(caption.split()) <= set(vocabulary.words), caption


@pytest.mark.parametrize(("name", "change", "other"), [
    (N.captions, lambda a: np.where(a == 6, 7, a), "dictionary.pkl"), (N.lengths, lambda a: a[:-1], N.captions),
    (N.lengths, lambda a: a % 6 + 1, N.captions), (N.pictures, lambda d: {k: v for k, v in d.items() if k < 59}, N.captions),
    (N.images, lambda a: a[:-1], N.pictures), ("dictionary.pkl", lambda d: {k: v for k, v in d.items() if v < 6}, N.captions),
    ("aligndraw.h5", lambda a: a | dict.fromkeys(("W_y_hLangEnc", "W_yRev_hLangEncRev"), np.zeros((6, 24), "f4")), "dictionary.pkl"),
    ("aligndraw.h5", lambda a: a | dict.fromkeys(("W_y_hLangEnc", "W_yRev_hLangEncRev"), np.zeros((9, 24), "f4")), "dictionary.pkl"),
    ("aligndraw.h5", lambda a: a, "dictionary.pkl")])
def test_of_files_that_contradict_each_other_both_are_fetched_again_and_no_other(tmp_path, monkeypatch, name, change, other):
    """Whichever of them is the wrong one: a mirror that has the right one puts an end to it."""
    folder, place = tmp_path / "mirror" / toronto.FOLDER, {"aligndraw.h5": tmp_path / "mirror"}
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
    parameters = {"datasets": {"coco": {"fetch": {"source": "toronto", "base_urls": [], "weights": "aligndraw.h5", "side": SIDE}}}}
    with pytest.raises(UserError, match="fetch both again"):
        fetch.fetch(parameters, "coco")
    everything = {*(n for split in PICTURES for n in toronto.names(split, SIDE)), "dictionary.pkl", "aligndraw.h5"}
    kept = {path.name for path in Path("state/fetch-coco").iterdir() if path.is_file()}
    assert kept == everything - {name, other}
    assert not Path("data/raw/coco").exists()
    (place.get(name, folder) / name).write_bytes(good)
    fetch.fetch(parameters, "coco")
    assert {path.name for path in Path("data/raw/coco").iterdir()} == everything
    assert not Path("state/fetch-coco").exists()


def test_a_dictionary_is_read_as_it_was_typed(folder):
    """Python 2 wrote bytes: UTF-8 where that is what they are, and otherwise latin-1."""
    def vocabulary(words: list[str]) -> Vocabulary:
        (folder / "dictionary.pkl").write_bytes(python2({word: n for n, word in enumerate(words, 1)}))
        return toronto.read_dictionary(folder / "dictionary.pkl")

    assert vocabulary(["UNK", "caf\xc3\xa9", "na\xefve", "t.v.", "&"]).encode("café na\xefve t.v. & Café") == [2, 3, 4, 5, 2]
    assert vocabulary(["UNK", "caf\xc3\xa9", "caf\xe9"]).words[2:] == ("caf\xc3\xa9", "caf\xe9")
    (folder / "dictionary.pkl").write_bytes(python2({"UNK": 1, "dog": 3}))
    with pytest.warns(UserWarningLine, match="the word '2'"):
        assert toronto.read_dictionary(folder / "dictionary.pkl").encode("dog <2> UNK") == [3, 1, 1]


def test_headers_as_python_2_wrote_long_integers(folder):
    content = (folder / N.lengths).read_bytes()
    (folder / N.lengths).write_bytes(content.replace(b"(60, 1), }  ", b"(60L, 1L), }"))
    with pytest.warns(UserWarning, match="Python 2"):
        assert len(toronto.read_lengths(folder / N.lengths)) == 60


def test_the_side_is_in_the_names_of_the_files(folder):
    assert toronto.found(folder) == dict.fromkeys(PICTURES, SIDE)
    (folder / toronto.names("test", SIDE).images).unlink()
    assert toronto.found(folder) == {"train": SIDE, "dev": SIDE}
    (folder / toronto.names("train", 56).images).touch()
    with pytest.raises(UserError, match=r"holds 2 files train-images-SxS\.npy, not one"):
        toronto.found(folder)


def test_the_lengths_of_real_captions(mirror):
    """Every id up to a caption's length is one of its words, the full stop as well, and no mark of an end comes after them;
    training takes 7 <= length < 30 (coco/alignDraw.py:339, homogeneous-data.py:20), dev and test all."""
    folder = mirror / toronto.FOLDER
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    vocabulary = toronto.read_dictionary(folder / toronto.DICTIONARY)
    stop = vocabulary.words.index(".")
    runs = load_yaml(str(ROOT / "params.yaml"))["runs"]
    for split in toronto.SPLITS:
        names = toronto.names(split, 32)
        published, ids = np.load(folder / names.lengths), np.load(folder / names.captions)
        captions, lengths = toronto.read_captions(folder / names.captions), toronto.read_lengths(folder / names.lengths)
        assert np.array_equal(lengths, published[:, -1])
        assert np.array_equal(lengths, (ids > 0).sum(1))
        ends = ids[np.arange(len(ids)), lengths - 1]
        assert (ends == stop).mean() > 0.3
        for row in range(0, len(ids), max(1, len(ids) // 50)):
            assert vocabulary.encode(" ".join(vocabulary.decode(captions[row]))) == ids[row, :lengths[row]].tolist()
        data = datasets.CaptionedImages(np.zeros((1, 1, 1, 1), np.uint8), captions, lengths, np.zeros_like(lengths))
        assert sum(data.in_order(100, 0).sizes) == len(ids)
        for run in ("coco", "coco_released"):
            train = runs[run]["train"]
            kept = data.of_lengths(train["least_words"], train["most_words"])
            wanted = [n for n in published[:, -1] if n >= 7 and n < 30]
            assert sorted(kept.lengths) == sorted(wanted)
            batches = kept.shuffled(100, 0, 1)
            assert sum(batches.sizes) == len(wanted)
            assert {batches[i].words.shape[1] for i in range(len(batches))} == set(wanted)
