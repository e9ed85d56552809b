"""Frozen dataclasses from plain mappings: every key known, none missing, every value of its type and in its range."""

import dataclasses
import difflib
import math
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from text2image.errors import UserError

T = TypeVar("T")


def parameter(*, least: float | None = None, above: float | None = None, below: float | None = None) -> Any:
    """A dataclass field with a range: `least` <= value, `above` < value, value < `below`."""
    return dataclasses.field(metadata={"least": least, "above": above, "below": below})


def nearest(word: str, known: list[str]) -> str:
    """A hint that names the known word closest to `word`."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.0)
    return f"did you mean '{close[0]}'?" if close else "none is known here"


def from_mapping(cls: type[T], mapping: Mapping[str, Any], where: str) -> T:
    """Build the dataclass `cls` from `mapping`; `where` is the mapping's dotted path, for messages.

    Raises UserError for an unknown key (with the nearest known one), a missing key, a value of the
    wrong type or out of range.
    """
    if not isinstance(mapping, Mapping):
        raise UserError(f"parameter '{where}' must be a block of parameters, not {mapping!r}")
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in mapping:
        if key not in fields:
            raise UserError(f"unknown parameter '{where}.{key}': {nearest(str(key), list(fields))}")
    for key in fields:
        if key not in mapping:
            raise UserError(f"missing parameter '{where}.{key}': it must be given")
    types_of = get_type_hints(cls)
    values = {}
    for key, field in fields.items():
        value = _coerce(types_of[key], mapping[key], f"{where}.{key}")
        _check_range(field, value, f"{where}.{key}")
        values[key] = value
    return cls(**values)


def _coerce(kind: Any, value: Any, where: str) -> Any:
    origin = get_origin(kind)
    if origin is Literal:
        choices = get_args(kind)
        if not any(value == choice for choice in choices):
            hint = nearest(str(value), [str(choice) for choice in choices])
            raise UserError(f"parameter '{where}' is {value!r}; it takes one of {', '.join(map(str, choices))}: {hint}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise UserError(f"parameter '{where}' must be a list, not {value!r}")
        return tuple(_coerce(get_args(kind)[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if dataclasses.is_dataclass(kind):
        return from_mapping(kind, value, where)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise UserError(f"parameter '{where}' must be {kind.__name__}, not {value!r}")
    return value


def _check_range(field: dataclasses.Field, value: Any, where: str) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return
    if not math.isfinite(value):
        raise UserError(f"parameter '{where}' is {value}; it must be finite")
    for rule, holds, words in (("least", lambda a: value >= a, "at least"), ("above", lambda a: value > a, "more than"),
                               ("below", lambda a: value < a, "less than")):
        limit = field.metadata.get(rule)
        if limit is not None and not holds(limit):
            raise UserError(f"parameter '{where}' is {value}; it must be {words} {limit}")
