"""`folder`: any folder of images with a captions.csv: checked, copied as it is, captions read, images divided into splits.

captions.csv is UTF-8 with a header that names the columns `image`, the path of an image below the folder, and `caption`;
an image may have several rows. Commas, semicolons, tabs or bars divide the columns. As it is fetched, the table lies beside
a folder images/ of the images that it names, by their names in Unicode's form NFC.
"""

import csv
import errno
import math
import os
import re
import shlex
import shutil
import unicodedata
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple, TextIO

from tqdm import tqdm

from text2image import seeds
from text2image.config import MAX_COUNT, MAX_SEED, frozen, parameter
from text2image.data.vocabulary import MAX_WORDS, tokenize
from text2image.data.writer import Tokens, Writer
from text2image.errors import UserError, UserWarningLine
from text2image.files import atomic, image_files, skipped
from text2image.files.image_files import ImageFormat, StoredImages
from text2image.files.skipped import Skipped, on_one_line

CAPTIONS, IMAGES = "captions.csv", "images"
COLUMNS = ("image", "caption")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")  # of files that captions are missed for
NO_ONES = ("__MACOSX", "$RECYCLE.BIN", "#recycle")  # folders that programs make beside one's own; .name and @name are, too
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}  # the first that gives a header of COLUMNS
URL = re.compile(r"[a-z][a-z\d+.-]+://", re.IGNORECASE)
LARGEST_TABLE = 1 << 28  # bytes
LARGEST_ROW = 1 << 20    # characters; a longer one is no row
LONGEST_NAME = 4096      # characters, with those of its folders; no system takes a longer one


@dataclass(frozen=True)
class FetchConfig:
    """Where the folder lies; once it is fetched it is needed no more."""

    folder: str  # absolute, below ~, or relative to the current directory


@frozen
class Shares:
    """Of the images, by split; they sum to 1. `seed` draws which."""

    train: float = parameter(gt=0, lt=1)
    dev: float = parameter(gt=0, lt=1)
    test: float = parameter(gt=0, lt=1)
    seed: int = parameter(ge=0, le=MAX_SEED)


@frozen
class PrepareConfig:
    """What images become, how they are divided, and the vocabulary's words."""

    images: ImageFormat
    splits: Shares
    min_count: int = parameter(ge=1, le=MAX_COUNT)  # times a word must occur in training; else it is UNK


def fetch(config: FetchConfig, out: Path, kept: Path, where: str) -> None:
    """Copy the table and its images into `out`, and list there what was left out."""
    skipped.write(out, copy(Path(config.folder).expanduser(), out))


def prepare(config: PrepareConfig, raw: Path, out: Writer, seed: int, where: str) -> None:
    """Decode the images and number the words; lists what was left out."""
    images, captions, left_out = decode_splits(raw, out.folder, config.images, config.splits)
    out.write_captioned(images, captions, config.min_count)
    for stored in images.values():
        stored.path.unlink()
    skipped.write(out.folder, left_out)


class Row(NamedTuple):
    """A row of captions.csv: the name of an image, a caption of it, and the line that it begins in."""

    image: str
    caption: str
    line: int


class _Lines:
    """The lines of a table, as csv.reader asks for them, and where the row that it reads began."""

    def __init__(self, file: TextIO, path: Path):
        self._file, self._path = file, path
        self._size = 0
        self.number = 0
        self.first = 1

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._file.readline(LARGEST_ROW + 1)
        if not line:
            raise StopIteration
        self.number += 1
        self._size += len(line)
        if self._size > LARGEST_ROW:
            raise UserError(f"{self._path}: the row that begins in line {self.first} has more than {LARGEST_ROW:,} characters: "
                            "is a double quote not closed, or is it no table?")
        return line.lstrip("\ufeff") if self.number == 1 else line  # some programs add a mark to one that is there

    def end_row(self) -> int:
        """The line in which the row began that was read last; the next one begins after it."""
        began, self.first, self._size = self.first, self.number + 1, 0
        return began


