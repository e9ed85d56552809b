"""Captioned images as the dataset host publishes them: the files, and what must be true of them.

Below `~emansim/datasets/text2image/` of http://www.cs.toronto.edu lie, for train, dev and test,

    {split}-images-32x32.npy   (N, 3072) planar RGB, float in [0, 1] (integers from 0 to 255 are taken too);
                               56x56 likewise, for train and dev alone
    {split}-captions.npy       (M, L) word ids, zero padded
    {split}-captions-len.npy   (M, 1) words of each caption, punctuation marks among them; no mark of the end is one
    {split}-cap2im.pkl         {row of a caption: row of its image}, a pickle of Python 2

and dictionary.pkl, {word: id}. The authors' weights (text2image.files.released_arrays) lie elsewhere on the host, and go with
these files. Images are read a block of rows at a time: a gigabyte of them takes no memory.
"""

import math
import shutil
import warnings
from collections.abc import Callable, Collection, Iterator
from functools import cached_property
from pathlib import Path
from textwrap import shorten
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from text2image.data.vocabulary import PADDING, UNKNOWN, Vocabulary
from text2image.data.writer import SPLITS, Writer
from text2image.errors import UserError, UserWarningLine
from text2image.files import pickles, released_arrays

FOLDER = "~emansim/datasets/text2image"
DICTIONARY = "dictionary.pkl"
CHANNELS = 3
BLOCK_ROWS = 512
FEW = 0.01  # of the values that are no bytes, where all the others are: damage is likelier than another kind of images
LARGEST_NUMBER = np.iinfo(np.int32).max
MOST_IDS = 1 << 21  # of words; an id that no word has takes memory too


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
    image_rows: str


def names(split: str, side: int) -> Names:
    """The files of a split whose images have `side` x `side` pixels."""
    return Names(f"{split}-images-{side}x{side}.npy", f"{split}-captions.npy", f"{split}-captions-len.npy",
                 f"{split}-cap2im.pkl")


def splits(side: int) -> tuple[str, ...]:
    """The splits that are published at a side."""
    return ("train", "dev") if side == 56 else SPLITS


def splits_in(folder: Path) -> dict[str, int]:
    """The splits in a folder of these files, and the side of their images, which the names give."""
    sides = [path.stem.rpartition("x")[2] for path in folder.glob("train-images-*.npy")]
    if len(sides) != 1 or not sides[0].isdigit():
        raise UserError(f"{folder}: holds {len(sides)} files train-images-SxS.npy, not one; run `dvc repro` to fetch it again")
    side = int(sides[0])
    return {split: side for split in SPLITS if (folder / names(split, side).images).exists()}


def checks(side: int) -> dict[str, Callable[[Path], Any]]:
    """What each file must be by itself, by its path below a base URL."""
    of_each: dict[str, Callable[[Path], Any]] = {DICTIONARY: read_dictionary}
    for split in splits(side):
        of_each |= dict(zip(names(split, side), (check_images, read_caption_ids, read_lengths, read_image_rows), strict=True))
    return {f"{FOLDER}/{name}": check for name, check in of_each.items()}


