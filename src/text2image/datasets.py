"""The prepared format: one HDF5 file a split, and batches from it.

A split of captioned pictures holds

    images            (N, C, H, W) uint8, or float32 in [0, 1] where bytes would lose something
    captions          (M, L) int32, word ids, zero padded
    lengths           (M,) int32, words of each caption
    image_of_caption  (M,) int32

A bank of digits, from which pictures are composed as they are needed (text2image.mnist_captions), holds

    digits            (N, S, S) uint8
    labels            (N,) uint8

and as attributes the grammar and the canvas. Beside the splits lies vocabulary.json: words in id order.
"""

import copy
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import h5py
import numpy as np
import torch
from torch import Tensor

from text2image import mnist_captions
from text2image.config import from_mapping
from text2image.disk import require_room
from text2image.errors import UserError
from text2image.mnist_captions import Canvas, Grammar
from text2image.seeds import numpy_generator

FORMAT = "text2image prepared 1"


class Batch(NamedTuple):
    images: Tensor   # (B, C, H, W) float32 in [0, 1]
    words: Tensor    # (B, L) int64
    picture: Tensor  # (B,) int64 on the CPU: which picture of the dataset each is
    lengths: Tensor | None = None  # (B,) int64, words of each caption, where they are padded; None: all have L

    def part(self, rows: slice) -> "Batch":
        return Batch(*(None if values is None else values[rows] for values in self))


@dataclass(frozen=True)
class Batches:
    """A pass over a dataset, batch by batch: any batch at any time, so that work can go on where it stopped."""

    sizes: tuple[int, ...]  # captions in each
    get: Callable[[int], Batch]

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, i: int) -> Batch:
        if not 0 <= i < len(self.sizes):
            raise IndexError(i)
        return self.get(i)


