"""The authors' sharpening files: read, checked alone and together, fetched and made into plain files."""

import hashlib
import io
import itertools
import zipfile
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors import safe_open

from pipeline.fetch import fetch
from pipeline.preprocess import preprocess
from tests.files.test_object_arrays import python2_table
from tests.sharpening import released_files as released
from tests.sharpening.released_files import BI, LANGUAGE, UNI, WORDS
from tests.sharpening.test_skip_thoughts import gru
from text2image.data import sharpening_files, toronto_arrays
from text2image.errors import UserError
from text2image.sharpening import generator
from text2image.sources import sharpening


@pytest.fixture
def published(tmp_path):
    return released.write(tmp_path), tmp_path / sharpening.FOLDER


def test_a_gru_of_the_published_size_is_the_same(tmp_path):
    """Words of 620 numbers and 1200 units, as of one direction of bi-skip."""
    rng = np.random.default_rng(1)
    weights = {name: array * 0.1 for name, array in released.gru(rng, 1200, "encoder_", 620).items()}
    np.savez(tmp_path / "uni_skip.npz", **weights)
    cell = torch.nn.GRU(620, 1200)
    cell.load_state_dict(sharpening.read_weights("uni", tmp_path / "uni_skip.npz"))
    x = rng.normal(size=(3, 620)).astype(np.float32)
    with torch.no_grad():
        last = cell(torch.from_numpy(x)[:, None])[1]
    assert np.allclose(last.flatten(), gru(x, weights, "encoder_"), atol=1e-5)


def check(folder: Path) -> None:
    for name, accepts in sharpening.checks().items():
        accepts(folder / Path(name).name)
    sharpening.check_together(folder, LANGUAGE)


def test_files_as_published_pass(published):
    check(published[1])


def resave(folder: Path, name: str, change) -> None:
    with np.load(folder / name) as file:
        arrays = dict(file)
    np.savez(folder / name, **change(arrays))


def relist(folder: Path, name: str, change) -> None:
    (folder / name).write_bytes(change((folder / name).read_bytes()))


def retable(folder: Path, name: str, change) -> None:
    (folder / name).write_bytes(python2_table(change(np.random.default_rng(2).normal(size=(len(WORDS), released.DIMENSION)))))


@pytest.mark.parametrize(("name", "how", "change", "words"), [
    ("dictionary.txt", relist, lambda b: b + b"one more\n", "utable.npy: 9 rows, dictionary.txt has 10 lines"),
    ("dictionary.txt", relist, lambda b: b.replace(b"UNK", b"unk"), "it lacks the word 'UNK'"),
    ("dictionary.txt", relist, lambda b: b + b"\xff\n", "not a list of words in UTF-8"),
    ("dictionary.txt", relist, lambda b: b"<html></html>", "it lacks the word 'UNK'"),
    ("dictionary.txt", relist, lambda b: b"", "it lacks the word 'UNK'"),
    ("utable.npy", retable, lambda t: list(t[1:]), "utable.npy: 8 rows, dictionary.txt has 9 lines"),
    ("btable.npy", retable, lambda t: list(t[:, 1:]), "btable.npy: rows of 4 numbers, bi_skip.npz takes 5"),
    ("btable.npy", retable, lambda t: list(t * np.nan), "hold what is no number"),
    ("uni_skip.npz", resave, lambda a: {k: v for k, v in a.items() if k != "encoder_Ux"}, "not readable as NumPy arrays"),
    ("uni_skip.npz", resave, lambda a: a | {"encoder_U": a["encoder_U"].T}, "which are those of no GRU"),
    ("uni_skip.npz", resave, lambda a: a | {"encoder_Wx": a["encoder_Wx"][0]}, "which are those of no GRU"),
    ("uni_skip.npz", resave, lambda a: a | {"encoder_bx": np.float32(1)}, "not readable as NumPy arrays"),
    ("uni_skip.npz", resave, lambda a: a | {"encoder_b": a["encoder_b"] * np.inf}, "'encoder_b' (float32) does not hold finite"),
    ("uni_skip.npz", resave, lambda a: a | {"encoder_b": a["encoder_b"].astype(int)}, "'encoder_b' (int64) does not hold"),
    ("uni_skip.npz", resave, lambda a: a | {"encoder_b": np.array([None] * 12)}, "'encoder_b' (object) does not hold finite"),
    ("uni_skip.npz", resave, lambda a: released.gru(np.random.default_rng(0), UNI + 1, "encoder_"), "make vectors of 13 numbers, the generator takes 12"),
    ("bi_skip.npz", resave, lambda a: {k: v for k, v in a.items() if "_r_" not in k}, "not readable as NumPy arrays"),
    ("bi_skip.npz", resave, lambda a: a | released.gru(np.random.default_rng(0), BI + 1, "encoder_r_"), "two directions differ in size"),
    ("bi_skip.npz", relist, lambda b: b"\x93NUMPY" + b, "not readable as NumPy arrays"),
])
def test_a_file_of_the_wrong_shape_or_range_or_that_contradicts_another(published, name, how, change, words):
    how(published[1], name, change)
    with np.errstate(invalid="ignore"), pytest.raises(UserError) as error:
        check(published[1])
    assert words in str(error.value)
    assert "fetch" in str(error.value)
    assert "\n" not in str(error.value)


