"""The words of skip-thoughts."""

import pytest

from text2image.data import sharpening_files
from text2image.errors import UserError


def test_a_line_is_a_word_and_ends_at_a_newline_alone(tmp_path):
    (tmp_path / "dictionary.txt").write_bytes("a\nUNK\nline\x85break\n b \nlast".encode())
    assert sharpening_files.read_dictionary(tmp_path / "dictionary.txt") == ["a", "UNK", "line\x85break", "b", "last"]


def test_a_list_that_is_none(tmp_path, monkeypatch):
    path = tmp_path / "dictionary.txt"
    for content, words in ((b"a\n", "it lacks the word 'UNK'"), (b"UNK\n\xff\n", "not a list of words in UTF-8"), (b"", "it lacks")):
        path.write_bytes(content)
        with pytest.raises(UserError, match=words):
            sharpening_files.read_dictionary(path)
    monkeypatch.setattr(sharpening_files, "LARGEST_DICTIONARY", 3)
    path.write_bytes(b"UNK\n")
    with pytest.raises(UserError, match="4 bytes are no list of words"):
        sharpening_files.read_dictionary(path)
