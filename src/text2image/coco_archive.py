"""COCO's own pictures and captions of 2014, made into the files that the dataset host lays out (text2image.toronto).

A folder holds, packed as COCO publishes them or unpacked,

    train2014.zip or train2014/, val2014.zip or val2014/
    annotations_trainval2014.zip, or annotations/ or the folder itself with captions_train2014.json and captions_val2014.json

Training is train2014; dev and test are the first pictures of val2014, in the order of its captions file, that have
captions. Nothing is unpacked: a member of an archive is read by its name, within a limit on what it says that it holds.
"""

import json
import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from text2image import pictures, toronto
from text2image.captions import Vocabulary, pad, tokenize
from text2image.config import parameter
from text2image.errors import UserError
from text2image.pictures import Frame, Read, Unusable
from text2image.skipped import Skipped

TRAIN, VAL = "train2014", "val2014"
ANNOTATIONS = "annotations_trainval2014.zip"
LARGEST_CAPTIONS_FILE = 1 << 28  # bytes; COCO's of training has 67 million

Captioned = list[tuple[str, list[str]]]  # names of pictures and their captions


@dataclass(frozen=True)
class CocoConfig:
    """How pictures and captions become the host's files."""

    side: int = parameter(least=1)
    crop: Literal["centre", "none"]
    filter: Literal["lanczos", "box"]
    captions: int = parameter(least=1)       # of each picture, at most: the first in the file
    minimum_count: int = parameter(least=1)  # times a word must occur in training; else it is UNK
    dev: int = parameter(least=1)            # pictures of val2014
    test: int = parameter(least=1)


