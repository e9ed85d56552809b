"""The folders that stages write, and which folders are none of theirs.

DVC deletes the outputs of a stage before it runs it. Those of `fetch` are `persist: true` in dvc.yaml, so that a dataset's own
`folder` which lies among them is still whole when `fetch` refuses it.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.utils.serialize import load_yaml

from text2image.errors import UserError

# What stages, `make site`, DVC or Git write in this repository.
WRITTEN = ("data/fetched", "data/prepared", "data/samples", "data/sharpened", "models", "samples", "sharpened", "nearest",
           "drawn", "plots", "metrics", "results", "report", "docs/results.md", "site", "dvc_plots", "dvc-remote",
           ".dvc-scratch", ".dvc", ".git")


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A folder to write into, which takes the name `path` only when all went well, and the place of what was there."""
    partial = path.with_name(f".{path.name}.text2image.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    shutil.rmtree(path, ignore_errors=True)
    partial.replace(path)


def require_recorded(folder: Path) -> None:
    """Raise UserError where a folder is not what the .dvc file beside it records; without such a file nothing is checked.

    Every byte is read: DVC itself believes what it noted of a file before, and its cache.
    """
    record = folder.with_name(f"{folder.name}.dvc") if folder.name else folder
    if not record.is_file() or not folder.is_dir():
        return
    try:
        recorded = load_yaml(str(record))["outs"][0]["md5"]
    except (DvcException, KeyError, IndexError, TypeError) as error:
        raise UserError(f"{record}: not readable ({error}); `git checkout {record}` brings it back") from error
    names = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    listed = [{"md5": _md5(folder / name), "relpath": name} for name in names]  # as DVC lists a folder
    found = hashlib.md5(json.dumps(listed, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"
    if found != recorded:
        raise UserError(f"{folder} is not what {record} records: a file of it was altered, added or lost. If it is not yours, "
                        f"delete {folder} and run `dvc pull {folder}`; if it comes back so, see docs/troubleshooting.md")


def _md5(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def require_elsewhere(parameters: Mapping[str, Any], state: Path) -> None:
    """Raise UserError where a dataset's `folder`, someone's own files, lies where stages write."""
    for name, block in (parameters.get("datasets") or {}).items():
        folder = (block.get("fetch") or {}).get("folder") if isinstance(block, Mapping) else None
        if not isinstance(folder, str):
            continue
        try:
            place = Path(folder).expanduser().resolve()
            hit = next((top for top in (*WRITTEN, state) if place.is_relative_to(Path(top).resolve())), None)
        except (OSError, ValueError, RuntimeError):  # no path at all: the source says so
            continue
        if hit is not None:
            raise UserError(f"parameter 'datasets.{name}.fetch.folder' is {folder}, which lies in {hit}/, where stages write "
                            "and DVC deletes: move the folder to another place, such as data/raw/ or beside this repository")
