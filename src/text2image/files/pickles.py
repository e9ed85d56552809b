"""Pickles from plain HTTP: read as data by a machine of our own, never run.

The published dictionary.pkl and *-cap2im.pkl hold a dict of strings or integers to integers, written by Python 2. Python's
own unpickler would call what they name, nest as deep as they say, and make room for what they claim. Here a machine goes
through a pickle, one instruction after the other: it knows those that such a file is written with, makes numbers, strings
and flat tuples of them and nothing else, and refers back to nothing but names and short strings. So neither a damaged file
nor a hostile one takes more memory or time than a whole one of its size.

`Machine` is what every kind of pickle shares; text2image.files.object_arrays reads tables of arrays with it.
"""

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, NamedTuple, NoReturn

from text2image.errors import UserError

LARGEST_MAPPING = 1 << 28                 # bytes of a pickle
MOST_PAIRS = {str: 1 << 20, int: 1 << 22}  # by the type of the keys; COCO has 25,000 words and 414,113 captions
LONGEST_WORD = 1 << 12                    # bytes
LONGEST_NAME = 100                        # of what may be called, and of what may be referred back to
LONGEST_SHOWN = 80                        # characters of a value in a message
REMEMBERED = 1 << 16                      # values that may be referred back to
PILE = 1 << 12                            # values on the stack: writers put down a thousand, or a thousand pairs, at once
MOST_IDLE = 1 << 16                       # instructions that do nothing: a frame begins every 64 kB
MOST_PUTS = 16                            # that it takes to write a pair, or an array
NUMBERS = {f"{letter}{size}" for letter in "iuf" for size in (1, 2, 4, 8)} | {"b1"}
OBJECT = "O"

# What the instructions would make that no reader here knows, for messages.
_NOUNS = {b"]": "a list", b"l": "a list", b"G": "a float", b"F": "a float", b"}": "a dict", b"d": "a dict", b"\x8f": "a set",
          b"\x91": "a frozen set", b"P": "an object from outside", b"Q": "an object from outside"}


class Kind:
    """A NumPy type: a plain number in little-endian (or no) byte order, or object."""

    __slots__ = ("code", "whole")

    def __init__(self, code: str | bytes, align: int, copy: int):
        text = code.decode("latin-1") if isinstance(code, bytes) else code
        self.code = OBJECT if text in ("O", "O8", "O4") else text
        self.whole = False
        if self.code != OBJECT and self.code not in NUMBERS:
            raise pickle.UnpicklingError(f"it holds a NumPy type {shown(code)}")

    def build(self, state: Any) -> None:
        """Check the rest of it: byte order, and no parts of its own."""
        if self.whole or not isinstance(state, tuple) or len(state) < 5 or state[2:5] != (None,) * 3 or (
                state[1] not in ("<", "|", "=", b"<", b"|", b"=")):
            raise pickle.UnpicklingError("it holds a NumPy type with parts of its own, or of another byte order")
        self.whole = True


class Name(NamedTuple):
    """What a name in a pickle stands for: something to call with plain values."""

    make: Callable[..., Any]


def _bytes(text: str, encoding: str | bytes) -> bytes:
    """Bytes in a pickle that Python 3 wrote with protocol 2."""
    if encoding not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError("it encodes text in a way of its own")
    return text.encode("latin-1")


