"""Files whole or not at all, and room for them."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from text2image.errors import UserError

MARGIN = 1 << 16  # bytes, for names and headers


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A name to write to; the file takes the name `path` when all went well, and goes when it did not.

    What it holds is on the disk before it takes the name: after a power failure it is the new file or the old one.
    """
    partial = path.with_name(f"{path.stem}.partial{path.suffix}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        _sync(partial)
        partial.replace(path)
        with suppress(OSError):  # not every file system syncs a folder; the file's content is safe without
            _sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_room(folder: Path, size: int) -> None:
    """Raise UserError unless `size` bytes fit into `folder`: before the first byte, where a full disk would do harm."""
    free = shutil.disk_usage(folder).free
    if size + MARGIN > free:
        raise UserError(f"the disk is full: {folder} needs {size:,} bytes and has {free:,} free; make room and run again")


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or one that it came of, is that of a full disk, in whichever library's words."""
    while error is not None:
        if getattr(error, "errno", None) == errno.ENOSPC or "No space left on device" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
