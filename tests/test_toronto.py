"""The dataset host's files, in its own formats: read, checked alone and together, prepared a block at a time."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT, Repository
from tests.test_pickles import python2
from text2image import datasets, toronto
from text2image.errors import UserError

SIDE, CAPTIONS = 8, 5
PICTURES = {"train": 12, "dev": 4, "test": 3}
WORDS = {"UNK": 1, "a": 2, "red": 3, "dog": 4, "caf\xe9": 5, ".": 6}


def write(folder: Path, kind=np.float32) -> dict[str, np.ndarray]:
    """A small set of files as published; the pictures' bytes by split."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    (folder / "dictionary.pkl").write_bytes(python2(WORDS))
    pictures = {}
    for split, count in PICTURES.items():
        names = toronto.names(split, SIDE)
        pictures[split] = rng.integers(0, 256, (count, 3, SIDE, SIDE), np.uint8)
        flat = pictures[split].reshape(count, -1)
        np.save(folder / names.images, flat if kind == np.uint8 else flat.astype(kind) / kind(255))
        lengths = rng.integers(2, 7, (count * CAPTIONS, 1)).astype(np.int32)
        ids = rng.integers(1, 7, (count * CAPTIONS, 7)).astype(np.int32) * (np.arange(7) < lengths)
        np.save(folder / names.captions, ids.astype(np.int32))
        np.save(folder / names.lengths, lengths)
        (folder / names.pictures).write_bytes(python2({row: row // CAPTIONS for row in range(count * CAPTIONS)}))
    return pictures


@pytest.fixture
def folder(tmp_path) -> Path:
    write(tmp_path / "raw")
    return tmp_path / "raw"


def read(folder: Path, split: str = "train") -> toronto.Split:
    return toronto.read_split(folder, split, SIDE, toronto.read_dictionary(folder / "dictionary.pkl"))


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.uint8])
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
        images, words, picture = prepared.in_order(100, 0)[0]
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
    (N.captions, lambda a: np.where(a == 6, 7, a), f"{N.captions}: holds the id 7, dictionary.pkl ends at 6"),
    (N.captions, lambda a: a[:, :5], "has room for 5"),
    (N.captions, lambda a: np.roll(a, 1, 1), "has not the"),
    (N.lengths, lambda a: a[:-1], f"{N.lengths}: 59 captions, {N.captions} has 60"),
    (N.lengths, lambda a: a[:, 0], f"{N.lengths}: its shape (60,) is not one of 2 dimensions"),
    (N.lengths, lambda a: a * 0, f"{N.lengths}: must hold one length of 1 or more a row"),
    (N.lengths, lambda a: a % 6 + 1, "has not the"),
    (N.pictures, lambda d: {k: v for k, v in d.items() if k != 7}, "its captions are not numbered 0 to 58"),
    (N.pictures, lambda d: {k: v for k, v in d.items() if k < 59}, f"{N.pictures}: 59 captions"),
    (N.pictures, lambda d: d | {7: 12}, f"{N.pictures}: names picture 12"),
    (N.pictures, lambda d: d | {7: -1}, "a picture is below 0"),
    (N.pictures, lambda d: {str(k): v for k, v in d.items()}, "holds '0': 0"),
    ("dictionary.pkl", lambda d: {k: v for k, v in d.items() if k != "UNK"}, "it lacks the word 'UNK'"),
    ("dictionary.pkl", lambda d: d | {"cat": 3}, "do not have an id of 1 or more each"),
    ("dictionary.pkl", lambda d: d | {"cat": 0}, "do not have an id of 1 or more each"),
    ("dictionary.pkl", lambda d: d | {"cat": 10**9}, "do not have an id of 1 or more each"),
    ("dictionary.pkl", lambda d: list(d), "holds a list"),
])
def test_a_file_of_the_wrong_type_shape_or_range_or_that_contradicts_another(folder, name, change, words):
    (replace if name.endswith(".npy") else repickle)(folder, name, change)
    with pytest.raises(UserError) as error:
        read(folder)
    assert words in str(error.value)
    assert "fetch" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", [*N, "dictionary.pkl"])
def test_a_file_cut_anywhere_is_refused(folder, name):
    whole = (folder / name).read_bytes()
    check = toronto.checks(SIDE)[f"{toronto.FOLDER}/{name}"]
    check(folder / name)
    step = max(1, len(whole) // 150)
    for size in [*range(0, len(whole), step), len(whole) - 1]:
        (folder / name).write_bytes(whole[:size])
        with pytest.raises(UserError, match=name):
            check(folder / name)
    (folder / name).write_bytes(whole + b"more" if name.endswith(".npy") else b"")
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
    rows = copy.read("plots/train/coco.tsv").splitlines()[1:]
    assert [row.split("\t")[2] for row in rows] == ["0.001", "0.0001"]
    replace(tmp_path / "mirror" / toronto.FOLDER, N.captions, lambda a: np.where(a == 6, 7, a))
    said = copy.dvc("repro", "-f", "fetch@coco", code=None, TEXT2IMAGE_MIRROR=str(tmp_path / "mirror"))
    assert f"error: {N.captions}: holds the id 7, dictionary.pkl ends at 6; fetch both again" in said
    assert not list((copy.path / "state/fetch-coco").glob("train-*")), "files that contradict each other are not kept"
    assert len(list((copy.path / "state/fetch-coco").glob("*.npy"))) == 6