def read_table(path: Path) -> list[Row]:
    """The rows of a captions.csv. Raises UserError for a table, or a path in it, that cannot be meant."""
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: not a file; it must be a table of {' and '.join(COLUMNS)}")
        if path.stat().st_size > LARGEST_TABLE:
            raise UserError(f"{path}: {path.stat().st_size:,} bytes, more than {LARGEST_TABLE:,}, are no table of captions")
        with path.open(encoding="utf-8", newline="") as file, _fields_as_long_as_rows():
            rows = _read_rows(file, path)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: line {_line_not_utf8(path)} is not UTF-8 ({error.reason}): save it as UTF-8") from error
    except OSError as error:
        raise UserError(f"{path}: not readable ({error.strerror}); it must be a table of {' and '.join(COLUMNS)}") from error
    if not rows:
        raise UserError(f"{path}: holds no captions")
    return rows


@contextmanager
def _fields_as_long_as_rows() -> Iterator[None]:
    before = csv.field_size_limit(LARGEST_ROW)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _line_not_utf8(path: Path) -> int:
    number = 1
    with path.open("rb") as file:
        for line in iter(lambda: file.readline(4 * LARGEST_ROW), b""):
            try:
                line.decode()
            except UnicodeDecodeError:
                break
            number += 1
    return number


def _read_rows(file: TextIO, path: Path) -> list[Row]:
    lines = _Lines(file, path)
    header, delimiter = _header(lines, path)
    reader = csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=True)
    rows = []
    try:
        for fields in reader:
            where = f"{path}: line {(line := lines.end_row())}"
            if not any(map(str.strip, fields)):  # Excel's empty cells below a table
                continue
            named = dict(zip(header, fields, strict=False))  # the last columns may be left out, where they are not ours
            if any(map(str.strip, fields[len(header):])) or not named.keys() >= {*COLUMNS}:
                raise UserError(f"{where} has {_count(fields)}, the header has {len(header)}: "
                                f"{_why_not_as_many(fields, header, delimiter)}")
            rows.append(Row(_checked(named["image"], where), named["caption"], line))
    except csv.Error as error:
        raise UserError(f"{path}: {_of_quotes(str(error), lines)}") from error
    return rows


def _header(lines: _Lines, path: Path) -> tuple[list[str], str]:
    """The names of the columns, and what divides them."""
    first = next(lines, "")
    said = re.fullmatch(r"sep=([,;\t|])\s*", first)  # a line of Excel's
    if said:
        lines.end_row()
        first = next(lines, "")
    for delimiter in said[1] if said else DELIMITERS:
        columns = next(csv.reader([first], delimiter=delimiter, skipinitialspace=True), [])
        header = [column.strip().lower() for column in columns]
        if all(header.count(column) == 1 for column in COLUMNS):
            lines.end_row()
            return header, delimiter
    cause = "; NUL characters are in it, as in UTF-16: save it as UTF-8" if "\0" in first else ""
    raise UserError(f"{path}: its first line must name the columns {' and '.join(COLUMNS)}, it reads "
                    f"'{on_one_line(first.strip().lower())}'{cause}")


def _count(fields: list[str]) -> str:
    return f"{len(fields)} field{'' if len(fields) == 1 else 's'}"


def _why_not_as_many(fields: list[str], header: list[str], delimiter: str) -> str:
    """Why a row has another number of fields than the header, and what to do."""
    if len(fields) > len(header):
        return f"put captions that hold {DELIMITERS[delimiter]} in double quotes"
    if len(fields) == 1 and delimiter in fields[0]:
        return "double quotes enclose all of it: put them around the caption alone"
    others = [name for other, name in DELIMITERS.items() if len(fields) == 1 and other in fields[0]]
    if others:
        return f"{others[0]} divide it, {DELIMITERS[delimiter]} divide the header: write the same in both"
    missing = [column for column in COLUMNS if column not in header[:len(fields)]]
    return f"it has no {' and no '.join(missing)}: write {'it' if len(missing) == 1 else 'them'}, or take the line out"


def _of_quotes(error: str, lines: _Lines) -> str:
    """What csv.reader found wrong, which is always a double quote, in words that say what to do."""
    began = f", in the row that begins in line {lines.first}" if lines.first != lines.number else ""
    if "unexpected end" in error:
        return f"a double quote opens in line {lines.first} and is never closed: close it, or take it away"
    if "expected after" in error:
        return (f"line {lines.number}: a closing double quote is followed by more than the next column{began}: let nothing "
                "stand between, and write a double quote inside a caption twice")
    return f"line {lines.number}: not readable as CSV ({error}){began}"


