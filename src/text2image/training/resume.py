"""Resuming: what a killed run goes on from. It lies outside every stage's outputs.

Each run has a folder of its own, named after the run and a fingerprint of everything that decides its result:
parameters, code and data. Another run never finds it; a second process at the same run is turned away; and the folder
goes when the run is done.

    state.pt         what training goes on from
    state.pt.sha256  digests that state.pt may have: of what was saved last and, should a kill have come between the two
                     files, of what was saved before
"""

import hashlib
import json
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch

from text2image.errors import UserError
from text2image.files.atomic import atomic_write
from text2image.files.lock import Lock


def fingerprint(settings: Any, files: Iterable[Path]) -> str:
    """A digest of settings (anything that JSON takes) and of the contents of files, in the order of their names."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for path in sorted(files):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class ResumableState:
    """The folder `root/name-fingerprint`, held by this process alone; use it as a context.

    Of several processes at one run the first holds the folder; the others are `read_only`: they write nothing.
    """

    def __init__(self, root: Path, name: str, digest: str, read_only: bool = False):
        self.path = root / f"{name}-{digest[:12]}"
        self.read_only = read_only
        self.earlier_seconds = 0.0  # of the processes that the loaded state comes from, as far as it was saved
        self._begun = time.monotonic()
        self._saved: str | None = None  # the digest of the state that is there, as it was when it was saved or loaded

    def __enter__(self) -> "ResumableState":
        if self.read_only:
            return self
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = Lock(self.path / "lock", f"{self.path}: another process is at this run; wait for it, or end it and run "
                                              "again")
        return self

    def __exit__(self, *_: object) -> None:
        if self.read_only:
            return
        if not self._state.exists():  # nothing was begun
            shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()

    @property
    def _state(self) -> Path:
        return self.path / "state.pt"

    @property
    def _digests(self) -> Path:
        return self.path / "state.pt.sha256"

    def load(self) -> dict[str, Any] | None:
        """What was saved last, or None at the start of the run. Raises UserError where it is not as it was saved."""
        if not self._state.exists():
            return None
        found = _sha256(self._state)
        if found not in self._known():
            raise self._damaged("its SHA-256 is not the one that it was saved with")
        try:
            state = torch.load(self._state, map_location="cpu", weights_only=True)
        except Exception as error:
            raise self._damaged(shorten(str(error), 200)) from error
        self._saved = found
        self.earlier_seconds = state.pop("seconds", 0.0)
        return state

    def save(self, state: dict[str, Any]) -> None:
        """Keep `state`, by an atomic write, with its digest beside it."""
        if self.read_only:
            return
        with atomic_write(self._state) as partial:
            with partial.open("wb") as file:
                torch.save(state | {"seconds": self.earlier_seconds + time.monotonic() - self._begun}, file)
            digest = _sha256(partial)
            with atomic_write(self._digests) as digests:
                digests.write_text("".join(f"{known}\n" for known in (digest, self._saved) if known), encoding="ascii")
        self._saved = digest

    def _known(self) -> list[str]:
        """The digests that the state may have."""
        try:
            return self._digests.read_text(encoding="ascii").split()
        except (OSError, ValueError) as error:
            raise self._damaged(f"{self._digests.name} beside it is not readable") from error

    def _damaged(self, why: str) -> UserError:
        return UserError(f"{self._state}: damaged ({why}); delete the folder {self.path} to start this run from the beginning")

    def discard(self) -> None:
        """Delete the folder: the run is done and its results are safe."""
        if self.read_only:
            return
        shutil.rmtree(self.path)
