"""Writing .npz files whose digest tells whether the arrays are the same."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

UNIX = 3  # the system that a zip says it was made on


def write_npz(path: Path, arrays: Mapping[str, ArrayLike]) -> None:
    """Write `arrays` as numpy.savez_compressed does, into bytes that depend on the arrays and on zlib alone.

    DVC compares files by their digests, and those of NumPy's own files differ between versions of Python: each array is
    written with the header of a file above 2 GB, which not all versions mark in the same way. Here only such a file has it.
    Raises ValueError for an array of objects.
    """
    with zipfile.ZipFile(path, "w") as archive:
        for name, values in arrays.items():
            array = np.asanyarray(values)
            entry = zipfile.ZipInfo(f"{name}.npy")  # of 1980-01-01, the first day that a zip can name
            entry.compress_type, entry.create_system, entry.file_size = zipfile.ZIP_DEFLATED, UNIX, array.nbytes
            with archive.open(entry, "w") as opened:
                np.lib.format.write_array(opened, array, allow_pickle=False)
