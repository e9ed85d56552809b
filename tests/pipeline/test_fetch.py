"""The stage fetch beside another fetch, and after one that failed."""

import gzip
import hashlib
import warnings
from pathlib import Path

import pytest

from pipeline import stage
from pipeline.fetch import fetch
from tests.conftest import ROOT
from tests.data.toronto_files import SIDE, write
from text2image.data import toronto_arrays
from text2image.errors import UserError, UserWarningLine
from text2image.files.lock import Lock
from text2image.sources import mnist, sharpening, toronto

MNIST = {"datasets": {"mnist": {"fetch": {"format": "idx", "idx_urls": [], "h5_urls": []}}}}
COCO = {"datasets": {"coco": {"fetch": {"base_urls": [], "weights": "", "side": SIDE}}}}
RAW = Path("data/fetched")
LAST = "train-labels-idx1-ubyte.gz"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A mirror with files that take the place of MNIST's; the current directory is another."""
    (tmp_path / "mirror/mnist").mkdir(parents=True)
    for name in mnist.IDX_FILES:
        images = "images" in name
        head = [mnist.IDX_IMAGES, 2, 28, 28] if images else [mnist.IDX_LABELS, 2]
        content = b"".join(number.to_bytes(4, "big") for number in head) + bytes(1568 if images else 2)
        (tmp_path / "mirror/mnist" / name).write_bytes(gzip.compress(content, mtime=0))
        monkeypatch.setitem(mnist.IDX_FILES, name, hashlib.sha256(content).hexdigest())
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("TEXT2IMAGE_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.delenv("TEXT2IMAGE_STATE", raising=False)
    return tmp_path / "mirror"


def contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.rglob("*") if file.is_file()}


def break_off(folder: Path, name: str, parameters: dict, dataset: str, source: str) -> bytes:
    """Fetch all but one file, which stays away; what it held."""
    path = next(folder.rglob(name))
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(UserError, match="cannot fetch"):
        fetch(parameters, dataset, source)
    path.write_bytes(content)
    return content


def test_a_second_fetch_into_the_same_state_is_turned_away_and_destroys_nothing(folder):
    break_off(folder, LAST, MNIST, "mnist", "mnist")
    before = contents(Path("state"))
    with Lock(Path("state/fetch-mnist.lock"), ""), pytest.raises(UserError) as error:
        fetch(MNIST, "mnist", "mnist")
    assert str(error.value) == "state/fetch-mnist: another process fetches mnist; wait for it, or end it and run again"
    assert contents(Path("state")) == before
    assert not list(RAW.iterdir()), "nor is anything half-written"
    fetch(MNIST, "mnist", "mnist")
    assert contents(RAW / "mnist") == contents(folder / "mnist")
    assert not list(Path("state").iterdir())


def test_a_fetch_whose_process_was_killed_stands_in_nobodys_way(folder):
    Path("state").mkdir()
    Path("state/fetch-mnist.lock").touch()
    fetch(MNIST, "mnist", "mnist")
    assert not list(Path("state").iterdir())


DAMAGE = {"empty": lambda b: b"", "cut": lambda b: b[:len(b) // 2], "bit": lambda b: b[:-9] + bytes([b[-9] ^ 1]) + b[-8:],
          "page": lambda b: b[:len(b) // 2] + bytes(len(b) - len(b) // 2)}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_files_that_a_fetch_kept_are_fetched_again(folder, damage):
    write(folder / toronto_arrays.FOLDER)
    in_order = "t10k-labels-idx1-ubyte.gz"  # the last that is waited for: all others have come when it is found missing
    for parameters, dataset, source, last, published in ((MNIST, "mnist", "mnist", in_order, folder / "mnist"),
                                                         (COCO, "coco", "toronto", "test-cap2im.pkl", folder / toronto_arrays.FOLDER)):
        break_off(folder, last, parameters, dataset, source)
        kept = [path for path in Path(f"state/fetch-{dataset}").iterdir() if path.is_file()]
        assert len(kept) > 2
        for path in kept:
            path.write_bytes(DAMAGE[damage](path.read_bytes()))
        fetch(parameters, dataset, source)
        assert contents(RAW / dataset) == contents(published)
        assert not list(Path("state").iterdir())


def test_the_state_may_lie_below_the_home_directory(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    monkeypatch.setenv("TEXT2IMAGE_STATE", "~/elsewhere")
    break_off(folder, LAST, MNIST, "mnist", "mnist")
    assert (folder.parent / "elsewhere/fetch-mnist").is_dir()


def test_every_published_file_is_allowed_its_size(mirror):
    for name in mnist.IDX_FILES:
        kind = "images" if "images" in name else "labels"
        assert (mirror / "mnist" / name).stat().st_size < mnist.LARGEST_FILE[kind]
    assert mnist.LARGEST_FILE[mnist.H5] > 70_000 * (784 + 1) * 8
    images, captions, words = 82_783, 414_113, 60  # of COCO's training; at most, in a caption
    for side in (32, 56):
        names = toronto_arrays.names("train", side)
        assert toronto.largest(names.images, side) > images * 3 * side**2 * 8
        assert toronto.largest(names.captions, side) > captions * words * 8
        assert toronto.largest(names.lengths, side) > captions * 8
        assert toronto.largest(names.image_rows, side) > captions * 40
    assert toronto.largest("~emansim/cap2im-weights/aligndraw.h5", 32) > 132_000_000
    assert set(sharpening.PUBLISHED) == {Path(name).name for name in sharpening.checks()}


@pytest.mark.parametrize("text", ["\x1b[2J\x07a\x9bname", "right\u202eleft", "a name\nof two lines", "\udcff", "long " * 10_000])
def test_what_a_stage_shows_is_one_line_that_steers_no_terminal(capsys, monkeypatch, text):
    """Whatever names and contents of files it quotes."""
    def work(parameters: dict) -> None:
        warnings.warn(text, UserWarningLine, stacklevel=1)
        raise UserError(f"{text}: what to do")

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sys.argv", ["fetch"])
    monkeypatch.setattr(stage, "_parameters", lambda name: {})
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # put back afterwards
    with warnings.catch_warnings(), pytest.raises(SystemExit):
        warnings.simplefilter("always")
        stage.main("fetch", work, lambda: "fetch@digits")
    warning, error = capsys.readouterr().err.splitlines()
    for line in (warning, error):
        assert line.isprintable()
        assert len(line) < 5000
    assert warning.startswith("warning: ")
    assert error.startswith("error: ")
    assert error.endswith(": what to do")
