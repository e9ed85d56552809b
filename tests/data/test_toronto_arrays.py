"""The dataset host's files, in its own formats: read, checked alone and together, prepared a block at a time."""

import pickle
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.data.toronto_files import CAPTIONS, IMAGES, SIDE, WORDS, repickle, replace, write
from tests.files.test_pickles import python2
from tests.models.test_golden import golden_arrays, write_weights
from tests.sources.test_mnist import write_h5
from text2image.data import datasets, toronto_arrays
from text2image.data.digit_bank import DigitBank
from text2image.data.prepared import PreparedWriter
from text2image.data.vocabulary import Vocabulary
from text2image.errors import UserError, UserWarningLine
from text2image.files import released_arrays
from text2image.sources import mnist


@pytest.fixture
def folder(tmp_path) -> Path:
    write(tmp_path / "raw")
    return tmp_path / "raw"


def read(folder: Path, split: str = "train") -> toronto_arrays.Split:
    """As `fetch` reads them: each file by itself, then together."""
    for path, check in toronto_arrays.checks(SIDE).items():
        check(folder / Path(path).name)
    return toronto_arrays.read_split(folder, split, SIDE, toronto_arrays.read_dictionary(folder / "dictionary.pkl"))


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.uint8, ">f4"])
def test_files_become_prepared_data(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(toronto_arrays, "BLOCK_ROWS", 5)
    images = write(tmp_path / "raw", kind)
    vocabulary = toronto_arrays.read_dictionary(tmp_path / "raw/dictionary.pkl")
    assert vocabulary.words == ("<pad>", *WORDS)
    for split, expected in images.items():
        parts = read(tmp_path / "raw", split)
        datasets.write_images(tmp_path / f"{split}.h5", *parts)
        prepared = datasets.load(tmp_path / f"{split}.h5")
        assert np.array_equal(prepared.images.numpy(), expected), "bytes, where they lose nothing"
        assert prepared.image_of_caption.tolist() == [row // CAPTIONS for row in range(CAPTIONS * len(expected))]
        drawn, words, image_index, _ = prepared.sequential(100, 0)[0]
        assert vocabulary.decode(words[0].tolist()) == vocabulary.decode(parts.captions[np.flatnonzero(parts.lengths == 2)[0]].tolist())
        assert np.array_equal((drawn * 255).round().numpy().astype(np.uint8), expected[image_index.numpy()])


def test_floats_that_are_no_bytes_stay_floats(folder, tmp_path):
    rows = np.random.default_rng(1).random((12, 3 * SIDE * SIDE)).astype(np.float32)
    np.save(folder / toronto_arrays.names("train", SIDE).images, rows)
    datasets.write_images(tmp_path / "train.h5", *read(folder))
    assert np.array_equal(datasets.load(tmp_path / "train.h5").images.numpy().reshape(12, -1), rows)


def test_pickles_of_python_3_and_of_numpy_integers(folder):
    name = toronto_arrays.names("dev", SIDE).image_rows
    (folder / name).write_bytes(pickle.dumps({np.int64(row): np.int32(row // CAPTIONS) for row in range(20)}, 2))
    assert read(folder, "dev").image_of_caption.tolist() == [row // CAPTIONS for row in range(20)]


N = toronto_arrays.names("train", SIDE)


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
    (N.images, lambda a: a[:-1], f"{N.image_rows}: names image 11, {N.images} has 11"),
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
    (N.image_rows, lambda d: {k: v for k, v in d.items() if k != 7}, "its captions are not numbered 0 to 58"),
    (N.image_rows, lambda d: {k: v for k, v in d.items() if k < 59}, f"{N.image_rows}: 59 captions"),
    (N.image_rows, lambda d: d | {7: 12}, f"{N.image_rows}: names image 12"),
    (N.image_rows, lambda d: d | {7: -1}, "an image is below 0"),
    (N.image_rows, lambda d: d | {7: 2**40}, "an image is below 0 or above 2,147,483,647"),
    (N.image_rows, lambda d: d | {7: 1.5}, "it holds a float"),
    (N.image_rows, lambda d: {}, "it holds an empty dict"),
    (N.image_rows, lambda d: {str(k): v for k, v in d.items()}, "holds '0': 0"),
    ("dictionary.pkl", lambda d: {k: v for k, v in d.items() if k != "UNK"}, "it lacks the word 'UNK'"),
    ("dictionary.pkl", lambda d: d | {"cat": 3}, "do not have an id of 1 or more each"),
    ("dictionary.pkl", lambda d: d | {"cat": 0}, "do not have an id of 1 or more each"),
    ("dictionary.pkl", lambda d: d | {"cat": 10**9}, "do not have an id of 1 or more each"),
    ("dictionary.pkl", lambda d: list(d), "holds a list"),
    ("dictionary.pkl", lambda d: d | {"<pad>": 7}, "dictionary.pkl: a vocabulary holds every word once"),
    ("dictionary.pkl", lambda d: d | {"cat": "7"}, "it holds 'cat': '7'"),
])
def test_a_file_of_the_wrong_type_shape_or_range_or_that_contradicts_another(folder, name, change, words):
    (replace if name.endswith(".npy") else repickle)(folder, name, change)
    with pytest.raises(UserError) as error:
        read(folder)
    assert words in str(error.value)
    assert "fetch" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", [N.images, N.captions])
def test_an_array_in_fortrans_order_is_told_so(folder, name):
    replace(folder, name, np.asfortranarray)
    with pytest.raises(UserError, match=rf"{name}: its values lie in Fortran's order, column by column: save it again with numpy\.save\("):
        read(folder)
    replace(folder, name, np.ascontiguousarray)
    read(folder)


@pytest.mark.parametrize(("change", "words"), [
    (lambda a: (a > 0.5).astype(np.uint8), "its largest value is 1 of 255, so that all images are black: are they masks"),
    (lambda a: (a * 0).astype(np.int64), "its largest value is 0 of 255"),
    (lambda a: a / np.float32(255), "its largest value is 1 of 255, so that all images are black: .* divided by 255 once too often"),
    (lambda a: flipped(a, (3, 5)), r"1 of 2,304 values are not bytes divided by 255, the first 0\.\d+ in row 3, and all others are: is the file damaged"),
    (lambda a: flipped(flipped(a, (11, 191)), (0, 0)), "2 of 2,304 values are not bytes divided by 255, the first .* in row 0"),
    (lambda a: flipped(a.astype(np.float64), (3, 5)), None)])
def test_values_that_are_likely_to_mean_something_else_are_warned_of(folder, change, words):
    replace(folder, N.images, change)
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        toronto_arrays.check_images(folder / N.images)
    if words is None:
        assert not shown, "floats of another kind"
    else:
        assert any(re.search(f"{N.images}: {words}", str(line.message)) for line in shown)


def flipped(images: np.ndarray, at: tuple[int, int]) -> np.ndarray:
    """With one bit of one value flipped: the lowest but few of its mantissa."""
    changed = images.copy()
    changed.view(np.uint32 if images.dtype == np.float32 else np.uint64)[at] ^= 1 << 4
    return changed


@pytest.fixture
def checked(folder, monkeypatch):
    """What each kind of file of the host must be, by its name in the folder."""
    monkeypatch.setattr(mnist, "H5_SIZES", {"train": 3, "validation": 2, "test": 1})
    write_h5(folder / mnist.H5, DigitBank(np.full((6, 28, 28), 7, np.uint8), np.arange(6)))
    write_weights(folder / released_arrays.FILE, golden_arrays())
    checks = {Path(path).name: check for path, check in toronto_arrays.checks(SIDE).items()}
    return checks | {mnist.H5: mnist.read_h5, released_arrays.FILE: released_arrays.read}


KINDS = [*N, "dictionary.pkl", "mnist.h5", "aligndraw.h5"]


@pytest.mark.filterwarnings("ignore:.*not bytes divided by 255")
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
def test_a_gigabyte_of_images_takes_no_memory(tmp_path):
    """COCO's 82,783 training images, as a file with a hole for its data: read to the end within 300 MB."""
    path = tmp_path / "train-images-32x32.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (82_783, 3072)})
        file.truncate(file.tell() + 82_783 * 3072 * 4)
    program = ("import sys; from pathlib import Path; from text2image.data.toronto_arrays import Images\n"
               "images = Images(Path(sys.argv[1])); assert images.lossless and sum(len(b) for b in images) == 82_783\n"
               "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))")
    done = subprocess.run([sys.executable, "-c", program, str(path)], env={"PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 300 * 1024


def test_a_dictionary_is_read_as_it_was_typed(folder):
    """Python 2 wrote bytes: UTF-8 where that is what they are, and otherwise latin-1."""
    def vocabulary(words: list[str]) -> Vocabulary:
        (folder / "dictionary.pkl").write_bytes(python2({word: n for n, word in enumerate(words, 1)}))
        return toronto_arrays.read_dictionary(folder / "dictionary.pkl")

    assert vocabulary(["UNK", "caf\xc3\xa9", "na\xefve", "t.v.", "&"]).encode("café na\xefve t.v. & Café") == [2, 3, 4, 5, 2]
    assert vocabulary(["UNK", "caf\xc3\xa9", "caf\xe9"]).words[2:] == ("caf\xc3\xa9", "caf\xe9")
    (folder / "dictionary.pkl").write_bytes(python2({"UNK": 1, "dog": 3}))
    with pytest.warns(UserWarningLine, match="the word '2'"):
        assert toronto_arrays.read_dictionary(folder / "dictionary.pkl").encode("dog <2> UNK") == [3, 1, 1]


def test_headers_as_python_2_wrote_long_integers(folder):
    content = (folder / N.lengths).read_bytes()
    (folder / N.lengths).write_bytes(content.replace(b"(60, 1), }  ", b"(60L, 1L), }"))
    with pytest.warns(UserWarning, match="Python 2"):
        assert len(toronto_arrays.read_lengths(folder / N.lengths)) == 60


def test_the_side_is_in_the_names_of_the_files(folder):
    assert toronto_arrays.splits_in(folder) == dict.fromkeys(IMAGES, SIDE)
    (folder / toronto_arrays.names("test", SIDE).images).unlink()
    assert toronto_arrays.splits_in(folder) == {"train": SIDE, "dev": SIDE}
    (folder / toronto_arrays.names("train", 56).images).touch()
    with pytest.raises(UserError, match=r"holds 2 files train-images-SxS\.npy, not one"):
        toronto_arrays.splits_in(folder)


def test_prepared_with_their_own_ids_and_splits(folder, tmp_path):
    (tmp_path / "out").mkdir()
    out = PreparedWriter(tmp_path / "out")
    with pytest.warns(UserWarningLine, match=r"^(train|dev|test): \d\d\.\d% of the words of its captions are outside the vocabulary"):
        toronto_arrays.prepare(folder, out)
    assert {split: (out.counts[split]["images"], out.counts[split]["captions"]) for split in IMAGES} == {
        split: (count, count * CAPTIONS) for split, count in IMAGES.items()}
    assert Vocabulary.load(tmp_path / "out/vocabulary.json").words == ("<pad>", *WORDS)
    assert not (tmp_path / "out" / released_arrays.FILE).exists(), "no weights lie beside them"


@pytest.mark.parametrize(("name", "shape"), [(N.images, (-3, -192)), (N.captions, (-3, -4)), (N.lengths, (-1, -1)), (N.captions, (0, 4))])
def test_a_shape_below_one_is_refused(folder, name, shape):
    with (folder / name).open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<i4", "fortran_order": False, "shape": shape})
        file.write(bytes(4 * shape[0] * shape[1]))
    with pytest.raises(UserError, match=f"{name}: its shape .* is not one of 2 dimensions, rows first; fetch it again"):
        read(folder)


def test_ids_far_above_the_number_of_words_are_refused(folder, monkeypatch):
    monkeypatch.setattr(toronto_arrays, "MOST_IDS", 40)
    for number, right in ((40, True), (41, False)):
        repickle(folder, "dictionary.pkl", lambda words, number=number: {**words, "cat": number})
        if right:
            assert len(toronto_arrays.read_dictionary(folder / "dictionary.pkl")) == number + 1
        else:
            with pytest.raises(UserError, match="do not have an id of 1 or more each"):
                toronto_arrays.read_dictionary(folder / "dictionary.pkl")
