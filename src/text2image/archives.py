"""Raw data as it is published: the MNIST archive files, mnist.h5, scikit-learn's digits, and our own drawn scenes."""

import csv
import gzip
import hashlib
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from text2image.errors import UserError
from text2image.hdf5 import own_array

# SHA-256 of the decompressed bytes.
MNIST_FILES = {
    "train-images-idx3-ubyte.gz": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte.gz": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte.gz": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte.gz": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
IDX_IMAGES, IDX_LABELS = 2051, 2049
MNIST_H5 = "mnist.h5"
MNIST_H5_SIZES = {"train": 50_000, "validation": 10_000, "test": 10_000}
DIGITS_FILE = "digits.npz"
SCENES_IMAGES, SCENES_CAPTIONS = "images-{split}.npz", "captions.csv"
SPLITS = ("train", "dev", "test")
# What NumPy, HDF5, zip and csv raise at a file that is not what it should be.
UNREADABLE = (OSError, EOFError, KeyError, ValueError, TypeError, RuntimeError, zlib.error, zipfile.BadZipFile, csv.Error)


class Digits(NamedTuple):
    images: np.ndarray  # (N, S, S) uint8
    labels: np.ndarray  # (N,) uint8


def check_mnist_file(path: Path) -> None:
    """Raise UserError unless a file of the MNIST archive is whole and the one that we know."""
    content = _gunzip(path)
    digest = hashlib.sha256(content).hexdigest()
    if digest != MNIST_FILES[path.name]:
        _idx(path, content)  # a wrong magic number or shape says more than a digest
        raise UserError(f"{path.name}: SHA-256 of the decompressed bytes is {digest}, not {MNIST_FILES[path.name]}: "
                        "the file was altered; fetch it from another base URL")


def _gunzip(path: Path) -> bytes:
    try:
        return gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path.name}: not a whole gzip file ({error}); fetch it again") from error


def _idx(path: Path, content: bytes) -> np.ndarray:
    images = "images" in path.name
    magic, count = (int.from_bytes(content[i:i + 4], "big") for i in (0, 4))
    wanted = IDX_IMAGES if images else IDX_LABELS
    if magic != wanted:
        raise UserError(f"{path.name}: magic number {magic}, not {wanted}: not the IDX file its name says; fetch it again")
    header, item = (16, 784) if images else (8, 1)
    if images and (content[8:16] != (28).to_bytes(4, "big") * 2):
        rows, columns = (int.from_bytes(content[i:i + 4], "big") for i in (8, 12))
        raise UserError(f"{path.name}: pictures of {rows}x{columns}, not 28x28; fetch it again")
    if len(content) != header + count * item:
        raise UserError(f"{path.name}: {len(content) - header} bytes for {count} items, not {count * item}; fetch it again")
    flat = np.frombuffer(content, np.uint8, offset=header)
    return flat.reshape(-1, 28, 28) if images else flat


def read_mnist_archive(folder: Path) -> Digits:
    """The archive's 60,000 digits, then its 10,000."""
    arrays = {name: _idx(folder / name, _gunzip(folder / name)) for name in MNIST_FILES}
    return Digits(*(np.concatenate([a for name, a in arrays.items() if kind in name]) for kind in ("images", "labels")))


def read_mnist_h5(path: Path) -> Digits:
    """mnist.h5 of the dataset host, its splits in turn: float32 (N, 784) in [0, 1], read back to the bytes it was made from.

    Raises UserError unless it holds all of that.
    """
    parts = []
    try:
        with h5py.File(path, "r") as h5:
            for name, size in MNIST_H5_SIZES.items():
                for wanted, shape in ((name, (size, 784)), (f"{name}_labels", (size,))):
                    found = own_array(h5, wanted)
                    if found is None or found.shape != shape or found.dtype.kind not in "fiu":
                        raise UserError(f"{path.name}: '{wanted}' is {found}, not {shape} numbers; fetch it again")
                pictures, labels = h5[name][()], h5[f"{name}_labels"][()]
                if not (pictures.min() >= 0 and pictures.max() <= 1):
                    raise UserError(f"{path.name}: '{name}' has values outside [0, 1]; fetch it again")
                if not np.isin(labels, np.arange(10)).all():
                    raise UserError(f"{path.name}: '{name}_labels' has labels other than 0 to 9; fetch it again")
                as_bytes = np.rint(pictures * 255).astype(np.uint8)
                if np.abs(as_bytes / 255 - pictures).max() > 1e-6:
                    raise UserError(f"{path.name}: '{name}' is not bytes divided by 255; fetch it again")
                parts.append(Digits(as_bytes.reshape(-1, 28, 28), labels.astype(np.uint8)))
    except UNREADABLE as error:
        raise UserError(f"{path.name}: not readable as HDF5 ({error}); fetch it again") from error
    return Digits(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def write_digits(path: Path) -> None:
    """scikit-learn's 1,797 handwritten digits of 8x8 pixels in 17 shades (UCI, Alpaydin and Kaynak 1998)."""
    from sklearn.datasets import load_digits  # takes a second to import, and only here is it needed

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    np.savez_compressed(path, images=images, labels=digits.target.astype(np.uint8))


def read_digits(path: Path) -> Digits:
    """What `write_digits` wrote, in the order it is published."""
    try:
        with path.open("rb") as opened, np.load(opened) as file:
            return Digits(file["images"], file["labels"])
    except UNREADABLE as error:
        raise UserError(f"{path}: not readable ({error}); run `dvc repro` to fetch it again") from error


def cut(bank: Digits, sizes: Mapping[str, int]) -> dict[str, Digits]:
    """A bank of digits cut, in its order, into splits of `sizes`."""
    if sum(sizes.values()) > len(bank.images):
        raise UserError(f"the splits of the digits ask for {sum(sizes.values())}, the bank has {len(bank.images)}")
    ends = np.cumsum(list(sizes.values()))
    return {split: Digits(bank.images[end - sizes[split]:end], bank.labels[end - sizes[split]:end])
            for split, end in zip(sizes, ends, strict=True)}


def write_scenes(folder: Path, splits: Mapping[str, tuple[np.ndarray, list[tuple[int, str]]]]) -> None:
    """Drawn pictures, one .npz (N, H, W, 3) a split, and captions.csv: split, image, caption."""
    with (folder / SCENES_CAPTIONS).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["split", "image", "caption"])
        for split, (pictures, captions) in splits.items():
            np.savez_compressed(folder / SCENES_IMAGES.format(split=split), images=pictures)
            writer.writerows([split, image, caption] for image, caption in captions)


def read_scenes(folder: Path) -> dict[str, tuple[np.ndarray, list[tuple[int, str]]]]:
    """What `write_scenes` wrote."""
    try:
        with (folder / SCENES_CAPTIONS).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        splits = {}
        for split in SPLITS:
            with (folder / SCENES_IMAGES.format(split=split)).open("rb") as opened, np.load(opened) as archive:
                splits[split] = archive["images"], [(int(r["image"]), r["caption"]) for r in rows if r["split"] == split]
    except UNREADABLE as error:
        raise UserError(f"{folder}: not readable ({error}); run `dvc repro` to draw the scenes again") from error
    return splits
