"""What was left out of a collection: shown in a few lines, listed, counted."""

from pathlib import Path

import pytest

from text2image.errors import UserError, UserWarningLine
from text2image.files import skipped
from text2image.files.skipped import Skipped


def test_what_is_skipped_is_shown_in_a_few_lines_and_listed(tmp_path):
    left = [Skipped("image", f"{n}, \u00e9\udcff.png", "it is\nnot there") for n in range(13)]
    with pytest.warns(UserWarningLine) as shown:
        skipped.warn(left, Path("data/raw/mine/skipped.csv"))
    lines = [str(warning.message) for warning in shown]
    assert len(lines) == 11
    assert lines[0] == "image skipped: 0, \u00e9\\udcff.png: it is\\nnot there", "on one line"
    assert lines[-1] == "skipped as well: 3 more; data/raw/mine/skipped.csv lists all"
    skipped.write(tmp_path, left)
    again = skipped.read(tmp_path)
    assert [(item.kind, item.reason) for item in again] == [("image", "it is\nnot there")] * 13
    assert again[0].name == "0, \u00e9\\udcff.png"
    assert skipped.count([*again, Skipped("caption", "a", "b")]) == {"images": 13, "captions": 1}
    assert skipped.read(tmp_path / "elsewhere") == []
    (tmp_path / "skipped.csv").write_text("nonsense\n1,2,3\n")
    with pytest.raises(UserError, match=r"skipped\.csv: not readable"):
        skipped.read(tmp_path)
    assert skipped.MAX_WARNINGS == 10


@pytest.mark.parametrize(("text", "shown"), [
    ("a\r\nb\x1b[31m.png", "a\\r\\nb\\x1b[31m.png"), ("a\u2028b\u202eb\x85", "a\\u2028b\\u202eb\\x85"), ("caf\u00e9 \u72ac.png", "caf\u00e9 \u72ac.png"),
    ("x" * 301, "x" * 300 + "...")])
def test_what_is_shown_stands_on_one_line(text, shown):
    assert skipped.on_one_line(text) == shown
