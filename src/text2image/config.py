"""Frozen dataclasses from plain mappings: every key known, none missing, every value of its type and in its range.

A field with a default is optional. A field whose type is a union of dataclasses is a block with a `kind`: the dataclass
whose own `kind` names it takes the other keys. Every number has a lower and an upper bound, so that what cannot be meant is
one line and no hang. Where values must fit together, the dataclass has a method `validate(where)`, which raises UserError.
"""

import dataclasses
import difflib
import math
import os
import re
import types
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar, dataclass_transform, get_args, get_origin, get_type_hints

from text2image.errors import UserError

T = TypeVar("T")

# What keys were called before version 1.0: someone's own params.yaml may still have them.
RENAMED = {
    "archive_urls": "idx_urls", "canvas": "layout", "minimum_count": "min_count", "scenes": "images", "pictures": "images",
    "least": "min", "most": "max", "least_words": "min_words", "most_words": "max_words", "start": "init",
    "recomputed_glimpses": "checkpoint_every", "decay": "optimizer.decay of rmsprop, or optimizer.beta1",
    "second_decay": "optimizer.beta2", "epsilon": "optimizer.eps", "weight_decay": "optimizer.weight_decay",
    "final_learning_rate": "schedule.final_learning_rate", "drop_after": "schedule.after", "mixed_in": "blend",
    "squared_error": "mse_weight", "discriminator_rate": "discriminator_lr_scale", "rate_decay": "optimizer.lr_decay",
    "momentum_growth": "optimizer.momentum_growth", "most_momentum": "optimizer.max_momentum",
    "evaluate": "bounds", "importance_captions": "iwae_captions", "importance_samples": "iwae_samples",
    **{switch: f"switches.{switch}" for switch in ("backward_words", "filter_grid", "window_centre", "filter_sum",
                                                   "posterior_scale", "prior_bias")}}
# Keys that went to another block.
MOVED = dict.fromkeys(("source", "kind"), "a dataset names its source in pipeline.datasets now")


# Upper bounds that many parameters share. They are generous: beyond them lies what no computer of today could do.
MAX_COUNT = 10**9          # images, captions, words of an epoch
MAX_SEED = 2**63 - 1
MAX_SIDE = 4096            # pixels of an image that a model draws or reads
LONGEST_SHOWN = 120        # characters of a value in a message
EXPONENT = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")


def parameter(*, ge: float | None = None, gt: float | None = None, lt: float | None = None, le: float | None = None,
              default: Any = dataclasses.MISSING) -> Any:
    """A dataclass field with a range: `ge` <= value, `gt` < value, value < `lt`, value <= `le`; of a tuple, of each item."""
    return dataclasses.field(default=default, metadata={"ge": ge, "gt": gt, "lt": lt, "le": le})


@dataclass_transform(frozen_default=True, field_specifiers=(parameter, dataclasses.field))
def frozen(cls: type[T]) -> type[T]:
    """A frozen dataclass; type checkers know `parameter` as a field of it."""
    return dataclasses.dataclass(frozen=True)(cls)


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint that names the known word closest to `word`."""
    close = difflib.get_close_matches(word[:LONGEST_SHOWN], list(known), n=1, cutoff=0.0)
    return f"did you mean '{close[0]}'?" if close else "none is known here"


def shown(value: object) -> str:
    """A value as a message shows it: on one line, and cut where it is long."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return "a number of thousands of digits"
    except RecursionError:
        return "a value nested too deep to show"
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}... ({len(text):,} characters)"


def require_memory(needed: int, what: str) -> None:
    """Raise UserError where parameters ask for more bytes than this machine has memory in all; `what` says which do.

    Where the system does not tell its memory, nothing is checked.
    """
    try:
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return
    if needed > there > 0:
        raise UserError(f"{what} take {needed / 2**30:,.1f} GiB at least, and this machine has {there / 2**30:,.1f} GiB of "
                        "memory: ask for less")


