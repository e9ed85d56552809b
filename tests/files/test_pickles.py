"""Pickles are hostile until proven otherwise: what Python 2 wrote is read, and nothing that a pickle says is run."""

import io
import itertools
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

from text2image.errors import UserError
from text2image.files import pickles


def python2(mapping: dict) -> bytes:
    """Protocol 0 with byte strings, as cPickle of Python 2 wrote a dict."""
    def atom(value) -> bytes:
        return b"I%d\n" % value if isinstance(value, int) else b"S" + repr(value.encode("latin-1"))[1:].encode("latin-1") + b"\n"

    return b"(dp0\n" + b"".join(atom(k) + atom(v) + b"s" for k, v in mapping.items()) + b"."


WORDS = "words and their ids"


def read(folder: Path, content: bytes, keys: type = str) -> dict:
    (folder / "dictionary.pkl").write_bytes(content)
    return pickles.read_mapping(folder / "dictionary.pkl", keys, WORDS)


def refused(folder: Path, content: bytes, keys: type = str) -> str:
    """Why a file is refused, in one line of bounded length, by the machine itself and not by what it stumbled over."""
    with pytest.raises(UserError) as error:
        read(folder, content, keys)
    said = str(error.value)
    begins, ends = f"dictionary.pkl: not a pickle of {WORDS}: ", "; fetch it again, from another base URL"
    assert said.startswith(begins)
    assert said.endswith(ends)
    assert said.isprintable()
    assert len(said) < 400
    return said.removeprefix(begins).removesuffix(ends)


def test_mappings_of_python_2(tmp_path):
    words = {"UNK": 1, "a": 2, "caf\xe9": 3, "it's": 4}
    (tmp_path / "dictionary.pkl").write_bytes(python2(words))
    assert pickles.read_mapping(tmp_path / "dictionary.pkl", str, "words and their ids") == words
    rows = {row: row // 5 for row in range(300)}
    (tmp_path / "train-cap2im.pkl").write_bytes(python2(rows))
    assert pickles.read_mapping(tmp_path / "train-cap2im.pkl", int, "captions and their images") == rows


PROTOCOLS = pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))


