"""Pickles are hostile until proven otherwise: what Python 2 wrote is read, and nothing that a pickle says is run."""

import io
import pickle
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from text2image import pickles
from text2image.errors import UserError


def python2(mapping: dict) -> bytes:
    """Protocol 0 with byte strings, as cPickle of Python 2 wrote a dict."""
    def atom(value) -> bytes:
        return b"I%d\n" % value if isinstance(value, int) else b"S" + repr(value.encode("latin-1"))[1:].encode("latin-1") + b"\n"

    return b"(dp0\n" + b"".join(atom(k) + atom(v) + b"s" for k, v in mapping.items()) + b"."


def python2_array(array: np.ndarray) -> bytes:
    """Protocol 2 with byte strings, as NumPy under Python 2 wrote an array of numbers."""
    kind = array.dtype.str[1:].encode()
    raw = array.tobytes()
    return (b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01("
            + b"".join(b"K" + bytes([n]) for n in array.shape) + b"tcnumpy\ndtype\nU\x02" + kind + b"K\x00K\x01\x87R(K\x03U\x01<NNN"
            b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T" + struct.pack("<I", len(raw)) + raw + b"tb.")


def load(content: bytes):
    return pickles.load(io.BytesIO(content))


def test_mappings_of_python_2(tmp_path):
    words = {"UNK": 1, "a": 2, "caf\xe9": 3, "it's": 4}
    (tmp_path / "dictionary.pkl").write_bytes(python2(words))
    assert pickles.read_mapping(tmp_path / "dictionary.pkl", str, "words and their ids") == words
    rows = {row: row // 5 for row in range(300)}
    (tmp_path / "train-cap2im.pkl").write_bytes(python2(rows))
    assert pickles.read_mapping(tmp_path / "train-cap2im.pkl", int, "captions and their images") == rows


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_what_python_3_writes(protocol):
    value = {"a": 1, "b": [2.5, None, True, "text", (1, 2)], 3: {"c": -7}}
    assert load(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", [0, 2, 3, 4])
@pytest.mark.parametrize("array", [np.arange(6, dtype=np.float32).reshape(2, 3), np.arange(4), np.array(3.5), np.zeros((0, 3), np.uint8),
                                   np.asfortranarray(np.arange(6).reshape(2, 3)), np.array([True, False])])
def test_arrays_of_numpy(array, protocol):
    again = load(pickle.dumps(array, protocol))
    assert again.dtype == array.dtype
    assert np.array_equal(again, array)


def test_arrays_and_numbers_of_python_2_and_arrays_of_arrays():
    array = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
    assert np.array_equal(load(python2_array(array)), array)
    assert load(pickle.dumps(np.int64(7), 2)) == 7
    ragged = np.empty(2, object)
    ragged[:] = [np.ones((1, 3), np.float32), np.zeros(3, np.float32)]
    again = load(pickle.dumps(ragged, 2))
    assert [part.shape for part in again] == [(1, 3), (3,)]


MARK = "made-by-an-attack"


class Calls:
    """Pickles as a call of whatever it is given."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def attacks() -> dict[str, bytes]:
    import builtins
    import os
    import subprocess

    touch = f"open({MARK!r}, 'w').close()"
    array = b"cnumpy.core.multiarray\n_reconstruct\n"
    return {
        "os.system": pickle.dumps(Calls(os.system, f"touch {MARK}"), 0),
        "os.system, protocol 4": pickle.dumps(Calls(os.system, f"touch {MARK}"), 4),
        "eval": pickle.dumps(Calls(builtins.eval, touch), 2),
        "exec in a dict": pickle.dumps({"UNK": 1, "a": Calls(builtins.exec, touch)}, 2),
        "subprocess": pickle.dumps(Calls(subprocess.check_call, ["touch", MARK]), 3),
        "inst": f"(S'touch {MARK}'\nios\nsystem\n.".encode(),
        "obj": f"(cos\nsystem\nS'touch {MARK}'\no.".encode(),
        "python 2's builtins": f"c__builtin__\neval\n(S\"{touch}\"\ntR.".encode(),
        "a module by import": b"cthis\ns\n.",
        "numpy.testing's runstring": f"cnumpy.testing._private.utils\nrunstring\n(S\"{touch}\"\n(dtR.".encode(),
        "numpy.load with pickles allowed": b"cnumpy\nload\n(S'x.npy'\nS'r'\nI01\ntR.",
        "a dotted way out of an allowed name": b"\x80\x04\x8c\x05numpy\x8c\x15ndarray.__class__.mro\x93.",
        "getattr on an allowed name": b"c__builtin__\ngetattr\n(cnumpy\nndarray\nS'__subclasses__'\ntR.",
        "an array of another class": array + b"(cos\nPathLike\n(I0\ntS'b'\ntR.",
        "a new object of an allowed name": b"\x80\x02cnumpy\nndarray\n)\x81.",
        "state for an allowed name": b"cnumpy\nndarray\n}S'__call__'\nI1\nsb.",
        "attributes for an allowed name": b"\x80\x02cnumpy\nndarray\nN}U\x05_makeK\x01s\x86b.",
        "a type of many parts": b"cnumpy\ndtype\n(S'V16'\nI0\nI1\ntR.",
        "a type with fields of its own": b"cnumpy\ndtype\n(S'f4'\nI0\nI1\ntR(I3\nS'<'\nN(S'a'\nt}I4\nI4\nI0\ntb.",
        "a codec of its own": b"c_codecs\nencode\n(S'x'\nS'zlib_codec'\ntR.",
        "an array larger than its content": array + b"(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I999999999\ntcnumpy\ndtype\n(S'f8'\nI0\nI1\n"
                                            b"tR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\nS'x'\ntb.",
        "objects hidden in an array": python_object_array(pickle.dumps(Calls(os.system, f"touch {MARK}"), 2)),
        "a persistent id": b"Pos.system\n.",
        "an extension code": b"\x80\x02\x82\x01.",
        "a list that holds itself": b"(lp0\ng0\na.",
        "a long that asks for memory": b"\x80\x02\x8b\xff\xff\xff\x7f.",
        "a set": pickle.dumps({1, 2}, 4),
        "bytes that are no pickle": b"<html><body>404</body></html>",
        "nothing": b"",
    }


def python_object_array(inner: bytes) -> bytes:
    holder = pickle.dumps(np.array([None], object), 2)
    at = holder.rindex(b"N")
    return holder[:at] + inner[2:-1] + holder[at + 1:]


@pytest.mark.parametrize("name", attacks())
def test_an_attack_does_nothing(name, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    modules = set(sys.modules)
    with pytest.raises(pickle.UnpicklingError):
        load(attacks()[name])
    (tmp_path / "dictionary.pkl").write_bytes(attacks()[name])
    with pytest.raises(UserError, match=r"dictionary\.pkl: not a pickle of words and their ids: .*; fetch it again"):
        pickles.read_mapping(tmp_path / "dictionary.pkl", str, "words and their ids")
    assert not Path(MARK).exists()
    assert "this" not in set(sys.modules) - modules
    assert capfd.readouterr() == ("", "")
    assert load(pickle.dumps(np.arange(3), 2)).tolist() == [0, 1, 2], "what is allowed still works"


def test_a_pickle_cut_anywhere_is_refused():
    whole = python2({f"word{n}": n for n in range(40)})
    for size in range(len(whole)):
        with pytest.raises(pickle.UnpicklingError):
            load(whole[:size])
    array = python2_array(np.arange(12, dtype=np.float32).reshape(3, 4))
    for size in range(len(array)):
        with pytest.raises(pickle.UnpicklingError):
            load(array[:size])


@pytest.mark.parametrize(("content", "words"), [
    ([1, 2], "holds a list"), ({}, "holds a dict, not"), ({"a": "b"}, "holds 'a': 'b'"), ({"a": True}, "holds 'a': True"),
    ({1: 2}, "holds 1: 2"), ({"a": 1.5}, "holds 'a': 1.5"), (7, "holds a int")])
def test_a_pickle_of_something_else_is_named(tmp_path, content, words):
    (tmp_path / "dictionary.pkl").write_bytes(pickle.dumps(content, 2))
    with pytest.raises(UserError) as error:
        pickles.read_mapping(tmp_path / "dictionary.pkl", str, "words and their ids")
    assert words in str(error.value)


def test_integers_of_numpy_become_pythons(tmp_path):
    (tmp_path / "train-cap2im.pkl").write_bytes(pickle.dumps({np.int64(3): np.int32(1)}, 2))
    found = pickles.read_mapping(tmp_path / "train-cap2im.pkl", int, "captions and their images")
    assert found == {3: 1}
    assert type(next(iter(found))) is int
