"""What was left out of a collection, and the reason: listed in a file beside the data, shown in a few lines, counted."""

import csv
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from text2image.errors import UserError, UserWarningLine

FILE = "skipped.csv"
MAX_WARNINGS = 10  # lines; the rest is counted
LONGEST_SHOWN = 300  # characters of a name or a reason


class Skipped(NamedTuple):
    """An image, or a caption alone; `name` is the image's in either case."""

    kind: Literal["image", "caption"]
    name: str
    reason: str


def on_one_line(text: str) -> str:
    """A name or a reason as it is shown: what cannot be printed, line ends among it, is escaped; what is long is cut."""
    shown = "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text[:LONGEST_SHOWN])
    return shown if len(text) <= LONGEST_SHOWN else f"{shown}..."


def warn(skipped: Sequence[Skipped], file: Path) -> None:
    """A warning for each, up to a number, then how many more `file` lists."""
    for kind, name, reason in skipped[:MAX_WARNINGS]:
        warnings.warn(f"{kind} skipped: {on_one_line(name)}: {on_one_line(reason)}", UserWarningLine, stacklevel=2)
    if len(skipped) > MAX_WARNINGS:
        warnings.warn(f"skipped as well: {len(skipped) - MAX_WARNINGS:,} more; {file} lists all", UserWarningLine, stacklevel=2)


def write(folder: Path, skipped: Sequence[Skipped]) -> None:
    """Write the list into a folder of data; names that are not UTF-8 are escaped."""
    with (folder / FILE).open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Skipped._fields)
        writer.writerows(skipped)


def read(folder: Path) -> list[Skipped]:
    """What `write` wrote; nothing where there is no list. Raises UserError where it is no such list."""
    try:
        with (folder / FILE).open(encoding="utf-8", newline="") as file:
            return [Skipped(**row) for row in csv.DictReader(file)]  # type: ignore[arg-type]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise UserError(f"{folder / FILE}: not readable ({error}); run `dvc repro` to fetch the data again") from error


def count(skipped: Sequence[Skipped]) -> dict[str, int]:
    """How many images, and how many captions alone."""
    of_each = Counter(item.kind for item in skipped)
    return {"images": of_each["image"], "captions": of_each["caption"]}
