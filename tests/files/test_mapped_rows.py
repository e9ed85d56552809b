"""Rows of an array that stays in its file."""

import h5py
import numpy as np
import pytest
import torch

from text2image.errors import UserError
from text2image.files.mapped_rows import MappedRows

ARRAY = np.random.default_rng(0).integers(0, 256, (23, 3, 5), np.uint8)


@pytest.fixture
def mapped(tmp_path):
    path = tmp_path / "file.h5"
    with h5py.File(path, "w") as h5:
        h5["before"] = np.arange(7)
        h5["array"] = ARRAY
        rows = MappedRows(path, h5["array"])
        h5.flush()
    return rows


def test_rows_come_in_the_order_asked_for_and_are_a_copy(mapped):
    wanted = np.array([4, 0, 22, 4])
    rows = mapped[wanted]
    assert rows.dtype == torch.uint8
    assert torch.equal(rows, torch.from_numpy(ARRAY[wanted]))
    rows.zero_()
    assert torch.equal(mapped[wanted], torch.from_numpy(ARRAY[wanted])), "the file is as it was"
    assert (len(mapped), mapped.shape) == (23, (23, 3, 5))


def test_rows_of_rows(mapped):
    odd = mapped.select(np.arange(23) % 2 == 1)
    assert odd.shape == (11, 3, 5)
    assert torch.equal(odd[np.arange(11)], torch.from_numpy(ARRAY[1::2]))
    some = odd.select(np.arange(11) > 8)
    assert torch.equal(some[np.array([1, 0])], torch.from_numpy(ARRAY[[21, 19]]))
    assert len(mapped) == 23


def test_what_lies_in_one_piece_alone_is_mapped(tmp_path):
    with h5py.File(tmp_path / "file.h5", "w") as h5:
        h5["plain"] = ARRAY
        h5.create_dataset("packed", data=ARRAY, compression="gzip")
        h5.create_dataset("chunks", data=ARRAY, chunks=(2, 3, 5))
        h5.create_dataset("other order", data=ARRAY.astype(">i4" if np.little_endian else "<i4"))
        h5.create_dataset("elsewhere", (23, 3, 5), np.uint8, external=[(str(tmp_path / "other"), 0, ARRAY.nbytes)])
        h5.create_dataset("nothing written", (23, 3, 5), np.uint8)
        assert [name for name in h5 if MappedRows.can_map(h5[name])] == ["plain"]


def test_a_file_that_is_replaced_stays_what_it_was_and_one_that_is_cut_is_said(mapped, tmp_path):
    wanted, path = np.arange(23), tmp_path / "file.h5"
    (tmp_path / "new.h5").write_bytes(path.read_bytes()[:100])
    path.rename(tmp_path / "old.h5")
    (tmp_path / "new.h5").rename(path)
    assert torch.equal(mapped[wanted], torch.from_numpy(ARRAY))
    with (tmp_path / "old.h5").open("r+b") as file:
        file.truncate(100)
    with pytest.raises(UserError, match=r"file\.h5: was cut while it was in use; run `dvc repro` to prepare the data again"):
        mapped[wanted]
