"""A file that is being fetched: the part of it that has come, and a record beside it of what that is.

The record says where the part is from, how the host tells that version of the file from others, and the SHA-256 of the bytes
that have come. So a part is gone on with only undamaged, and only with the rest of the same version; and a file that is kept
until others have come can be compared with what came.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from text2image.files.atomic import atomic_write
from text2image.files.hosts import Validator

RECORD_EVERY = 1 << 26  # bytes: what is lost where the process is killed
BLOCK = 1 << 20


class Part:
    """What has come of the file `path`: its first `size` bytes, of `url`, of the version that `validator` tells.

    A part that an earlier process left is taken up where it is what the record says; else it goes.
    """

    url: str
    validator: Validator | None
    total: int | None  # bytes of the whole file, where the host says so
    size: int

    def __init__(self, path: Path):
        self.path = path
        self.begun = 0  # times
        self._record = path.with_name(path.name + ".json")
        self._forget()
        found = self._recorded()
        if found and path.is_file() and path.stat().st_size >= found["size"]:
            digest = _sha256(path, found["size"])
            if digest.hexdigest() == found["sha256"]:
                os.truncate(path, found["size"])
                self.url, self.total, self.size, self._digest = found["url"], found["total"], found["size"], digest
                self.validator = Validator(*found["validator"]) if found["validator"] else None
                return
        path.unlink(missing_ok=True)

    def _forget(self) -> None:
        self.url = ""
        self.validator = None
        self.total = None
        self.size = 0
        self._digest = hashlib.sha256()
        self._since_record = 0

    def _recorded(self) -> dict[str, Any] | None:
        try:
            found = json.loads(self._record.read_text(encoding="utf-8"))
            size, total, known = found["size"], found["total"], found["validator"]
            right = (type(size) is int and size >= 0 and (total is None or type(total) is int)
                     and isinstance(found["url"], str) and isinstance(found["sha256"], str)
                     and (known is None or (len(known) == 2 and all(isinstance(text, str) for text in known))))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        return found if right else None

    def begin(self, url: str, validator: Validator | None, total: int | None) -> None:
        """Start again, with another version or from another place."""
        self.discard()
        self.begun += 1
        self.url, self.validator, self.total = url, validator, total

    def discard(self) -> None:
        """Let go of what has come."""
        self.path.unlink(missing_ok=True)  # before the record changes: it must never be that of other bytes
        self._forget()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Within it `write` adds to the part; after it the part is on the disk, and the record tells of it."""
        with self.path.open("ab") as self._file:
            try:
                yield
            finally:
                self._write_record()

    def write(self, block: bytes) -> None:
        """Add bytes."""
        self._file.write(block)
        self._digest.update(block)
        self.size += len(block)
        self._since_record += len(block)
        if self._since_record >= RECORD_EVERY:
            self._write_record()

    def _write_record(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._since_record = 0
        record = {"url": self.url, "validator": self.validator, "total": self.total, "size": self.size,
                  "sha256": self._digest.hexdigest()}
        with atomic_write(self._record) as partial:
            partial.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

    def is_whole_in(self, kept: Path) -> bool:
        """Whether a file that was whole and took its place is still what came."""
        found = self._recorded()
        return found is not None and kept.stat().st_size == found["size"] and _sha256(kept).hexdigest() == found["sha256"]


def _sha256(path: Path, size: int | None = None) -> Any:
    """Of the first bytes of a file, or of all."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        _feed(digest, file, path.stat().st_size if size is None else size)
    return digest


def _feed(digest: Any, file: BinaryIO, size: int) -> None:
    while size > 0 and (block := file.read(min(BLOCK, size))):
        digest.update(block)
        size -= len(block)
