"""The statically binarised MNIST: the published files, made-up ones, and files that are not what they should be."""

import hashlib
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from text2image.data import datasets
from text2image.data.prepared import PreparedWriter
from text2image.data.vocabulary import Vocabulary
from text2image.errors import UserError
from text2image.sources import binarized_mnist
from text2image.sources.binarized_mnist import FOLDER, LINE, SPLITS, FetchConfig, PrepareConfig, Published

NAME = "binarized_mnist_test.amat"
# SHA-256 of the first line of each published file, with its line end.
FIRST_LINES = {"train": "44a7e4b9b3866015bcf2dc82d1e3c79fbdbdfe3e695456604aa1cdb63039641f",
               "dev": "a1cf1e7a31aaa7d79ee4ac8af2d85e2f36b9bc1f80614510c4c98eb05b972c3f",
               "test": "3640727a54b3facc9917a33c871a1d2b8138169d0f954d87be941cacbbac49a4"}


def text(pixels: np.ndarray) -> bytes:
    """Images (N, 784) of 0 and 1 as the published files write them."""
    return b"".join(b" ".join(b"%d" % pixel for pixel in row) + b"\n" for row in pixels)


PIXELS = {split: np.random.default_rng(n).integers(0, 2, (n, 784)) for split, n in (("train", 5), ("dev", 2), ("test", 3))}
TEST = text(PIXELS["test"])


@pytest.fixture
def made_up(tmp_path, monkeypatch) -> Path:
    """A mirror of files of a few lines each, which are the published ones of this test; 2 lines are read at once."""
    folder = tmp_path / "mirror" / FOLDER
    folder.mkdir(parents=True)
    for split, pixels in PIXELS.items():
        name, content = SPLITS[split].name, text(pixels)
        (folder / name).write_bytes(content)
        monkeypatch.setitem(SPLITS, split, Published(name, len(pixels), hashlib.sha256(content).hexdigest()))
    monkeypatch.setattr(binarized_mnist, "BLOCK", 2)
    monkeypatch.setenv("TEXT2IMAGE_MIRROR", str(tmp_path / "mirror"))
    return folder


def test_fetched_from_a_mirror_and_prepared(made_up, tmp_path):
    raw, prepared = tmp_path / "raw", tmp_path / "prepared"
    raw.mkdir()
    prepared.mkdir()
    binarized_mnist.fetch(FetchConfig(()), raw, tmp_path / "kept", "here")
    assert {path.name: path.read_bytes() for path in raw.iterdir()} == {path.name: path.read_bytes() for path in made_up.iterdir()}
    out = PreparedWriter(prepared)
    binarized_mnist.prepare(PrepareConfig(), raw, out, 1, "here")
    assert out.counts == {split: {"images": len(pixels), "captions": len(pixels), "unknown_words": 0} for split, pixels in PIXELS.items()
                          } | {"vocabulary": 4}
    vocabulary = Vocabulary.load(prepared / "vocabulary.json")
    for split, pixels in PIXELS.items():
        data = datasets.load(prepared / f"{split}.h5")
        assert data.images.dtype == torch.uint8
        batches = data.sequential(10, 0)
        assert len(batches) == 1
        images, words, image_index, lengths = batches[0]
        assert torch.equal(images, torch.from_numpy(pixels).float().view(-1, 1, 28, 28)), "0 and 1, no number between"
        assert image_index.tolist() == list(range(len(pixels)))
        assert lengths is None
        assert {" ".join(vocabulary.decode(row)) for row in words.tolist()} == {"a digit ."}
    assert vocabulary.encode("a digit .") == vocabulary.encode("A digit.") == [1, 2, 3]
    with pytest.raises(UserError, match="the word 'cat' of the caption 'a cat' is not in the vocabulary"):
        vocabulary.encode("a cat")


def test_a_transfer_that_broke_off_goes_on(made_up, tmp_path):
    """What has come stays in `kept`, and is not asked for again."""
    (tmp_path / "raw").mkdir()
    whole = (made_up / NAME).read_bytes()
    (made_up / NAME).write_bytes(whole[:-1])
    with pytest.raises(UserError, match=rf"{NAME}: has 4,703 bytes, not the 4,704 of 3 lines of 784 digits; fetch it again"):
        binarized_mnist.fetch(FetchConfig(()), tmp_path / "raw", tmp_path / "kept", "here")
    assert {path.name for path in (tmp_path / "kept").glob("*.amat")} == {SPLITS[split].name for split in ("train", "dev")}
    assert not list((tmp_path / "raw").iterdir())
    (made_up / NAME).write_bytes(whole)
    for split in ("train", "dev"):
        (made_up / SPLITS[split].name).unlink()
    binarized_mnist.fetch(FetchConfig(()), tmp_path / "raw", tmp_path / "kept", "here")
    assert len(list((tmp_path / "raw").iterdir())) == 3


