"""The dataset host's captioned pictures: its files, and what must be true of them.

Below `~emansim/datasets/text2image/` of http://www.cs.toronto.edu lie, for train, dev and test,

    {split}-images-32x32.npy   (N, 3072) planar RGB, float in [0, 1] (integers from 0 to 255 are taken too);
                               56x56 likewise, for train and dev alone
    {split}-captions.npy       (M, L) word ids, zero padded
    {split}-captions-len.npy   (M, 1) words of each caption, punctuation marks among them; no mark of the end is one
    {split}-cap2im.pkl         {row of a caption: row of its picture}, a pickle of Python 2

and dictionary.pkl, {word: id}. The authors' weights (text2image.released_arrays) lie elsewhere on the host, and go with
these files. Pictures are read a block of rows at a time: a gigabyte of them takes no memory.
"""

from collections.abc import Callable, Collection, Iterator
from functools import cached_property
from pathlib import Path
from textwrap import shorten
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from text2image import pickles, released_arrays
from text2image.captions import PADDING, UNKNOWN, Vocabulary
from text2image.errors import UserError

FOLDER = "~emansim/datasets/text2image"
DICTIONARY = "dictionary.pkl"
SPLITS = ("train", "dev", "test")
CHANNELS = 3
BLOCK_ROWS = 512
LARGEST_NUMBER = np.iinfo(np.int32).max


class Contradiction(UserError):
    """Two files that cannot both be right; which of them is wrong cannot be known."""

    def __init__(self, one: str, words: str, other: str):
        super().__init__(f"{one}: {words}; fetch both again")
        self.files = one, other


class Names(NamedTuple):
    """The files of one split."""

    images: str
    captions: str
    lengths: str
    pictures: str


def names(split: str, side: int) -> Names:
    return Names(f"{split}-images-{side}x{side}.npy", f"{split}-captions.npy", f"{split}-captions-len.npy",
                 f"{split}-cap2im.pkl")


def splits(side: int) -> tuple[str, ...]:
    """The splits that are published at a side."""
    return ("train", "dev") if side == 56 else SPLITS


def found(folder: Path) -> dict[str, int]:
    """The splits in a folder of these files, and the side of their pictures, which the names give."""
    sides = [path.stem.rpartition("x")[2] for path in folder.glob("train-images-*.npy")]
    if len(sides) != 1 or not sides[0].isdigit():
        raise UserError(f"{folder}: holds {len(sides)} files train-images-SxS.npy, not one; run `dvc repro` to fetch it again")
    side = int(sides[0])
    return {split: side for split in SPLITS if (folder / names(split, side).images).exists()}


def checks(side: int) -> dict[str, Callable[[Path], Any]]:
    """What each file must be by itself, by its path below a base URL."""
    of_each: dict[str, Callable[[Path], Any]] = {DICTIONARY: read_dictionary}
    for split in splits(side):
        of_each |= dict(zip(names(split, side), (check_images, read_captions, read_lengths, read_pictures), strict=True))
    return {f"{FOLDER}/{name}": check for name, check in of_each.items()}


