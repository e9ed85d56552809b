"""What a killed run goes on from."""

import hashlib
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from text2image.errors import UserError
from text2image.training.resume import ResumableState, fingerprint


def test_work_in_progress_is_found_by_the_same_work_alone(tmp_path):
    first = ResumableState(tmp_path, "run", fingerprint([1], []))
    with first:
        first.save({"step": torch.tensor(3)})
        with pytest.raises(UserError, match="another process is at this run"):
            ResumableState(tmp_path, "run", fingerprint([1], [])).__enter__()
    with ResumableState(tmp_path, "run", fingerprint([1], [])) as again:
        assert again.load()["step"] == 3
    with ResumableState(tmp_path, "run", fingerprint([2], [])) as other:
        assert other.load() is None
    with again:
        again.discard()
    assert not again.path.exists()


def test_a_fingerprint_knows_settings_and_contents(tmp_path):
    file = tmp_path / "data"
    file.write_text("one")
    before = fingerprint({"rate": 1}, [file])
    assert fingerprint({"rate": 1}, [file]) == before != fingerprint({"rate": 2}, [file])
    file.write_text("two")
    assert fingerprint({"rate": 1}, [file]) != before


STATE = {"step": 3, "weights": torch.arange(5000.0), "history": [(1, 0.5), (2, 0.25)]}


def refused(folder: Path) -> str:
    with ResumableState(folder, "run", "f" * 64) as work, pytest.raises(UserError) as error:
        work.load()
    said, begins, ends = str(error.value), f"{work.path / 'state.pt'}: damaged (", f"; delete the folder {work.path} to start this run from the beginning"
    assert said.startswith(begins)
    assert said.endswith(ends)
    assert "\n" not in said
    return said


@pytest.fixture
def saved(tmp_path) -> Path:
    with ResumableState(tmp_path, "run", "f" * 64) as work:
        work.save(STATE)
    assert {file.name for file in work.path.iterdir()} == {"state.pt", "state.pt.sha256"}
    return work.path


def test_a_state_of_which_anything_was_altered_is_refused(saved):
    """Bits all over the file, which torch.load itself would often take; a page of zeros; parts cut off or added."""
    whole, state = (saved / "state.pt").read_bytes(), saved / "state.pt"
    assert len(whole) > 8192
    for at in [*range(0, len(whole), len(whole) // 40), len(whole) - 1]:
        state.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1:])
        assert "SHA-256" in refused(saved.parent)
    for other in (whole[:4096] + bytes(4096) + whole[8192:], whole[:-1], whole[:4096], b"", whole + b"\0", b"half a file"):
        state.write_bytes(other)
        assert "SHA-256" in refused(saved.parent)
    state.write_bytes(whole)
    with ResumableState(saved.parent, "run", "f" * 64) as work:
        assert torch.equal(work.load()["weights"], STATE["weights"])


@pytest.mark.parametrize(("digests", "said"), [
    (None, "state.pt.sha256 beside it is not readable"), (b"", "its SHA-256 is not"), (b"0" * 64, "its SHA-256 is not"),
    (b"\xff\xfe", "state.pt.sha256 beside it is not readable")])
def test_a_state_without_its_digest_is_refused(saved, digests, said):
    if digests is None:
        (saved / "state.pt.sha256").unlink()
    else:
        (saved / "state.pt.sha256").write_bytes(digests)
    assert said in refused(saved.parent)


def test_a_state_that_was_saved_as_something_else_is_refused(saved):
    (saved / "state.pt").write_bytes(b"no state")
    (saved / "state.pt.sha256").write_text(hashlib.sha256(b"no state").hexdigest())
    assert "damaged (" in refused(saved.parent)


class Killed(BaseException):
    """Ends a process at once, in a test."""


@pytest.mark.parametrize("loaded", [True, False])
@pytest.mark.parametrize("renames", [0, 1, 2])
@pytest.mark.parametrize("earlier", [0, 1, 2])
def test_a_kill_between_the_two_files_loses_no_state(tmp_path, monkeypatch, earlier, renames, loaded):
    """`renames` files have their names when the process ends: the digests first, then the state."""
    for step in range(earlier):
        with ResumableState(tmp_path, "run", "f" * 64) as work:
            if loaded or step:
                work.load()
            work.save(STATE | {"step": step})
    left = [renames]
    replace = Path.replace

    def replace_or_die(path, target):
        if not left[0]:
            raise Killed
        left[0] -= 1
        return replace(path, target)

    with ResumableState(tmp_path, "run", "f" * 64) as work:
        work.load()
        with monkeypatch.context() as patch, suppress(Killed):
            patch.setattr(Path, "replace", replace_or_die)
            work.save(STATE | {"step": earlier})
    with ResumableState(tmp_path, "run", "f" * 64) as again:
        found = again.load()
        expected = earlier if renames == 2 else earlier - 1 if earlier else None
        assert (found and found["step"]) == expected
        again.save(STATE | {"step": 7})
        assert again.load()["step"] == 7
