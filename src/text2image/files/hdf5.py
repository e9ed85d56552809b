"""Reading HDF5 files, and arrays of other kinds, that come from elsewhere."""

import csv
import itertools
import math
import zipfile
import zlib

import h5py
import numpy as np

# What NumPy, HDF5, zip and csv raise at a file that is not what it should be.
UNREADABLE = (OSError, EOFError, KeyError, ValueError, TypeError, RuntimeError, zlib.error, zipfile.BadZipFile, csv.Error)

LARGEST_CHUNK = 1 << 26  # bytes, unpacked; h5py makes chunks of at most a million
MOST_CHUNKS = 1 << 16    # reading takes time and memory for each, whether it is there or not
LEAST_CHUNK = 1 << 12    # bytes that any chunk may take, packed
CHECKSUM = 4             # bytes
FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}


def own_array(h5: h5py.File, name: str) -> h5py.Dataset | None:
    """The array of a name, where the file itself holds it: a link, or data that is said to lie elsewhere, may be any file's."""
    if not isinstance(h5.get(name, getlink=True), h5py.HardLink):
        return None
    found = h5[name]
    return found if isinstance(found, h5py.Dataset) and not found.external and not found.is_virtual else None


def read_numbers(array: h5py.Dataset, kinds: str, largest: int) -> np.ndarray:
    """All of an array of numbers, of NumPy's `kinds` and of at most `largest` bytes: both are looked at before a byte is read.

    HDF5 itself would follow what a file says: strings of any length, chunks larger than the array, millions of them, and
    compressed ones that unpack to a thousand times what they should hold. Raises ValueError for what no plain array has.
    """
    if array.dtype.kind not in kinds or array.dtype.itemsize > 8:
        raise ValueError(f"'{array.name[1:]}' holds {array.dtype}, not numbers")
    if array.nbytes > largest:
        raise ValueError(f"'{array.name[1:]}' has {array.nbytes:,} bytes, more than {largest:,}")
    if array.chunks is not None:
        _check_chunks(array)
    return array[()]


def _check_chunks(array: h5py.Dataset) -> None:
    """Raise ValueError unless every chunk is of the size that the array's shape gives it."""
    layout, name = array.id.get_create_plist(), array.name[1:]
    filters = [layout.get_filter(i)[0] for i in range(layout.get_nfilters())]
    if not set(filters) <= FILTERS or len(set(filters)) < len(filters):
        raise ValueError(f"'{name}' is packed in a way that is not read here (filters {filters})")
    size = math.prod(array.chunks) * array.dtype.itemsize
    starts = [range(0, length, chunk) for length, chunk in zip(array.shape, array.chunks, strict=True)]
    if size > LARGEST_CHUNK or math.prod(map(len, starts)) > MOST_CHUNKS:
        raise ValueError(f"'{name}' lies in {math.prod(map(len, starts)):,} chunks of {size:,} bytes")
    for start in itertools.product(*starts):
        chunk = array.id.get_chunk_info_by_coord(start)
        if chunk.byte_offset is None:  # it was never written, and holds the fill value
            continue
        if chunk.size > 2 * size + LEAST_CHUNK:
            raise ValueError(f"'{name}' has a chunk of {chunk.size:,} bytes, which should hold {size:,}")
        without, packed = array.id.read_direct_chunk(start)
        for place, each in reversed(list(enumerate(filters))):
            if each == h5py.h5z.FILTER_DEFLATE and not without >> place & 1:
                inflate = zlib.decompressobj()
                if len(inflate.decompress(packed, size + CHECKSUM + 1)) > size + CHECKSUM:
                    raise ValueError(f"'{name}' has a chunk that unpacks to more than the {size:,} bytes that it should hold")
            elif each == h5py.h5z.FILTER_FLETCHER32 and not without >> place & 1:
                packed = packed[:-CHECKSUM]