class Images:
    """A file of pictures whose header and size are right. Iterate for blocks (n, C, S, S)."""

    def __init__(self, path: Path):
        self.path = path
        with path.open("rb") as file:
            (self.count, columns), self.kind = _header(file, path, "fiu", 2)
            self._start = file.tell()
        self.side = round((columns / CHANNELS) ** 0.5)
        named = path.stem.rpartition("x")[2]  # the side that the file's name gives
        if columns != CHANNELS * self.side**2 or str(self.side) != named:
            raise UserError(f"{path.name}: rows of {columns} values are no {CHANNELS} planes of {named}x{named}; "
                            "fetch it again")

    @cached_property
    def lossless(self) -> bool:
        """Whether bytes lose nothing: every float is a byte divided by 255, to the last bit.

        It takes a pass over the file, in which the range of every value is checked.
        """
        lossless = True
        largest = 1 if self.kind.kind == "f" else 255
        row = 0
        for block in self._blocks():
            if not (block.min() >= 0 and block.max() <= largest):  # false for what is no number, too
                raise UserError(f"{self.path.name}: rows {row} to {row + len(block) - 1} hold values outside 0 to {largest}; "
                                "fetch it again")
            row += len(block)
            if self.kind.kind == "f" and lossless:
                lossless = bool(((np.rint(block * 255) / 255).astype(block.dtype) == block).all())
        return lossless

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, C, S, S)."""
        return self.count, CHANNELS, self.side, self.side

    @property
    def dtype(self) -> np.dtype:
        """Of the blocks: uint8 where that loses nothing, else float32 in [0, 1]."""
        return np.dtype(np.uint8 if self.lossless else np.float32)

    def _blocks(self) -> Iterator[np.ndarray]:
        columns = CHANNELS * self.side**2
        with self.path.open("rb") as file:
            file.seek(self._start)
            for first in range(0, self.count, BLOCK_ROWS):
                rows = min(BLOCK_ROWS, self.count - first)
                yield np.frombuffer(file.read(rows * columns * self.kind.itemsize), self.kind).reshape(rows, columns)

    def __iter__(self) -> Iterator[np.ndarray]:
        for block in self._blocks():
            whole = self.kind.kind == "f" and self.lossless
            values = np.rint(block * 255) if whole else block
            yield values.astype(self.dtype).reshape(-1, *self.shape[1:])


def check_images(path: Path) -> bool:
    """Raises UserError unless all of a file of pictures is as it should be."""
    return Images(path).lossless


def _header(file: BinaryIO, path: Path, kinds: str, dimensions: int) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of a .npy, the file left at its data, of which there must be all and no more."""
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, kind = read(file)
    except Exception as error:  # a damaged header can fail at any step of reading it, each with an error of its own
        raise UserError(f"{path.name}: not a NumPy file ({shorten(str(error), 120)}); fetch it again") from error
    if kind.kind not in kinds or kind.hasobject:
        raise UserError(f"{path.name}: holds {kind}, not {'numbers' if 'f' in kinds else 'integers'}; fetch it again")
    if len(shape) != dimensions or fortran or 0 in shape:
        raise UserError(f"{path.name}: its shape {shape} is not one of {dimensions} dimensions, rows first; fetch it again")
    there, wanted = path.stat().st_size - file.tell(), int(np.prod(shape, dtype=object)) * kind.itemsize
    if there != wanted:
        raise UserError(f"{path.name}: {there:,} bytes of data, not {wanted:,}; fetch it again")
    return shape, kind


def _integers(path: Path, dimensions: int) -> np.ndarray:
    with path.open("rb") as file:
        shape, kind = _header(file, path, "iu", dimensions)
        numbers = np.frombuffer(file.read(), kind).reshape(shape)
    if numbers.max() > LARGEST_NUMBER:
        raise UserError(f"{path.name}: holds the number {numbers.max()}, which nothing here can have; fetch it again")
    return numbers


def read_captions(path: Path) -> np.ndarray:
    """(M, L) word ids."""
    ids = _integers(path, 2)
    if ids.min() < 0:
        raise UserError(f"{path.name}: holds the id {ids.min()}; ids start at 0: fetch it again")
    return ids.astype(np.int32)


def read_lengths(path: Path) -> np.ndarray:
    """(M,) words of each caption."""
    lengths = _integers(path, 2)
    if lengths.shape[1] != 1 or lengths.min() < 1:
        raise UserError(f"{path.name}: must hold one length of 1 or more a row, it is {lengths.shape} from "
                        f"{lengths.min()}; fetch it again")
    return lengths[:, 0].astype(np.int32)


def read_pictures(path: Path) -> np.ndarray:
    """(M,) the row of each caption's picture."""
    rows = pickles.read_mapping(path, int, "rows of captions and of their pictures")
    if min(rows) != 0 or max(rows) != len(rows) - 1 or min(rows.values()) < 0 or max(rows.values()) > LARGEST_NUMBER:
        raise UserError(f"{path.name}: its captions are not numbered 0 to {len(rows) - 1}, or a picture is below 0 or above "
                        f"{LARGEST_NUMBER:,}; fetch it again")
    return np.array([rows[row] for row in range(len(rows))], np.int32)


