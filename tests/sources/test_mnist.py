"""MNIST as it is published, and files that are not what they should be."""

import gzip
import tracemalloc
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from text2image.data.digit_bank import DigitBank, split
from text2image.errors import UserError
from text2image.sources import mnist

IMAGES, LABELS = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"


def idx(magic: int, count: int, shape: tuple[int, ...], data: int) -> bytes:
    return b"".join(n.to_bytes(4, "big") for n in (magic, count, *shape)) + bytes(data)


@pytest.mark.parametrize(("name", "content", "words"), [
    (IMAGES, idx(2049, 2, (), 2), "magic number 2049, not 2051"),
    (LABELS, idx(2051, 2, (28, 28), 1568), "magic number 2051, not 2049"),
    (IMAGES, idx(2051, 2, (27, 28), 1512), "images of 27x28, not 28x28"),
    (IMAGES, idx(2051, 3, (28, 28), 1568), "1568 bytes for 3 items, not 2352"),
    (IMAGES, idx(2051, 2, (28, 28), 1568), "the file was altered"),
    (IMAGES, b"", "magic number 0"),
])
def test_an_archive_file_that_is_not_what_its_name_says(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(gzip.compress(content))
    with pytest.raises(UserError, match=words) as error:
        mnist.check_idx(tmp_path / name)
    assert name in str(error.value)


def test_an_archive_file_truncated_or_no_gzip_at_all(tmp_path):
    whole = gzip.compress(np.random.default_rng(0).bytes(4000))
    for content in (whole[:-1], whole[:len(whole) // 2], whole[:5], b"<html></html>", b"\x1f\x8b" + bytes(30)):
        (tmp_path / IMAGES).write_bytes(content)
        with pytest.raises(UserError, match=f"{IMAGES}: (not a whole gzip file|magic number)"):
            mnist.check_idx(tmp_path / IMAGES)


@pytest.mark.parametrize("name", mnist.IDX_FILES)
def test_a_file_is_read_no_further_than_its_size(tmp_path, name):
    """A gigabyte of zeros from a few bytes would take memory and time; the sizes are known."""
    sizes = {"train-images": 47_040_016, "t10k-images": 7_840_016, "train-labels": 60_008, "t10k-labels": 10_008}
    size = sizes["-".join(name.split("-")[:2])]
    for content, words in ((bytes(size + 1), f"holds more than the {size:,} bytes"), (bytes(size), "magic number 0")):
        (tmp_path / name).write_bytes(gzip.compress(content, 1))
        with pytest.raises(UserError, match=words):
            mnist.check_idx(tmp_path / name)


def bomb(path: Path, megabytes: int) -> None:
    """A small gzip file of so many megabytes of zeros."""
    packer = zlib.compressobj(9, wbits=31)
    path.write_bytes(b"".join(packer.compress(bytes(1 << 20)) for _ in range(megabytes)) + packer.flush())


def test_a_gzip_bomb_takes_no_memory(tmp_path):
    bomb(tmp_path / IMAGES, 100)
    tracemalloc.start()
    with pytest.raises(UserError, match=f"{IMAGES}: holds more than the 7,840,016 bytes of 10,000 images; fetch it again"):
        mnist.check_idx(tmp_path / IMAGES)
    assert tracemalloc.get_traced_memory()[1] < 1 << 25
    tracemalloc.stop()
    bomb(tmp_path / LABELS, 100)
    with pytest.raises(UserError, match=f"{LABELS}: a file of [0-9,]+ bytes is none of the archive; fetch it again"):
        mnist.check_idx(tmp_path / LABELS)


def test_an_archive_file_that_is_empty_or_goes_on(tmp_path):
    (tmp_path / LABELS).write_bytes(b"")
    with pytest.raises(UserError, match="a file of 0 bytes is none of the archive"):
        mnist.check_idx(tmp_path / LABELS)
    (tmp_path / LABELS).write_bytes(gzip.compress(b"abc") + gzip.compress(b"abc"))
    with pytest.raises(UserError, match="it goes on after its end"):
        mnist.check_idx(tmp_path / LABELS)


def test_the_real_archive_is_the_one_we_know(mirror):
    for name in mnist.IDX_FILES:
        mnist.check_idx(mirror / "mnist" / name)
    bank = mnist.read_archive(mirror / "mnist")
    splits = split(bank, {"train": 50_000, "dev": 10_000, "test": 10_000})
    assert {name: part.images.shape for name, part in splits.items()} == {
        "train": (50_000, 28, 28), "dev": (10_000, 28, 28), "test": (10_000, 28, 28)}
    assert bank.labels[:6].tolist() == [5, 0, 4, 1, 9, 2]
    assert np.bincount(splits["test"].labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_one_bit_of_the_real_archive_altered_is_noticed(mirror, tmp_path):
    content = bytearray(gzip.decompress((mirror / "mnist" / LABELS).read_bytes()))
    content[5000] ^= 1
    (tmp_path / LABELS).write_bytes(gzip.compress(bytes(content), 1))
    with pytest.raises(UserError, match="the file was altered"):
        mnist.check_idx(tmp_path / LABELS)


def write_h5(path: Path, bank: DigitBank, **changes: np.ndarray) -> None:
    first = 0
    with h5py.File(path, "w") as h5:
        for name, size in mnist.H5_SIZES.items():
            part = slice(first, first := first + size)
            arrays = {name: bank.images[part].reshape(-1, 784).astype(np.float32) / 255, f"{name}_labels": bank.labels[part]}
            for key, array in (arrays | {k: v for k, v in changes.items() if k in arrays}).items():
                if isinstance(array, np.ndarray):
                    h5[key] = array
                elif array == "group":
                    h5.create_group(key)


def test_mnist_h5_gives_the_digits_of_the_archive(mirror, tmp_path):
    bank = mnist.read_archive(mirror / "mnist")
    write_h5(tmp_path / "mnist.h5", bank)
    again = mnist.read_h5(tmp_path / "mnist.h5")
    assert np.array_equal(bank.images, again.images)
    assert np.array_equal(bank.labels, again.labels)


@pytest.mark.parametrize(("change", "words"), [
    ({"test": np.zeros((3, 783), np.float32)}, r"'test' is .*3, 783.*, not \(3, 784\) numbers"),
    ({"test": np.full((3, 784), b"1")}, "'test' is .*S1.*, not"),
    ({"test": np.full((3, 784), np.nan, np.float32)}, "'test' has values outside"),
    ({"test": None}, r"'test' is None, not \(3, 784\) numbers"),
    ({"test": "group"}, "'test' is None, not"),
    ({"test_labels": np.full(3, 1.5)}, "'test_labels' has labels other than 0 to 9"),
    ({"test": np.full((3, 784), 1.5, np.float32)}, "'test' has values outside"),
    ({"test": np.full((3, 784), 0.5001, np.float32)}, "'test' is not bytes divided by 255"),
    ({"test_labels": np.full(3, 11)}, "'test_labels' has labels other than 0 to 9"),
    ({"test": np.array([["text"] * 784] * 3, h5py.string_dtype())}, r"'test' is .*, not \(3, 784\) numbers"),
    ({"test_labels": np.full(3, 1 + 1j)}, r"'test_labels' is .*, not \(3,\) numbers")])
def test_mnist_h5_of_the_wrong_shape_or_range(tmp_path, monkeypatch, change, words):
    monkeypatch.setattr(mnist, "H5_SIZES", {"train": 5, "validation": 2, "test": 3})
    bank = DigitBank(np.zeros((10, 28, 28), np.uint8), np.zeros(10, np.uint8))
    write_h5(tmp_path / "mnist.h5", bank, **change)
    with pytest.raises(UserError, match=words):
        mnist.read_h5(tmp_path / "mnist.h5")


def test_fetched_and_read_back(tmp_path, monkeypatch):
    """mnist.h5 from a mirror, and what is left in `kept` where it is no such file."""
    monkeypatch.setattr(mnist, "H5_SIZES", {"train": 5, "validation": 2, "test": 3})
    folder = tmp_path / "mirror/~emansim/datasets"
    folder.mkdir(parents=True)
    (tmp_path / "out").mkdir()
    bank = DigitBank(np.arange(10, dtype=np.uint8).repeat(784).reshape(10, 28, 28), np.arange(10, dtype=np.uint8))
    write_h5(folder / "mnist.h5", bank)
    monkeypatch.setenv("TEXT2IMAGE_MIRROR", str(tmp_path / "mirror"))
    mnist.fetch(mnist.FetchConfig("h5", (), ()), tmp_path / "out", tmp_path / "kept", "here")
    again = mnist.read_h5(tmp_path / "out/mnist.h5")
    assert np.array_equal(again.images, bank.images)
    with pytest.raises(UserError, match=r"cannot fetch mnist/train-images-idx3-ubyte\.gz"):
        mnist.fetch(mnist.FetchConfig("idx", (), ()), tmp_path / "out", tmp_path / "kept", "here")
