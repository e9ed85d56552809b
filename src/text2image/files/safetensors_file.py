"""Described safetensors files: tensors, and one JSON entry of metadata that says what they are.

    FORMAT = Format(key="text2image", version=2, digest_since=2, noun="checkpoint", missing="...", remedy="...")
    write(path, tensors, {"config": ...}, FORMAT)
    with opened(path, FORMAT) as file:
        file.metadata, file.shapes      # known before a tensor is read
        file.tensors()                  # float32 and finite, and those that were written

Equal tensors and metadata give equal files.
"""

import hashlib
import json
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from text2image.errors import UserError
from text2image.files.atomic import atomic_write

DTYPE = "F32"  # the one type of stored tensors, as safetensors names it
LARGEST_HEADER = 1 << 24  # bytes: names, shapes, and the metadata with its vocabulary; half a million words take 7 million


@dataclass(frozen=True)
class Format:
    """One kind of described file, and the words of its messages."""

    key: str           # of the metadata's one entry
    version: int       # that is written; older ones are read
    digest_since: int  # the first version that holds a digest of its tensors
    noun: str          # "checkpoint"
    missing: str       # what to do where there is no file
    remedy: str        # what to do where the file is damaged

    def damaged(self, path: Path, why: object) -> UserError:
        """The error of a file that is not as it was written."""
        return UserError(f"{path}: its metadata is damaged ({one_line(why)}); {self.remedy}")

    def unreadable(self, path: Path, why: object) -> UserError:
        """The error of a file that cannot be read as safetensors."""
        return UserError(f"{path}: not a readable {self.noun} ({one_line(why)}); {self.remedy}")


class DescribedFile:
    """An open file: `metadata`, and of each tensor its shape."""

    def __init__(self, path: Path, file: Any, metadata: dict[str, Any], shapes: dict[str, tuple[int, ...]], form: Format):
        self.path, self.metadata, self.shapes = path, metadata, shapes
        self._file, self._form = file, form

    def check_shapes(self, module: nn.Module) -> None:
        """Raise UserError unless the file holds the tensors that a module has, which may be one without memory."""
        wanted = {name: tuple(value.shape) for name, value in module.state_dict().items()}
        for name in sorted(wanted.keys() | self.shapes.keys()):
            if self.shapes.get(name) != wanted.get(name):
                raise UserError(one_line(f"{self.path}: weights and configuration differ at '{name}'; "
                                         "the file was made by other code or altered"))

    def tensors(self) -> dict[str, Tensor]:
        """All tensors, read and checked. Raises UserError where a value is not finite or the digest differs."""
        try:
            found = {name: self._file.get_tensor(name) for name in self.shapes}
        except (SafetensorError, OSError, RuntimeError, ValueError) as error:
            raise self._form.unreadable(self.path, error) from error
        for name, value in found.items():
            if not torch.isfinite(value).all():
                raise UserError(f"{self.path}: '{one_line(name, 100)}' holds values that are not finite numbers; "
                                f"{self._form.remedy}")
        if self.metadata["version"] >= self._form.digest_since and self.metadata.get("digest") != digest(found):
            raise UserError(f"{self.path}: its tensors are not those that were saved (their digest differs); "
                            f"{self._form.remedy}")
        return found


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes, in the order of the names."""
    content = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        value = value.detach().cpu().contiguous()
        content.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
        content.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return content.hexdigest()


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], form: Format) -> None:
    """Write float32 tensors and their metadata, whole or not at all; version and digest are added.

    Raises ValueError for tensors of another type, which `opened` would refuse.
    """
    stored = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    for name, value in stored.items():
        if value.dtype != torch.float32:
            raise ValueError(f"'{name}' is {value.dtype}; a {form.noun} holds float32")
    described: dict[str, Any] = {**metadata, "version": form.version}
    if form.version >= form.digest_since:
        described["digest"] = digest(stored)
    text = json.dumps(described, sort_keys=True, ensure_ascii=False)
    if len(text.encode()) > LARGEST_HEADER // 2:  # quotes take a character more in the header
        raise UserError(f"{path}: {len(text):,} characters of metadata are more than a {form.noun} may have; "
                        "raise min_count, so that the vocabulary has fewer words")
    # One entry: safetensors writes several in no fixed order, and equal tensors should be equal files.
    with atomic_write(path) as partial:
        save_file(stored, partial, {form.key: text})


@contextmanager
def opened(path: Path, form: Format) -> Iterator[DescribedFile]:
    """Open a described file; its header alone is read.

    Raises UserError where it is missing, damaged, of another kind or of a newer version, or holds another type than float32.
    """
    try:
        try:  # safetensors says that it is not there of a file that it may not read, too
            if not stat.S_ISREG(path.stat().st_mode):
                raise form.unreadable(path, "it is no file")
            with path.open("rb") as start:
                size = int.from_bytes(start.read(8), "little")
            if LARGEST_HEADER < size < path.stat().st_size:  # beyond the file's end safetensors says so itself
                raise form.unreadable(path, f"a header of {size:,} bytes, more than {LARGEST_HEADER:,}")
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(f"{path}: no such {form.noun}; {form.missing}") from None
        except OSError as error:
            raise UserError(f"{one_line(path)}: cannot be opened ({error.strerror}): "
                            "see to its name and permissions") from error
        file = safe_open(path, "pt")
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise form.unreadable(path, error) from error
    with file:
        try:
            described = (file.metadata() or {}).get(form.key)
            parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            dtypes = {name: part.get_dtype() for name, part in parts.items()}
            shapes = {name: tuple(part.get_shape()) for name, part in parts.items()}
        except (SafetensorError, OSError, RuntimeError, ValueError) as error:
            raise form.unreadable(path, error) from error
        if described is None:
            raise UserError(f"{path}: not a {form.noun} of this project: its metadata has no entry '{form.key}'")
        metadata = _read_metadata(path, described, form)
        for name, dtype in dtypes.items():
            if dtype != DTYPE:
                raise UserError(f"{path}: '{one_line(name, 100)}' is of type {dtype}; a {form.noun} holds float32 ({DTYPE}): "
                                f"{form.remedy}")
        yield DescribedFile(path, file, metadata, shapes, form)


@contextmanager
def building(path: Path, form: Format) -> Iterator[None]:
    """While something is built from a file's metadata, which may hold anything: what goes wrong is a UserError of one line that
    names the file."""
    try:
        yield
    except UserError as error:
        raise UserError(one_line(error if str(path) in str(error) else f"{path}: {error}")) from error
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, OverflowError, RecursionError, MemoryError) as error:
        raise form.damaged(path, error) from error


def _read_metadata(path: Path, described: str, form: Format) -> dict[str, Any]:
    try:
        metadata = json.loads(described)
    except (ValueError, RecursionError) as error:
        raise form.damaged(path, error) from error
    version = metadata.get("version") if isinstance(metadata, dict) else None
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise form.damaged(path, "it has no version")
    if version > form.version:
        raise UserError(f"{path}: of version {one_line(version, 20)}, newer than this code reads ({form.version}); "
                        "update text2image")
    return metadata


def one_line(why: object, longest: int = 500) -> str:
    """What an error says, on one line of bounded length: a damaged file may hold anything."""
    text = " ".join((repr(why) if isinstance(why, KeyError) else str(why)).split())
    text = text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= longest else f"{text[:longest]}..."
