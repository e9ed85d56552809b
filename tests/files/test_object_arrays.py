"""Tables of pickled arrays: read as they were published, a row at a time; anything else is refused and never run."""

import io
import itertools
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.files.test_pickles import MARK, attacks
from text2image.errors import UserError
from text2image.files.object_arrays import BLOCK_ROWS, ObjectTable

WIDTH = 7
OBJECT = b"U\x02O8K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb"
FLOAT = b"U\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
END = b"."


def header(count: int) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": (count,)})
    return file.getvalue()


def python2_table(rows: list[np.ndarray], memo: bool = True) -> bytes:
    """As NumPy under Python 2 saved an array of arrays: cPickle's protocol 2, names and types put into its memo once."""
    puts = itertools.count(1)

    def put() -> bytes:
        n = next(puts)
        return b"" if not memo else b"q" + bytes([n]) if n < 256 else b"r" + n.to_bytes(4, "little")

    def again(place: int, whole: bytes) -> bytes:
        return b"h" + bytes([place]) if memo else whole

    make, array, letter, kind = b"cnumpy.core.multiarray\n_reconstruct\n", b"cnumpy\nndarray\n", b"U\x01b", b"cnumpy\ndtype\n"
    out = [b"\x80\x02", make, put(), array, put(), b"K\x00\x85", letter, put(), b"\x87R", put(), b"(K\x01J",
           len(rows).to_bytes(4, "little"), b"\x85", kind, put(), OBJECT, put(), b"\x89]", put(), b"("]
    kind_place = None
    for number, row in enumerate(rows):
        if number and number % 1000 == 0:
            out.append(b"e(")
        out += [again(1, make), again(2, array), b"K\x00\x85", again(3, letter), b"\x87R", put(), b"(K\x01(",
                *(b"M" + n.to_bytes(2, "little") for n in row.shape), b"t"]
        if kind_place is None or not memo:
            out += [again(5, kind), FLOAT, put()]
            kind_place = 9
        else:
            out.append(again(kind_place, b""))
        content = row.astype("<f4").tobytes()
        out += [b"\x89T", len(content).to_bytes(4, "little"), content, b"tb"]
    return header(len(rows)) + b"".join(out) + b"etb" + END


def mixed(count: int, width: int = WIDTH) -> list[np.ndarray]:
    """Rows as they are published: (1, W) and (W,) in one table."""
    values = np.random.default_rng(0).normal(size=(count, width)).astype(np.float32)
    return [row[None] if n % 3 == 0 else row for n, row in enumerate(values)]


def read(path: Path, content: bytes) -> np.ndarray:
    path.write_bytes(content)
    table = ObjectTable(path)
    blocks = list(table)
    assert sum(len(block) for block in blocks) == table.count
    assert all(len(block) <= BLOCK_ROWS and block.dtype == np.float32 for block in blocks)
    return np.concatenate(blocks)


@pytest.mark.parametrize("memo", [True, False])
def test_what_python_2_wrote(tmp_path, memo):
    rows = mixed(2 * BLOCK_ROWS + 3)
    content = python2_table(rows, memo)
    theirs = np.load(io.BytesIO(content), allow_pickle=True, encoding="latin1")
    assert [row.shape for row in theirs[:2]] == [(1, WIDTH), (WIDTH,)], "NumPy itself reads what this test writes"
    ours = read(tmp_path / "utable.npy", content)
    assert np.array_equal(ours, np.stack([row.reshape(-1) for row in theirs]))


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_what_python_3_writes(tmp_path, protocol, kind):
    rows = [row.astype(kind) for row in mixed(300)]
    array = np.empty(len(rows), object)
    array[:] = rows
    ours = read(tmp_path / "utable.npy", header(len(rows)) + pickle.dumps(array, protocol))
    assert np.array_equal(ours, np.stack([row.reshape(-1).astype(np.float32) for row in rows]))


def refused(path: Path, content: bytes) -> str:
    with pytest.raises(UserError) as error:
        read(path, content)
    line = str(error.value)
    assert line.startswith(f"{path.name}: ")
    assert "fetch it again" in line
    assert "\n" not in line
    return line


def test_a_table_cut_anywhere_or_that_goes_on_is_refused(tmp_path):
    content = python2_table(mixed(5))
    for size in range(len(content)):
        refused(tmp_path / "utable.npy", content[:size])
    assert "it goes on after its end" in refused(tmp_path / "utable.npy", content + b"\n")


def of(rows: list[np.ndarray], count: int | None = None) -> bytes:
    return header(count or len(rows)) + python2_table(rows)[len(header(len(rows))):]


