"""Words, ids, parameters: what is read and what is refused."""

from dataclasses import dataclass
from typing import Literal

import pytest

from text2image.captions import PADDING, UNKNOWN, Vocabulary, pad, tokenize
from text2image.config import from_mapping, parameter
from text2image.errors import UserError, UserWarningLine


def test_tokens():
    assert tokenize("A man, in a t-shirt; it's RED.") == ["a", "man", ",", "in", "a", "t-shirt", ";", "it's", "red", "."]
    assert tokenize("a UNK dog") == ["a", UNKNOWN, "dog"]


def test_vocabulary_counts_the_frequent_words_first_and_reads_itself_back(tmp_path):
    captions = [tokenize(text) for text in ("a red dog .", "a red cat .", "a dog .", "a zebra .")]
    vocabulary = Vocabulary.count(captions, least=2)
    assert vocabulary.words == (PADDING, UNKNOWN, ".", "a", "dog", "red")
    vocabulary.save(tmp_path / "vocabulary.json")
    assert Vocabulary.load(tmp_path / "vocabulary.json").words == vocabulary.words
    assert vocabulary.encode("A dog.") == [3, 4, 2]
    assert vocabulary.decode([3, 4, 2, 0, 0]) == ["a", "dog", "."]


def test_an_unknown_word_is_named_and_read_as_unknown():
    vocabulary = Vocabulary([PADDING, UNKNOWN, "a", "dog"])
    with pytest.warns(UserWarningLine, match="the word 'zebra' of the caption 'a zebra' is not in the vocabulary; it is read as UNK"):
        assert vocabulary.encode("a zebra") == [2, 1]


@pytest.mark.parametrize("caption", ["", "   ", "\n"])
def test_an_empty_caption_is_refused(caption):
    with pytest.raises(UserError, match="a caption is empty"):
        Vocabulary([PADDING, UNKNOWN, "a"]).encode(caption)


@pytest.mark.parametrize(("content", "words"), [("{", "not a readable vocabulary"), ('["a"]', "starts with '<pad>'"),
                                                ('["<pad>", "a", "a"]', "twice here: a")])
def test_a_damaged_vocabulary_is_refused(tmp_path, content, words):
    (tmp_path / "vocabulary.json").write_text(content)
    with pytest.raises(UserError, match=words):
        Vocabulary.load(tmp_path / "vocabulary.json")


def test_padding():
    ids, lengths = pad([[1, 2, 3], [4]])
    assert ids.tolist() == [[1, 2, 3], [4, 0, 0]]
    assert lengths.tolist() == [3, 1]


@dataclass(frozen=True)
class Inner:
    rate: float = parameter(above=0, below=1)


@dataclass(frozen=True)
class Outer:
    size: int = parameter(least=1)
    kind: Literal["left", "right"]
    names: tuple[str, ...]
    inner: Inner


GOOD = {"size": 3, "kind": "left", "names": ["a"], "inner": {"rate": 0.5}}


def test_a_block_of_parameters():
    assert from_mapping(Outer, GOOD, "block") == Outer(3, "left", ("a",), Inner(0.5))
    assert from_mapping(Outer, GOOD | {"size": 3.0}, "block") == Outer(3, "left", ("a",), Inner(0.5))


@pytest.mark.parametrize(("change", "words"), [
    ({"sise": 1}, "unknown parameter 'block.sise': did you mean 'size'?"),
    ({"size": 0}, "parameter 'block.size' is 0; it must be at least 1"),
    ({"size": "3"}, "parameter 'block.size' must be int, not '3'"),
    ({"size": True}, "parameter 'block.size' must be int, not True"),
    ({"size": 2.5}, "parameter 'block.size' must be int, not 2.5"),
    ({"kind": "lift"}, "parameter 'block.kind' is 'lift'; it takes one of left, right: did you mean 'left'?"),
    ({"names": "a"}, "parameter 'block.names' must be a list, not 'a'"),
    ({"names": ["a", 1]}, r"parameter 'block.names[1]' must be str, not 1"),
    ({"inner": {"rate": 0}}, "parameter 'block.inner.rate' is 0.0; it must be more than 0"),
    ({"inner": {"rate": 1}}, "parameter 'block.inner.rate' is 1.0; it must be less than 1"),
    ({"kind": ["left"]}, "parameter 'block.kind' is ['left']; it takes one of left, right: did you mean 'left'?"),
    ({"inner": {"rate": float("nan")}}, "parameter 'block.inner.rate' is nan; it must be finite"),
    ({"inner": 3}, "parameter 'block.inner' must be a block of parameters, not 3"),
])
def test_what_is_wrong_with_a_block_is_said(change, words):
    with pytest.raises(UserError) as error:
        from_mapping(Outer, GOOD | change, "block")
    assert str(error.value) == words


def test_a_missing_parameter_is_named():
    with pytest.raises(UserError, match=r"missing parameter 'block\.size'"):
        from_mapping(Outer, {name: value for name, value in GOOD.items() if name != "size"}, "block")
