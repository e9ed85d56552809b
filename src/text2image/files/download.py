"""Files from the dataset hosts, or from a mirror of them: checked before they take their names.

The environment variable TEXT2IMAGE_MIRROR (a directory or a base URL) stands in for every host. What has come whole is
kept until all has, and so is the part of a file that a host broke off: a fetch that failed resumes where it stopped, if the
host tells that the file is still the same. What was kept is checked again before it is taken.
"""

import os
import shutil
import stat
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import NamedTuple
from urllib.request import url2pathname

from tqdm import tqdm

from text2image.errors import UserError, printable
from text2image.files import hosts
from text2image.files.atomic import require_room
from text2image.files.hosts import Address, Answer, Fault, without_password
from text2image.files.partial import Part

MIRROR = "TEXT2IMAGE_MIRROR"
PARALLEL = 4
ATTEMPTS = 4
FIRST_PAUSE_SECONDS = 1.0  # doubled at each attempt that brought next to nothing
LONGEST_REASON = 500       # characters of what is wrong with a file, which may quote it


class Expected(NamedTuple):
    """What a file must be: `check` raises UserError for one that is not, and it has at most `largest` bytes."""

    check: Callable[[Path], object]
    largest: int


def bases(urls: Sequence[str]) -> list[str]:
    """Where to look, in order: the mirror alone where one is named. A directory may begin with ~ or with file://."""
    mirror = os.environ.get(MIRROR)
    found = [mirror] if mirror else list(urls)
    if not found:
        raise UserError("the list of base URLs is empty: name at least one in params.yaml")
    return [base if _is_url(base) else _directory(base) for base in found]


def fetch(files: Mapping[str, Expected], urls: Sequence[str], keep: Path) -> list[Path]:
    """Every file of `files`, by its path below each base: whole and checked, in `keep`, which this process alone must use.

    A few files at a time, each with a progress bar. Bases are tried in turn, passing faults of each a few times. Raises
    UserError, which says what went wrong at each base, when none gives a file that its check accepts; what has come
    by then, whole or in part, stays in `keep`.
    """
    (keep / "partial").mkdir(parents=True, exist_ok=True)
    found = bases(urls)
    with ThreadPoolExecutor(PARALLEL) as pool:
        kept = dict(zip(files, pool.map(lambda name: _is_kept(name, files[name], keep), files), strict=True))
        missing = [name for name in files if not kept[name]]
        sizes = pool.map(lambda name: _missing(found[0], name, files[name].largest, keep), missing)
        try:
            require_room(keep, sum(sizes))
        except UserError as error:
            raise UserError(f"{_shown(found[0])}: {error}") from error
        stop = Event()
        jobs = [pool.submit(_fetch_one, name, files[name], found, keep, n, stop) for n, name in enumerate(missing)]
        try:
            for job in jobs:
                job.result()
        except BaseException:
            stop.set()
            raise
    return [keep / Path(name).name for name in files]


def put(files: Sequence[Path], out: Path) -> None:
    """Copy what `fetch` brought into the folder `out`, which may lie on another disk."""
    for file in files:
        shutil.copyfile(file, out / file.name)


def _is_url(base: str) -> bool:
    return "://" in base and not base.startswith("file://")


def _directory(base: str) -> str:
    path = Path(url2pathname(base.removeprefix("file://")) if base.startswith("file://") else base)
    try:
        return str(path.expanduser())
    except RuntimeError:  # of a user whom nobody knows
        return str(path)


def _shown(base: str) -> str:
    return printable(without_password(base) if _is_url(base) else base)


def _partial(keep: Path, name: str) -> Path:
    return keep / "partial" / Path(name).name  # under its own name, since checks speak of a file by that


def _is_kept(name: str, expected: Expected, keep: Path) -> bool:
    """Whether a file that an earlier fetch kept is whole and what it was; else it goes."""
    kept = keep / Path(name).name
    if not kept.exists():
        return False
    try:
        if Part(_partial(keep, name)).is_whole_in(kept):
            expected.check(kept)
            return True
    except UserError:
        pass
    kept.unlink()
    return False


def _missing(base: str, name: str, largest: int, keep: Path) -> int:
    """The bytes that are still to come, as far as a base says; what is wrong with it is said when the file is fetched."""
    try:
        if _is_url(base):
            with Answer(hosts.address(base, name), method="HEAD") as answer:
                size = answer.length or 0
        else:
            size = (Path(base) / name).stat().st_size
    except (OSError, Fault):
        return 0
    partial = _partial(keep, name)
    have = partial.stat().st_size if partial.exists() else 0
    return max(0, size - have) if size <= largest else 0