@pytest.mark.parametrize(("content", "words"), [
    (of([np.ones(7), np.ones(7), np.ones(6)]), "array 2 has 6 values, those before it 7"),
    (of([np.ones((2, 7)), np.ones(7)]), "an array of f4 of shape (2, 7), not a row of numbers"),
    (of([np.ones(0), np.ones(0)]), "array 0 has 0 values"),
    (of([np.ones(7), np.array([1, np.nan, 1, 1, 1, 1, 1])]), "arrays 0 to 1 hold what is no number"),
    (of([np.ones(7), np.array([1, np.inf, 1, 1, 1, 1, 1])]), "arrays 0 to 1 hold what is no number"),
    (of([np.ones(7)] * 3, 4), "it holds 3 arrays"),
    (of([np.ones(7)] * 3, 2), "it holds more arrays than that"),
    (of([np.ones(7)] * 3, 10**12), "are no table of arrays"),
    (header(3) + pickle.dumps(np.arange(3, dtype=np.float32), 2) + bytes(200), "it holds more arrays than that, or none"),
    (b"<html>no such page</html>", "not a NumPy file"), (b"", "not a NumPy file")])
def test_a_table_of_the_wrong_shape_or_range(tmp_path, content, words):
    said = refused(tmp_path / "utable.npy", content)
    assert any(part in said for part in (words, *(["shape (3,)", "it holds 1 arrays", "goes on"] if ", or none" in words else [])))


def test_other_arrays_of_numpy_are_named(tmp_path):
    np.save(tmp_path / "utable.npy", np.ones((3, WIDTH), np.float32))
    assert "of float32 of shape (3, 7) are no table of arrays" in refused(tmp_path / "utable.npy", (tmp_path / "utable.npy").read_bytes())
    array = np.empty(3, object)
    array[:] = ["a", 1, None]
    refused(tmp_path / "utable.npy", header(3) + pickle.dumps(array, 2) + bytes(100))


@pytest.mark.parametrize("name", attacks())
@pytest.mark.parametrize("where", ["alone", "as a row", "as content"])
def test_an_attack_does_nothing(name, where, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    attack, table = attacks()[name], python2_table(mixed(3))
    inner = attack.removeprefix(b"\x80\x02").removesuffix(b".")
    row = table.index(b"(", table.index(b"]"))
    content = {"alone": header(3) + attack + bytes(100),
               "as a row": table[:row + 1] + inner + table[row + 1:],
               "as content": table[:table.index(b"T", row)] + inner + table[table.index(b"tb", row):]}[where]
    if name == "nothing" and where == "as a row":
        return
    modules = set(sys.modules)
    refused(tmp_path / "utable.npy", content)
    assert not Path(MARK).exists()
    assert "this" not in set(sys.modules) - modules
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("body", "words"), [
    (b"N" * 60_000, "it piles up more"), (b"(" * 60_000, "it piles up more"), (b"N" + b"\x85" * 60_000, "tuples that no array has"),
    (b"B\xff\xff\xff\x7f", "a part of 2,147,483,647 bytes"), (b"\x8d" + b"\xff" * 8, "a part of"), (b"}", "the instruction b'}'"),
    (b"h\x07", "it refers back"), (b"NNR", "nothing to call"), (b"NNb", "no array in the making"), (b"\x85", "more than it has put down"),
    (b"t", "it is damaged (IndexError"), (b"X\x02\x00\x00\x00\xff\xfe", "it is damaged (UnicodeDecodeError")])
def test_a_pickle_made_to_take_memory_or_to_break_the_machine(tmp_path, body, words):
    assert words in refused(tmp_path / "utable.npy", header(3) + b"\x80\x02" + body + bytes(100))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc to read the peak memory from")
def test_a_long_table_takes_no_memory(tmp_path):
    """60,000 rows of 620 numbers, 150 MB, as the published tables have 930,913: read to the end within 100 MB in all."""
    rows = mixed(1000, 620)
    whole = python2_table(rows, memo=False)
    start, end = len(header(1000)), len(whole) - 4
    first = whole.index(b"](", start) + 2
    count = 60_000
    with (tmp_path / "utable.npy").open("wb") as file:
        prefix = whole[start:first].replace((1000).to_bytes(4, "little"), count.to_bytes(4, "little"))
        file.write(header(count) + prefix)
        for block in range(count // 1000):
            file.write((b"e(" if block else b"") + whole[first:end])  # as pickles are written: a thousand at once
        file.write(whole[end:])
    program = ("import sys; from pathlib import Path; from text2image.files.object_arrays import ObjectTable\n"
               "print(sum(len(block) for block in ObjectTable(Path(sys.argv[1]))))\n"
               "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))")
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "utable.npy")], env={"PYTHONPATH": str(ROOT / "src")},
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    read, peak = done.stdout.split()
    assert int(read) == count
    assert int(peak) < 100 * 1024
