"""Files of arrays whose bytes depend on the arrays alone."""

import copy
import os
import time
import zipfile

import numpy as np
import pytest

from text2image.files.npz import write_npz

ARRAYS = {"images": np.arange(1000, dtype=np.uint8).reshape(10, 10, 10), "captions": np.array(["a digit .", "häuser"]),
          "seed": 3, "columns": np.asfortranarray(np.eye(3, dtype=np.float32)), "none": np.zeros((0, 4))}


def test_numpy_reads_what_was_written(tmp_path):
    write_npz(tmp_path / "a.npz", ARRAYS)
    with np.load(tmp_path / "a.npz") as file:
        assert file.files == list(ARRAYS)
        for name, array in ARRAYS.items():
            assert np.array_equal(file[name], array) and file[name].dtype == np.asarray(array).dtype


def test_bytes_depend_on_the_arrays_alone(tmp_path, monkeypatch):
    write_npz(tmp_path / "a.npz", ARRAYS)
    monkeypatch.setattr(time, "time", lambda: 2e9)
    mask = os.umask(0o077)
    try:
        write_npz(tmp_path / "other name.npz", {name: copy.copy(array) for name, array in ARRAYS.items()})
    finally:
        os.umask(mask)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "other name.npz").read_bytes()


def test_nothing_in_the_file_is_left_to_the_version_of_python(tmp_path):
    write_npz(tmp_path / "a.npz", ARRAYS)
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        for entry in archive.infolist():
            assert (entry.create_version, entry.extract_version, entry.create_system) == (20, 20, 3)
            assert entry.date_time == (1980, 1, 1, 0, 0, 0) and entry.extra == b""
            archive.fp.seek(entry.header_offset)  # what the archive's list says, the entry's own header says too
            assert archive.fp.read(6) == b"PK\x03\x04\x14\x00"


def test_objects_are_refused(tmp_path):
    with pytest.raises(ValueError, match="allow_pickle"):
        write_npz(tmp_path / "a.npz", {"objects": np.array([{}])})
