"""`coco`: COCO's own images and captions of 2014 or 2017, made into the files that the dataset host lays out.

Those files are described in text2image.data.toronto_arrays.

A folder holds, packed as COCO publishes them or unpacked,

    train2014.zip or train2014/, val2014.zip or val2014/
    annotations_trainval2014.zip, or annotations/ or the folder itself with captions_train2014.json and captions_val2014.json

or the same of 2017; of 2014 where both are there. Training is train2014; dev and test are the first images of val2014, in
the order of its captions file, that have captions. Nothing is unpacked: a member of an archive is read by its name, within a
limit on what it says that it holds. Where an archive lies beside its unpacked folder, what the folder lacks or has the
beginning of alone is read from the archive.
"""

import json
import pickle
import warnings
import zipfile
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from text2image.config import MAX_COUNT, MAX_SIDE, frozen, parameter
from text2image.data import toronto_arrays
from text2image.data.vocabulary import MAX_WORDS, Vocabulary, pad, tokenize
from text2image.data.writer import Writer
from text2image.errors import UserError, UserWarningLine
from text2image.files import image_files, skipped
from text2image.files.image_files import ImageFormat, Read, UnreadableImage
from text2image.files.skipped import Skipped, on_one_line

LARGEST_CAPTIONS_FILE = 1 << 28  # bytes; COCO's of training has 67 million


class Release(NamedTuple):
    """The names of a year's files."""

    train: str
    val: str
    annotations: str


RELEASES = tuple(Release(f"train{year}", f"val{year}", f"annotations_trainval{year}.zip") for year in (2014, 2017))

Captioned = list[tuple[str, list[str]]]  # names of images and their captions


@frozen
class ConvertConfig:
    """How images and captions become the host's files."""

    side: int = parameter(ge=1, le=MAX_SIDE)
    crop: Literal["centre", "none"]
    filter: Literal["lanczos", "box"]
    captions: int = parameter(ge=1, le=10**4)       # of each image, at most: the first in the file
    min_count: int = parameter(ge=1, le=MAX_COUNT)  # times a word must occur in training; else it is UNK
    dev: int = parameter(ge=1, le=MAX_COUNT)        # images of val2014
    test: int = parameter(ge=1, le=MAX_COUNT)


@dataclass(frozen=True)
class FetchConfig:
    """Where COCO's files lie, and what becomes of them."""

    folder: str  # absolute, below ~, or relative to the current directory
    files: ConvertConfig


@dataclass(frozen=True)
class PrepareConfig:
    """Nothing to choose: ids and splits are those of the files."""


def fetch(config: FetchConfig, out: Path, kept: Path, where: str) -> None:
    """Make the host's files in `out`, and list there what was left out."""
    skipped.write(out, convert(Path(config.folder).expanduser(), out, config.files))


def prepare(config: PrepareConfig, raw: Path, out: Writer, seed: int, where: str) -> None:
    """Write the files' own splits, captions and vocabulary."""
    toronto_arrays.prepare(raw, out)


