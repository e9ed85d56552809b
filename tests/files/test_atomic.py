"""Files whole or not at all, and room for them."""

import errno
import os
import stat
from pathlib import Path

import pytest

from text2image.errors import UserError
from text2image.files import atomic


def test_a_file_takes_its_name_when_all_went_well(tmp_path):
    path = tmp_path / "folder/file.txt"
    with atomic.atomic_write(path) as partial:
        partial.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    with pytest.raises(ValueError, match="half-way"), atomic.atomic_write(path) as partial:
        partial.write_text("half")
        raise ValueError("half-way")
    assert path.read_text() == "new"
    assert [file.name for file in path.parent.iterdir()] == ["file.txt"], "nothing is half-written"


def test_a_file_is_on_the_disk_before_it_takes_its_name_and_the_name_after(tmp_path, monkeypatch):
    said, replace, sync = [], Path.replace, os.fsync

    def watched_replace(path, target):
        said.append(f"{path.name} becomes {target.name}")
        return replace(path, target)

    def watched_sync(descriptor):
        said.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else f"{os.fstat(descriptor).st_size} bytes")
        sync(descriptor)

    monkeypatch.setattr(Path, "replace", watched_replace)
    monkeypatch.setattr(os, "fsync", watched_sync)
    with atomic.atomic_write(tmp_path / "file.txt") as partial:
        partial.write_text("seven..")
    assert said == ["7 bytes", "file.partial.txt becomes file.txt", "folder"]


def test_a_file_system_that_does_not_sync_folders(tmp_path, monkeypatch):
    sync = os.fsync

    def files_alone(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", files_alone)
    with atomic.atomic_write(tmp_path / "file.txt") as partial:
        partial.write_text("whole")
    assert (tmp_path / "file.txt").read_text() == "whole"


def test_room(tmp_path):
    atomic.require_room(tmp_path, 1)
    with pytest.raises(UserError, match=r"the disk is full: .* needs 1,000,000,000,000,000,000 bytes"):
        atomic.require_room(tmp_path, 10**18)


def test_a_full_disk_in_any_librarys_words():
    assert atomic.is_full(OSError(errno.ENOSPC, "No space left on device"))
    wrapped = RuntimeError("cannot write")
    wrapped.__cause__ = RuntimeError("write failed: No space left on device")
    assert atomic.is_full(wrapped)
    assert not atomic.is_full(OSError(errno.EACCES, "Permission denied"))
    assert not atomic.is_full(None)
