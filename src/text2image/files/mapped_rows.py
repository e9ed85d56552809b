"""Rows of an array that stays in its file: what does not fit into memory, read as it is needed."""

import copy
import mmap
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from text2image.errors import UserError


class MappedRows:
    """An array of an HDF5 file that lies there in one piece, not packed; its rows are read by a memory map when they are asked
    for, and come as tensors on `device`.

    A run goes on with the data that it began with where the file is replaced meanwhile. Pages that were read are the system's
    to keep or to drop, and do not add up in this process.
    """

    def __init__(self, path: Path, stored: h5py.Dataset, device: torch.device | str = "cpu"):
        self.shape, self.device = tuple(stored.shape), torch.device(device)
        self._path = path
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        first = stored.id.get_offset()
        self._end = first + stored.nbytes  # bytes
        self._stored = np.frombuffer(self._map, stored.dtype, stored.size, first).reshape(stored.shape)
        self._rows: np.ndarray | None = None  # of the stored ones, where some are selected

    @staticmethod
    def can_map(stored: h5py.Dataset) -> bool:
        """Whether an array lies in its file in one piece, as this machine holds numbers."""
        elsewhere = stored.chunks is not None or stored.external or stored.is_virtual
        return not elsewhere and stored.dtype.isnative and stored.id.get_offset() is not None

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray) -> Tensor:
        """Rows by their numbers (n,), in that order: a copy of them. Raises UserError where the file has been cut."""
        if self._map.size() < self._end:  # to read beyond the end of a mapped file ends the process
            raise UserError(f"{self._path}: was cut while it was in use; run `dvc repro` to prepare the data again")
        found = torch.from_numpy(self._stored[rows if self._rows is None else self._rows[rows]])
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)
        return found.to(self.device)

    def select(self, kept: np.ndarray) -> "MappedRows":
        """The rows where `kept` (N,) is true, without reading them."""
        part, numbers = copy.copy(self), np.flatnonzero(kept)
        part._rows = numbers if self._rows is None else self._rows[numbers]
        part.shape = (len(numbers), *self.shape[1:])
        return part
