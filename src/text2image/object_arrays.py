"""Tables that NumPy wrote as pickled objects: a .npy of N small arrays, read a row at a time and never run.

The skip-thoughts tables are such files, of Python 2: 930,913 arrays of shape (620,) or (1, 620), 2.3 GB. NumPy would run
the pickle and hold all of it. Here a machine of our own goes through it, one instruction after the other: it knows
those that arrays are written with, makes numbers, strings and tuples of them and nothing else, and lets every row go as
soon as it is whole. So neither a long table nor a hostile one takes memory.
"""

import math
import pickle
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from text2image.errors import UserError
from text2image.pickles import OBJECT, Kind

BLOCK_ROWS = 1024
LONGEST_STRING = 1 << 20  # bytes; a row has some kilobytes
LONGEST_NAME = 100
LEAST_BYTES = 20          # that an array takes, its content aside
REMEMBERED = 1 << 12      # values that may be referred back to: names, types and letters, which come first
SPARE = 1 << 12           # places on the stack beside the rows
BUFFER = 1 << 20


class ObjectTable:
    """A file of `count` arrays of equal size. Iterate for them in order, in blocks (n, W) float32."""

    def __init__(self, path: Path):
        self.path = path
        with path.open("rb") as file:
            try:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, kind = read(file)
            except (ValueError, OSError, EOFError, TypeError) as error:
                raise UserError(f"{path.name}: not a NumPy file ({error}); fetch it again") from error
            self._start = file.tell()
        if kind != np.dtype(object) or len(shape) != 1 or not 0 < shape[0] * LEAST_BYTES < path.stat().st_size:
            raise UserError(f"{path.name}: {path.stat().st_size:,} bytes of {kind} of shape {shape} are no table of arrays; "
                            "fetch it again")
        self.count: int = shape[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        """Raises UserError where the file is damaged, or is anything but such arrays of finite numbers."""
        try:
            with self.path.open("rb", BUFFER) as file:
                file.seek(self._start)
                yield from self._blocks(_Machine(file, self.count).rows())
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


class _Known(Enum):
    """What a name in the pickle may stand for."""

    RECONSTRUCT = "an array in the making"
    ARRAY = "NumPy's array"
    KIND = "NumPy's type of numbers"
    ENCODE = "bytes, in a pickle that Python 3 wrote with protocol 2"


_NAMES = {("numpy", "ndarray"): _Known.ARRAY, ("numpy", "dtype"): _Known.KIND, ("_codecs", "encode"): _Known.ENCODE,
          ("numpy.core.multiarray", "_reconstruct"): _Known.RECONSTRUCT,
          ("numpy._core.multiarray", "_reconstruct"): _Known.RECONSTRUCT}


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
        if not all(type(item) is _Array and item.whole for item in items):
            raise pickle.UnpicklingError("its list holds something beside whole arrays")
        self.count += len(items)


class _Machine:
    """The pickle machine, with the instructions that arrays are written with alone."""

    def __init__(self, file: BinaryIO, count: int):
        self.file, self.count = file, count
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.memoized = 0
        self.row: np.ndarray | None = None  # the one that has just become whole

    def rows(self) -> Iterator[np.ndarray]:
        """Each row as it becomes whole; raises pickle.UnpicklingError unless the table of them is what the pickle holds."""
        made = 0
        try:
            while (code := self.take(1)) != b".":
                if code not in _INSTRUCTIONS:
                    raise pickle.UnpicklingError(f"it holds the instruction {code!r}, which no array needs")
                _INSTRUCTIONS[code](self)
                if len(self.stack) + len(self.marks) > self.count + SPARE:
                    raise pickle.UnpicklingError("it piles up more than the arrays that it should hold")
                if self.row is not None:
                    made += 1
                    if made > self.count:
                        raise pickle.UnpicklingError("it holds more arrays than that")
                    yield self.row
                    self.row = None
            if made != self.count or len(self.stack) != 1 or not isinstance(self.stack[0], _Rows):
                raise pickle.UnpicklingError(f"it holds {made:,} arrays")
            if self.file.read(1):
                raise pickle.UnpicklingError("it goes on after its end")
        except pickle.UnpicklingError:
            raise
        except Exception as error:  # a damaged pickle can fail at any of its steps, each with an error of its own
            raise pickle.UnpicklingError(f"it is damaged ({type(error).__name__}: {error})") from error

    def take(self, size: int) -> bytes:
        if size > LONGEST_STRING:
            raise pickle.UnpicklingError(f"it holds a part of {size:,} bytes")
        content = self.file.read(size)
        if len(content) != size:
            raise pickle.UnpicklingError("it breaks off")
        return content

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def push_string(self, size: int) -> None:
        self.stack.append(self.take(self.number(size)))

    def push_text(self, size: int) -> None:
        self.stack.append(self.take(self.number(size)).decode("utf-8"))

    def push_integer(self, size: int) -> None:
        self.stack.append(int.from_bytes(self.take(size), "little", signed=size > 2))

    def since_mark(self) -> list[Any]:
        place = self.marks.pop()
        items = self.stack[place:]
        del self.stack[place:]
        return items

    def push_tuple(self, items: list[Any]) -> None:
        if len(items) > 8 or any(type(part) is tuple for item in items if type(item) is tuple for part in item):
            raise pickle.UnpicklingError("it holds tuples that no array has")
        self.stack.append(tuple(items))

    def pop_tuple(self, size: int) -> None:
        if len(self.stack) < size:
            raise pickle.UnpicklingError("it takes more than it has put down")
        items = self.stack[-size:]
        del self.stack[-size:]
        self.push_tuple(items)

    def push_name(self, module: Any, name: Any) -> None:
        if (module, name) not in _NAMES:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        self.stack.append(_NAMES[module, name])

    def name_on_lines(self) -> None:
        self.push_name(*(self.file.readline(LONGEST_NAME).decode("utf-8").rstrip("\n") for _ in range(2)))

    def name_on_stack(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.push_name(module, name)

    def remember(self, place: int | None = None) -> None:
        """Only what a later array may share with others; never an array, nor content."""
        value = self.stack[-1]
        small = isinstance(value, _Known | Kind) or (isinstance(value, str | bytes) and len(value) <= LONGEST_NAME)
        place = self.memoized if place is None else place
        self.memoized += 1
        if small and len(self.memo) < REMEMBERED:
            self.memo[place] = value

    def recall(self, place: int) -> None:
        if place not in self.memo:
            raise pickle.UnpicklingError("it refers back to an array, or to a part of one")
        self.stack.append(self.memo[place])

    def call(self) -> None:
        arguments, what = self.stack.pop(), self.stack.pop()
        if not isinstance(what, _Known) or not isinstance(arguments, tuple):
            raise pickle.UnpicklingError("it calls what is nothing to call")
        if what is _Known.RECONSTRUCT and arguments and arguments[0] is _Known.ARRAY:
            self.stack.append(_Array())
        elif what is _Known.KIND and arguments:
            code = arguments[0]
            self.stack.append(Kind(code.decode("latin-1") if isinstance(code, bytes) else code))
        elif what is _Known.ENCODE and len(arguments) == 2 and arguments[1] == "latin1":
            self.stack.append(arguments[0].encode("latin-1"))
        else:
            raise pickle.UnpicklingError(f"it makes {what.value} in a way of its own")

    def build(self) -> None:
        state = self.stack.pop()
        what = self.stack[-1]
        if isinstance(what, Kind):
            order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
            what.__setstate__((state[0], order.decode("latin-1"), *state[2:]) if isinstance(order, bytes) else state)
            return
        if not isinstance(what, _Array) or what.whole:
            raise pickle.UnpicklingError("it changes what is no array in the making")
        _, shape, kind, _, content = state
        if not isinstance(kind, Kind) or not all(type(n) is int and n >= 0 for n in shape):
            raise pickle.UnpicklingError("it holds an array without a proper shape and type")
        if kind.code == OBJECT:
            if not isinstance(content, _Rows) or shape != (content.count,):
                raise pickle.UnpicklingError("its table is not filled by its arrays")
            self.stack[-1] = content
            return
        if kind.code not in ("f2", "f4", "f8") or max(shape, default=0) != math.prod(shape):
            raise pickle.UnpicklingError(f"it holds an array of {kind.code} of shape {shape}, not a row of numbers")
        self.row = np.frombuffer(content, f"<{kind.code}")
        if self.row.size != math.prod(shape):
            raise pickle.UnpicklingError("it holds an array whose content does not fill its shape")
        what.whole = True

    def append(self, items: list[Any]) -> None:
        rows = self.stack[-1]
        if not isinstance(rows, _Rows):
            raise pickle.UnpicklingError("it adds to what is no list")
        rows.add(items)


_INSTRUCTIONS: dict[bytes, Callable[[_Machine], Any]] = {
    b"\x80": lambda m: m.take(1), b"\x95": lambda m: m.take(8),  # protocol, frame: nothing hangs on them
    b"c": _Machine.name_on_lines,
    b"\x93": _Machine.name_on_stack,
    b"U": lambda m: m.push_string(1), b"T": lambda m: m.push_string(4),  # of Python 2
    b"C": lambda m: m.push_string(1), b"B": lambda m: m.push_string(4), b"\x8e": lambda m: m.push_string(8),
    b"\x8c": lambda m: m.push_text(1), b"X": lambda m: m.push_text(4), b"\x8d": lambda m: m.push_text(8),
    b"K": lambda m: m.push_integer(1), b"M": lambda m: m.push_integer(2), b"J": lambda m: m.push_integer(4),
    b"\x8a": lambda m: m.push_integer(m.number(1)),
    b"N": lambda m: m.stack.append(None), b"\x88": lambda m: m.stack.append(True), b"\x89": lambda m: m.stack.append(False),
    b"(": lambda m: m.marks.append(len(m.stack)),
    b")": lambda m: m.push_tuple([]), b"t": lambda m: m.push_tuple(m.since_mark()),
    b"\x85": lambda m: m.pop_tuple(1), b"\x86": lambda m: m.pop_tuple(2), b"\x87": lambda m: m.pop_tuple(3),
    b"]": lambda m: m.stack.append(_Rows()),
    b"a": lambda m: m.append([m.stack.pop()]), b"e": lambda m: m.append(m.since_mark()),
    b"q": lambda m: m.remember(m.number(1)), b"r": lambda m: m.remember(m.number(4)), b"\x94": _Machine.remember,
    b"h": lambda m: m.recall(m.number(1)), b"j": lambda m: m.recall(m.number(4)),
    b"R": _Machine.call,
    b"b": _Machine.build,
}