class Machine:
    """Goes through a pickle of one kind, whose instructions and names a subclass adds to those that all kinds need.

    Its methods raise pickle.UnpicklingError, or whatever a damaged pickle leads to.
    """

    names: ClassVar[dict[tuple[str, str], Name]] = {("numpy", "dtype"): Name(Kind), ("_codecs", "encode"): Name(_bytes)}
    instructions: ClassVar[dict[bytes, Callable[[Any], Any]]]
    longest: ClassVar[int]  # bytes of a string

    def __init__(self, file: BinaryIO):
        self.file = file
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.memoized = self.idle = 0
        self.done = 0  # pairs, or arrays, that are whole

    def step(self) -> bool:
        """Follow one instruction; whether it was not the last."""
        code = self.take(1)
        if code == b".":
            return False
        if code not in self.instructions:
            raise pickle.UnpicklingError(f"it holds {_NOUNS.get(code, 'something else')} (the instruction {code!r})")
        self.instructions[code](self)
        if len(self.stack) + len(self.marks) > PILE:
            raise pickle.UnpicklingError("it piles up more than it should hold")
        return True

    def end(self) -> Any:
        """What the pickle holds, after its last instruction."""
        if len(self.stack) != 1:
            raise pickle.UnpicklingError(f"it ends with {len(self.stack):,} values")
        if self.file.read(1):
            raise pickle.UnpicklingError("it goes on after its end")
        return self.stack[0]

    def take(self, size: int) -> bytes:
        """The next `size` bytes of the pickle."""
        if size > self.longest:
            raise pickle.UnpicklingError(f"it holds a part of {size:,} bytes")
        content = self.file.read(size)
        if len(content) != size:
            raise pickle.UnpicklingError("it breaks off")
        return content

    def line(self, longest: int) -> bytes:
        """The rest of the line, of at most `longest` bytes."""
        line = self.file.readline(longest + 1)
        if not line.endswith(b"\n"):
            raise pickle.UnpicklingError("it breaks off, or holds a line that is too long")
        return line[:-1]

    def number(self, size: int) -> int:
        """An unsigned number of `size` bytes."""
        return int.from_bytes(self.take(size), "little")

    def pass_over(self, size: int) -> None:
        """An instruction that does nothing here, with the `size` bytes that belong to it."""
        self.take(size)
        self.idle += 1
        if self.idle > MOST_IDLE:
            raise pickle.UnpicklingError("it goes on and holds nothing")

    def push_string(self, size: int) -> None:
        """Put down bytes, whose number is given in `size` bytes."""
        self.stack.append(self.take(self.number(size)))

    def push_text(self, size: int) -> None:
        """Put down a text in UTF-8, whose number of bytes is given in `size` bytes."""
        self.stack.append(self.take(self.number(size)).decode("utf-8"))

    def push_integer(self, size: int) -> None:
        """Put down an integer of `size` bytes."""
        self.stack.append(int.from_bytes(self.take(size), "little", signed=size > 2))

    def push_long(self) -> None:
        """Put down an integer whose number of bytes is given in one."""
        size = self.number(1)
        if size > 9:  # an unsigned one of 64 bits takes nine
            raise pickle.UnpicklingError(f"it holds an integer of {size:,} bytes")
        self.stack.append(int.from_bytes(self.take(size), "little", signed=True))

    def since_mark(self) -> list[Any]:
        """Take what was put down since the last mark."""
        place = self.marks.pop()
        items = self.stack[place:]
        del self.stack[place:]
        return items

    def push_tuple(self, items: list[Any]) -> None:
        """Put down a tuple, which holds no deeper tuples than an array's shape and state."""
        if len(items) > 8 or any(type(part) is tuple for item in items if type(item) is tuple for part in item):
            raise pickle.UnpicklingError("it holds tuples that no array has, and no number")
        self.stack.append(tuple(items))

    def pop_tuple(self, size: int) -> None:
        """Put the last `size` items down again as a tuple."""
        if len(self.stack) < size:
            raise pickle.UnpicklingError("it takes more than it has put down")
        items = self.stack[-size:]
        del self.stack[-size:]
        self.push_tuple(items)

    def push_name(self, module: Any, name: Any) -> None:
        """Put down what stands in for a name."""
        if (module, name) not in self.names:
            raise pickle.UnpicklingError(f"it asks for {shown(f'{module}.{name}')}")
        self.stack.append(self.names[module, name])

    def name_on_lines(self) -> None:
        """A name whose module and own part stand on two lines."""
        self.push_name(*(self.line(LONGEST_NAME).decode("utf-8") for _ in range(2)))

    def name_on_stack(self) -> None:
        """A name whose module and own part were put down."""
        name, module = self.stack.pop(), self.stack.pop()
        self.push_name(module, name)

    def remember(self, place: int | None = None) -> None:
        """Only what may be shared later: a name, a type, a short string; never an array, nor content."""
        value = self.stack[-1]
        small = isinstance(value, Name | Kind) or (isinstance(value, str | bytes) and len(value) <= LONGEST_NAME)
        place = self.memoized if place is None else place
        self.memoized += 1
        if self.memoized > MOST_PUTS * (self.done + PILE):
            raise pickle.UnpicklingError("it remembers more than it holds")
        if small and len(self.memo) < REMEMBERED:
            self.memo[place] = value

    def recall(self, place: int) -> None:
        """Put down a remembered value."""
        if place not in self.memo:
            raise pickle.UnpicklingError("it refers back to what nothing in it should share")
        self.stack.append(self.memo[place])

    def call(self) -> None:
        """Call what was put down, with the tuple after it: it makes a type, bytes, a number or an array."""
        arguments, what = self.stack.pop(), self.stack.pop()
        if not isinstance(what, Name) or not isinstance(arguments, tuple):
            raise pickle.UnpicklingError("it calls what is nothing to call")
        self.stack.append(what.make(*arguments))

    def build(self) -> None:
        """Give a type, or what a subclass takes beside, its state."""
        state = self.stack.pop()
        if not isinstance(self.stack[-1], Kind):
            raise pickle.UnpicklingError("it changes what is no array in the making, and no type")
        self.stack[-1].build(state)


