"""How a command ends: with 0, or with one clear line on standard error and another code."""

import errno
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from text2image.errors import UserError, UserWarningLine, printable
from text2image.files import atomic

LONGEST = 2000  # characters of a line: a message may quote what a file holds
WHAT_TO_DO = {
    errno.EACCES: "change its permissions, or name another place",
    errno.EPERM: "change its permissions, or name another place",
    errno.EROFS: "its file system is read-only: name another place",
    errno.ENOTDIR: "a file lies where a folder belongs: move it away",
    errno.EEXIST: "a file lies where a folder belongs: move it away",
    errno.EISDIR: "a folder lies where a file belongs: move it away",
    errno.ENOTEMPTY: "a folder that holds something lies there: move it away",
    errno.ENAMETOOLONG: "name it shorter",
    errno.ELOOP: "links lead in a ring: put the file itself there",
    errno.ENOENT: "it is not there; `dvc repro` makes what stages write, `dvc pull` fetches it",
    errno.EMFILE: "too many files are open: raise `ulimit -n`",
    errno.EIO: "the disk or its connection has a fault",
    errno.ESTALE: "the network file system lost it: try again",
}


def run(work: Callable[[], object], interrupted: str = "interrupted") -> NoReturn:
    """Do `work` and exit: with 0; with 1 after one line for what a user can put right; with 130 after Ctrl-C.

    Another exception is an error of this program, and goes through with its traceback.
    """
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # as standard error: a terminal may not know every letter
    try:
        work()
        sys.stdout.flush()
    except KeyboardInterrupt:
        fail(interrupted, 130)
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:
        line = explain(error)
        if line is None:
            raise
        fail(line)
    sys.exit(0)


def explain(error: Exception) -> str | None:
    """One line for an error that a user can put right; None for one of this program."""
    if isinstance(error, UserError):
        return str(error)
    if atomic.is_full(error):
        return "the disk is full: make room and run `dvc repro` again"
    if type(error).__name__ == "OutOfMemoryError":  # torch's, which is not imported for this
        return "the GPU is out of memory: lower batch_size"
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error)):
        return "memory is full: lower batch_size, the sizes of the model or of images, or end other programs"
    if isinstance(error, UnicodeEncodeError) and error.encoding.lower().replace("_", "-") not in ("utf-8", "utf8"):
        text = error.object[error.start:error.end]
        return (f"the locale is not UTF-8 but {error.encoding}, which cannot write {text!a}: run again with the "
                "environment variable PYTHONUTF8=1")
    if isinstance(error, OSError):
        return of_os_error(error)
    return None


def of_os_error(error: OSError) -> str:
    """What the system refused, of which file, and what to do."""
    if error.errno is None or not error.strerror:
        return str(error) or type(error).__name__
    file = _in_the_way(error) or error.filename
    name = f"{_name(file)}: " if file not in (None, "") else ""
    to_do = f"; {WHAT_TO_DO[error.errno]}" if error.errno in WHAT_TO_DO else ""
    return f"{name}{error.strerror.lower()}{to_do}"


def _in_the_way(error: OSError) -> Path | None:
    """Where a folder was wanted, the file that lies there: the path itself, or above it."""
    if error.errno not in (errno.ENOTDIR, errno.EEXIST) or not isinstance(error.filename, str):
        return None
    path = Path(error.filename)
    return next((place for place in (path, *path.parents) if os.path.lexists(place) and not place.is_dir()), None)


def _name(file: object) -> str:
    text = os.fsdecode(file) if isinstance(file, str | bytes | os.PathLike) else str(file)
    return text if len(text) <= 200 else f"{text[:80]}...{text[-40:]} ({len(text)} characters)"


def fail(line: str, code: int = 1) -> NoReturn:
    """Write one line on standard error and exit."""
    sys.stderr.write(f"error: {printable(line, LONGEST)}\n")
    sys.exit(code)


def _show_warning(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any) -> None:
    where = "" if issubclass(category, UserWarningLine) else f" ({category.__name__}, {filename}:{lineno})"
    sys.stderr.write(f"warning: {printable(f'{message}{where}')}\n")
