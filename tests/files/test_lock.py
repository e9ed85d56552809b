"""One process at a time."""

import subprocess
import sys

import pytest

from text2image.errors import UserError
from text2image.files.lock import Lock


def test_the_first_holds_it_the_second_is_turned_away_the_next_finds_it_free(tmp_path):
    path = tmp_path / "state" / "work.lock"
    with Lock(path, "busy"):
        assert path.exists()
        with pytest.raises(UserError, match=r"^busy$"):
            Lock(path, "busy")
    assert not path.exists()
    Lock(path, "busy").close()


def test_another_process_is_turned_away_and_a_killed_one_holds_nothing(tmp_path):
    path = tmp_path / "work.lock"
    hold = f"from pathlib import Path; from text2image.files.lock import Lock; lock = Lock(Path({str(path)!r}), ''); print('held'); input()"
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          env={"PYTHONPATH": "src", "PYTHONUNBUFFERED": "1"}) as process:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match="busy"):
            Lock(path, "busy")
        process.kill()
    assert path.exists()
    Lock(path, "busy").close()
    assert not path.exists()


def test_a_lock_whose_file_was_replaced_is_not_the_one_that_others_see(tmp_path):
    """As where a folder was deleted and made anew: each process must find out whether it holds what lies there now."""
    path = tmp_path / "folder" / "lock"
    first = Lock(path, "busy")
    path.unlink()
    with Lock(path, "busy"):
        first.close()
        assert path.exists(), "it is the second's"
    assert not path.exists()


def test_who_waits_for_a_folder_that_goes_makes_it_again(tmp_path, monkeypatch):
    path = tmp_path / "folder" / "lock"
    opened = type(path).open
    times: list[int] = []

    def goes(self, *arguments, **keywords):
        if self == path and not times:
            times.append(1)
            path.parent.rmdir()
        return opened(self, *arguments, **keywords)

    monkeypatch.setattr(type(path), "open", goes)
    with Lock(path, "busy"):
        assert times and path.exists()
