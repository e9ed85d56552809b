"""`mnist`: MNIST, composed with captions as in the paper's appendix.

The archive's four IDX files, or mnist.h5 of the dataset host, which holds the same 70,000 digits.
"""

import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Literal

import h5py
import numpy as np

from text2image.data import digit_bank
from text2image.data.digit_bank import ComposeConfig, DigitBank
from text2image.data.writer import Writer
from text2image.errors import UserError
from text2image.files import download
from text2image.files.download import Expected
from text2image.files.hdf5 import UNREADABLE, own_array, read_numbers

# SHA-256 of the decompressed bytes.
IDX_FILES = {
    "train-images-idx3-ubyte.gz": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte.gz": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte.gz": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte.gz": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
IDX_IMAGES, IDX_LABELS = 2051, 2049  # magic numbers
HEADER = {"images": 16, "labels": 8}   # bytes
ITEM = {"images": 784, "labels": 1}
LEAST_IDX = 1 << 12                    # bytes that any packed file may have
GZIP = 16 + zlib.MAX_WBITS             # zlib's word for a gzip header and trailer
H5 = "mnist.h5"
H5_SIZES = {"train": 50_000, "validation": 10_000, "test": 10_000}
LARGEST_FILE = {"images": 1 << 26, "labels": 1 << 17, H5: 1 << 29}  # uncompressed 47 million, 60,000; 440 million in float64
LARGEST_H5 = 50_000 * 784 * 8  # bytes of an array, in float64
BLOCK_ROWS = 1000


@dataclass(frozen=True)
class FetchConfig:
    """Which of the two to fetch, and from where."""

    format: Literal["idx", "h5"]
    idx_urls: tuple[str, ...]  # the files lie below mnist/ of each
    h5_urls: tuple[str, ...]   # mnist.h5 lies below ~emansim/datasets/ of each


PrepareConfig = ComposeConfig


def fetch(config: FetchConfig, out: Path, kept: Path, where: str) -> None:
    """Bring the files into `out`, checked; what has come stays in `kept` until all has."""
    if config.format == "idx":
        files = download.fetch({f"mnist/{name}": Expected(check_idx, LARGEST_FILE["images" if "images" in name else "labels"])
                                for name in IDX_FILES}, config.idx_urls, kept)
    else:
        files = download.fetch({f"~emansim/datasets/{H5}": Expected(read_h5, LARGEST_FILE[H5])}, config.h5_urls, kept)
    download.put(files, out)


def prepare(config: ComposeConfig, raw: Path, out: Writer, seed: int, where: str) -> None:
    """Divide the digits, in the order in which they are published, and compose images of dev and test."""
    bank = read_h5(raw / H5) if (raw / H5).exists() else read_archive(raw)
    digit_bank.prepare(bank, config, out, seed, where)


def check_idx(path: Path) -> None:
    """Raise UserError unless a file of the MNIST archive is whole and the one that we know."""
    content = _gunzip(path)
    digest = hashlib.sha256(content).hexdigest()
    if digest != IDX_FILES[path.name]:
        _array(path, content)  # a wrong magic number or shape says more than a digest
        raise UserError(f"{path.name}: SHA-256 of the decompressed bytes is {digest}, not {IDX_FILES[path.name]}: "
                        "the file was altered; fetch it from another base URL")


def _gunzip(path: Path) -> bytes:
    """What a file of the archive holds, read no further than one byte beyond the size that it has."""
    count, kind = 60_000 if path.name.startswith("train") else 10_000, _kind(path)
    largest = HEADER[kind] + count * ITEM[kind]
    if not 0 < path.stat().st_size <= largest + LEAST_IDX:  # packed it is smaller
        raise UserError(f"{path.name}: a file of {path.stat().st_size:,} bytes is none of the archive; fetch it again")
    inflate = zlib.decompressobj(GZIP)
    try:
        content = inflate.decompress(path.read_bytes(), largest + 1)
    except zlib.error as error:
        raise UserError(f"{path.name}: not a whole gzip file ({error}); fetch it again") from error
    if len(content) > largest:
        raise UserError(f"{path.name}: holds more than the {largest:,} bytes of {count:,} {kind}; fetch it again")
    if not inflate.eof or inflate.unused_data.strip(b"\0"):
        raise UserError(f"{path.name}: not a whole gzip file (it {'goes on after its end' if inflate.eof else 'breaks off'}); "
                        "fetch it again")
    return content


def _kind(path: Path) -> str:
    return "images" if "images" in path.name else "labels"


def _array(path: Path, content: bytes) -> np.ndarray:
    """Images (N, 28, 28) or labels (N,) uint8, as the file's name says."""
    images = _kind(path) == "images"
    magic, count = (int.from_bytes(content[i:i + 4], "big") for i in (0, 4))
    wanted = IDX_IMAGES if images else IDX_LABELS
    if magic != wanted:
        raise UserError(f"{path.name}: magic number {magic}, not {wanted}: not the IDX file its name says; fetch it again")
    header, item = HEADER[_kind(path)], ITEM[_kind(path)]
    if images and (content[8:16] != (28).to_bytes(4, "big") * 2):
        rows, columns = (int.from_bytes(content[i:i + 4], "big") for i in (8, 12))
        raise UserError(f"{path.name}: images of {rows}x{columns}, not 28x28; fetch it again")
    if len(content) != header + count * item:
        raise UserError(f"{path.name}: {len(content) - header} bytes for {count} items, not {count * item}; fetch it again")
    flat = np.frombuffer(content, np.uint8, offset=header)
    return flat.reshape(-1, 28, 28) if images else flat


def read_archive(folder: Path) -> DigitBank:
    """The archive's 60,000 digits, then its 10,000. Raises UserError where a file is not what it should be."""
    arrays = {name: _array(folder / name, _gunzip(folder / name)) for name in IDX_FILES}
    return DigitBank(*(np.concatenate([a for name, a in arrays.items() if kind in name]) for kind in ("images", "labels")))


def read_h5(path: Path) -> DigitBank:
    """mnist.h5 of the dataset host, its splits in turn: float32 (N, 784) in [0, 1], read back to the bytes it was made from.

    Raises UserError unless it holds all of that.
    """
    parts = []
    try:
        with h5py.File(path, "r") as h5:
            for name, size in H5_SIZES.items():
                for wanted, shape in ((name, (size, 784)), (f"{name}_labels", (size,))):
                    found = own_array(h5, wanted)
                    if found is None or found.shape != shape or found.dtype.kind not in "fiu":
                        raise UserError(f"{path.name}: '{wanted}' is {shorten(str(found), 120)}, not {shape} numbers; "
                                        "fetch it again")
                images, labels = (read_numbers(h5[part], "fiu", LARGEST_H5) for part in (name, f"{name}_labels"))
                if not np.isin(labels, np.arange(10)).all():
                    raise UserError(f"{path.name}: '{name}_labels' has labels other than 0 to 9; fetch it again")
                as_bytes = np.concatenate([_as_bytes(images[first:first + BLOCK_ROWS], name, path)
                                           for first in range(0, size, BLOCK_ROWS)])
                parts.append(DigitBank(as_bytes.reshape(-1, 28, 28), labels.astype(np.uint8)))
    except UNREADABLE as error:
        raise UserError(f"{path.name}: not readable as HDF5 ({shorten(str(error), 200)}); fetch it again") from error
    return DigitBank(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _as_bytes(images: np.ndarray, name: str, path: Path) -> np.ndarray:
    """Bytes (n, 784) from numbers in [0, 1]."""
    if not (images.min() >= 0 and images.max() <= 1):
        raise UserError(f"{path.name}: '{name}' has values outside [0, 1]; fetch it again")
    as_bytes = np.rint(images * 255).astype(np.uint8)
    if np.abs(as_bytes / 255 - images).max() > 1e-6:
        raise UserError(f"{path.name}: '{name}' is not bytes divided by 255; fetch it again")
    return as_bytes
