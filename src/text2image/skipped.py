"""What of a collection was left out, and why: listed in a file beside the data, told in a few lines, counted."""

import csv
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from text2image.errors import UserError, UserWarningLine

FILE = "skipped.csv"
TOLD = 10  # lines of warning; the rest is counted


class Skipped(NamedTuple):
    """A picture, or a caption alone; `name` is the picture's in either case."""

    what: Literal["picture", "caption"]
    name: str
    why: str


def tell(skipped: Sequence[Skipped], file: Path) -> None:
    """A warning for each, up to a number, then how many more `file` lists."""
    for what, name, why in skipped[:TOLD]:
        warnings.warn(f"{what} skipped: {name}: {why}", UserWarningLine, stacklevel=2)
    if len(skipped) > TOLD:
        warnings.warn(f"skipped as well: {len(skipped) - TOLD:,} more; {file} lists all", UserWarningLine, stacklevel=2)


def write(folder: Path, skipped: Sequence[Skipped]) -> None:
    """The list of a folder of data; names that are not UTF-8 are escaped."""
    with (folder / FILE).open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Skipped._fields)
        writer.writerows(skipped)


def read(folder: Path) -> list[Skipped]:
    """What `write` wrote; nothing where there is no list."""
    try:
        with (folder / FILE).open(encoding="utf-8", newline="") as file:
            return [Skipped(**row) for row in csv.DictReader(file)]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise UserError(f"{folder / FILE}: not readable ({error}); run `dvc repro` to fetch the data again") from error


def count(skipped: Sequence[Skipped]) -> dict[str, int]:
    """How many pictures, and how many captions alone."""
    of_each = Counter(item.what for item in skipped)
    return {"pictures": of_each["picture"], "captions": of_each["caption"]}
