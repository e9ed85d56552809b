"""Pickles of Python 2 from plain HTTP: read as data, never run.

The published dictionary.pkl and *-cap2im.pkl hold dicts of strings and integers, the skip-thoughts tables NumPy arrays.
That is all that is let in. A pickle names what it wants called; every name but NumPy's for arrays and numbers is
refused, and those are stood in for by objects of ours, which check what they are given, so that no hostile state
reaches NumPy itself.
"""

import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from text2image.errors import UserError

LARGEST_MAPPING = 1 << 28  # bytes of a pickle
NUMBERS = {f"{letter}{size}": f"{letter}{size}" for letter in "iuf" for size in (1, 2, 4, 8)} | {"b1": "b1"}
OBJECT = "O"


class _Name:
    """What a name in a pickle stands for: something to call. No state is taken, so nothing of it can be changed."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]):
        self._make = make

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("it tries to change what it may only call")


class Kind:
    """A NumPy type: a plain number in little-endian (or no) byte order, or object."""

    __slots__ = ("code",)

    def __init__(self, code: Any, *_: Any):
        self.code = OBJECT if code in ("O", "O8", "O4") else NUMBERS.get(code) if isinstance(code, str) else None
        if self.code is None:
            raise pickle.UnpicklingError(f"it holds a NumPy type {code!r}")

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 5 or state[1] not in ("<", "|", "=") or state[2:5] != (None,) * 3:
            raise pickle.UnpicklingError("it holds a NumPy type with parts of its own, or of another byte order")


class _Array:
    """An array in the making: NumPy makes it empty and then gives it shape, type and content."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, content = state
        if not isinstance(kind, Kind) or not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
            raise pickle.UnpicklingError("it holds an array without a proper shape and type")
        order = "F" if fortran is True else "C"
        if kind.code == OBJECT:
            if not isinstance(content, list) or len(content) != math.prod(shape):
                raise pickle.UnpicklingError("it holds an array whose content does not fill its shape")
            self.value = np.empty(len(content), object)
            self.value[:] = [_plain(item) for item in content]
        else:
            raw = content.encode("latin-1") if isinstance(content, str) else content
            self.value = np.frombuffer(raw, f"<{kind.code}").copy()
        if self.value.size != math.prod(shape):
            raise pickle.UnpicklingError("it holds an array whose content does not fill its shape")
        self.value = self.value.reshape(shape, order=order)


def _array(*_: Any) -> _Array:
    return _Array()


def _number(kind: Any, content: Any) -> np.generic:
    raw = content.encode("latin-1") if isinstance(content, str) else content
    if not isinstance(kind, Kind) or kind.code == OBJECT or len(raw) != np.dtype(kind.code).itemsize:
        raise pickle.UnpicklingError("it holds a NumPy scalar that is no plain number")
    return np.frombuffer(raw, f"<{kind.code}")[0]


def _bytes(text: Any, encoding: Any = "latin1") -> bytes:
    """Bytes in a pickle that Python 3 wrote with protocol 2."""
    if encoding != "latin1" or not isinstance(text, str):
        raise pickle.UnpicklingError("it encodes text in a way of its own")
    return text.encode("latin-1")


def _no_bytes() -> bytes:
    """Empty bytes in a pickle that Python 3 wrote with protocol 2: bytes()."""
    return b""


_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _array, ("numpy", "dtype"): Kind, ("_codecs", "encode"): _bytes, ("__builtin__", "bytes"): _no_bytes}
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _KNOWN |= {(_module, "_reconstruct"): _array, (_module, "scalar"): _number}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _Name(_KNOWN[module, name])

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it asks for an object from outside")


def _plain(value: Any) -> Any:
    """The value with every array in the making made."""
    if isinstance(value, _Array):
        if value.value is None:
            raise pickle.UnpicklingError("it holds an array without content")
        return value.value
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(item) for item in value)
    if value is None or isinstance(value, str | bytes | bool | int | float | np.generic):
        return value
    raise pickle.UnpicklingError(f"it holds a {type(value).__name__.strip('_')}")


def load(file: BinaryIO) -> Any:
    """One pickle from an open file: dicts, lists, tuples, strings (latin-1), numbers, NumPy arrays and numbers.

    Raises pickle.UnpicklingError for anything else, whatever is wrong with it.
    """
    try:
        return _plain(_Reader(file, encoding="latin1").load())
    except pickle.UnpicklingError:
        raise
    except Exception as error:  # a damaged pickle can fail at any of its steps, each with an error of its own
        raise pickle.UnpicklingError(f"it is damaged ({type(error).__name__}: {error})") from error


def read_mapping(path: Path, keys: type, what: str) -> dict[Any, int]:
    """A published mapping to integers; its keys are `keys` (str or int), NumPy's integers become Python's.

    `what` says in a message what the file should hold. Raises UserError for any other content.
    """
    if path.stat().st_size > LARGEST_MAPPING:
        raise UserError(f"{path.name}: {path.stat().st_size:,} bytes are no {what}; fetch it again")
    try:
        with path.open("rb") as file:
            found = load(file)
    except pickle.UnpicklingError as error:
        raise UserError(f"{path.name}: not a pickle of {what}: {error}; fetch it again, from another base URL") from error
    if not isinstance(found, dict) or not found:
        raise UserError(f"{path.name}: holds a {type(found).__name__}, not {what}; fetch it again")
    wanted = str if keys is str else (int, np.integer)
    for key, value in found.items():
        if not isinstance(key, wanted) or not isinstance(value, int | np.integer) or bool in (type(key), type(value)):
            raise UserError(f"{path.name}: holds {key!r}: {value!r}, not {what}; fetch it again")
    return {key if keys is str else int(key): int(value) for key, value in found.items()}