def _fetch_one(name: str, expected: Expected, found: Sequence[str], keep: Path, place: int, stop: Event) -> None:
    part = Part(_partial(keep, name))
    failures = []
    for base in found:
        if stop.is_set():
            return
        try:
            for last in (False, True):  # what was gone on with may have been a part of another file
                resumed = _copy(base, name, expected.largest, part, place, stop)
                try:
                    expected.check(part.path)
                except UserError:
                    part.discard()
                    if last or not resumed:
                        raise
                else:
                    part.path.replace(keep / part.path.name)
                    return
        except UserError as error:
            failures.append(f"{_shown(base)}: {printable(str(error), LONGEST_REASON)}")
    raise UserError(f"cannot fetch {name}: {'; '.join(failures)}. Put the file below a directory and name that in {MIRROR}, "
                    "or add a base URL to params.yaml")


def _copy(base: str, name: str, largest: int, part: Part, place: int, stop: Event) -> bool:
    """Bring a file to `part`, going on with what is there; says whether it went on with something."""
    if not _is_url(base):
        _copy_file(Path(base) / name, name, largest, part, place, stop)
        return False
    resumed, attempt, part.begun = False, 0, 0
    while True:
        before = part.size
        try:
            where = hosts.address(base, name)
            resumed = resumed or part.url == where.url
            _download(where, largest, part, place, stop)
            return resumed
        except Fault as fault:
            attempt = 0 if part.size >= before + hosts.LEAST_BYTES else attempt + 1
            if (not fault.passing or attempt == ATTEMPTS or part.begun > ATTEMPTS
                    or stop.wait(FIRST_PAUSE_SECONDS * 2**attempt)):
                kept = f"; {part.size:,} bytes of it are kept" if part.size else ""
                raise UserError(f"{fault}{kept}") from fault


def _copy_file(path: Path, name: str, largest: int, part: Part, place: int, stop: Event) -> None:
    """Copy a file of a mirror. Raises UserError where it cannot be read, is a device or a pipe, or changes meanwhile."""
    def refuse(why: object) -> UserError:
        return UserError(f"cannot read {name} in this directory ({why})")

    def read() -> bytes:
        try:
            return file.read(hosts.BLOCK)
        except OSError as error:
            raise refuse(error.strerror) from error

    try:  # a pipe is not waited for
        file = open(path, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK))  # noqa: SIM115
    except OSError as error:
        raise refuse(error.strerror) from error
    with file:
        before = os.fstat(file.fileno())
        if not stat.S_ISREG(before.st_mode):
            raise refuse("it is no regular file")
        part.begin(str(path), None, before.st_size)
        try:
            _take(read, largest, part, place, stop)
        except Fault as fault:
            raise refuse(fault) from fault
        after = os.fstat(file.fileno())
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise refuse("it changed while it was read: run again")


def _download(where: Address, largest: int, part: Part, place: int, stop: Event) -> None:
    """One try: ask for what is missing, of the same version; where the host sends the whole file instead, start again."""
    known = part.validator if part.size and part.url == where.url else None
    wanted = {"Range": f"bytes={part.size}-", "If-Range": known.value} if known else {}
    try:
        answer = Answer(where, wanted)
    except Fault as fault:
        if not known or fault.status != 416:
            raise
        # Nothing is missing, or the part is no part of this file: the check will tell.
        if (fault.headers.get("Content-Range") or "").rpartition("/")[2] == str(part.size):
            return
        part.discard()
        raise Fault("unreachable (what was kept is longer than the file)") from fault
    with answer:
        if answer.status == 206:
            start, total = answer.range or (None, None)
            if not known or start != part.size:
                part.discard()
                raise Fault("unreachable (it sent another part of the file than was asked for)")
            if answer.headers.get(known.header) != known.value or (total and part.total and total != part.total):
                part.discard()
                raise Fault("unreachable (the file there is no longer the one of which a part had come)")
        else:
            part.begin(where.url, hosts.validator(answer.headers), answer.length)
        _take(answer.read, largest, part, place, stop, answer.length)


def _take(read: Callable[[], bytes], largest: int, part: Part, place: int, stop: Event, size: int | None = None) -> None:
    """Add to `part` what `read` gives until it gives nothing; it should be `size` bytes."""
    start = part.size
    size = size if size is not None else part.total and part.total - start
    if size:
        _require_small(start + size, largest, part)
        require_room(part.path.parent, size)
    bar = tqdm(total=start + size if size else None, initial=start, unit="B", unit_scale=True, desc=part.path.name,
               position=place, leave=False, disable=None)
    with bar, part.writing():
        while block := read():
            _require_small(part.size + len(block), largest, part)
            part.write(block)
            bar.update(len(block))
            if stop.is_set():
                raise UserError("stopped, since another file failed")
    expected = part.total or (start + size if size else None)
    if expected and part.size < expected:
        raise Fault(f"unreachable (it broke off {expected - part.size:,} bytes before the end)")


def _require_small(size: int, largest: int, part: Part) -> None:
    if size > largest:
        part.discard()
        raise UserError(f"{part.path.name}: more than {largest:,} bytes, which is more than this file may have")
