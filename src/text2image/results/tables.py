"""Tables of whatever was measured, for the page and the documents, from the JSON files of results/.

A result is a mapping. What is a number, a mean with its error, or a list of numbers is a cell; a mapping of such cells is a
row; mappings in it are rows of their own where they, or two of them, have the same numbers, and else tables of their own.
So a metric that is new shows up without an edit here.
"""

import html
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

UPPER = {"elbo": "ELBO", "iwae": "IWAE", "kl": "KL", "ssi": "SSI", "ssim": "SSIM", "id": "ID"}
LABELS = {"mean_image": "mean training image"}
SPLITS = ("train", "dev", "test", "test_held_out")
MIDDLES = ("mean", "median")
SPREADS = ("sd", "std")
MOST_COLUMNS = 16  # of numbers; a wider table is shown a row a number
# How the columns begin that most runs have.
FIRST = ("elbo", "reconstruction", "kl", "bound", "gap", "mean_image")
LAST = ("captions", "images", "samples")


class Table(NamedTuple):
    """A table of text."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Curve(NamedTuple):
    """A list of numbers that a result holds, and what it is of."""

    path: tuple[str, ...]
    values: tuple[float, ...]


def is_number(value: Any) -> bool:
    """Whether a value of JSON is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_cell(value: Any) -> bool:
    """Whether a value of a result is shown in one cell: all but mappings, and mappings of a mean, or median, and its error."""
    return not isinstance(value, Mapping) or (sum(middle in value for middle in MIDDLES) == 1
                                              and not any(isinstance(part, Mapping) for part in value.values()))


def is_curve(value: Any) -> bool:
    """Whether a value is a list of numbers, or the mean of such lists."""
    value = value.get("mean") if isinstance(value, Mapping) else value
    return isinstance(value, list) and bool(value) and all(map(is_number, value))


def label(name: str) -> str:
    """A name of a result as a person reads it: held_out is held out, elbo_test is ELBO test."""
    return LABELS.get(name) or " ".join(UPPER.get(part, part) for part in str(name).split("_"))


def decimals(error: float) -> int:
    """How many digits after the point an error is shown with: two that count, from 2 to 4."""
    return min(max(2, 1 - math.floor(math.log10(error))), 4) if 0 < error < math.inf else 2


def cell(value: Any) -> str:
    """A value of a result as text: a mean with its error, a number, anything else shortened."""
    if isinstance(value, Mapping):
        return _mean(value)
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return _float(value)
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _float(value: float) -> str:
    if not math.isfinite(value):
        return str(value)
    if abs(value) >= 1 or value == 0:
        return f"{value:,.2f}" if abs(value) >= 1e5 else f"{value:.2f}"
    return f"{value:.{decimals(abs(value))}f}"


def _mean(value: Mapping[str, Any]) -> str:
    if not any(middle in value for middle in MIDDLES):
        return cell(", ".join(f"{label(name)} {cell(part)}" for name, part in value.items()))
    mean = next(value[middle] for middle in MIDDLES if middle in value)
    if not is_number(mean):
        return cell(mean)
    errors = [value[name] for name in ("se", *SPREADS) if is_number(value.get(name))]
    if errors:
        digits = 2 if abs(mean) >= 1 else decimals(errors[0])
        spread = f" (sd {errors[1]:.{decimals(errors[1])}f})" if len(errors) > 1 else ""
        return f"{mean:.{digits}f} ± {errors[0]:.{digits}f}{spread}"
    if is_number(value.get("low")) and is_number(value.get("high")):
        digits = decimals(value["high"] - value["low"])
        return f"{mean:.{digits}f} ({value['low']:.{digits}f} to {value['high']:.{digits}f})"
    return cell(mean)


Rows = dict[tuple[str, ...], list[tuple[tuple[str, ...], Mapping[str, Any]]]]  # by a table's path: a row's names, its cells


def gather(block: Mapping[str, Any], rows: Rows, path: tuple[str, ...] = (), names: tuple[str, ...] = ()) -> None:
    """Put the cells of a block, and of the blocks in it, into the rows of the tables that they belong to."""
    lists = {name: value for name, value in block.items() if _is_list_of_rows(value)}
    cells = {name: value for name, value in block.items() if is_cell(value) and not is_curve(value) and name not in lists}
    if cells:
        rows.setdefault(path, []).append((names, cells))
    splits = {name: block[name] for name in SPLITS if name in block and not is_cell(block[name])}
    for name, inner in splits.items():
        gather(inner, rows, (*path, "of each split") if cells else path, (*names, name))
    for name, inner in block.items():
        if is_cell(inner) or name in splits:
            continue
        alike = [key for key in inner if key in cells and not is_number(cells[key])]
        twins = sum(not is_cell(other) and other.keys() == inner.keys() for other in block.values()) > 1
        if not cells or len(alike) > 1:
            gather(inner, rows, path, (*names, str(name)))
        elif twins and names and names[-1] not in SPLITS:
            gather(inner, rows, (*path, names[-1]), (*names[:-1], str(name)))
        else:
            gather(inner, rows, (*path, str(name)), names)
    for name, items in lists.items():
        rows.setdefault((*path, str(name)), []).extend((names, item) for item in items)


