"""The prepared format: one HDF5 file a split, and batches from it.

A split of captioned images holds

    images            (N, C, H, W) uint8, or float32 in [0, 1] where bytes would lose something
    captions          (M, L) int32, word ids, zero padded
    lengths           (M,) int32, words of each caption
    image_of_caption  (M,) int32

A bank of digits, from which images are composed as they are needed (text2image.data.mnist_captions), holds

    digits            (N, S, S) uint8
    labels            (N,) uint8

and as attributes the grammar and the layout. Beside the splits lies vocabulary.json: words in id order.

Images and captions of a small split are packed, and are read into memory. Those of a large one (MAPPED_FROM) lie in the file
in one piece each, and are read from there batch by batch.
"""

import copy
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import torch
from torch import Tensor

from text2image.config import from_mapping, require_memory
from text2image.data import mnist_captions
from text2image.data.layout import Layout
from text2image.data.mnist_captions import Grammar
from text2image.errors import UserError
from text2image.files.atomic import require_room
from text2image.files.image_blocks import ImageBlocks
from text2image.files.mapped_rows import MappedRows
from text2image.seeds import numpy_generator

FORMAT = "text2image prepared 2"
MAPPED_FROM = 1 << 30  # bytes of a split's images and captions: from here on they stay in the file when they are used
BYTES_OF_SCENE = 100  # at least: of a scene of digits, and the words of its caption


class Batch(NamedTuple):
    """Images with a caption each."""

    images: Tensor       # (B, C, H, W) float32 in [0, 1]
    words: Tensor        # (B, L) int64
    image_index: Tensor  # (B,) int64 on the CPU: which image of the dataset each is
    lengths: Tensor | None = None  # (B,) int64, words of each caption, where they are padded; None: all have L

    def shard(self, rows: slice) -> "Batch":
        """Some rows of the batch: what one of several processes takes of it."""
        lengths = None if self.lengths is None else self.lengths[rows]
        return Batch(self.images[rows], self.words[rows], self.image_index[rows], lengths)


@dataclass(frozen=True)
class Batches:
    """A pass over a dataset, batch by batch: any batch at any time, so that work can resume where it stopped."""

    sizes: tuple[int, ...]  # captions in each
    get: Callable[[int], Batch]

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, i: int) -> Batch:
        if not 0 <= i < len(self.sizes):
            raise IndexError(i)
        return self.get(i)