class CaptionedImages:
    """Pictures with captions of any length, held on `device`."""

    def __init__(self, images: np.ndarray, captions: np.ndarray, lengths: np.ndarray, image_of_caption: np.ndarray,
                 device: torch.device | str = "cpu"):
        self.images = torch.from_numpy(images).to(device)
        self.captions = torch.from_numpy(captions.astype(np.int64)).to(device)
        self.lengths, self.image_of_caption = lengths, image_of_caption

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return tuple(self.images.shape[1:])  # type: ignore[return-value]

    def of_lengths(self, least: int, most: int) -> "CaptionedImages":
        """The captions of `least` to `most` words alone."""
        kept = (self.lengths >= least) & (self.lengths <= most)
        if not kept.any():
            raise UserError(f"no caption has {least} to {most} words: change train.least_words or train.most_words")
        part = copy.copy(self)
        part.captions = self.captions[torch.from_numpy(kept).to(self.captions.device)]
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

    def in_order(self, batch_size: int, size: int, bucket: int = 1) -> Batches:
        """The first `size` captions (0: all), once each, by length; `bucket` as in `shuffled`."""
        return self._batches(self._by_length(np.arange(len(self.lengths))[:size or None], batch_size, bucket), bucket)

    def _by_length(self, order: np.ndarray, batch_size: int, bucket: int) -> list[np.ndarray]:
        buckets = (self.lengths[order] - 1) // bucket
        groups = [order[buckets == each] for each in np.unique(buckets)]
        return [group[i:i + batch_size] for group in groups for i in range(0, len(group), batch_size)]

    def _batches(self, parts: list[np.ndarray], bucket: int) -> Batches:
        longest = self.captions.shape[1]

        def get(i: int) -> Batch:
            rows, device = parts[i], self.captions.device
            picture = torch.from_numpy(self.image_of_caption[rows].astype(np.int64))
            width = -(-int(self.lengths[rows[0]]) // bucket) * bucket
            words = self.captions[torch.from_numpy(rows).to(device), :width]
            images = as_float(self.images[picture.to(device)])
            if bucket == 1:
                return Batch(images, words, picture)
            lengths = torch.from_numpy(self.lengths[rows].astype(np.int64)).to(device)
            return Batch(images, torch.nn.functional.pad(words, (0, max(0, width - longest))), picture, lengths)

        return Batches(tuple(len(part) for part in parts), get)


class CaptionedDigits:
    """A bank of digits on `device`; pictures and captions are drawn afresh for every pass."""

    def __init__(self, digits: np.ndarray, labels: np.ndarray, grammar: Grammar, canvas: Canvas,
                 device: torch.device | str = "cpu"):
        self.digits = torch.from_numpy(digits).to(device)
        self.labels, self.grammar, self.canvas = labels, grammar, canvas

    @property
    def shape(self) -> tuple[int, int, int]:
        return 1, self.canvas.size, self.canvas.size

    def of_lengths(self, least: int, most: int) -> "CaptionedDigits":
        """Every caption has the same number of words: all or none are kept."""
        if not least <= mnist_captions.WORDS <= most:
            raise UserError(f"captions have {mnist_captions.WORDS} words: change train.least_words or train.most_words")
        return self

    def shuffled(self, batch_size: int, size: int, *stream: int | str, bucket: int = 1) -> Batches:
        """`size` fresh pictures (0: as many as digits), of captions that are not held out. All captions have one length."""
        size = size or len(self.labels)
        scenes = self.grammar.draw_scenes(size, self.labels, self.canvas, False, *stream)
        words = mnist_captions.words(scenes).to(self.digits.device)

        def get(i: int) -> Batch:
            rows = slice(i * batch_size, min((i + 1) * batch_size, size))
            pictures = mnist_captions.compose(scenes[rows], self.digits, self.canvas.size)
            return Batch(as_float(pictures), words[rows], torch.arange(rows.start, rows.stop))

        return Batches(tuple(min(batch_size, size - i) for i in range(0, size, batch_size)), get)

    def compose(self, count: int, held_out: bool, *stream: int | str) -> tuple[np.ndarray, np.ndarray]:
        """`count` pictures (N, 1, H, W) uint8 and captions (N, L) int32, of captions that are held out or that are not."""
        scenes = self.grammar.draw_scenes(count, self.labels, self.canvas, held_out, *stream)
        pictures = mnist_captions.compose(scenes, self.digits, self.canvas.size)
        return pictures.cpu().numpy(), mnist_captions.words(scenes).numpy().astype(np.int32)

    def in_order(self, batch_size: int, size: int, bucket: int = 1) -> Batches:
        """As `shuffled`, the same pictures at every call."""
        return self.shuffled(batch_size, size, "in order")


Dataset = CaptionedImages | CaptionedDigits


def as_float(images: Tensor) -> Tensor:
    """uint8 as float32 in [0, 1]; floats as they are."""
    return images.float().div_(255) if images.dtype == torch.uint8 else images


class Blocks(Protocol):
    """Pictures that come a block of rows at a time, for what does not fit into memory."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...

    def __iter__(self) -> Iterator[np.ndarray]: ...


def write_images(path: Path, images: np.ndarray | Blocks, captions: np.ndarray, lengths: np.ndarray,
                 image_of_caption: np.ndarray) -> None:
    """One split of captioned pictures; arrays as in the module's docstring."""
    room = math.prod(images.shape) * images.dtype.itemsize + captions.nbytes
    require_room(path.parent, room)  # HDF5 does not survive a full disk
    with h5py.File(path, "w") as h5:
        h5.attrs["format"] = FORMAT
        h5.attrs["kind"] = "images"
        chunks = (min(images.shape[0], 64), *images.shape[1:])
        stored = h5.create_dataset("images", images.shape, images.dtype, chunks=chunks, compression="gzip")
        row = 0
        for block in (images,) if isinstance(images, np.ndarray) else images:
            stored[row:row + len(block)] = block
            row += len(block)
        h5.create_dataset("captions", data=captions, compression="gzip")
        h5["lengths"], h5["image_of_caption"] = lengths.astype(np.int32), image_of_caption.astype(np.int32)


def write_digits(path: Path, digits: np.ndarray, labels: np.ndarray, grammar: Grammar, canvas: Canvas) -> None:
    """A bank of digits with the grammar and canvas that pictures are composed by."""
    require_room(path.parent, digits.nbytes)
    with h5py.File(path, "w") as h5:
        h5.attrs["format"] = FORMAT
        h5.attrs["kind"] = "digits"
        h5.attrs["grammar"] = json.dumps(grammar.as_dict(), sort_keys=True)
        h5.attrs["canvas"] = json.dumps(asdict(canvas), sort_keys=True)
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
                    from_mapping(Canvas, json.loads(h5.attrs["canvas"]), f"{path}: canvas"), device)
            names = ("images", "captions", "lengths", "image_of_caption")
            return CaptionedImages(*(h5[name][()] for name in names), device=device)
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"{path}: not readable as prepared data ({error}); run `dvc repro` to prepare it again") from error