@PROTOCOLS
@pytest.mark.parametrize("mapping", [
    {"UNK": 1, "a": 2, "caf\xe9": 3, "it's": 4, "\u65e5\u672c": 5, "\U0001f600": 6, "back\\slash": 7, "line\nend": 8, "": 9, "\x00": 10},
    {"a": 0, "b": -1, "c": 255, "d": 256, "e": 65536, "f": 2**31, "g": -2**31, "h": 2**63 - 1, "i": 2**64 - 1, "j": -2**63},
    {f"word{n}": n for n in range(3000)}, {str(n): n for n in range(1000)},  # a thousand pairs: an empty batch ends them
    {0: 0}, {row: row // 5 for row in range(70_000)}, {-1: 2**40}], ids=lambda mapping: f"{len(mapping)}")
def test_what_python_3_writes(tmp_path, protocol, mapping):
    assert read(tmp_path, pickle.dumps(mapping, protocol), type(next(iter(mapping)))) == mapping
    slow = io.BytesIO()  # written in Python, not in C: other places of the memo
    pickle._Pickler(slow, protocol).dump(mapping)  # type: ignore[attr-defined]
    assert read(tmp_path, slow.getvalue(), type(next(iter(mapping)))) == mapping


@PROTOCOLS
def test_bytes_are_the_strings_of_python_2(tmp_path, protocol):
    mapping = {b"UNK": 1, "caf\xe9".encode(): 2, b"caf\xe9": 3, b"": 4, b"<": 5, b"latin1": 6}
    assert read(tmp_path, pickle.dumps(mapping, protocol)) == {key.decode("latin-1"): value for key, value in mapping.items()}
    assert refused(tmp_path, pickle.dumps({b"a": 1, "a": 2}, protocol)) == "it holds 'a' twice"


@PROTOCOLS
@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64])
def test_integers_of_numpy_become_pythons(tmp_path, protocol, kind):
    ends = np.iinfo(kind)
    numbers = [int(n) for n in np.linspace(int(ends.min), int(ends.max), 200, dtype=np.float64).clip(ends.min, ends.max // 2)]
    mapping = {kind(n): kind(n) for n in dict.fromkeys([*numbers, ends.min, ends.max])}
    found = read(tmp_path, pickle.dumps(mapping, protocol), int)
    assert found == {int(key): int(value) for key, value in mapping.items()}
    assert {type(n) for pair in found.items() for n in pair} == {int}
    words = {f"{'<' if n % 7 else 'i8'}{n}": kind(n % 100) for n in range(9000)} | {"<": kind(1), "i8": kind(2), kind.__name__: kind(3)}
    assert read(tmp_path, pickle.dumps(words, protocol)) == words
    assert read(tmp_path, pickle.dumps({"<": 1, "u1": 2, "i8": 3, "latin1": kind(4), "|": kind(5)}, protocol))["latin1"] == 4


@pytest.mark.parametrize("content", [
    # cPickle and pickle of Python 2: protocol 0 with str, unicode, int, long and a bool's look-alikes
    b"(dp1\nS'UNK'\np2\nI1\nsS\"it's\"\np3\nL2L\nsVcaf\\u00e9\np4\nI-3\nsVna\xefve\np5\nI1234567890123\nsS'caf\\xc3\\xa9'\np6\nI7\ns.",
    b"(dS'UNK'\nI1\nsS\"it's\"\nL2L\nsVcaf\xe9\nI-3\nsVna\xefve\nI1234567890123\ns.",                    # cPickle, fast
    b"(S'UNK'\nI1\nS\"it's\"\nI2\nVcaf\xe9\nI-3\nVna\xefve\nI1234567890123\nd.",                          # as a list of pairs
    b"}q\x01(U\x03UNKq\x02K\x01U\x04it'sq\x03L2L\nX\x05\x00\x00\x00caf\xc3\xa9q\x04J\xfd\xff\xff\xff"              # protocol 1
    b"T\x06\x00\x00\x00na\xefver\x05\x01\x00\x00I1234567890123\nu.".replace(b"T\x06", b"T\x05"),
    b"\x80\x02}q\x01(U\x03UNKq\x02K\x01U\x04it'sq\x03\x8a\x01\x02X\x05\x00\x00\x00caf\xc3\xa9q\x04\x8a\x01\xfd"           # protocol 2
    b"X\x06\x00\x00\x00na\xc3\xafveq\x05\x8a\x06\xcb\x04\xfb\x71\x1f\x01u."])
def test_what_python_2_writes(tmp_path, content):
    found = read(tmp_path, content)
    assert {key: value for key, value in found.items() if value != 7} == {"UNK": 1, "it's": 2, "caf\xe9": -3, "na\xefve": 1234567890123}


NUMPY_2 = b"cnumpy.core.multiarray\nscalar\np%d\n(cnumpy\ndtype\np%d\n(S'i8'\np%d\nI0\nI1\ntRp%d\n(I3\nS'<'\np%d\nNNNI-1\nI-1\nI0\ntb"


def test_integers_of_numpy_under_python_2(tmp_path):
    first = NUMPY_2 % (2, 3, 4, 5, 6) + b"S'\\x07\\x00\\x00\\x00\\x00\\x00\\x00\\x00'\np7\ntRp8\n"
    then = b"g2\n(g5\nS'\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff'\np9\ntRp10\n"
    assert read(tmp_path, b"(dp1\n" + first + b"I0\ns" + then + b"g2\n(g5\nS'\"\\x00\\n\\t\\\\\\x00\\x00\\x00'\ntRs.", int) == {
        7: 0, -1: int.from_bytes(b'"\x00\n\t\\\x00\x00\x00', "little")}


def test_a_character_in_two_halves_is_one_and_half_a_character_is_none(tmp_path):
    assert read(tmp_path, b"(dV\\ud83d\\ude00\nI1\ns.") == {"\U0001f600": 1}
    for content in (b"(dV\\ud83d\nI1\ns.", pickle.dumps({"\ud83d": 1}, 2), pickle.dumps({"\ude00\ud83d": 1}, 0)):
        assert "UnicodeDecodeError" in refused(tmp_path, content)


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
    attack, pair = attacks()[name], b"}(U\x01aK\x01"
    inner = attack.removeprefix(b"\x80\x02").removesuffix(b".")
    for content in (attack, pair + inner + b"K\x01u.", pair + b"U\x01b" + inner + b"u.", inner + pair + b"u."):
        if inner or content == attack:
            refused(tmp_path, content)
            with pytest.raises(UserError):
                read(tmp_path, content, int)
    assert not Path(MARK).exists()
    assert "this" not in set(sys.modules) - modules
    assert capfd.readouterr() == ("", "")
    assert read(tmp_path, pickle.dumps({"a": 1}, 2)) == {"a": 1}, "what is allowed still works"


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_a_pickle_cut_anywhere_or_that_goes_on_is_refused(tmp_path, protocol):
    whole = pickle.dumps({f"word{n}": n if n % 3 else np.int64(n) for n in range(4)}, protocol)
    for size in range(len(whole)):
        refused(tmp_path, whole[:size])
    refused(tmp_path, python2({f"word{n}": n for n in range(40)})[:-1])
    assert refused(tmp_path, whole + b"\n") == "it goes on after its end"


@pytest.mark.parametrize(("content", "words"), [
    ([1, 2], "holds a list"), ({}, "holds an empty dict"), ({"a": "b"}, "holds 'a': 'b'"), ({"a": True}, "holds 'a': True"),
    ({1: 2}, "holds 1: 2"), ({"a": 1.5}, "holds a float"), (7, "holds 7"), ({"a": None}, "holds 'a': None"), ({"a": (1, 2)}, "holds 'a': (1, 2)"),
    ({("a",): 1}, "holds ('a',): 1"), ({"a": {"b": 1}}, "holds more than one dict"), ({"a": np.float32(1)}, "no integer"),
    ({"a": np.bool_(True)}, "no integer"), ({"a": np.arange(3)}, "asks for 'numpy.core.multiarray._reconstruct'"),
    ({"a" * 5000: 1}, "a part of 5,000 bytes"), ({"a": 2**80}, "an integer of 11 bytes")])
def test_a_pickle_of_something_else_is_named(tmp_path, content, words):
    written = pickle.dumps(content, 2).replace(b"numpy._core", b"numpy.core")
    assert words in refused(tmp_path, written)


DEEP = b"}" + b"(" * 150_000 + b"t" * 150_000 + b"K\x01s."  # a key of nested tuples
SHARED = b"}" + b")q\x00" + b"".join(b"h\x00h\x00\x86q\x00" for _ in range(40)) + b"K\x01s."  # a key of 2^40 tuples in 200 bytes
HUGE = 1 << 20


@pytest.mark.parametrize(("content", "words"), [
    (DEEP, "it piles up more"), (b"})" + b"\x85" * 150_000 + b"K\x01s.", "tuples that no array has"), (SHARED, "it refers back"),
    (b"}U\x01ar\xff\xff\xff\x3fK\x01s}.", "more than one dict"), (b"}S'a'\np99999999999\n", "a line that is too long"),
    (b"}S'a'\np-1\n", "at no place"), (b"}U\x01a\x8b\xff\xff\xff\x7f", "the instruction b'\\x8b'"), (b"}U\x01a\x8a\xff" + bytes(255) + b"s.", "of 255 bytes"),
    (b"(dS'a'\nL" + b"9" * 5000 + b"L\ns.", "a line that is too long"), (b"(dS'a'\nI" + b"9" * 29 + b"\ns.", "an integer b'999"),
    (b"(dS'a'\nI1_0\ns.", "an integer b'1_0'"), (b"(dS'a'\nI 1\ns.", "an integer b' 1'"), (b"(dS'a'\nI\xd9\xa1\ns.", "an integer b'"),
    (b"c" + b"x" * HUGE + b"\n" + b"y" * HUGE + b"\n.", "a line that is too long"), (b"}S'" + b"x" * HUGE + b"'\nI1\ns.", "a line that is too long"),
    (b"}S'\\q'\nI1\ns.", "a string that Python 2 does not write"), (b"}S'\\x4'\nI1\ns.", "a string that"), (b"}S'a\nI1\ns.", "a string that"),
    (b"cos\x1b[2J\r\nsystem\n.", "asks for 'os\\x1b[2J\\r.system'"), (b"}X\x03\x00\x00\x00a\x1b\x07X\x01\x00\x00\x00\nsK\x01.", r"'a\x1b\x07': '\n'"),
    (b"N" * HUGE, "it piles up more"), (b"}" + b"(u" * HUGE, "it goes on and holds nothing"), (b"\x80\x02" * HUGE, "it goes on and holds nothing"),
    (b"\x95" + bytes(8) + b"\x94" * HUGE, "damaged (IndexError"), (b"}" + b"\x94" * HUGE, "it remembers more than it holds"),
    (b"}(U\x01aK\x01U\x01aK\x02u.", "holds b'a' twice"), (b"}U\x01aK\x01s}U\x01bK\x01s.", "more than one dict"), (b"}.", "an empty dict"), (b".", "ends with 0"),
    (b"}U\x01aK\x01sN.", "ends with 2"), (b"N}s.", "adds to what is no dict"), (b"s", "IndexError"), (b"u", "IndexError"), (b"}(U\x01au.", "adds to what is no dict"),
    (b"cnumpy\ndtype\n(S'i8'\nI0\nI1\ntR" + b"(I3\nS'<'\nNNNI-1\nI-1\nI0\ntb" * 2, "parts of its own"), (b"cnumpy\ndtype\n(S'i8'\ntR.", "damaged (TypeError"),
    (b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'i8'\nI0\nI1\ntRS'x'\ntR.", "no integer"), (b"c__builtin__\nbytes\n(I5\ntR.", "damaged (TypeError")], ids=itertools.count())
def test_a_pickle_made_to_take_memory_or_time_or_to_break_the_machine(tmp_path, content, words):
    assert words in refused(tmp_path, content)


def test_no_more_pairs_than_any_such_file_has(tmp_path, monkeypatch):
    monkeypatch.setattr(pickles, "MOST_PAIRS", {str: 3, int: 5})
    assert len(read(tmp_path, pickle.dumps(dict.fromkeys(range(5), 0), 2), int)) == 5
    assert refused(tmp_path, pickle.dumps(dict.fromkeys(range(6), 0), 2), int) == "it holds more than 5 pairs"
    assert refused(tmp_path, pickle.dumps(dict.fromkeys("abcd", 0), 0)) == "it holds more than 3 pairs"
    monkeypatch.setattr(pickles, "LARGEST_MAPPING", 9)
    with pytest.raises(UserError, match=r"dictionary\.pkl: 10 bytes are no words and their ids; fetch it again"):
        read(tmp_path, bytes(10))