class CaptionedImages:
    """Images with captions of any length, held on `device`, or in their file until a batch needs them; arrays as in a split of
    the prepared format."""

    def __init__(self, images: np.ndarray | MappedRows, captions: np.ndarray | MappedRows, lengths: np.ndarray,
                 image_of_caption: np.ndarray, device: torch.device | str = "cpu"):
        self.images = images if isinstance(images, MappedRows) else torch.from_numpy(images).to(device)
        self.captions = captions if isinstance(captions, MappedRows) else torch.from_numpy(captions.astype(np.int64)).to(device)
        self.lengths, self.image_of_caption, self.device = lengths, image_of_caption, torch.device(device)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def images_at(self, indices: Tensor) -> Tensor:
        """Some images by their numbers (B,) int64: (B, C, H, W) float32 in [0, 1], on the device."""
        return as_float(_rows(self.images, indices.cpu(), indices.to(self.device)))

    def word_ids(self) -> Tensor:
        """All captions, (M, L) int64, zero padded, on the CPU."""
        every = torch.arange(len(self.lengths))
        return _rows(self.captions, every, every.to(self.device)).cpu().long()

    def words_at(self, row: int) -> Tensor:
        """The words of one caption, (1, L) int64, without padding, on the device."""
        at = torch.tensor([row])
        return _rows(self.captions, at, at.to(self.device))[:, :int(self.lengths[row])].contiguous().long()

    def filter_by_length(self, min_words: int, max_words: int) -> "CaptionedImages":
        """Only the captions of `min_words` to `max_words` words. Raises UserError where there is none."""
        kept = (self.lengths >= min_words) & (self.lengths <= max_words)
        if not kept.any():
            raise UserError(f"no caption has {min_words} to {max_words} words: change train.min_words or train.max_words")
        part = copy.copy(self)
        part.captions = (self.captions.select(kept) if isinstance(self.captions, MappedRows) else
                         self.captions[torch.from_numpy(kept).to(self.device)])
        part.lengths, part.image_of_caption = self.lengths[kept], self.image_of_caption[kept]
        return part

    def shuffled(self, batch_size: int, size: int, *stream: int | str, bucket: int = 1) -> Batches:
        """Every caption once, in an order drawn from the stream, in batches of one caption length each.

        `size`, where it is not 0, stops the pass after that many captions. `bucket`: so many neighbouring lengths share
        a batch, padded to the longest of the bucket, so that few shapes occur.
        """
        rng = numpy_generator(*stream)
        order = rng.permutation(len(self.lengths))[:size or None]
        parts = self._by_length(order, batch_size, bucket)
        return self._batches([parts[i] for i in rng.permutation(len(parts))], bucket)

    def sequential(self, batch_size: int, size: int, bucket: int = 1) -> Batches:
        """The first `size` captions (0: all), once each, by length; `bucket` as in `shuffled`."""
        return self._batches(self._by_length(np.arange(len(self.lengths))[:size or None], batch_size, bucket), bucket)

    def _by_length(self, order: np.ndarray, batch_size: int, bucket: int) -> list[np.ndarray]:
        buckets = (self.lengths[order] - 1) // bucket
        groups = [order[buckets == each] for each in np.unique(buckets)]
        return [group[i:i + batch_size] for group in groups for i in range(0, len(group), batch_size)]

    def _batches(self, parts: list[np.ndarray], bucket: int) -> Batches:
        longest, device = self.captions.shape[1], self.device
        sizes = tuple(len(part) for part in parts)
        ends = np.cumsum(sizes)
        order = np.concatenate([*parts, np.empty(0, np.int64)])
        rows, image_index, lengths = (torch.from_numpy(part.astype(np.int64)) for part in (
            order, self.image_of_caption[order], self.lengths[order]))
        rows_there, images_there, lengths_there = (send(part, device) for part in (rows, image_index, lengths))  # at once

        def get(i: int) -> Batch:
            here = slice(int(ends[i]) - sizes[i], int(ends[i]))
            width = -(-int(lengths[here.start]) // bucket) * bucket
            words = _rows(self.captions, rows[here], rows_there[here])[:, :width].contiguous().long()
            images = as_float(_rows(self.images, image_index[here], images_there[here]))
            if bucket == 1:
                return Batch(images, words, image_index[here])
            words = torch.nn.functional.pad(words, (0, max(0, width - longest)))
            return Batch(images, words, image_index[here], lengths_there[here])

        return Batches(sizes, get)


class CaptionedDigits:
    """A bank of digits on `device`; images and captions are drawn afresh for every pass."""

    def __init__(self, digits: np.ndarray, labels: np.ndarray, grammar: Grammar, layout: Layout,
                 device: torch.device | str = "cpu"):
        self.digits = torch.from_numpy(digits).to(device)
        self.labels, self.grammar, self.layout = labels, grammar, layout

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return 1, self.layout.size, self.layout.size

    def filter_by_length(self, min_words: int, max_words: int) -> "CaptionedDigits":
        """All captions have the same number of words: all are kept. Raises UserError where none would be."""
        if not min_words <= mnist_captions.WORDS <= max_words:
            raise UserError(f"captions have {mnist_captions.WORDS} words: change train.min_words or train.max_words")
        return self

    def shuffled(self, batch_size: int, size: int, *stream: int | str, bucket: int = 1) -> Batches:
        """`size` fresh images (0: as many as digits), of captions that are not held out. All captions have one length."""
        size = size or len(self.labels)
        require_memory(size * BYTES_OF_SCENE, f"the scenes of {size:,} images")
        drawn = self.grammar.draw_scenes(size, self.labels, self.layout, False, *stream)
        words = send(mnist_captions.words(drawn), self.digits.device)
        scenes = mnist_captions.Scenes(*(send(part, self.digits.device) for part in drawn))  # at once, not batch by batch

        def get(i: int) -> Batch:
            rows = slice(i * batch_size, min((i + 1) * batch_size, size))
            images = mnist_captions.compose(scenes.rows(rows), self.digits, self.layout.size)
            return Batch(as_float(images), words[rows], torch.arange(rows.start, rows.stop))

        return Batches(tuple(min(batch_size, size - i) for i in range(0, size, batch_size)), get)

    def compose(self, count: int, held_out: bool, *stream: int | str) -> tuple[np.ndarray, np.ndarray]:
        """`count` images (N, 1, H, W) uint8 and captions (N, L) int32, all held out or none."""
        require_memory(count * (BYTES_OF_SCENE + 2 * self.layout.size**2), f"{count:,} composed images")
        scenes = self.grammar.draw_scenes(count, self.labels, self.layout, held_out, *stream)
        images = mnist_captions.compose(scenes, self.digits, self.layout.size)
        return images.cpu().numpy(), mnist_captions.words(scenes).numpy().astype(np.int32)

    def sequential(self, batch_size: int, size: int, bucket: int = 1) -> Batches:
        """As `shuffled`, the same images at every call."""
        return self.shuffled(batch_size, size, "in order")


Dataset = CaptionedImages | CaptionedDigits


def send(values: Tensor, device: torch.device) -> Tensor:
    """Values of the host on a device, which the host does not wait for."""
    return values if device.type == "cpu" else values.pin_memory().to(device, non_blocking=True)


def _rows(array: Tensor | MappedRows, rows: Tensor, rows_there: Tensor) -> Tensor:
    """Rows by their numbers, which are here and there: where the array is, or from its file."""
    return array[rows.numpy()] if isinstance(array, MappedRows) else array[rows_there]


def as_float(images: Tensor) -> Tensor:
    """uint8 as float32 in [0, 1]; floats as they are."""
    return images.float().div_(255) if images.dtype == torch.uint8 else images


def write_images(path: Path, images: np.ndarray | ImageBlocks, captions: np.ndarray, lengths: np.ndarray,
                 image_of_caption: np.ndarray) -> None:
    """One split of captioned images; arrays as in the module's docstring."""
    room = math.prod(images.shape) * images.dtype.itemsize + captions.nbytes
    require_room(path.parent, room)  # HDF5 does not survive a full disk
    with h5py.File(path, "w") as h5:
        h5.attrs["format"] = FORMAT
        h5.attrs["kind"] = "images"
        packed = {"compression": "gzip"} if room < MAPPED_FROM else {}
        chunks = {"chunks": (min(images.shape[0], 64), *images.shape[1:])} if packed else {}
        stored = h5.create_dataset("images", images.shape, images.dtype, **chunks, **packed)
        row = 0
        for block in (images,) if isinstance(images, np.ndarray) else images:
            stored[row:row + len(block)] = block
            row += len(block)
        h5.create_dataset("captions", data=captions, **packed)
        h5["lengths"], h5["image_of_caption"] = lengths.astype(np.int32), image_of_caption.astype(np.int32)


def write_digits(path: Path, digits: np.ndarray, labels: np.ndarray, grammar: Grammar, layout: Layout) -> None:
    """A bank of digits with the grammar and layout that images are composed by."""
    require_room(path.parent, digits.nbytes)
    with h5py.File(path, "w") as h5:
        h5.attrs["format"] = FORMAT
        h5.attrs["kind"] = "digits"
        h5.attrs["grammar"] = json.dumps(grammar.as_dict(), sort_keys=True)
        h5.attrs["layout"] = json.dumps(asdict(layout), sort_keys=True)
        h5.create_dataset("digits", data=digits, chunks=(min(len(digits), 256), *digits.shape[1:]), compression="gzip")
        h5["labels"] = labels.astype(np.uint8)


def load(path: Path, device: torch.device | str = "cpu") -> Dataset:
    """A split of the prepared format, on `device`. Raises UserError when the file is no such thing."""
    try:
        with h5py.File(path, "r") as h5:
            if h5.attrs.get("format") != FORMAT:
                raise UserError(f"{path}: its format is {h5.attrs.get('format')!r}, this version reads {FORMAT!r}; "
                                "run `dvc repro` to prepare the data again")
            if h5.attrs["kind"] == "digits":
                return CaptionedDigits(
                    h5["digits"][()], h5["labels"][()], Grammar.of(json.loads(h5.attrs["grammar"]), f"{path}: grammar"),
                    from_mapping(Layout, json.loads(h5.attrs["layout"]), f"{path}: layout"), device)
            images, captions = (MappedRows(path, h5[name], device) if MappedRows.can_map(h5[name]) else h5[name][()]
                                for name in ("images", "captions"))
            return CaptionedImages(images, captions, h5["lengths"][()], h5["image_of_caption"][()], device)
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"{path}: not readable as prepared data ({error}); run `dvc repro` to prepare it again") from error
