"""Work in progress: what a killed run goes on from. It lies outside every stage's outputs.

Each piece of work has a folder of its own, named after the run and a fingerprint of everything that decides its
result: parameters, code and data. Other work never finds it; a second process at the same work is turned away; and
the folder goes when the work is done.
"""

import fcntl
import hashlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from text2image.disk import whole
from text2image.errors import UserError


def fingerprint(settings: Any, files: Iterable[Path]) -> str:
    """A digest of settings (anything that JSON takes) and of the contents of files, in the order of their names."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for path in sorted(files):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


class WorkInProgress:
    """The folder `root/name-fingerprint`, held by this process alone; use it as a context.

    Of several processes at the same work one holds the folder; the others `follow`: they read, and write nothing.
    """

    def __init__(self, root: Path, name: str, digest: str, follow: bool = False):
        self.path = root / f"{name}-{digest[:12]}"
        self.follow = follow

    def __enter__(self) -> "WorkInProgress":
        if self.follow:
            return self
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = (self.path / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise UserError(f"{self.path}: another process is at this work; wait for it, or end it and run again") from None
        return self

    def __exit__(self, *_: object) -> None:
        if self.follow:
            return
        if not (self.path / "state.pt").exists():  # nothing was begun
            shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()

    def load(self) -> dict[str, Any] | None:
        """What was last saved, or None at the start of the work."""
        path = self.path / "state.pt"
        if not path.exists():
            return None
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise UserError(f"{path}: not readable ({error}); delete it to start this work from the beginning") from error

    def save(self, state: dict[str, Any]) -> None:
        """Keep `state`, whole or not at all."""
        if self.follow:
            return
        with whole(self.path / "state.pt") as partial, partial.open("wb") as file:
            torch.save(state, file)

    def finish(self) -> None:
        """The work is done and its results are safe: forget it."""
        if self.follow:
            return
        shutil.rmtree(self.path)
