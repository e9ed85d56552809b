"""Skip-thoughts: what the published encoder computes, from files as they are published; and converted ones that are damaged."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.sharpening import released_files as released
from tests.sharpening.released_files import BI, LANGUAGE, UNI, WORDS
from text2image.data import sharpening_files
from text2image.errors import UserError
from text2image.sharpening.skip_thoughts import SkipThoughts
from text2image.sources import sharpening

CAPTIONS = [["a", "red", "dog", "."], ["dog"], ["a", "caf\xe9"], ["Red", "a", "a", "dog", "unheard-of", "."]]


@pytest.fixture
def published(tmp_path):
    return released.write(tmp_path), tmp_path / sharpening.FOLDER


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
    sharpening.convert(folder, out)
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
    for half, name in sharpening_files.TABLES.items():
        assert np.array_equal(np.load(tmp_path / "out" / name), tables[half])
        assert isinstance(encoder.tables[half], np.memmap)
    assert encoder.rows["line\x85break"] == 7, "a line ends at \\n alone"


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
