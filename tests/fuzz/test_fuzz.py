"""A short fuzz of every reader of foreign bytes, always the same; `make fuzz` goes on for as long as one likes."""

import pickle
import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import __main__ as fuzz
from tests.fuzz.mutations import mutate
from text2image.errors import UserError
from text2image.files import pickles

INPUTS = 20  # of each reader, more of those with a larger weight: some 700 files
SETTINGS = settings(max_examples=60, deadline=None, derandomize=True, database=None,
                    suppress_health_check=[HealthCheck.function_scoped_fixture])
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
INTEGERS = st.integers(-2**63, 2**64 - 1)


def test_no_reader_does_what_it_may_not(tmp_path, capfd):
    """As tests/fuzz/__main__.py says: UserError in one line or nothing, within 5 seconds and 1 GiB."""
    faults = fuzz.run(120, 20151109, INPUTS, tmp_path / "kept", "")
    assert faults == 0, capfd.readouterr().out


def test_the_same_seed_makes_the_same_files():
    whole, other = bytes(range(200)), b"other" * 20
    made = [[mutate(random.Random(f"{n}"), whole, other, [b"token"]) for n in range(100)] for _ in range(2)]
    assert made[0] == made[1]
    assert len(set(made[0])) > 90


def test_what_a_reader_may_not_do_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz, "MEMORY", 1 << 26)
    monkeypatch.setattr(fuzz, "LONGEST", 0.2)
    monkeypatch.setattr(fuzz.signal, "setitimer", lambda *_: None)
    path = tmp_path / "file"
    path.write_bytes(b"content")

    def does(read) -> str | None:
        return fuzz.fault(fuzz.Reader("file", [], read, []), path)

    def refuses(line: str):
        def read(_) -> None:
            raise UserError(line)
        return read

    def spends(_) -> None:
        end = fuzz.time.monotonic() + 0.3
        while fuzz.time.monotonic() < end:
            pass

    assert does(lambda path: path.read_bytes()) is None
    assert does(refuses("file: damaged; fetch it again")) is None
    assert "a line of" in does(refuses("two\nlines"))
    assert "a line of" in does(refuses("x" * 10_000))
    assert "ZeroDivisionError" in does(lambda _: 1 / 0)
    assert "seconds" in does(spends)


@SETTINGS
@given(st.dictionaries(TEXTS | st.binary(max_size=40), INTEGERS, min_size=1, max_size=30), st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_any_mapping_of_words_comes_back(tmp_path, mapping, protocol):
    wanted = {key.decode("latin-1") if isinstance(key, bytes) else key: value for key, value in mapping.items()}
    path = tmp_path / "dictionary.pkl"
    path.write_bytes(pickle.dumps(mapping, protocol))
    if len(wanted) == len(mapping):
        assert pickles.read_mapping(path, str, "words") == wanted


@SETTINGS
@given(st.dictionaries(INTEGERS, INTEGERS, min_size=1, max_size=30), st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_any_mapping_of_numbers_comes_back(tmp_path, mapping, protocol):
    path = tmp_path / "train-cap2im.pkl"
    path.write_bytes(pickle.dumps(mapping, protocol))
    assert pickles.read_mapping(path, int, "rows") == mapping


TREES = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.binary(max_size=9),
                     lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner) | st.tuples(inner, inner) | st.frozensets(st.integers()),
                     max_leaves=9)


@SETTINGS
@given(TREES, st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_anything_else_is_refused_in_a_line(tmp_path, tree, protocol):
    path = tmp_path / "dictionary.pkl"
    path.write_bytes(pickle.dumps(tree, protocol))
    try:
        found = pickles.read_mapping(path, str, "words")
    except UserError as error:
        assert str(error).isprintable()
        assert len(str(error)) < 400
    else:
        assert found == tree