class Images:
    """A file of images whose header and size are right. Iterate for blocks (n, C, S, S)."""

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

        It takes a pass over the file, in which the range of every value is checked. Values that are likely to mean something
        else are warned of.
        """
        full = 1 if self.kind.kind == "f" else 255
        few = FEW * math.prod(self.shape)
        row, largest, others, example = 0, 0.0, 0, ""
        for block in self._blocks():
            if not (block.min() >= 0 and block.max() <= full):  # false for what is no number, too
                raise UserError(f"{self.path.name}: rows {row} to {row + len(block) - 1} hold values outside 0 to {full}; "
                                "fetch it again")
            largest = max(largest, float(block.max()))
            if self.kind.kind == "f" and others <= few:
                other = (np.rint(block * 255) / 255).astype(block.dtype) != block
                if not others and other.any():
                    first, column = np.argwhere(other)[0]
                    example = f"{block[first, column]} in row {row + first:,}"
                others += int(other.sum())
            row += len(block)
        if (largest := largest * 255 / full) < 1.001:  # floats are rounded
            warnings.warn(f"{self.path.name}: its largest value is {largest:.3g} of 255, so that all images are black: are "
                          "they masks, or were they divided by 255 once too often?", UserWarningLine, stacklevel=2)
        if 0 < others <= few:
            warnings.warn(f"{self.path.name}: {others:,} of {math.prod(self.shape):,} values are not bytes divided by 255, the "
                          f"first {example}, and all others are: is the file damaged? Because of them it is kept as float32",
                          UserWarningLine, stacklevel=2)
        return not others

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
    """Raise UserError unless all of a file of images is as it should be; says whether bytes lose nothing."""
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
    if len(shape) == dimensions and fortran:
        raise UserError(f"{path.name}: its values lie in Fortran's order, column by column: save it again with "
                        "numpy.save(name, numpy.ascontiguousarray(array))")
    if len(shape) != dimensions or min(shape) < 1:
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


def read_caption_ids(path: Path) -> np.ndarray:
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


def read_image_rows(path: Path) -> np.ndarray:
    """(M,) the row of each caption's image."""
    rows = pickles.read_mapping(path, int, "rows of captions and of their images")
    if min(rows) != 0 or max(rows) != len(rows) - 1 or min(rows.values()) < 0 or max(rows.values()) > LARGEST_NUMBER:
        raise UserError(f"{path.name}: its captions are not numbered 0 to {len(rows) - 1}, or an image is below 0 or above "
                        f"{LARGEST_NUMBER:,}; fetch it again")
    return np.array([rows[row] for row in range(len(rows))], np.int32)


def read_dictionary(path: Path) -> Vocabulary:
    """The words in id order. Ids start at 1 and each has one word; an id that none has stands empty in the vocabulary."""
    ids = pickles.read_mapping(path, str, "words and their ids")
    if UNKNOWN not in ids:
        raise UserError(f"{path.name}: it lacks the word '{UNKNOWN}'; fetch it again")
    words = {number: _as_typed(word, ids) for word, number in ids.items()}
    if min(words) < 1 or len(words) != len(ids) or max(words) > min(10 * len(words), MOST_IDS):
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
    """Raises UserError where a file is not what it should be, the range of the images' values aside; Contradiction where
    two cannot both be right."""
    files = names(split, side)
    images, captions = Images(folder / files.images), read_caption_ids(folder / files.captions)
    lengths, rows = read_lengths(folder / files.lengths), read_image_rows(folder / files.image_rows)
    for name, count in ((files.lengths, len(lengths)), (files.image_rows, len(rows))):
        if count != len(captions):
            raise Contradiction(name, f"{count:,} captions, {files.captions} has {len(captions):,}", files.captions)
    if lengths.max() > captions.shape[1]:
        raise Contradiction(files.lengths, f"a caption of {lengths.max()} words, {files.captions} has room for "
                            f"{captions.shape[1]}", files.captions)
    if captions.max() >= len(vocabulary):
        raise Contradiction(files.captions, f"holds the id {captions.max()}, {DICTIONARY} ends at {len(vocabulary) - 1}",
                            DICTIONARY)
    if rows.max() >= images.count:
        raise Contradiction(files.image_rows, f"names image {rows.max():,}, {files.images} has {images.count:,}",
                            files.images)
    within = np.arange(captions.shape[1]) < lengths[:, None]
    wrong = np.flatnonzero(((captions > 0) != within).any(1))
    if len(wrong):
        raise Contradiction(files.captions, f"caption {wrong[0]:,} has not the {lengths[wrong[0]]} words that "
                            f"{files.lengths} gives it", files.lengths)
    return Split(images, captions, lengths, rows)



def prepare(raw: Path, out: Writer) -> None:
    """Write a folder of these files, with their own ids and splits, and the authors' weights where they lie beside them."""
    vocabulary = read_dictionary(raw / DICTIONARY)
    for weights in raw.glob("*.h5"):
        vocabulary = with_rows_of(weights, vocabulary)
        shutil.copyfile(weights, out.folder / released_arrays.FILE)
    for split, side in splits_in(raw).items():
        out.write_split(split, vocabulary, *read_split(raw, split, side, vocabulary))
    out.write_vocabulary(vocabulary)
