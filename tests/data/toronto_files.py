"""A small set of the dataset host's files, as published."""

import pickle
from pathlib import Path

import numpy as np

from tests.files.test_pickles import python2
from text2image.data import toronto_arrays

SIDE, CAPTIONS = 8, 5
IMAGES = {"train": 12, "dev": 4, "test": 3}
WORDS = {"UNK": 1, "a": 2, "red": 3, "dog": 4, "caf\xe9": 5, ".": 6}


def write(folder: Path, kind=np.float32, side: int = SIDE, words: dict[str, int] = WORDS) -> dict[str, np.ndarray]:
    """A small set of files as published; the images' bytes by split."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    (folder / "dictionary.pkl").write_bytes(python2(words))
    images = {}
    for split in toronto_arrays.splits(side):
        count, names = IMAGES[split], toronto_arrays.names(split, side)
        images[split] = rng.integers(0, 256, (count, 3, side, side), np.uint8)
        flat = images[split].reshape(count, -1)
        np.save(folder / names.images, flat if kind == np.uint8 else (flat.astype(kind) / np.float32(255)).astype(kind))
        lengths = rng.integers(2, 7, (count * CAPTIONS, 1)).astype(np.int32)
        ids = rng.integers(1, len(words) + 1, (count * CAPTIONS, 7)).astype(np.int32) * (np.arange(7) < lengths)
        np.save(folder / names.captions, ids.astype(np.int32))
        np.save(folder / names.lengths, lengths)
        (folder / names.image_rows).write_bytes(python2({row: row // CAPTIONS for row in range(count * CAPTIONS)}))
    return images


def replace(folder: Path, name: str, change) -> None:
    """Change the array of a file."""
    np.save(folder / name, change(np.load(folder / name)))


def repickle(folder: Path, name: str, change) -> None:
    """Change the mapping of a file."""
    (folder / name).write_bytes(pickle.dumps(change(pickle.loads((folder / name).read_bytes(), encoding="latin1")), 2))