def of_metric(metric: str, results: Mapping[str, Mapping[str, Any]], of: str = "run") -> list[Table]:
    """The tables of one metric; `results` by the names of runs, or of what `of` says. `headline` is left out."""
    rows: Rows = {}
    for name, result in results.items():
        own: Rows = {}
        gather({key: value for key, value in result.items() if key != "headline"}, own)
        for path, found in own.items():
            rows.setdefault(path, []).extend(((name, *names), cells) for names, cells in found)
    return [_table(": ".join(filter(None, (label(metric), ", ".join(map(label, path))))), found, of)
            for path, found in rows.items()]


def _table(title: str, rows: Sequence[tuple[tuple[str, ...], Mapping[str, Any]]], of: str) -> Table:
    columns = in_order({name: None for _, cells in rows for name in cells})
    parts = any(len(names) > 1 for names, _ in rows)
    heads = [[names[0], ", ".join(map(label, names[1:])) or "-"] if parts else [names[0]] for names, _ in rows]
    splits = all(names[1:2] and names[1] in SPLITS for names, _ in rows)
    first = (of, "split" if splits else "of") if parts else (of,)
    if len(columns) > MOST_COLUMNS:
        return Table(title, (*first, "what", "value"), tuple(
            (*head, label(name), cell(cells[name])) for head, (_, cells) in zip(heads, rows, strict=True)
            for name in columns if name in cells))
    return Table(title, (*first, *map(label, columns)), tuple(
        (*head, *(cell(cells[name]) if name in cells else "-" for name in columns))
        for head, (_, cells) in zip(heads, rows, strict=True)))


def _is_list_of_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in value)


def in_order(names: Iterable[str]) -> list[str]:
    """Names of numbers: those of FIRST first, those of LAST last, the others as they come."""
    given = list(names)
    middle = [name for name in given if name not in FIRST and name not in LAST]
    return [name for name in FIRST if name in given] + middle + [name for name in LAST if name in given]


def leaves(block: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every cell of a result with its path."""
    for name, value in block.items():
        if is_cell(value):
            yield (*path, str(name)), value
        else:
            yield from leaves(value, (*path, str(name)))


def curves(block: Mapping[str, Any]) -> list[Curve]:
    """Every list of numbers of a result, but those of a single one."""
    found = [Curve(path, tuple(value["mean"] if isinstance(value, Mapping) else value))
             for path, value in leaves(block) if is_curve(value)]
    return [curve for curve in found if len(curve.values) > 1]


def find(results: Mapping[str, Mapping[str, Any]], pattern: str) -> str:
    """The first cell, of all metrics of a run, whose path in words matches the pattern; '' where there is none."""
    for metric, result in results.items():
        for path, value in leaves(result):
            if not is_curve(value) and re.search(pattern, " ".join((metric, *path)).replace("_", " ")):
                return with_error(path[-1], value, result) if path[0] == "headline" else cell(value)
    return ""


def with_error(name: str, value: float, result: Mapping[str, Any]) -> str:
    """A number of a headline as text, with the error that it has where the result says more of it.

    It is that mean of the result which is this number and whose path has most of the headline's words and, of several such,
    fewest others.
    """
    words, best, most = set(name.split("_")), "", (0, 0)
    for path, found in leaves({key: block for key, block in result.items() if key != "headline"}):
        if isinstance(found, Mapping) and is_number(found.get("mean")) and math.isclose(found["mean"], value, abs_tol=1e-9):
            said = set("_".join(path).split("_"))
            likeness = len(words & said), -len(said)
            if likeness > most:
                best, most = cell(found), likeness
    return best or cell(int(value) if float(value).is_integer() and abs(value) >= 100 else value)


def as_markdown(table: Table) -> str:
    """A table as Markdown; what a result holds can neither end a cell nor be read as HTML."""
    lines = [table.columns, ("---",) * len(table.columns), *table.rows]
    return "\n".join("| " + " | ".join(map(escaped, line)) + " |" for line in lines)


def escaped(text: str) -> str:
    """Text on one line as it stands in a cell of a table of Markdown."""
    return html.escape(" ".join(text.split()), quote=False).replace("|", "\\|").replace("`", "\\`")
