"""Tables that NumPy wrote as pickled objects: a .npy of N small arrays, read a row at a time and never run.

The skip-thoughts tables are such files, of Python 2: 930,913 arrays of shape (620,) or (1, 620), 2.3 GB. NumPy would run
the pickle and hold all of it. Here the machine of text2image.files.pickles goes through it, with the instructions that
arrays are written with, and lets every row go as soon as it is whole. So neither a long table nor a hostile one takes memory.
"""

import math
import pickle
import warnings
from collections.abc import Iterator
from pathlib import Path
from textwrap import shorten
from typing import IO, Any, BinaryIO, ClassVar

import numpy as np

from text2image.errors import UserError
from text2image.files.pickles import COMMON, OBJECT, Kind, Machine, Name, raise_damaged, shown

BLOCK_ROWS = 1024
LONGEST_STRING = 1 << 16  # bytes; a row has some kilobytes
LEAST_BYTES = 20          # that an array takes, its content aside
BUFFER = 1 << 20


def read_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type that a .npy says, the file left at its data. Raises errors of many kinds where it is damaged."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    with warnings.catch_warnings():  # of what Python 2 wrote, and of what Python would make of a damaged header
        warnings.simplefilter("ignore")
        shape, _, kind = read(file)
    if any(length < 0 for length in shape):
        raise ValueError(f"it says that its shape is {shape}")
    return shape, kind


class ObjectTable:
    """A file of `count` arrays of equal size. Iterate for them in order, in blocks (n, W) float32."""

    def __init__(self, path: Path):
        self.path = path
        with path.open("rb") as file:
            try:
                shape, kind = read_header(file)
            except Exception as error:  # a damaged header can fail at any step of reading it, each with an error of its own
                raise UserError(f"{path.name}: not a NumPy file ({shown(str(error))}); fetch it again") from error
            self._start = file.tell()
        if kind != np.dtype(object) or len(shape) != 1 or not 0 < shape[0] * LEAST_BYTES < path.stat().st_size:
            raise UserError(f"{path.name}: {path.stat().st_size:,} bytes of {shorten(str(kind), 80)} of shape "
                            f"{shown(shape)} are no table of arrays; fetch it again")
        self.count: int = shape[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        """Raises UserError where the file is damaged, or is anything but such arrays of finite numbers."""
        try:
            with self.path.open("rb", BUFFER) as file:
                file.seek(self._start)
                yield from self._blocks(_TableMachine(file, self.count).rows())
        except pickle.UnpicklingError as error:
            raise UserError(f"{self.path.name}: not a table of {self.count:,} arrays of numbers: {error}; fetch it again, "
                            "from another base URL") from error

    def _blocks(self, rows: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        width, block = None, []
        for number, row in enumerate(rows):
            width = width or row.size
            if row.size != width or not width:
                raise pickle.UnpicklingError(f"array {number:,} has {row.size} values, those before it {width}")
            block.append(row)
            if len(block) == BLOCK_ROWS or number + 1 == self.count:
                stacked = np.stack(block).astype(np.float32)
                if not np.isfinite(stacked).all():
                    raise pickle.UnpicklingError(f"arrays {number + 1 - len(block):,} to {number:,} hold what is no number")
                yield stacked
                block = []


class _Array:
    """An array without content, or a row that has been handed on."""

    __slots__ = ("whole",)

    def __init__(self) -> None:
        self.whole = False


class _Rows:
    """The list of rows that the table is made of: how many there are."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def add(self, items: list[Any]) -> None:
        """Count rows that are whole arrays; anything else raises pickle.UnpicklingError."""
        if not all(type(item) is _Array and item.whole for item in items):
            raise pickle.UnpicklingError("its list holds something beside whole arrays")
        self.count += len(items)


def _reconstructed(kind: Any, shape: Any, letter: Any) -> _Array:
    """An array without content; NumPy gives it a shape and a letter that it does not keep."""
    if kind is not _ARRAY:
        raise pickle.UnpicklingError("it makes an array in a way of its own")
    return _Array()


def _not_called(*_: Any) -> Any:
    raise pickle.UnpicklingError("it calls what it may only name")


_ARRAY = Name(_not_called)


class _TableMachine(Machine):
    """The instructions that an array of arrays is written with, by Python 2 and 3."""

    longest = LONGEST_STRING
    names: ClassVar[dict[tuple[str, str], Name]] = Machine.names | {
        ("numpy", "ndarray"): _ARRAY,
        ("numpy.core.multiarray", "_reconstruct"): Name(_reconstructed),
        ("numpy._core.multiarray", "_reconstruct"): Name(_reconstructed)}

    def __init__(self, file: BinaryIO, count: int):
        super().__init__(file)
        self.count = count
        self.row: np.ndarray | None = None  # the one that has just become whole

    def rows(self) -> Iterator[np.ndarray]:
        """Each row as it becomes whole; raises pickle.UnpicklingError unless the table of them is what the pickle holds."""
        try:
            while self.step():
                if self.row is not None:
                    self.done += 1
                    if self.done > self.count:
                        raise pickle.UnpicklingError("it holds more arrays than that")
                    yield self.row
                    self.row = None
            if self.done != self.count or not isinstance(self.end(), _Rows):
                raise pickle.UnpicklingError(f"it holds {self.done:,} arrays")
        except Exception as error:
            raise_damaged(error)

    def build(self) -> None:
        """Give an array or a type its content."""
        what = self.stack[-2]
        if not isinstance(what, _Array):
            super().build()
            return
        if what.whole:
            raise pickle.UnpicklingError("it changes what is no array in the making")
        _, shape, kind, _, content = self.stack.pop()
        if not isinstance(kind, Kind) or not all(type(n) is int and n >= 0 for n in shape):
            raise pickle.UnpicklingError("it holds an array without a proper shape and type")
        if kind.code == OBJECT:
            if not isinstance(content, _Rows) or shape != (content.count,):
                raise pickle.UnpicklingError("its table is not filled by its arrays")
            self.stack[-1] = content
            return
        if kind.code not in ("f2", "f4", "f8") or max(shape, default=0) != math.prod(shape):
            raise pickle.UnpicklingError(f"it holds an array of {kind.code} of shape {shown(shape)}, not a row of numbers")
        self.row = np.frombuffer(content, f"<{kind.code}")
        if self.row.size != math.prod(shape):
            raise pickle.UnpicklingError("it holds an array whose content does not fill its shape")
        what.whole = True

    def append(self, items: list[Any]) -> None:
        """Add rows to the list of them."""
        if not items:
            self.pass_over(0)
        rows = self.stack[-1]
        if not isinstance(rows, _Rows):
            raise pickle.UnpicklingError("it adds to what is no list")
        rows.add(items)

    instructions = COMMON | {
        b"\x8e": lambda m: m.push_string(8), b"\x8d": lambda m: m.push_text(8),
        b"]": lambda m: m.stack.append(_Rows()),
        b"a": lambda m: m.append([m.stack.pop()]), b"e": lambda m: m.append(m.since_mark())}