def from_mapping(cls: type[T], mapping: Mapping[str, Any], where: str) -> T:
    """Build the dataclass `cls` from `mapping`; `where` is the mapping's dotted path, for messages.

    Raises UserError for an unknown key (with its new name, or the nearest known one), a missing key, a value of the
    wrong type or out of range, and values that do not fit together.
    """
    if not isinstance(mapping, Mapping):
        raise UserError(f"parameter '{where}' must be a block of parameters, not {shown(mapping)}")
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in mapping:
        if key not in fields:
            name = key if isinstance(key, str) and len(key) <= LONGEST_SHOWN else shown(key)
            raise UserError(f"unknown parameter '{where}.{name}': {_hint(str(name), fields)}")
    types_of = get_type_hints(cls)
    values = {}
    for key, field in fields.items():
        if key in mapping:
            values[key] = _coerce(types_of[key], mapping[key], f"{where}.{key}")
            _check_range(field, values[key], f"{where}.{key}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise UserError(f"missing parameter '{where}.{key}': it must be given")
    built = cls(**values)
    if hasattr(built, "validate"):
        built.validate(where)
    return built


def _hint(key: str, known: Iterable[str]) -> str:
    """What to write in place of an unknown key."""
    new = RENAMED.get(key, "")
    if new.split(".")[0] in known:
        return f"it is called '{new}' now"
    return MOVED[key] if key in MOVED else nearest(key, known)


def _coerce(kind: Any, value: Any, where: str) -> Any:
    """`value` as the type `kind`. Raises UserError where it is none."""
    origin = get_origin(kind)
    if origin is Literal:
        choices = get_args(kind)
        for choice in choices:
            if value == choice and isinstance(value, bool) == isinstance(choice, bool):
                return choice
        hint = nearest(str(value) if isinstance(value, str) else shown(value), [str(choice) for choice in choices])
        raise UserError(f"parameter '{where}' is {shown(value)}; it takes one of {', '.join(map(str, choices))}: {hint}")
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise UserError(f"parameter '{where}' must be a list, not {shown(value)}")
        return tuple(_coerce(get_args(kind)[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is types.UnionType:
        return _of_kind(get_args(kind), value, where)
    if dataclasses.is_dataclass(kind):
        return from_mapping(kind, value, where)  # type: ignore[arg-type]
    if kind is float:
        value = _as_float(value)
    elif kind is int and isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise UserError(f"parameter '{where}' must be {kind.__name__}, not {shown(value)}")
    if isinstance(value, str) and ("\0" in value or (not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value))):
        raise UserError(f"parameter '{where}' is {shown(value)}, which is no text: it holds a NUL or half a character")
    return value


def _as_float(value: Any) -> Any:
    """A number as a float, -0 as 0. 1e-07 too, which is a number in YAML 1.2 and text in YAML 1.1."""
    if isinstance(value, str) and EXPONENT.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    try:
        return float(value) + 0.0
    except OverflowError:  # an integer of more than 308 digits
        return math.inf if value > 0 else -math.inf


def _of_kind(classes: Iterable[type], value: Any, where: str) -> Any:
    """A block as the dataclass of `classes` whose `kind: Literal[...]` its own `kind` names."""
    by_kind = {get_args(get_type_hints(cls)["kind"])[0]: cls for cls in classes}
    if not isinstance(value, Mapping) or "kind" not in value:
        raise UserError(f"parameter '{where}' must be a block with a kind, one of {', '.join(by_kind)}, not {shown(value)}")
    named = value["kind"]
    if not isinstance(named, str) or named not in by_kind:
        hint = nearest(named if isinstance(named, str) else shown(named), by_kind)
        raise UserError(f"parameter '{where}.kind' is {shown(named)}; it takes one of {', '.join(by_kind)}: {hint}")
    return from_mapping(by_kind[named], value, where)


def _check_range(field: dataclasses.Field, value: Any, where: str) -> None:
    if isinstance(value, tuple):
        for i, item in enumerate(value):
            _check_range(field, item, f"{where}[{i}]")
        return
    if not isinstance(value, int | float) or isinstance(value, bool):
        return
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"parameter '{where}' is {value}; it must be finite")
    for rule, holds, words in (("ge", lambda a: value >= a, "at least"), ("gt", lambda a: value > a, "more than"),
                               ("lt", lambda a: value < a, "less than"), ("le", lambda a: value <= a, "at most")):
        limit = field.metadata.get(rule)
        if limit is not None and not holds(limit):
            raise UserError(f"parameter '{where}' is {shown(value)}; it must be {words} {limit}")