COMMON: dict[bytes, Callable[[Any], Any]] = {
    b"\x80": lambda m: m.pass_over(1), b"\x95": lambda m: m.pass_over(8),  # protocol, frame: nothing hangs on them
    b"c": Machine.name_on_lines,
    b"\x93": Machine.name_on_stack,
    b"U": lambda m: m.push_string(1), b"T": lambda m: m.push_string(4),  # of Python 2
    b"C": lambda m: m.push_string(1), b"B": lambda m: m.push_string(4),
    b"\x8c": lambda m: m.push_text(1), b"X": lambda m: m.push_text(4),
    b"K": lambda m: m.push_integer(1), b"M": lambda m: m.push_integer(2), b"J": lambda m: m.push_integer(4),
    b"\x8a": Machine.push_long,
    b"N": lambda m: m.stack.append(None), b"\x88": lambda m: m.stack.append(True), b"\x89": lambda m: m.stack.append(False),
    b"(": lambda m: m.marks.append(len(m.stack)),
    b")": lambda m: m.push_tuple([]), b"t": lambda m: m.push_tuple(m.since_mark()),
    b"\x85": lambda m: m.pop_tuple(1), b"\x86": lambda m: m.pop_tuple(2), b"\x87": lambda m: m.pop_tuple(3),
    b"q": lambda m: m.remember(m.number(1)), b"r": lambda m: m.remember(m.number(4)), b"\x94": Machine.remember,
    b"h": lambda m: m.recall(m.number(1)), b"j": lambda m: m.recall(m.number(4)),
    b"R": Machine.call,
    b"b": lambda m: m.build(),
}


def shown(value: object) -> str:
    """A value from a file in a message: on one line, without control characters, and cut."""
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def raise_damaged(error: Exception) -> NoReturn:
    """Raise what a machine stumbled over as pickle.UnpicklingError: a damaged pickle can fail at any of its steps."""
    if isinstance(error, pickle.UnpicklingError):
        raise error
    raise pickle.UnpicklingError(f"it is damaged ({type(error).__name__}: {shown(str(error))})") from error


def _integer(kind: Kind, content: bytes) -> int:
    """An integer of NumPy."""
    if kind.code[0] not in "iu" or len(content) != int(kind.code[1:]):
        raise pickle.UnpicklingError("it holds a NumPy number that is no integer")
    return int.from_bytes(content, "little", signed=kind.code[0] == "i")


STRING = re.compile(rb"""(['"])((?:[^\\]|\\x[0-9a-fA-F]{2}|\\[\\'"nrt])*)\1""", re.DOTALL)
ESCAPE = re.compile(rb"""\\(?:x(..)|(.))""", re.DOTALL)
LETTERS = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}
INTEGER = re.compile(rb"-?[0-9]{1,20}L?")