def altered(at: int, new: bytes) -> bytes:
    return TEST[:at] + new + TEST[at + len(new):]


SHAPE = "is not 784 digits 0 or 1 with a blank between: its character"


@pytest.mark.parametrize(("content", "words"), [
    (altered(0, b"2"), f"line 1 {SHAPE} 1 is '2', not 0 or 1"),
    (altered(LINE + 1, b"\t"), f"line 2 {SHAPE} 2 is '\\t', not a blank"),
    (altered(3 * LINE - 1, b" "), f"line 3 {SHAPE} 1,568 is ' ', not the line's end"),
    (altered(2 * LINE + 4, b"\0"), f"line 3 {SHAPE} 5 is '\\x00', not 0 or 1"),
    (altered(6, b"\xe9"), f"line 1 {SHAPE} 7 is '\\xe9', not 0 or 1"),
    (altered(LINE - 1, b"\r"), f"line 1 {SHAPE} 1,568 is '\\r', not the line's end"),
    (TEST.replace(b"\n", b"\r\n"), f"line 1 {SHAPE} 1,568 is '\\r', not the line's end"),
    (TEST.replace(b" ", b""), f"line 1 {SHAPE} 2 is '{TEST[2:3].decode()}', not a blank"),
    (TEST[:LINE - 3] + TEST[LINE - 1:], f"line 1 {SHAPE} 1,566 is '\\n', not a blank"),
    (TEST[:-1], "has 4,703 bytes, not the 4,704 of 3 lines of 784 digits"),
    (TEST[:2 * LINE], "has 3,136 bytes, not the 4,704"),
    (TEST + TEST[:LINE], "has 6,272 bytes, not the 4,704"),
    (TEST + b"\n", "has 4,705 bytes, not the 4,704"),
    (b"", "has 0 bytes, not the 4,704"),
    (b"<html>not found</html>\n", "has 23 bytes, not the 4,704"),
    (bytes(3 * LINE), f"line 1 {SHAPE} 1 is '\\x00', not 0 or 1"),
    (altered(8, b"1" if TEST[8:9] == b"0" else b"0"), "SHA-256 is")])
def test_a_file_that_is_not_what_it_should_be(made_up, tmp_path, content, words):
    path = tmp_path / NAME
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        binarized_mnist.check(path)
    assert str(error.value).startswith(f"{NAME}: {words}")
    assert "fetch it" in str(error.value)
    assert str(error.value).isprintable()
    if "SHA" not in words:
        with pytest.raises(UserError):
            binarized_mnist.read(path, 3)


def test_a_line_without_end_takes_no_memory(tmp_path):
    """The size of a published file, and one of it as far as it goes: a block is read, and no more."""
    path = tmp_path / NAME
    tracemalloc.start()
    for line, words in ((b"0 1 " * (LINE // 4), r"line 1 is not .*: its character 1,568 is ' ', not the line's end"),
                        (b" ".join([b"1"] * 784) + b"\n", "has 31,360,000 bytes, not the 15,680,000")):
        with path.open("wb") as file:
            for _ in range(20):
                file.write(line * 1000)
        with pytest.raises(UserError, match=words):
            binarized_mnist.check(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 24
    tracemalloc.stop()


def test_the_published_files_are_the_ones_we_know(mirror):
    """Real ones: sizes, digests, first lines, and how bright the images are, which both of the readers tell alike."""
    folder = mirror / FOLDER
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    sizes = {"train": 78_400_000, "dev": 15_680_000, "test": 15_680_000}
    for split, published in SPLITS.items():
        path = folder / published.name
        assert path.stat().st_size == sizes[split] == published.images * LINE
        binarized_mnist.check(path)
        images = binarized_mnist.read(path, published.images)
        assert set(np.unique(images)) == {0, 255}
        content = path.read_bytes()
        assert content.count(b"1") == np.count_nonzero(images)
        assert content[-LINE:] == text(images[-1].reshape(1, -1) // 255)
        assert hashlib.sha256(content[:LINE]).hexdigest() == FIRST_LINES[split]


def test_one_pixel_of_a_published_file_altered_is_noticed(mirror, tmp_path):
    path = mirror / FOLDER / NAME
    if not path.is_file():
        pytest.skip(f"no {path}")
    content = bytearray(path.read_bytes())
    content[2 * 784 * 5000] ^= 1
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(UserError, match="the file was altered"):
        binarized_mnist.check(tmp_path / NAME)
