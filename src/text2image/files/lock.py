"""One process at a time: a lock that goes when its process does, however that ends."""

import fcntl
import os
from pathlib import Path

from text2image.errors import UserError


class Lock:
    """The lock of the file `path`, held from here until `close`, which removes the file; may be used as a context.

    Raises UserError, which reads `busy`, where another process holds it. That a killed process left the file does no harm.
    """

    def __init__(self, path: Path, busy: str):
        self._path = path
        while True:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._file = path.open("w")
            except FileNotFoundError:  # its folder went, with whoever held the lock
                continue
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._file.close()
                raise UserError(busy) from None
            except OSError as error:
                self._file.close()
                raise UserError(f"{path}: cannot be locked ({error.strerror}); set TEXT2IMAGE_STATE to a folder on a local disk"
                                ) from error
            if self._is_at_its_path():
                return
            self._file.close()  # whoever held it has removed it in between: another process may lock a new one

    def _is_at_its_path(self) -> bool:
        try:
            return os.path.samestat(self._path.stat(), os.fstat(self._file.fileno()))
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Remove the file and let the next one in."""
        if self._is_at_its_path():
            self._path.unlink()
        self._file.close()

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
