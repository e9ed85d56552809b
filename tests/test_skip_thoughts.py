"""Skip-thoughts: what the published encoder computes, from files as they are published; and files that are not."""

import hashlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import released_sharpening as released
from tests.released_sharpening import BI, LANGUAGE, UNI, WORDS
from tests.test_object_arrays import python2_table
from text2image import skip_thoughts
from text2image.errors import UserError
from text2image.skip_thoughts import SkipThoughts

CAPTIONS = [["a", "red", "dog", "."], ["dog"], ["a", "caf\xe9"], ["Red", "a", "a", "dog", "unheard-of", "."]]


@pytest.fixture
def published(tmp_path):
    return released.write(tmp_path), tmp_path / skip_thoughts.FOLDER


def gru(x: np.ndarray, w: dict[str, np.ndarray], prefix: str) -> np.ndarray:
    """The last state of the equations of skipthoughts.py: x (L, words)."""
    def sigmoid(v: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-v))

    W, b, U, Wx, Ux, bx = (w[prefix + name].astype(np.float64) for name in ("W", "b", "U", "Wx", "Ux", "bx"))
    h = np.zeros(len(bx))
    for x_t in x:
        r, u = np.split(sigmoid(x_t @ W + b + h @ U), 2)
        h = u * h + (1 - u) * np.tanh(x_t @ Wx + bx + r * (h @ Ux))
    return h


def by_hand(caption: list[str], weights: dict, tables: dict) -> np.ndarray:
    rows = {word: n for n, word in enumerate(WORDS)}  # the last of a word that is listed twice, as OrderedDict(zip()) has it
    uni, bi = (tables[half].astype(np.float64)[[rows.get(word, rows["UNK"]) for word in caption]] for half in ("uni", "bi"))
    halves = [gru(uni, weights["uni"], "encoder_"),
              np.concatenate([gru(bi, weights["bi"], "encoder_"), gru(bi[::-1], weights["bi"], "encoder_r_")])]
    return np.concatenate([half / np.linalg.norm(half) for half in halves])


def converted(folder: Path, out: Path) -> SkipThoughts:
    out.mkdir()
    skip_thoughts.convert(folder, out)
    return SkipThoughts(out)


def test_vectors_are_those_of_the_equations(published, tmp_path):
    (weights, tables, _), folder = published
    encoder = converted(folder, tmp_path / "out")
    vectors = encoder.encode(CAPTIONS)
    assert vectors.shape == (4, LANGUAGE) == (4, UNI + 2 * BI)
    assert vectors.dtype == torch.float32
    assert encoder.language == LANGUAGE
    assert np.allclose(vectors, np.stack([by_hand(caption, weights, tables) for caption in CAPTIONS]), atol=1e-6)
    assert np.allclose(vectors.norm(dim=1), 2**0.5)
    for caption, vector in zip(CAPTIONS, vectors, strict=True):
        assert torch.allclose(encoder.encode([caption])[0], vector, atol=1e-6), "whatever it is batched with"
    assert torch.equal(encoder.encode([["never", "heard"]]), encoder.encode([["UNK", "UNK"]]))
    with pytest.raises(UserError, match="a caption is empty"):
        encoder.encode([["a"], []])


def test_conversion_leaves_plain_tables(published, tmp_path):
    (_, tables, _), folder = published
    encoder = converted(folder, tmp_path / "out")
    for half, name in skip_thoughts.TABLES.items():
        assert np.array_equal(np.load(tmp_path / "out" / name), tables[half])
        assert isinstance(encoder.tables[half], np.memmap)
    assert encoder.rows["line\x85break"] == 7, "a line ends at \\n alone"


def test_a_gru_of_the_published_size_is_the_same(tmp_path):
    """Words of 620 numbers and 1200 units, as of one direction of bi-skip."""
    rng = np.random.default_rng(1)
    weights = {name: array * 0.1 for name, array in released.gru(rng, 1200, "encoder_", 620).items()}
    np.savez(tmp_path / "uni_skip.npz", **weights)
    cell = torch.nn.GRU(620, 1200)
    cell.load_state_dict(skip_thoughts.read_weights("uni", tmp_path / "uni_skip.npz"))
    x = rng.normal(size=(3, 620)).astype(np.float32)
    with torch.no_grad():
        last = cell(torch.from_numpy(x)[:, None])[1]
    assert np.allclose(last.flatten(), gru(x, weights, "encoder_"), atol=1e-5)


def check(folder: Path) -> None:
    for name, accepts in skip_thoughts.checks().items():
        accepts(folder / Path(name).name)
    skip_thoughts.check_together(folder, LANGUAGE)


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
    ("uni_skip.npz", resave, lambda a: a | {"encoder_b": np.array([None] * 12)}, "not readable as NumPy arrays"),
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


@pytest.mark.parametrize("name", ["utable.npy", "uni_skip.npz", "bi_skip.npz"])
def test_a_file_cut_anywhere_is_refused(published, name):
    folder = published[1]
    whole = (folder / name).read_bytes()
    accepts = skip_thoughts.checks()[f"{skip_thoughts.FOLDER}/{name}"]
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
    accepts = skip_thoughts.checks()[f"{skip_thoughts.FOLDER}/dictionary.txt"]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    change = partial(monkeypatch.setitem, skip_thoughts.PUBLISHED, "dictionary.txt")
    change(skip_thoughts.Published(path.stat().st_size, digest))
    accepts(path)
    change(skip_thoughts.Published(path.stat().st_size, "0" * 64))
    with pytest.raises(UserError, match=f"SHA-256 is {digest}, not 0000000.*: the file was altered"):
        accepts(path)
    change(skip_thoughts.Published(path.stat().st_size + 1, "0" * 64))
    accepts(path)
    assert all(len(known.sha256) == 64 for known in skip_thoughts.PUBLISHED.values())


@pytest.mark.parametrize(("name", "change", "words"), [
    ("encoder.safetensors", lambda b: b[:100], "not readable as converted skip-thoughts"),
    ("utable.npy", lambda b: b[:150], "not readable as converted skip-thoughts"),
    ("dictionary.txt", lambda b: b + b"more\n", "not float32 of (10, 5)"),
    ("dictionary.txt", None, "not readable as converted skip-thoughts"),
])
def test_a_converted_folder_that_is_damaged(published, tmp_path, name, change, words):
    converted(published[1], tmp_path / "out")
    path = tmp_path / "out" / name
    if change is None:
        path.unlink()
    else:
        content = change(path.read_bytes())
        path.unlink()  # it may be mapped into memory
        path.write_bytes(content)
    with pytest.raises(UserError) as error:
        SkipThoughts(tmp_path / "out")
    assert words in str(error.value)
    assert "run `dvc repro`" in str(error.value)
