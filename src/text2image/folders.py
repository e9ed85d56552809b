"""Any folder of pictures with a captions.csv: checked, copied as it is, captions read, pictures divided into splits.

captions.csv is UTF-8 with a header that names the columns `image`, the path of a picture below the folder, and `caption`;
a picture may have several rows. As it is fetched, the table lies beside a folder images/ of the pictures that it names.
"""

import csv
import math
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple

from tqdm import tqdm

from text2image import disk, pictures, seeds
from text2image.captions import tokenize
from text2image.config import parameter
from text2image.errors import UserError
from text2image.pictures import Frame, Stored
from text2image.skipped import Skipped

CAPTIONS, IMAGES = "captions.csv", "images"
COLUMNS = ("image", "caption")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")  # of files that captions are missed for


Captions = list[tuple[int, list[str]]]  # the row of a picture, the words of a caption


class Row(NamedTuple):
    image: str
    caption: str
    line: int


def read_table(path: Path) -> list[Row]:
    """The rows of a captions.csv. Raises UserError for a table, or a path in it, that cannot be meant."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [column.strip().lower() for column in next(reader, [])]
            if any(header.count(column) != 1 for column in COLUMNS):
                raise UserError(f"{path}: its first line must name the columns {' and '.join(COLUMNS)}, "
                                f"it reads '{','.join(header)}'")
            rows = []
            for fields in reader:
                if not fields:  # a blank line
                    continue
                if len(fields) != len(header):
                    raise UserError(f"{path}: line {reader.line_num} has {len(fields)} fields, the header has {len(header)}: "
                                    "put captions that hold commas in double quotes")
                named = dict(zip(header, fields, strict=True))
                rows.append(Row(_checked(named["image"], f"{path}: line {reader.line_num}"), named["caption"], reader.line_num))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 ({error.reason} at byte {error.start:,}): save it as UTF-8") from error
    except csv.Error as error:
        raise UserError(f"{path}: line {reader.line_num}: not readable as CSV ({error})") from error
    except OSError as error:
        raise UserError(f"{path}: not readable ({error.strerror}); it must be a table of {' and '.join(COLUMNS)}") from error
    if not rows:
        raise UserError(f"{path}: holds no captions")
    return rows


def _checked(name: str, where: str) -> str:
    """A picture's name in one spelling. Raises UserError where it could lead out of the folder, on any system."""
    parts = PurePosixPath(name).parts
    if not parts or any(ord(character) < 32 for character in name):
        raise UserError(f"{where} names no picture: {name!r}")
    if ".." in parts or "\\" in name or name.startswith("/") or PureWindowsPath(name).drive:
        raise UserError(f"{where}: '{name}' is no path below the folder: name pictures relative to it, with /, without ..")
    return "/".join(parts)


def copy(folder: Path, out: Path) -> list[Skipped]:
    """Copy captions.csv and the pictures that it names, byte for byte; returns the folder's pictures without a caption."""
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; a relative path starts at the repository's root")
    names = list(dict.fromkeys(row.image for row in read_table(folder / CAPTIONS)))
    files = {name: file for name in names if (file := _below(folder.resolve(), name)) is not None}
    if not files:
        raise UserError(f"{folder}: holds none of the {len(names):,} pictures that {CAPTIONS} names; the first is '{names[0]}'")
    try:
        disk.require_room(out, sum(file.stat().st_size for file in files.values()))
        shutil.copyfile(folder / CAPTIONS, out / CAPTIONS)
        for name, file in tqdm(files.items(), desc=folder.name, unit="picture", disable=None):
            target = out / IMAGES / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    except OSError as error:
        if disk.is_full(error):
            raise
        raise UserError(f"{error.filename}: cannot be copied ({error.strerror})") from error
    found = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*")
                   if file.suffix.lower() in SUFFIXES and not file.name.startswith("."))
    return [Skipped("picture", name, "no caption names it") for name in found if name not in files]


def _below(folder: Path, name: str) -> Path | None:
    """The file of a name, None where there is none. Raises UserError for one that a link leads out of the (resolved) folder."""
    try:
        file = (folder / name).resolve()
        there = file.is_file()
    except (OSError, RuntimeError) as error:  # a name too long, a folder closed to us, links in a ring
        raise UserError(f"{folder / name}: not readable ({error})") from error
    if not file.is_relative_to(folder):
        raise UserError(f"{folder / name}: a link that leads out of the folder: put the picture itself there")
    return file if there else None


def read_captions(raw: Path) -> tuple[list[tuple[str, list[str]]], list[Skipped]]:
    """Pictures' names with the words of their captions, in the order of the table, and the captions left out.

    A caption that says the same of the same picture again is left out, and one without words.
    """
    captions, skipped = [], []
    lines: dict[tuple[str, str], int] = {}
    for row in read_table(raw / CAPTIONS):
        words = tokenize(row.caption)
        first = lines.setdefault((row.image, row.caption), row.line)
        if not words:
            skipped.append(Skipped("caption", row.image, f"line {row.line} has no words"))
        elif first != row.line:
            skipped.append(Skipped("caption", row.image, f"line {row.line} repeats line {first}"))
        else:
            captions.append((row.image, words))
    return captions, skipped


@dataclass(frozen=True)
class Shares:
    """Of the pictures, by split; they sum to 1. `seed` draws which."""

    train: float = parameter(above=0, below=1)
    dev: float = parameter(above=0, below=1)
    test: float = parameter(above=0, below=1)
    seed: int = parameter(least=0)


def divide(names: Iterable[str], shares: Shares) -> dict[str, list[str]]:
    """Pictures by split, in their order: by their names and the seed alone, so that more pictures move none that were there."""
    total = shares.train + shares.dev + shares.test
    if not math.isclose(total, 1, abs_tol=1e-9):
        raise UserError(f"the shares of train, dev and test sum to {total:g}; they must sum to 1")
    splits: dict[str, list[str]] = {"train": [], "dev": [], "test": []}
    for name in names:
        place = seeds.number(shares.seed, "split", name) / 2**63
        splits["train" if place < shares.train else "dev" if place < shares.train + shares.dev else "test"].append(name)
    return splits


def decode(raw: Path, out: Path, frame: Frame, shares: Shares) -> tuple[dict[str, Stored], dict[str, Captions], list[Skipped]]:
    """A folder as it was fetched, by split: pictures, decoded into `out`, and captions; and what could not be used.

    Raises UserError for a split without a picture.
    """
    said, skipped = read_captions(raw)
    images, captions = {}, {}
    for split, names in divide(dict.fromkeys(name for name, _ in said), shares).items():
        path = out / f"{split}.npy"
        kept, lost = pictures.write(path, names, lambda name: pictures.read_file(raw / IMAGES / name), frame, flat=False)
        if not kept:
            raise UserError(f"{raw}: the split {split} is empty, of {len(names)} pictures that would be its own: add pictures, "
                            "give it a larger share, or draw the splits with another seed")
        row_of = {name: row for row, name in enumerate(kept)}
        images[split], captions[split] = Stored(path), [(row_of[name], words) for name, words in said if name in row_of]
        skipped += lost
    return images, captions, skipped