def header(shape: tuple[int, ...], descr: object = "<f4") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue()


@pytest.mark.parametrize(("content", "words"), [
    (header((10**12,)), "'encoder_b' has 0 bytes of data, not float32 of shape (1000000000000,)"),
    (header((-1,)), "it says that its shape is (-1,)"),
    (header((3,)) + bytes(13), "'encoder_b' has 13 bytes of data, not float32 of shape (3,)"), (header((3,), "|O") + bytes(24), "(object) does not hold"),
    (header((3,), "|V1000000000"), "(|V1000000000) does not hold"), (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{", "not readable as NumPy arrays"),
    (b"\x93NUMPY\x01\x00\x10\x27" + b"[" * 10_000, "not readable as NumPy arrays")], ids=itertools.count())
def test_headers_are_compared_with_what_is_there_before_an_array_is_read(published, monkeypatch, content, words):
    path = published[1] / "uni_skip.npz"
    with zipfile.ZipFile(path) as whole:
        members = {name: whole.read(name) for name in whole.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, member in (members | {"encoder_b.npy": content}).items():
            archive.writestr(name, member)
    monkeypatch.setattr(sharpening, "_npz_array", lambda *_: pytest.fail("read"))
    with pytest.raises(UserError) as error:
        sharpening.read_weights("uni", path)
    assert words in str(error.value)
    assert len(str(error.value)) < 500


def test_no_file_has_more_to_read_than_the_published_ones(published, tmp_path, monkeypatch):
    monkeypatch.setattr(sharpening, "LARGEST_WEIGHTS", 800)
    with pytest.raises(UserError, match=r"uni_skip\.npz: its arrays have [0-9]+ bytes, more than such a file has; fetch it again"):
        sharpening.read_weights("uni", published[1] / "uni_skip.npz")
    with pytest.raises(UserError, match=r"gan\.hdf5: its arrays are too large for the authors' network; fetch it again"):
        sharpening.read_gan(tmp_path / toronto_arrays.FOLDER / sharpening.GAN)


@pytest.mark.parametrize("name", ["utable.npy", "uni_skip.npz", "bi_skip.npz"])
def test_a_file_cut_anywhere_is_refused(published, name):
    folder = published[1]
    whole = (folder / name).read_bytes()
    accepts = sharpening.checks()[f"{sharpening.FOLDER}/{name}"]
    for size in [*range(0, len(whole), max(1, len(whole) // 60)), len(whole) - 1]:
        (folder / name).write_bytes(whole[:size])
        with pytest.raises(UserError, match=name):
            accepts(folder / name)


def test_a_byte_of_the_weights_altered_is_noticed(published):
    folder = published[1]
    content = bytearray((folder / "bi_skip.npz").read_bytes())
    content[400] ^= 1
    (folder / "bi_skip.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"bi_skip\.npz: not readable as NumPy arrays \(Bad CRC-32"):
        check(folder)


def test_a_file_of_the_published_size_has_the_published_content(published, monkeypatch):
    folder = published[1]
    path = folder / "dictionary.txt"
    accepts = sharpening.checks()[f"{sharpening.FOLDER}/dictionary.txt"]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    change = partial(monkeypatch.setitem, sharpening.PUBLISHED, "dictionary.txt")
    change(sharpening.Published(path.stat().st_size, digest))
    accepts(path)
    change(sharpening.Published(path.stat().st_size, "0" * 64))
    with pytest.raises(UserError, match=f"SHA-256 is {digest}, not 0000000.*: the file was altered"):
        accepts(path)
    change(sharpening.Published(path.stat().st_size + 1, "0" * 64))
    accepts(path)
    assert all(len(known.sha256) == 64 for known in sharpening.PUBLISHED.values())


@pytest.mark.parametrize(("change", "words"), [
    ({"W_conv1": None}, "it lacks the array 'W_conv1'"), ({"skipthought2image-bias": None}, "it lacks the array 'skipthought2image-bias'"),
    ({"W_conv0": np.ones((4, 4, 7, 7))}, "'W_conv0' is (4, 4, 7, 7), by the other arrays it must be (4, 5, 7, 7)"),
    ({"W_conv0": np.ones((5, 7, 7))}, "which no generator has"), ({"W_conv1": np.ones((4, 4, 7, 5))}, "it must be (4, 4, 5, 5)"),
    ({"b_conv2": np.ones(4)}, "'b_conv2' is (4,), by the other arrays it must be (3,)"), ({"b_conv0": np.float32(1)}, "'b_conv0' is ()"),
    ({"W_conv2": np.ones((3, 4, 4, 4))}, "they must be odd"), ({"skipthought2image": np.ones((12, 63))}, "it must be (12, 49)"),
    ({"skipthought2image": np.ones((0, 64))}, "'skipthought2image' is (0, 64)"),
    ({"skipthought2image": np.ones((12, 64), int)}, "'skipthought2image' is int64"),
    ({"b_conv1": np.array(["1", "2"], h5py.string_dtype())}, "'b_conv1' is object of shape (2,), not an array of numbers"),
    ({"b_conv1": np.full(4, np.nan)}, "'b_conv1' holds what is no finite number"),
    ({"b_conv1": h5py.ExternalLink("/etc/passwd", "x")}, "it lacks the array 'b_conv1'"), ({"b_conv1": h5py.SoftLink("/b_conv0")}, "it lacks the array"),
])
def test_a_gan_of_the_wrong_shape_type_or_range(tmp_path, change, words):
    arrays = released.gan(np.random.default_rng(0)) | change
    released.write_gan(tmp_path / sharpening.GAN, {name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(UserError) as error:
        sharpening.read_gan(tmp_path / sharpening.GAN)
    assert str(error.value).startswith("gan.hdf5: ")
    assert words in str(error.value)
    assert str(error.value).endswith("fetch it again")


def test_a_gan_cut_anywhere_is_refused(tmp_path):
    path = tmp_path / sharpening.GAN
    released.write_gan(path, released.gan(np.random.default_rng(0)))
    whole = path.read_bytes()
    for size in [*range(0, len(whole), len(whole) // 100), len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match=r"gan\.hdf5: not readable as HDF5"):
            sharpening.read_gan(path)


def test_the_prepared_network_is_the_one_that_was_published(tmp_path):
    """As a sharpener that the project's own code saved: the same bytes."""
    released.write_gan(tmp_path / sharpening.GAN, released.gan(np.random.default_rng(3), side=9))
    gan = sharpening.read_gan(tmp_path / sharpening.GAN)
    sharpening.save_gan(gan, tmp_path / sharpening_files.SHARPENER)
    again = generator.load(tmp_path)
    assert all(torch.equal(value, gan.tensors[name]) for name, value in again.state_dict().items())
    assert again.state_dict().keys() == gan.tensors.keys()
    assert again.config == released.read_gan(tmp_path / sharpening.GAN).config
    generator.save(tmp_path / "saved.safetensors", again)
    with safe_open(tmp_path / "saved.safetensors", "pt") as one, safe_open(tmp_path / sharpening_files.SHARPENER, "pt") as other:
        assert one.metadata() == other.metadata()
    assert (tmp_path / "saved.safetensors").read_bytes() == (tmp_path / sharpening_files.SHARPENER).read_bytes()


PARAMETERS = {"seed": 1, "datasets": {"sharpening": {"fetch": {"base_urls": [], "models_urls": []}, "preprocess": {}}}}


def test_files_that_are_missing_damaged_or_contradict_each_other(tmp_path, monkeypatch):
    released.write(tmp_path / "mirror")
    models, host = tmp_path / "mirror" / sharpening.FOLDER, tmp_path / "mirror" / toronto_arrays.FOLDER
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("TEXT2IMAGE_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.delenv("TEXT2IMAGE_STATE", raising=False)

    def line() -> str:
        with pytest.raises(UserError) as error:
            fetch(PARAMETERS, "sharpening", "sharpening")
        assert not list(Path("data/fetched").iterdir()), "something is half-written"
        return str(error.value)

    for path in (host / sharpening.GAN, models / "btable.npy"):  # in the order in which they are fetched, and kept
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
    fetch(PARAMETERS, "sharpening", "sharpening")
    assert {file.name for file in Path("data/fetched/sharpening").iterdir()} == {sharpening.GAN, *sharpening.PUBLISHED}
    assert not kept.exists()
    preprocess(PARAMETERS, "sharpening", "sharpening")
    assert {file.name for file in Path("data/prepared/sharpening").iterdir()} == {
        sharpening_files.SHARPENER, sharpening_files.DICTIONARY, sharpening_files.GRUS, *sharpening_files.TABLES.values()}
    Path("data/fetched/sharpening", "uni_skip.npz").write_bytes(b"")
    with pytest.raises(UserError, match=r"uni_skip\.npz: not readable as NumPy arrays"):
        preprocess(PARAMETERS, "sharpening", "sharpening")
    assert [folder.name for folder in Path("data/prepared").iterdir()] == ["sharpening"], "something is half-written"
