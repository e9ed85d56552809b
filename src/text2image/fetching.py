"""Files from the dataset hosts, or from a mirror of them: checked before they take their names.

The environment variable TEXT2IMAGE_MIRROR (a directory or a base URL) stands in for every host. A file that has
come whole is kept in `keep` until all have, so that a fetch which fails goes on where it stopped.
"""

import http.client
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

from tqdm import tqdm

from text2image.disk import is_full, require_room
from text2image.errors import UserError

MIRROR = "TEXT2IMAGE_MIRROR"
ATTEMPTS = 3
FIRST_PAUSE_SECONDS = 1.0  # doubled at each attempt
TIMEOUT_SECONDS = 30
BLOCK = 1 << 20
USER_AGENT = "text2image/0.1"


def bases(urls: Sequence[str]) -> list[str]:
    """Where to look, in order: the mirror alone where one is named."""
    mirror = os.environ.get(MIRROR)
    found = [mirror] if mirror else list(urls)
    if not found:
        raise UserError("the list of base URLs is empty: name at least one in params.yaml")
    return found


def fetch(name: str, urls: Sequence[str], keep: Path, check: Callable[[Path], object]) -> Path:
    """The file `name` (a path below each base), whole and checked, in `keep`.

    Bases are tried in turn, passing faults of each a few times. Raises UserError, which says what went wrong at
    each base, when none gives a file that `check` accepts.
    """
    target = keep / Path(name).name
    if target.exists():
        return target
    partial = target.with_name(target.name + ".partial")
    failures = []
    for base in bases(urls):
        try:
            _copy(base, name, partial)
            # The checks speak of a file by its name.
            staged = partial.with_name("checking") / target.name
            staged.parent.mkdir(exist_ok=True)
            partial.replace(staged)
            check(staged)
            staged.replace(target)
            return target
        except UserError as error:
            failures.append(f"{base}: {error}")
    raise UserError(f"cannot fetch {name}: {'; '.join(failures)}. Put the file below a directory and name that in {MIRROR}, "
                    "or add a base URL to params.yaml")


def _copy(base: str, name: str, partial: Path) -> None:
    if "://" not in base:
        source = Path(base) / name
        try:
            require_room(partial.parent, source.stat().st_size)
            shutil.copyfile(source, partial)
        except OSError as error:
            if is_full(error):
                raise
            raise UserError(f"cannot read {name} in this directory ({error.strerror})") from error
        return
    url = f"{base.rstrip('/')}/{name}"
    for attempt in range(ATTEMPTS):
        try:
            _download(url, partial)
            return
        except urllib.error.HTTPError as error:
            why, passing = f"HTTP {error.code} {error.reason}", error.code in (408, 429) or error.code >= 500
        except (OSError, http.client.HTTPException) as error:
            if is_full(error):
                raise
            why, passing = f"unreachable ({getattr(error, 'reason', None) or error})", True
        except ValueError as error:
            why, passing = f"not a URL to fetch from, or no sense in its answer ({error})", False
        if not passing or attempt + 1 == ATTEMPTS:
            raise UserError(why)
        time.sleep(FIRST_PAUSE_SECONDS * 2**attempt)


def _download(url: str, partial: Path) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": USER_AGENT})
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
        size = int(response.headers.get("Content-Length") or 0)
        require_room(partial.parent, size)
        bar = tqdm(total=size or None, unit="B", unit_scale=True, desc=Path(url).name, disable=None)
        with partial.open("wb") as file, bar:
            while block := response.read(BLOCK):
                file.write(block)
                bar.update(len(block))
            if size and file.tell() != size:
                raise http.client.IncompleteRead(b"", size - file.tell())