def read_dictionary(path: Path) -> Vocabulary:
    """The words in id order. Ids start at 1 and each has one word; an id that none has stands empty in the vocabulary."""
    ids = pickles.read_mapping(path, str, "words and their ids")
    if UNKNOWN not in ids:
        raise UserError(f"{path.name}: it lacks the word '{UNKNOWN}'; fetch it again")
    words = {number: _as_typed(word, ids) for word, number in ids.items()}
    if min(words) < 1 or len(words) != len(ids) or max(words) > 10 * len(words):
        raise UserError(f"{path.name}: its {len(ids)} words do not have an id of 1 or more each; fetch it again")
    try:
        return Vocabulary([PADDING, *(words.get(number, _nameless(number)) for number in range(1, max(words) + 1))])
    except UserError as error:
        raise UserError(f"{path.name}: {error}; fetch it again") from error


def _as_typed(word: str, words: Collection[str]) -> str:
    """A key as Python 2 compared it with what was typed: bytes, which are UTF-8 where they can be, and else latin-1."""
    try:
        typed = word.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return word
    return word if typed in words else typed


def _nameless(number: int) -> str:
    """What stands in the vocabulary for an id that no word has; no caption is read as holding it."""
    return f"<{number}>"


def with_rows_of(weights: Path, vocabulary: Vocabulary) -> Vocabulary:
    """The vocabulary with a place for each id that the authors' weights have a row for.

    Rows are ids as dictionary.pkl gives them, row 0 is that of the padding, and one more than there are words may stand
    at the end. Raises Contradiction where the rows are fewer or more: these weights were trained on other words.
    """
    rows = released_arrays.sizes(released_arrays.read(weights)).words
    if rows - len(vocabulary) not in (0, 1):
        raise Contradiction(weights.name, f"has weights for {rows:,} ids, {DICTIONARY} gives {len(vocabulary):,} with the "
                            "padding", DICTIONARY)
    return Vocabulary([*vocabulary.words, *map(_nameless, range(len(vocabulary), rows))])


class Split(NamedTuple):
    """One split, whose files agree with each other."""

    images: Images
    captions: np.ndarray          # (M, L)
    lengths: np.ndarray           # (M,)
    image_of_caption: np.ndarray  # (M,)


def read_split(folder: Path, split: str, side: int, vocabulary: Vocabulary) -> Split:
    """Raises UserError where a file is not what it should be, the range of pictures' values aside; Contradiction where
    two cannot both be right."""
    files = names(split, side)
    images, captions = Images(folder / files.images), read_captions(folder / files.captions)
    lengths, pictures = read_lengths(folder / files.lengths), read_pictures(folder / files.pictures)
    for name, rows in ((files.lengths, len(lengths)), (files.pictures, len(pictures))):
        if rows != len(captions):
            raise Contradiction(name, f"{rows:,} captions, {files.captions} has {len(captions):,}", files.captions)
    if lengths.max() > captions.shape[1]:
        raise Contradiction(files.lengths, f"a caption of {lengths.max()} words, {files.captions} has room for "
                            f"{captions.shape[1]}", files.captions)
    if captions.max() >= len(vocabulary):
        raise Contradiction(files.captions, f"holds the id {captions.max()}, {DICTIONARY} ends at {len(vocabulary) - 1}",
                            DICTIONARY)
    if pictures.max() >= images.count:
        raise Contradiction(files.pictures, f"names picture {pictures.max():,}, {files.images} has {images.count:,}",
                            files.images)
    within = np.arange(captions.shape[1]) < lengths[:, None]
    wrong = np.flatnonzero(((captions > 0) != within).any(1))
    if len(wrong):
        raise Contradiction(files.captions, f"caption {wrong[0]:,} has not the {lengths[wrong[0]]} words that "
                            f"{files.lengths} gives it", files.lengths)
    return Split(images, captions, lengths, pictures)