class _MappingMachine(Machine):
    """The instructions that a dict of strings or integers to integers is written with, by Python 2 and 3, any protocol."""

    longest = LONGEST_WORD
    names: ClassVar[dict[tuple[str, str], Name]] = Machine.names | {
        ("__builtin__", "bytes"): Name(lambda: b""),  # empty ones, by Python 3 with protocol 2
        ("numpy.core.multiarray", "scalar"): Name(_integer), ("numpy._core.multiarray", "scalar"): Name(_integer)}

    def __init__(self, file: BinaryIO, keys: type):
        super().__init__(file)
        self.keys = keys
        self.mapping: dict[Any, int] | None = None

    def read(self) -> dict[Any, int]:
        """The mapping, all of it."""
        while self.step():
            pass
        held = self.end()
        if held is not self.mapping:
            raise pickle.UnpicklingError(f"it holds {shown(held)}")
        if not self.mapping:
            raise pickle.UnpicklingError("it holds an empty dict")
        return self.mapping

    def escaped_string(self) -> None:
        """Put down bytes that stand on a line as Python 2 shows them."""
        whole = STRING.fullmatch(self.line(4 * LONGEST_WORD))
        if whole is None:
            raise pickle.UnpicklingError("it holds a string that Python 2 does not write")
        self.stack.append(ESCAPE.sub(lambda e: bytes.fromhex(e[1].decode()) if e[1] else LETTERS.get(e[2], e[2]), whole[2]))

    def escaped_text(self) -> None:
        r"""Put down a text that stands on a line, with \u of what is not in Latin-1."""
        text = self.line(4 * LONGEST_WORD).decode("raw-unicode-escape")
        self.stack.append(text.encode("utf-16", "surrogatepass").decode("utf-16"))  # Python 2 may have written halves

    def integer_on_line(self) -> None:
        """Put down an integer, or a truth value, that stands on a line."""
        line = self.line(30)
        if not INTEGER.fullmatch(line):
            raise pickle.UnpicklingError(f"it holds an integer {shown(line)}")
        self.stack.append(line == b"01" if line in (b"00", b"01") else int(line.rstrip(b"L")))

    def place_on_line(self) -> int:
        """A place of what is remembered, that stands on a line."""
        line = self.line(10)
        if not line.isdigit():
            raise pickle.UnpicklingError("it remembers things at no place")
        return int(line)

    def push_mapping(self, items: list[Any]) -> None:
        """Put down the dict, with what is in it from the start."""
        if self.mapping is not None:
            raise pickle.UnpicklingError("it holds more than one dict")
        self.mapping = {}
        self.stack.append(self.mapping)
        if items:
            self.add(items)

    def add(self, items: list[Any]) -> None:
        """Add pairs to the dict below them."""
        if self.mapping is None or not self.stack or self.stack[-1] is not self.mapping or len(items) % 2:
            raise pickle.UnpicklingError("it adds to what is no dict")
        if not items:  # after the last thousand pairs
            self.pass_over(0)
        for key, value in zip(items[::2], items[1::2], strict=True):
            number = key.decode("latin-1") if type(key) is bytes else key
            if type(number) is not self.keys or type(value) is not int:
                raise pickle.UnpicklingError(f"it holds {shown(key)}: {shown(value)}")
            if number in self.mapping:
                raise pickle.UnpicklingError(f"it holds {shown(key)} twice")
            self.mapping[number] = value
        self.done = len(self.mapping)
        if self.done > MOST_PAIRS[self.keys]:
            raise pickle.UnpicklingError(f"it holds more than {MOST_PAIRS[self.keys]:,} pairs")

    def add_last(self) -> None:
        """Add the last two values as a pair."""
        value, key = self.stack.pop(), self.stack.pop()
        self.add([key, value])

    instructions = COMMON | {
        b"S": escaped_string, b"V": escaped_text, b"I": integer_on_line, b"L": integer_on_line,
        b"p": lambda m: m.remember(m.place_on_line()), b"g": lambda m: m.recall(m.place_on_line()),
        b"}": lambda m: m.push_mapping([]), b"d": lambda m: m.push_mapping(m.since_mark()),
        b"s": add_last, b"u": lambda m: m.add(m.since_mark())}


def read_mapping(path: Path, keys: type, what: str) -> dict[Any, int]:
    """A published mapping to integers; its keys are `keys` (str or int). Strings of bytes are read as Latin-1.

    `what` says in a message what the file should hold. Raises UserError for any other content.
    """
    if path.stat().st_size > LARGEST_MAPPING:
        raise UserError(f"{path.name}: {path.stat().st_size:,} bytes are no {what}; fetch it again")
    try:
        with path.open("rb") as file:
            try:
                return _MappingMachine(file, keys).read()
            except Exception as error:
                raise_damaged(error)
    except pickle.UnpicklingError as error:
        raise UserError(f"{path.name}: not a pickle of {what}: {error}; fetch it again, from another base URL") from error
