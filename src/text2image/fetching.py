"""Files from the dataset hosts, or from a mirror of them: checked before they take their names.

The environment variable TEXT2IMAGE_MIRROR (a directory or a base URL) stands in for every host. What has come whole is
kept until all has, and so is the part of a file that a host broke off: a fetch that failed goes on where it stopped.
"""

import http.client
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

from tqdm import tqdm

from text2image.disk import is_full, require_room
from text2image.errors import UserError

MIRROR = "TEXT2IMAGE_MIRROR"
PARALLEL = 4
ATTEMPTS = 4
FIRST_PAUSE_SECONDS = 1.0  # doubled at each attempt that brought nothing
TIMEOUT_SECONDS = 30
BLOCK = 1 << 18
USER_AGENT = "text2image/0.1"

Check = Callable[[Path], object]


def bases(urls: Sequence[str]) -> list[str]:
    """Where to look, in order: the mirror alone where one is named."""
    mirror = os.environ.get(MIRROR)
    found = [mirror] if mirror else list(urls)
    if not found:
        raise UserError("the list of base URLs is empty: name at least one in params.yaml")
    return found


def fetch(files: Mapping[str, Check], urls: Sequence[str], keep: Path) -> list[Path]:
    """Every file of `files`, a path below each base and what accepts it: whole and checked, in `keep`.

    A few files at a time, each with a progress bar. Bases are tried in turn, passing faults of each a few times. Raises
    UserError, which says what went wrong at each base, when none gives a file that its check accepts; what has come
    by then, whole or in part, stays in `keep`.
    """
    keep.mkdir(parents=True, exist_ok=True)
    missing = [name for name in files if not (keep / Path(name).name).exists()]
    found = bases(urls)
    with ThreadPoolExecutor(PARALLEL) as pool:
        sizes = pool.map(lambda name: _size(found[0], name) - _size_of(_partial(keep, name)), missing)
        try:
            require_room(keep, max(0, sum(sizes)))
        except UserError as error:
            raise UserError(f"{found[0]}: {error}") from error
        stop = Event()
        jobs = [pool.submit(_fetch_one, name, files[name], found, keep, n, stop) for n, name in enumerate(missing)]
        try:
            for job in jobs:
                job.result()
        except BaseException:
            stop.set()
            raise
    return [keep / Path(name).name for name in files]


def _partial(keep: Path, name: str) -> Path:
    return keep / "partial" / Path(name).name


def _size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _fetch_one(name: str, check: Check, found: Sequence[str], keep: Path, place: int, stop: Event) -> None:
    partial = _partial(keep, name)  # under its own name, since checks speak of a file by that
    partial.parent.mkdir(exist_ok=True)
    failures = []
    for base in found:
        if stop.is_set():
            return
        try:
            for last in (False, True):  # what was gone on with may have been a part of another file
                resumed = _copy(base, name, partial, place, stop)
                try:
                    check(partial)
                except UserError:
                    partial.unlink()
                    if last or not resumed:
                        raise
                else:
                    partial.replace(keep / partial.name)
                    return
        except UserError as error:
            failures.append(f"{base}: {error}")
    raise UserError(f"cannot fetch {name}: {'; '.join(failures)}. Put the file below a directory and name that in {MIRROR}, "
                    "or add a base URL to params.yaml")


def _is_url(base: str) -> bool:
    return "://" in base


def _request(base: str, name: str, **headers: str) -> urllib.request.Request:
    return urllib.request.Request(f"{base.rstrip('/')}/{name}", headers={"User-Agent": USER_AGENT} | headers)


def _size(base: str, name: str) -> int:
    """The size that a base gives for a file, 0 where it gives none: what is wrong with it is said when it is fetched."""
    try:
        if not _is_url(base):
            return (Path(base) / name).stat().st_size
        request = _request(base, name)
        request.method = "HEAD"
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
            return int(response.headers.get("Content-Length") or 0)
    except (OSError, http.client.HTTPException, ValueError):
        return 0


def _copy(base: str, name: str, partial: Path, place: int, stop: Event) -> bool:
    """Bring a file to `partial`, going on with what is there; says whether it went on with something."""
    if not _is_url(base):
        try:
            require_room(partial.parent, (Path(base) / name).stat().st_size)
            shutil.copyfile(Path(base) / name, partial)
        except OSError as error:
            if is_full(error):
                raise
            raise UserError(f"cannot read {name} in this directory ({error.strerror})") from error
        return False
    resumed = False
    attempt = 0
    while True:
        before = _size_of(partial)
        resumed = resumed or before > 0
        try:
            _download(_request(base, name), partial, place, stop)
            return resumed
        except urllib.error.HTTPError as error:
            why, passing = f"HTTP {error.code} {error.reason}", error.code in (408, 429) or error.code >= 500
        except (OSError, http.client.HTTPException) as error:
            if is_full(error):
                raise
            why, passing = f"unreachable ({getattr(error, 'reason', None) or error})", True
        except ValueError as error:
            why, passing = f"not a URL to fetch from, or no sense in its answer ({error})", False
        attempt = 0 if _size_of(partial) > before else attempt + 1
        if not passing or attempt == ATTEMPTS or stop.wait(FIRST_PAUSE_SECONDS * 2**attempt):
            kept = f"; {_size_of(partial):,} bytes of it are kept" if _size_of(partial) else ""
            raise UserError(why + kept)


def _download(request: urllib.request.Request, partial: Path, place: int, stop: Event) -> None:
    """One try: ask for what is missing; where the host sends the whole file instead, start again."""
    have = _size_of(partial)
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if have and error.code == 416:  # nothing is missing, or the part is no part of this file: the check will tell
            total = (error.headers.get("Content-Range") or "").rpartition("/")[2]
            if total == str(have):
                return
            partial.unlink()
            raise http.client.HTTPException("what was kept is longer than the file") from error
        raise
    with response:
        goes_on = response.status == 206 and (response.headers.get("Content-Range") or "").startswith(f"bytes {have}-")
        if response.status == 206 and not goes_on:
            partial.unlink(missing_ok=True)
            raise http.client.HTTPException("it sent another part of the file than was asked for")
        start = have if goes_on else 0
        size = max(0, int(response.headers.get("Content-Length") or 0))
        require_room(partial.parent, size)
        bar = tqdm(total=start + size if size else None, initial=start, unit="B", unit_scale=True, desc=partial.name,
                   position=place, leave=False, disable=None)
        with partial.open("ab" if goes_on else "wb") as file, bar:
            got = 0
            while block := response.read1(BLOCK):  # what there is, so that a host that stalls leaves it
                file.write(block)
                got += len(block)
                bar.update(len(block))
                if stop.is_set():
                    raise UserError("stopped, since another file failed")
            if size and got != size:
                raise http.client.IncompleteRead(b"", size - got)
