"""Batches of captions from the prepared format."""

import tracemalloc

import numpy as np
import pytest
import torch

from tests.small import TRAIN
from text2image.data import datasets
from text2image.data.datasets import CaptionedImages
from text2image.errors import UserError
from text2image.files.mapped_rows import MappedRows


def test_batches_of_captions():
    """Every caption once a pass, in batches of one length, none of them empty, in another order each pass."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(3, 7, 110)
    captions = np.zeros((110, 6), np.int32)
    for row, length in enumerate(lengths):
        captions[row, :length] = row + 1
    images = np.arange(55, dtype=np.uint8).repeat(12).reshape(55, 1, 3, 4)
    data = CaptionedImages(images, captions, lengths, np.arange(110) // 2)

    def rows(batches: datasets.Batches) -> list[int]:
        seen = []
        for i in range(len(batches)):
            images, words, image, _ = batches[i]
            assert 0 < len(words) == batches.sizes[i] <= 10
            assert (words > 0).all(), "padding within a batch of one length"
            found = words[:, 0].numpy() - 1
            assert (lengths[found] == words.shape[1]).all()
            assert torch.equal((images[:, 0, 0, 0] * 255).round().long(), image)
            assert image.tolist() == (found // 2).tolist()
            seen += found.tolist()
        return seen

    first, again, other = (rows(data.shuffled(10, 0, 1, "images", n)) for n in (0, 0, 1))
    assert sorted(first) == sorted(other) == list(range(110))
    assert first == again != other
    assert sorted(rows(data.sequential(10, 30))) == list(range(30))
    assert len(rows(data.shuffled(10, 30, "part"))) == 30
    some = data.filter_by_length(4, 5)
    kept = set(np.flatnonzero((lengths == 4) | (lengths == 5)))
    assert set(rows(some.shuffled(10, 0, "some"))) == kept
    assert rows(data.shuffled(10, 0, 1, "images", 0)) == first, "the whole is as it was"
    with pytest.raises(UserError, match="no caption has 20 to 30 words"):
        data.filter_by_length(20, 30)
    with pytest.raises(UserError, match="captions have 12 words"):
        TRAIN.filter_by_length(1, 11)


def test_buckets_of_neighbouring_lengths_are_padded_to_one_width():
    lengths = np.random.default_rng(0).integers(1, 8, 110)
    captions = (np.arange(7) < lengths[:, None]) * np.arange(1, 111)[:, None]
    data = CaptionedImages(np.zeros((110, 1, 2, 2), np.uint8), captions, lengths, np.arange(110))
    batches = data.shuffled(10, 0, "bucket", bucket=4)
    seen = []
    for i in range(len(batches)):
        _, words, image, own = batches[i]
        assert words.shape[1] == (4 if own.max() <= 4 else 8), "1 to 4 words, or 5 to 8"
        assert torch.equal(own, torch.from_numpy(lengths)[image])
        assert torch.equal(words, (torch.arange(words.shape[1]) < own[:, None]) * (image[:, None] + 1))
        seen += image.tolist()
    assert sorted(seen) == list(range(110))


def test_a_large_split_stays_in_its_file_and_gives_the_same_batches(tmp_path, monkeypatch):
    """Mapped or in memory: the same images, words and lengths, bit for bit, filtered and in buckets too."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 8, 110)
    captions = ((np.arange(7) < lengths[:, None]) * rng.integers(1, 50, (110, 7))).astype(np.int32)
    image_of_caption = rng.integers(0, 55, 110)
    for images in (rng.integers(0, 256, (55, 3, 5, 2), np.uint8), rng.random((55, 3, 5, 2)).astype(np.float32)):
        for name, size in (("small", 1 << 30), ("large", 1)):
            monkeypatch.setattr(datasets, "MAPPED_FROM", size)
            datasets.write_images(tmp_path / name, images, captions, lengths, image_of_caption)
        small, large = (datasets.load(tmp_path / name) for name in ("small", "large"))
        assert isinstance(small.images, torch.Tensor)
        assert isinstance(large.images, MappedRows)
        assert isinstance(large.captions, MappedRows)
        assert small.shape == large.shape == (3, 5, 2)
        for one, other in ((small, large), (small.filter_by_length(3, 6), large.filter_by_length(3, 6))):
            for bucket in (1, 4):
                for here, there in ((data.shuffled(10, 0, 1, bucket=bucket) for data in (one, other)),
                                    (data.sequential(10, 30, bucket) for data in (one, other))):
                    assert here.sizes == there.sizes
                    for i in range(len(here)):
                        for ours, theirs in zip(here[i], there[i], strict=True):
                            assert ours is theirs is None or torch.equal(ours, theirs)
                            assert ours is None or ours.dtype == theirs.dtype
                        assert there[i].words.is_contiguous()


def test_a_large_split_takes_no_memory(tmp_path, monkeypatch):
    """What a process keeps of it: lengths, the order of a pass, and a batch."""
    monkeypatch.setattr(datasets, "MAPPED_FROM", 1)
    count, block = 20_000, np.full((1000, 3, 32, 32), 7, np.uint8)

    class Images:
        shape, dtype = (count, *block.shape[1:]), block.dtype

        def __iter__(self):
            return (block for _ in range(count // len(block)))

    words = np.ones((count, 12), np.int32)
    datasets.write_images(tmp_path / "train.h5", Images(), words, np.full(count, 12), np.arange(count))
    tracemalloc.start()
    batches = datasets.load(tmp_path / "train.h5").shuffled(100, 0, 1)
    assert all((batches[i].images == 7 / 255).all() for i in range(len(batches)))
    assert tracemalloc.get_traced_memory()[1] < 1 << 22 < Images.shape[0] * block[0].nbytes // 10
    tracemalloc.stop()