def convert(folder: Path, out: Path, config: ConvertConfig) -> list[Skipped]:
    """Write the host's files into `out`; returns the images and captions left out.

    Raises UserError when an archive or a captions file is missing or damaged, or a split would be empty.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; a relative path starts at the repository's root")
    image_format = ImageFormat(3, config.side, config.side, config.crop, config.filter)
    release = _release(folder)
    splits, left_out = _divide(folder, release, config)
    captions: dict[str, Captioned] = {}
    with ExitStack() as stack:
        read = {part: stack.enter_context(_opened(folder, part, {name for of, captioned in splits.values() if of == part
                                                                 for name, _ in captioned}))
                for part in (release.train, release.val)}  # both, before the long work on the first
        for split, (part, captioned) in splits.items():
            path, names = out / toronto_arrays.names(split, config.side).images, [name for name, _ in captioned]
            kept, lost = image_files.write(path, names, read[part], image_format, flat=True)
            if not kept:
                raise UserError(f"{folder}: none of the {len(captioned):,} images of {part} for {split} can be used; "
                                f"{lost[0].name}: {lost[0].reason}")
            rows = set(kept)
            captions[split] = [(name, texts) for name, texts in captioned if name in rows]
            left_out += lost
    words = (tokenize(text) for _, texts in captions["train"] for text in texts)
    vocabulary = Vocabulary.count(words, config.min_count)
    _pickle(out / toronto_arrays.DICTIONARY, {word: number for number, word in enumerate(vocabulary.words) if number})
    for split, captioned in captions.items():
        files = toronto_arrays.names(split, config.side)
        ids, lengths = pad([vocabulary.known(tokenize(text)) for _, texts in captioned for text in texts])
        np.save(out / files.captions, ids)
        np.save(out / files.lengths, lengths[:, None])
        _pickle(out / files.image_rows, dict(enumerate(row for row, (_, texts) in enumerate(captioned) for _ in texts)))
    return left_out


def _pickle(path: Path, mapping: dict[Any, int]) -> None:
    path.write_bytes(pickle.dumps(mapping, protocol=2))  # the last that Python 2 reads


def _release(folder: Path) -> Release:
    """The release that a folder holds all of, or, where it does so of none, some of."""
    def there(release: Release) -> list[bool]:
        captions = [(folder / release.annotations).is_file()
                    or all(_beside(folder, release, part) for part in (release.train, release.val))]
        return captions + [_unpacked(folder, part) is not None or (folder / f"{part}.zip").is_file()
                           for part in (release.train, release.val)]

    return next((release for each in (all, any) for release in RELEASES if each(there(release))), RELEASES[0])


def _unpacked(folder: Path, part: str) -> Path | None:
    """Where the images of a part lie unpacked."""
    places = (folder / part / part, folder / part, folder / "images" / part)  # the first as some programs unpack
    return next((place for place in places if place.is_dir()), None)


def _beside(folder: Path, release: Release, part: str) -> Path | None:
    """Where the captions file of a part lies unpacked."""
    places = (folder / "annotations", folder, folder / Path(release.annotations).stem / "annotations")
    return next((path for place in places if (path := place / _captions_file(part)).is_file()), None)


def _captions_file(part: str) -> str:
    return f"captions_{part}.json"


def _divide(folder: Path, release: Release, config: ConvertConfig) -> tuple[dict[str, tuple[str, Captioned]], list[Skipped]]:
    """Where the images of each split come from, with their captions; what has none is skipped."""
    left_out: list[Skipped] = []
    train, val = (_usable(_read_annotations(folder, release, part), config.captions, left_out)
                  for part in (release.train, release.val))
    if len(val) < config.dev + config.test:
        raise UserError(f"{folder}: {release.val} has {len(val):,} images with captions, dev and test ask for "
                        f"{config.dev + config.test:,}: lower dev or test")
    if not train:
        raise UserError(f"{folder}: no image of {release.train} has a caption")
    return {"train": (release.train, train), "dev": (release.val, val[:config.dev]),
            "test": (release.val, val[config.dev:config.dev + config.test])}, left_out


def _usable(captioned: Captioned, max_captions: int, left_out: list[Skipped]) -> Captioned:
    """The first captions of each image. Those without words, longer than any or said before are added to `left_out`, and
    images without a caption."""
    usable = []
    for name, texts in captioned:
        different = list(dict.fromkeys(texts))
        left_out += [Skipped("caption", name, "it repeats another of the image")] * (len(texts) - len(different))
        counts = {text: len(tokenize(text)) for text in different}
        left_out += [Skipped("caption", name, f"it has {count:,} words, more than {MAX_WORDS}" if count else "it has no words")
                     for count in counts.values() if not 0 < count <= MAX_WORDS]
        kept = [text for text, count in counts.items() if 0 < count <= MAX_WORDS]
        if kept:
            usable.append((name, kept[:max_captions]))
        else:
            left_out.append(Skipped("image", name, "it has no caption"))
    return usable


def _read_annotations(folder: Path, release: Release, part: str) -> Captioned:
    """The images of a captions file, in its order, with their captions, in its order."""
    where, content = _content(folder, release, part)
    mend = f"take it from {release.annotations}"
    try:
        found = json.loads(content, object_hook=_slim)
        images, annotations = (_pairs(found, key) for key in ("images", "annotations"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not a file of COCO's captions ({error}); {mend}") from error
    names = {number: _checked(file, where, mend) for number, file in images}
    if len(set(names.values())) != len(images):
        raise UserError(f"{where}: names an image twice, or two by one id; {mend}")
    texts: dict[int, list[str]] = {number: [] for number in names}
    for number, text in annotations:
        if number not in texts:
            raise UserError(f"{where}: has a caption of image {on_one_line(str(number))}, and no such image; {mend}")
        texts[number].append(text)
    return [(names[number], captions) for number, captions in texts.items()]


def _slim(item: dict[str, Any]) -> Any:
    """Of an image (id, name of its file), of a caption (id of its image, text): half a million are held at once."""
    for number, text in (("id", "file_name"), ("image_id", "caption")):
        if text in item:
            if type(item.get(number)) is not int or not isinstance(item[text], str):
                shown = [on_one_line(repr(item.get(key))) for key in (number, text)]
                raise ValueError(f"{number} {shown[0]} and {text} {shown[1]} are not a number and a text")
            return item[number], item[text]
    return item


def _pairs(found: Any, key: str) -> list[tuple[int, str]]:
    if not isinstance(found, dict) or not isinstance(found.get(key), list):
        raise ValueError(f"it has no list of {key}")
    if not all(isinstance(item, tuple) for item in found[key]):
        raise ValueError(f"its {key} are not numbered texts")
    return found[key]


def _checked(name: str, where: str, mend: str) -> str:
    if name in ("", ".", "..") or any(ord(character) < 32 or character in '/\\:' for character in name):
        raise UserError(f"{where}: {on_one_line(repr(name))} is not the plain name of a file; {mend}")
    return name


def _content(folder: Path, release: Release, part: str) -> tuple[str, bytes]:
    """Where a captions file was found, and what it holds."""
    name, packed, path = _captions_file(part), folder / release.annotations, _beside(folder, release, part)
    if path is None and not packed.is_file():
        raise UserError(f"{folder}: holds neither {name}, there or in annotations/, nor {release.annotations}")
    with _whole_archive(packed, path) as archive:
        member = _members(archive, "annotations", {name})[name] if archive else ""
        if path and not (archive and _cut_short(path, archive, member, LARGEST_CAPTIONS_FILE)):
            try:
                return str(path), image_files.read_file(path, LARGEST_CAPTIONS_FILE)
            except UnreadableImage as error:
                raise UserError(f"{path}: {error}; take it from {release.annotations}") from error
        if path:
            warnings.warn(f"{path}: not whole; it is read from {packed}", UserWarningLine, stacklevel=2)
        assert archive
        try:
            return f"{packed}: {name}", _member(archive, member, LARGEST_CAPTIONS_FILE)
        except UnreadableImage as error:
            raise UserError(f"{packed}: {member}: {error}; fetch the archive again") from error


@contextmanager
def _opened(folder: Path, part: str, names: Collection[str]) -> Iterator[Read]:
    """The images of a part, by their names; `names` are those that will be asked for."""
    unpacked, packed = _unpacked(folder, part), folder / f"{part}.zip"
    if unpacked is None and not packed.is_file():
        raise UserError(f"{folder}: holds neither {part}/ nor {part}.zip")
    with _whole_archive(packed, unpacked) as archive:
        members = _members(archive, part, names) if archive else {}
        lacking = {name for name, member in members.items()
                   if archive and unpacked and _cut_short(unpacked / name, archive, member, image_files.LARGEST_FILE)}
        if lacking:
            warnings.warn(f"{unpacked}: {len(lacking):,} of {len(names):,} images are not there or not whole; these are read "
                          f"from {packed}", UserWarningLine, stacklevel=3)

        def read(name: str) -> bytes:
            if unpacked and name not in lacking:
                return image_files.read_file(unpacked / name)
            assert archive
            return _member(archive, members[name], image_files.LARGEST_FILE)

        yield read


@contextmanager
def _whole_archive(path: Path, unpacked: Path | None) -> Iterator[zipfile.ZipFile | None]:
    """An archive, None where there is none. One that is damaged is a UserError, and a warning where it is unpacked too."""
    if not path.is_file():
        yield None
        return
    with ExitStack() as stack:
        archive = None
        try:
            archive = stack.enter_context(_zip(path))
        except UserError as error:
            if not unpacked:
                raise
            warnings.warn(f"{error}; {unpacked} is read alone", UserWarningLine, stacklevel=3)
        yield archive


def _members(archive: zipfile.ZipFile, folder: str, names: Collection[str]) -> dict[str, str]:
    """Names of an archive's members by those of files: in `folder`, or where most of them are, as below a folder at the top."""
    found = Counter(place for place, _, name in (path.rpartition("/") for path in archive.namelist()) if name in names)
    place = folder if folder in found or not found else found.most_common(1)[0][0]
    return {name: f"{place}/{name}" if place else name for name in names}