def convert(folder: Path, out: Path, config: CocoConfig) -> list[Skipped]:
    """Write the host's files into `out`; returns the pictures and captions left out.

    Raises UserError when an archive or a captions file is missing or damaged, or a split would be empty.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; a relative path starts at the repository's root")
    frame = Frame(3, config.side, config.side, config.crop, config.filter)
    splits, skipped = _divide(folder, config)
    captions: dict[str, Captioned] = {}
    with _opened(folder, TRAIN) as train, _opened(folder, VAL) as val:  # both, before the long work on the first
        for split, (part, captioned) in splits.items():
            path, names = out / toronto.names(split, config.side).images, [name for name, _ in captioned]
            kept, lost = pictures.write(path, names, train if part == TRAIN else val, frame, flat=True)
            if not kept:
                raise UserError(f"{folder}: none of the {len(captioned):,} pictures of {part} for {split} can be used; "
                                f"{lost[0].name}: {lost[0].why}")
            rows = set(kept)
            captions[split] = [(name, said) for name, said in captioned if name in rows]
            skipped += lost
    words = (tokenize(text) for _, said in captions["train"] for text in said)
    vocabulary = Vocabulary.count(words, config.minimum_count)
    _pickle(out / toronto.DICTIONARY, {word: number for number, word in enumerate(vocabulary.words) if number})
    for split, captioned in captions.items():
        files = toronto.names(split, config.side)
        ids, lengths = pad([vocabulary.known(tokenize(text)) for _, said in captioned for text in said])
        np.save(out / files.captions, ids)
        np.save(out / files.lengths, lengths[:, None])
        _pickle(out / files.pictures, dict(enumerate(row for row, (_, said) in enumerate(captioned) for _ in said)))
    return skipped


def _pickle(path: Path, mapping: dict[Any, int]) -> None:
    path.write_bytes(pickle.dumps(mapping, protocol=2))  # the last that Python 2 reads


def _divide(folder: Path, config: CocoConfig) -> tuple[dict[str, tuple[str, Captioned]], list[Skipped]]:
    """Where the pictures of each split come from, with their captions; what has none is skipped."""
    skipped: list[Skipped] = []
    train, val = (_usable(_read_captions(folder, part), config.captions, skipped) for part in (TRAIN, VAL))
    if len(val) < config.dev + config.test:
        raise UserError(f"{folder}: {VAL} has {len(val):,} pictures with captions, dev and test ask for "
                        f"{config.dev + config.test:,}: lower dev or test")
    if not train:
        raise UserError(f"{folder}: no picture of {TRAIN} has a caption")
    return {"train": (TRAIN, train), "dev": (VAL, val[:config.dev]),
            "test": (VAL, val[config.dev:config.dev + config.test])}, skipped


def _usable(captioned: Captioned, most: int, skipped: list[Skipped]) -> Captioned:
    """The first captions of each picture; those without words, and pictures without any, are added to `skipped`."""
    usable = []
    for name, said in captioned:
        with_words = [text for text in said if tokenize(text)]
        skipped += [Skipped("caption", name, "it has no words")] * (len(said) - len(with_words))
        if with_words:
            usable.append((name, with_words[:most]))
        else:
            skipped.append(Skipped("picture", name, "it has no caption"))
    return usable


def _read_captions(folder: Path, part: str) -> Captioned:
    """The pictures of a captions file, in its order, with their captions, in its order."""
    name = f"captions_{part}.json"
    where, content = _content(folder, name)
    try:
        found = json.loads(content, object_hook=_slim)
        images, annotations = (_pairs(found, key) for key in ("images", "annotations"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not a file of COCO's captions ({error}); take it from {ANNOTATIONS}") from error
    names = {number: _checked(file, where) for number, file in images}
    if len(set(names.values())) != len(images):
        raise UserError(f"{where}: names a picture twice, or two by one id; take it from {ANNOTATIONS}")
    texts: dict[int, list[str]] = {number: [] for number in names}
    for number, text in annotations:
        if number not in texts:
            raise UserError(f"{where}: has a caption of picture {number}, and no such picture; take it from {ANNOTATIONS}")
        texts[number].append(text)
    return [(names[number], said) for number, said in texts.items()]


def _slim(item: dict[str, Any]) -> Any:
    """Of a picture (id, name of its file), of a caption (id of its picture, text): half a million are held at once."""
    for number, text in (("id", "file_name"), ("image_id", "caption")):
        if text in item:
            if type(item.get(number)) is not int or not isinstance(item[text], str):
                raise ValueError(f"{number} {item.get(number)!r} and {text} {item[text]!r} are not a number and a text")
            return item[number], item[text]
    return item


def _pairs(found: Any, key: str) -> list[tuple[int, str]]:
    if not isinstance(found, dict) or not isinstance(found.get(key), list):
        raise ValueError(f"it has no list of {key}")
    if not all(isinstance(item, tuple) for item in found[key]):
        raise ValueError(f"its {key} are not numbered texts")
    return found[key]


def _checked(name: str, where: str) -> str:
    if name in ("", ".", "..") or any(ord(character) < 32 or character in '/\\:' for character in name):
        raise UserError(f"{where}: {name!r} is not the plain name of a file; take it from {ANNOTATIONS}")
    return name


def _content(folder: Path, name: str) -> tuple[str, bytes]:
    """Where a captions file was found, and what it holds."""
    for path in (folder / "annotations" / name, folder / name):
        if path.is_file():
            try:
                return str(path), pictures.read_file(path, LARGEST_CAPTIONS_FILE)
            except Unusable as error:
                raise UserError(f"{path}: {error}; take it from {ANNOTATIONS}") from error
    path = folder / ANNOTATIONS
    if not path.is_file():
        raise UserError(f"{folder}: holds neither {name}, there or in annotations/, nor {ANNOTATIONS}")
    with _zip(path) as archive:
        try:
            return f"{path}: {name}", _member(archive, f"annotations/{name}", LARGEST_CAPTIONS_FILE)
        except Unusable as error:
            raise UserError(f"{path}: annotations/{name}: {error}; fetch the archive again") from error


@contextmanager
def _opened(folder: Path, part: str) -> Iterator[Read]:
    """The pictures of train2014 or val2014, by their names."""
    if (folder / part).is_dir():
        yield lambda name: pictures.read_file(folder / part / name)
    elif (folder / f"{part}.zip").is_file():
        with _zip(folder / f"{part}.zip") as archive:
            yield lambda name: _member(archive, f"{part}/{name}", pictures.LARGEST_FILE)
    else:
        raise UserError(f"{folder}: holds neither {part}/ nor {part}.zip")


@contextmanager
def _zip(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise UserError(f"{path}: not a whole zip archive ({error}); fetch it again") from error
    with archive:
        yield archive


def _member(archive: zipfile.ZipFile, name: str, largest: int) -> bytes:
    """The content of a member, which may say that it holds `largest` bytes. Raises Unusable."""
    try:
        member = archive.getinfo(name)
    except KeyError as error:
        raise Unusable("it is not there") from error
    if member.flag_bits & 1:
        raise Unusable("it is encrypted")
    if member.file_size > largest:
        raise Unusable(f"it says that it holds {member.file_size:,} bytes, more than {largest:,}")
    try:
        with archive.open(member) as file:
            return file.read(member.file_size)  # not read(), which would unpack more than it said at first
    except Exception as error:  # zipfile and each of its decompressors has errors of its own
        raise Unusable(f"its part of the archive is damaged ({error})") from error
