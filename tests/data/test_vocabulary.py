"""Words and ids: what is read and what is refused."""
# ruff: noqa: RUF001 (characters that look alike are what is tested)


import csv
import gzip
import re
import unicodedata

import numpy as np
import pytest

from text2image.data.mnist_captions import TEMPLATES
from text2image.data.prepared import PreparedWriter
from text2image.data.vocabulary import PADDING, UNKNOWN, Vocabulary, pad, tokenize
from text2image.errors import UserError, UserWarningLine
from text2image.sources import shapes
from text2image.sources.shapes import SceneConfig


def test_tokens():
    assert tokenize("A man, in a t-shirt; it's RED.") == ["a", "man", ",", "in", "a", "t-shirt", ";", "it's", "red", "."]
    assert tokenize("a UNK dog") == ["a", UNKNOWN, "dog"]


NINO = unicodedata.normalize("NFD", "Niño, café")


@pytest.mark.parametrize(("caption", "words"), [
    (NINO, "niño , café"),
    ("हिन्दी में एक कुत्ता", "हिन्दी में एक कुत्ता"), ("ที่นี่ น้ำ", "ที่นี่ น้ำ"), ("שָׁלוֹם", "שָׁלוֹם"), ("q\u0323\u0307", "q\u0323\u0307"),
    ("می\u200cخواهم", "می\u200cخواهم"), ("സ\u0d4d\u200cനേഹം", "സ\u0d4d\u200cനേഹം"),
    ("The dog’s toy isn‘t here; it＇s gone", "the dog's toy isn't here ; it's gone"), ("don`t, don´t", "don't , don't"),
    ("a ‘red’ dog, 'here' and ''there'' “now”", "a red dog , here and there now"), ("`UNK` 'UNK' ’UNK’", "UNK UNK UNK"),
    ("the dogs' toys, rockin' 'til", "the dogs toys , rockin til"), ("the dog 's rock 'n' roll, ca n't, I ’ll", "the dog 's rock 'n' roll , ca n't , i 'll"),
    ("it&#39;s &quot;big&quot; &amp; dog&apos;s&nbsp;own; caf&eacute; &#x27;a&#x27;", "it's big dog's own ; café a"),
    ("it&amp;#39;s", "it's"), ("R&D; AT&T &nosuch; &#9999999;", "r d ; at t nosuch ; "), ("&#110;&#771;", "ñ"),
    ("well‑known co‐op co\u00adoperate", "well-known co-op cooperate"), ("\ufeffa \u2060dog", "a dog"),
    ("❤️ 👨‍👩‍👧 \u0301 -\u0301 \u200d", "-"), ("' '' - --", "' '' - --")])
def test_words_of_any_script_and_any_keyboard(caption, words):
    assert tokenize(caption) == words.split()
    assert tokenize(" ".join(tokenize(caption))) == words.split(), "words are words again"
    vocabulary = Vocabulary(list(dict.fromkeys([PADDING, UNKNOWN, *words.split()])))
    assert vocabulary.decode(vocabulary.encode(caption)) == words.split()


def test_any_character_within_a_caption():
    """Words are in NFC, hold no space, and are the same words when they are read again."""
    rng = np.random.default_rng(0)
    points = [*range(0x3000), *rng.integers(0x3000, 0xd800, 1500), *rng.integers(0xe000, 0x110000, 1500)]
    for point in points:
        words = tokenize(f"x{chr(point)}'y '{chr(point)}")
        assert tokenize(" ".join(words)) == words, hex(point)
        assert not any(character.isspace() for word in words for character in word), hex(point)


def test_a_letter_with_a_million_marks_takes_no_time():
    """Normalizing takes the square of their number: a quarter of an hour."""
    assert tokenize("a" + "\u0300\u0327" * 500_000 + " dog")[1] == "dog"
    assert tokenize("\u0300\u0327" * 500_000) == []
    assert tokenize("hindi " * 200 + NINO)[200:] == ["niño", ",", "café"]


PLAIN = re.compile(r"[\w'-]+|[.,;:!?]")  # what took captions apart at first: no number of what is published may move


def plain(caption: str) -> list[str]:
    return [token.lower() for token in PLAIN.findall(caption)]


def test_captions_of_shapes_and_of_the_grammar_are_read_as_ever():
    config = SceneConfig(size=8, train=400, dev=200, test=1, captions=2, seed=1)
    captions = [text for split in ("train", "dev") for _, text in shapes.draw_split(split, getattr(config, split), config)[1]]
    captions += [template.format(first=first, second=second) for template in TEMPLATES for first in range(10) for second in range(10)]
    assert len(captions) == 2000
    for caption in captions:
        assert tokenize(caption) == plain(caption)


def test_captions_of_flickr8k_are_read_as_ever(mirror):
    """All but three of 40,455, which begin or end a word with an apostrophe. Its ids are those of its host's files."""
    source = mirror / "flickr8k/captions.csv.gz"
    if not source.is_file():
        pytest.skip("TEXT2IMAGE_MIRROR has no flickr8k/captions.csv.gz")
    with gzip.open(source, "rt", encoding="utf-8", newline="") as file:
        captions = [row["caption"] for row in csv.DictReader(file)]
    assert len(captions) == 40_455
    other = [set(plain(caption)) ^ set(tokenize(caption)) for caption in captions if plain(caption) != tokenize(caption)]
    assert other == [{"tikes'", "tikes"}, {"'slide", "slide"}, {"'s-eye-view", "s-eye-view"}]


@pytest.mark.parametrize("text", ["一只狗在跑", "เด็กผู้ชายกำลังวิ่ง", "犬がはしる", "ສະບາຍດີ", "ខ្មែរ", "မြန်မာ"])
def test_a_script_without_spaces_is_warned_of_once(text):
    with pytest.warns(UserWarningLine, match=f"such as '{text}': what stands between spaces and punctuation marks is taken as one word") as shown:
        vocabulary = Vocabulary.count([tokenize(f"{text}, {text[:3]}"), ["a", "dog"]], 1)
    assert len(shown) == 1
    assert text in vocabulary.words


def test_many_unknown_words_are_warned_of(tmp_path):
    images = np.zeros((2, 3, 5, 7), np.uint8)
    captions = {"train": [(0, ["a", "dog"])] * 2, "dev": [(1, ["a", "cat"])] * 5, "test": [(0, ["a", "dog"] * 4 + ["a", "cat"])]}
    with pytest.warns(UserWarningLine) as shown:
        PreparedWriter(tmp_path).write_captioned(dict.fromkeys(captions, images), captions, min_count=1)
    assert [str(line.message) for line in shown] == [
        "dev: 50.0% of the words of its captions are outside the vocabulary of 2 words and read as UNK: add captions to training, or "
        "lower min_count where the dataset has one"], "a tenth of test's is not above a tenth"


def test_vocabulary_counts_the_frequent_words_first_and_reads_itself_back(tmp_path):
    captions = [tokenize(text) for text in ("a red dog .", "a red cat .", "a dog .", "a zebra .")]
    vocabulary = Vocabulary.count(captions, min_count=2)
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