def _checked(name: str, where: str) -> str:
    """An image's name in one spelling. Raises UserError where it could lead out of the folder, on any system."""
    name = _spelled(name.strip().strip("\ufeff"))
    if URL.match(name):
        return name
    parts = PurePosixPath(name).parts
    if not parts or any(ord(character) < 32 for character in name):
        raise UserError(f"{where} names no image: {on_one_line(repr(name))}")
    if ".." in parts or "\\" in name or name.startswith("/") or PureWindowsPath(name).drive:
        raise UserError(f"{where}: '{on_one_line(name)}' is no path below the folder: name images relative to it, with /, "
                        "without ..")
    return "/".join(parts)


def copy(folder: Path, out: Path) -> list[Skipped]:
    """Copy captions.csv and the images that it names, byte for byte.

    Returns the images that it names and that are not there, and the folder's images without a caption.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; a relative path starts at the repository's root")
    rows = read_table(folder / CAPTIONS)
    _warn_of_swallowed_rows(rows, folder / CAPTIONS)
    images = _Images(folder)
    files, left_out = {}, []
    for name in dict.fromkeys(row.image for row in rows):
        found = images.find(name)
        if isinstance(found, Path):
            files[name] = found
        else:
            left_out.append(Skipped("image", name, found))
    if not files:
        raise UserError(f"{folder}: holds none of the {len(left_out):,} images that {CAPTIONS} names; the first is "
                        f"'{on_one_line(left_out[0].name)}': {left_out[0].reason}")
    try:
        atomic.require_room(out, sum(file.stat().st_size for file in files.values()))
        shutil.copyfile(folder / CAPTIONS, out / CAPTIONS)
        for name, file in tqdm(files.items(), desc=folder.name, unit="image", disable=None):
            target = out / IMAGES / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    except OSError as error:
        if atomic.is_full(error):
            raise
        raise UserError(f"{error.filename}: cannot be copied ({error.strerror})") from error
    uncaptioned = (name for name in images.visible() if _spelled(name) not in files)
    return left_out + [Skipped("image", name, "no caption names it") for name in uncaptioned]


def _warn_of_swallowed_rows(rows: list[Row], path: Path) -> None:
    """Warn of a caption of several lines of which one names an image as a row does: a double quote opened, and closed later."""
    names = {row.image for row in rows}
    swallowed = []
    for row in rows:
        fields = (_spelled(field.strip('"')) for line in row.caption.splitlines()[1:] for field in re.split(r"[,;\t|]", line))
        named = next((field for field in fields if field in names or field.lower().endswith(SUFFIXES)), None)
        if named is not None:
            swallowed.append((row, named))
    if swallowed:
        row, named = swallowed[0]
        count = len(row.caption.splitlines())
        more = f"; {len(swallowed) - 1:,} more captions are alike" if len(swallowed) > 1 else ""
        warnings.warn(f"{path}: the caption of '{on_one_line(row.image)}' in line {row.line} goes on over {count} lines and "
                      f"seems to hold the row of '{on_one_line(named)}': is a double quote missing, or one too many?{more}",
                      UserWarningLine, stacklevel=3)


def _spelled(name: str) -> str:
    """A name as names are compared. What is too long for one stays as it is: normalizing may take the square of its length."""
    return (unicodedata.normalize("NFC", name) if len(name) <= LONGEST_NAME else name).strip()


class _Images:
    """The images in a folder, by the names that a table gives them."""

    def __init__(self, folder: Path):
        self._given, self._folder = folder, folder.resolve()

    @cached_property
    def _files(self) -> list[str]:
        return sorted(path.relative_to(self._folder).as_posix() for path in self._folder.rglob("*"))

    @cached_property
    def _by_spelling(self) -> dict[str, str]:
        return {_spelled(name): name for name in self._files}

    def find(self, name: str) -> Path | str:
        """The file of a name, or why there is none.

        Raises UserError for one that a link leads out of the folder, and for two that have the name.
        """
        if URL.match(name):
            return "it is a URL: download the image and write its path below the folder"
        path = self._folder / name
        try:
            if not os.path.lexists(path):
                path = self._folder / self._by_spelling.get(name, name)
            elif not name.isascii() and _others(self._folder, name):
                raise UserError(f"{self._given}: two files are named '{name}', in two forms of Unicode: rename one")
            path.stat()
        except OSError as error:
            return self._why_absent(path, error)
        file = path.resolve()
        if not file.is_relative_to(self._folder):
            raise UserError(f"{self._given / name}: a link that leads out of the folder, as caches have them: `cp -rL "
                            f"{shlex.quote(str(self._given))} COPY` makes a folder of the images themselves; name that one")
        return file if file.is_file() else "it is a folder" if file.is_dir() else "it is no file"

    def _why_absent(self, path: Path, error: OSError) -> str:
        if error.errno == errno.ELOOP:
            return "it is a link that leads back to itself"
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            return f"it cannot be read ({error.strerror})"
        link = next((part for part in (path, *path.parents) if part.is_symlink() and not part.exists()), None)
        if link is None:
            return "it is not there"
        return f"{'it' if link == path else link.name} is a link to {link.readlink()}, which is not there"

    def visible(self) -> list[str]:
        """The names of all the image files that no program has hidden."""
        return [name for name in self._files if name.lower().endswith(SUFFIXES) and (self._folder / name).is_file()
                and not any(part.startswith((".", "@")) or part in NO_ONES for part in name.split("/"))]


def _others(folder: Path, name: str) -> bool:
    """Whether a file has a name that is the same in another form of Unicode. Some systems take both for one."""
    other = folder / unicodedata.normalize("NFD", name)
    return other.name != Path(name).name and other.exists() and not other.samefile(folder / name)


def read_words(raw: Path) -> tuple[list[tuple[str, list[str]]], list[Skipped]]:
    """Images' names with the words of their captions, in the order of the table, and the captions left out.

    A caption that says the same of the same image again is left out, one without words, and one of more than MAX_WORDS.
    Images that were not there when the folder was fetched are listed there, and not here.
    """
    captions, left_out = [], []
    absent = {item.name for item in skipped.read(raw) if item.kind == "image"}
    lines: dict[tuple[str, str], int] = {}
    for row in read_table(raw / CAPTIONS):
        words = tokenize(row.caption)
        first = lines.setdefault((row.image, row.caption), row.line)
        if not words:
            left_out.append(Skipped("caption", row.image, f"line {row.line} has no words"))
        elif len(words) > MAX_WORDS:
            left_out.append(Skipped("caption", row.image, f"line {row.line} has {len(words):,} words, more than {MAX_WORDS}"))
        elif first != row.line:
            left_out.append(Skipped("caption", row.image, f"line {row.line} repeats line {first}"))
        elif row.image not in absent:
            captions.append((row.image, words))
    return captions, left_out


def divide(names: Iterable[str], shares: Shares) -> dict[str, list[str]]:
    """Images by split, in their order: by their names and the seed alone, so that more images move none that were there."""
    total = shares.train + shares.dev + shares.test
    if not math.isclose(total, 1, abs_tol=1e-9):
        raise UserError(f"the shares of train, dev and test sum to {total:g}; they must sum to 1")
    splits: dict[str, list[str]] = {"train": [], "dev": [], "test": []}
    for name in names:
        place = seeds.stream_seed(shares.seed, "split", name) / 2**63
        splits["train" if place < shares.train else "dev" if place < shares.train + shares.dev else "test"].append(name)
    return splits


def decode_splits(raw: Path, out: Path, image_format: ImageFormat,
                  shares: Shares) -> tuple[dict[str, StoredImages], dict[str, Tokens], list[Skipped]]:
    """A folder as it was fetched, by split: images, decoded into `out`, and captions; and what could not be used.

    Raises UserError for a split without an image.
    """
    captioned, left_out = read_words(raw)
    images: dict[str, StoredImages] = {}
    captions: dict[str, Tokens] = {}
    for split, names in divide(dict.fromkeys(name for name, _ in captioned), shares).items():
        path = out / f"{split}.npy"
        kept, lost = image_files.write(path, names, lambda name: image_files.read_file(raw / IMAGES / name), image_format,
                                       flat=False)
        if not kept:
            raise UserError(f"{raw}: the split {split} is empty, of {len(names)} images that would be its own: add images, "
                            "give it a larger share, or draw the splits with another seed")
        row_of = {name: row for row, name in enumerate(kept)}
        images[split] = StoredImages(path)
        captions[split] = [(row_of[name], words) for name, words in captioned if name in row_of]
        left_out += lost
    return images, captions, left_out