def _cut_short(path: Path, archive: zipfile.ZipFile, member: str, largest: int) -> bool:
    """Whether a file lacks what its archive has: all of it, or the end. One that was changed lacks nothing."""
    try:
        size = archive.getinfo(member).file_size
        return not path.is_file() or (path.stat().st_size < size
                                      and _member(archive, member, largest).startswith(path.read_bytes()))
    except (KeyError, OSError, UnreadableImage):  # nothing to compare with
        return False


@contextmanager
def _zip(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise UserError(f"{path}: not a whole zip archive ({on_one_line(str(error))}); fetch it again") from error
    with archive:
        yield archive


def _member(archive: zipfile.ZipFile, name: str, largest: int) -> bytes:
    """The content of a member, which may say that it holds `largest` bytes. Raises UnreadableImage."""
    try:
        member = archive.getinfo(name)
    except KeyError as error:
        raise UnreadableImage("it is not there") from error
    if member.flag_bits & 1:
        raise UnreadableImage("it is encrypted")
    if member.file_size > largest:
        raise UnreadableImage(f"it says that it holds {member.file_size:,} bytes, more than {largest:,}")
    try:
        with archive.open(member) as file:
            return file.read(member.file_size)  # not read(), which would unpack more than it said at first
    except Exception as error:  # zipfile and each of its decompressors has errors of its own
        raise UnreadableImage(f"its part of the archive is damaged ({on_one_line(str(error))})") from error
