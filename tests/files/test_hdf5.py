"""Arrays that an HDF5 file holds itself, and those that it does not."""

import zlib

import h5py
import numpy as np
import pytest

from text2image.files import hdf5
from text2image.files.hdf5 import own_array, read_numbers


def test_only_what_the_file_itself_holds(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(24))
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["theirs"] = np.arange(3)
    with h5py.File(tmp_path / "file.h5", "w") as h5:
        h5["ours"] = np.arange(7)
        h5.create_group("group")
        h5["soft"], h5["external"] = h5py.SoftLink("/ours"), h5py.ExternalLink("other.h5", "theirs")
        h5.create_dataset("elsewhere", (3,), "f8", external=[(str(tmp_path / "secret"), 0, 24)])
        layout = h5py.VirtualLayout((3,), "i8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "theirs", (3,))
        h5.create_virtual_dataset("virtual", layout)
    with h5py.File(tmp_path / "file.h5") as h5:
        assert own_array(h5, "ours")[()].tolist() == list(range(7))
        for name in ("group", "soft", "external", "elsewhere", "virtual", "absent"):
            assert own_array(h5, name) is None, name


VALUES = np.arange(35, dtype=np.float32).reshape(5, 7)


@pytest.mark.parametrize("options", [
    {}, {"chunks": (2, 3)}, {"chunks": (5, 7), "compression": "gzip"}, {"chunks": (2, 3), "compression": "gzip", "shuffle": True, "fletcher32": True},
    {"chunks": (1, 1), "fletcher32": True}, {"chunks": (8, 9), "maxshape": (None, None), "compression": 9}])
def test_plain_arrays_are_read_whole(tmp_path, options):
    with h5py.File(tmp_path / "file.h5", "w") as h5:
        h5.create_dataset("x", data=VALUES, **options)
        h5.create_dataset("noise", data=np.random.default_rng(0).bytes(4000), dtype="S4000")
        h5.create_dataset("random", data=np.random.default_rng(0).normal(size=(50, 9)), **options)
        h5.create_dataset("unwritten", (5, 7), "f4", **options)
    with h5py.File(tmp_path / "file.h5") as h5:
        assert np.array_equal(read_numbers(h5["x"], "f", 1000), VALUES)
        assert read_numbers(h5["random"], "f", 3600).shape == (50, 9)
        assert np.array_equal(read_numbers(h5["unwritten"], "fiu", 1000), np.zeros((5, 7)))


def bomb(size: int) -> bytes:
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(size >> 20)) + packer.flush()


def write_all(path) -> None:
    with h5py.File(path, "w") as h5:
        h5["text"] = np.array(["a", "b"], h5py.string_dtype())
        h5["bytes"], h5["complex"], h5["compound"] = np.array([b"ab"]), np.ones(3, complex), np.zeros(2, [("a", "f4"), ("b", "i4")])
        h5["long"] = np.ones(3, np.longdouble)
        h5.create_dataset("ragged", (3,), h5py.vlen_dtype(np.float32))
        h5.create_dataset("large", (1 << 40,), "f4", chunks=(1 << 20,))
        h5.create_dataset("scattered", (50_000, 784), "u1", chunks=(1, 1))  # HDF5 takes minutes, and gigabytes
        h5.create_dataset("wide", (10,), "f8", maxshape=(None,), chunks=(1 << 24,), compression="gzip")
        h5.create_dataset("lzf", (10,), "f4", chunks=(10,), compression="lzf")
        h5.create_dataset("bits", (10,), "i4", chunks=(10,), scaleoffset=2)
        packed = h5.create_dataset("bomb", (256,), "f4", chunks=(256,), compression="gzip")
        packed.id.write_direct_chunk((0,), bomb(1 << 21))  # a kilobyte, which HDF5 makes 2 MB of
        packed = h5.create_dataset("bomb and checksum", (256,), "f4", chunks=(256,), compression="gzip", fletcher32=True)
        packed.id.write_direct_chunk((0,), bomb(1 << 20) + bytes(4))
        packed = h5.create_dataset("fat", (10,), "f4", chunks=(10,), compression="gzip")
        packed.id.write_direct_chunk((0,), bytes(10_000))
        packed = h5.create_dataset("damaged", (10,), "f4", chunks=(10,), compression="gzip")
        packed.id.write_direct_chunk((0,), b"no such thing")


@pytest.mark.parametrize(("name", "words"), [
    ("text", "holds object, not numbers"), ("bytes", "holds |S2, not"), ("complex", "holds complex128, not"), ("compound", "not numbers"),
    pytest.param("long", "holds float128, not", marks=pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="no such type")), ("ragged", "holds object, not numbers"), ("large", "has 4,398,046,511,104 bytes, more than 100,000,000"),
    ("scattered", "lies in 39,200,000 chunks of 1 bytes"), ("wide", "lies in 1 chunks of 134,217,728 bytes"), ("lzf", "packed in a way"),
    ("bits", "packed in a way"), ("bomb", "a chunk that unpacks to more than the 1,024 bytes"), ("bomb and checksum", "a chunk that unpacks to more"),
    ("fat", "has a chunk of 10,000 bytes, which should hold 40")])
def test_what_no_plain_array_has_is_refused_before_it_is_read(tmp_path, name, words, monkeypatch):
    write_all(tmp_path / "file.h5")
    with h5py.File(tmp_path / "file.h5") as h5:
        monkeypatch.setattr(h5py.Dataset, "__getitem__", lambda *_: pytest.fail("read"))
        with pytest.raises(ValueError) as error:
            read_numbers(h5[name], "fiu", 100_000_000)
    assert words in str(error.value)


def test_a_damaged_chunk_is_an_error_of_the_kind_that_callers_expect(tmp_path):
    write_all(tmp_path / "file.h5")
    with h5py.File(tmp_path / "file.h5") as h5, pytest.raises(hdf5.UNREADABLE):
        read_numbers(h5["damaged"], "fiu", 100)
