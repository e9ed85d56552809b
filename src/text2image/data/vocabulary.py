"""Captions as words, words as ids."""

import html
import json
import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from html.entities import html5
from pathlib import Path

import numpy as np

from text2image.config import nearest
from text2image.errors import UserError, UserWarningLine

PADDING = "<pad>"
UNKNOWN = "UNK"  # as in the released dictionary.pkl
NAME_OF_NO_WORD = re.compile(r"<\w+>")  # the padding, and ids that a published dictionary leaves out

MAX_WORDS = 500  # of a caption of a dataset; arrays of captions are as wide as the longest

ENTITY = re.compile(r"&(#\d{1,7}|#[xX][\da-fA-F]{1,6}|[a-zA-Z][\da-zA-Z]*);")
ACCENT_FOR_APOSTROPHE = re.compile(r"(?<=\w)[`\u00b4](?=\w)")  # don`t
SPELLINGS = str.maketrans(dict.fromkeys("\u2018\u2019\u201b\u02bc\uff07", "'")   # curly, reversed, modifier, full width
                          | dict.fromkeys("\u2010\u2011", "-")                    # hyphen, one that does not break
                          | dict.fromkeys("\u00ad\u2060\ufe0e\ufe0f\ufeff"))      # soft hyphen and others that are not seen
MOST_MARKS = 30  # of a letter, as in Unicode's stream-safe text; no language has so many
JOINERS = "\u200c\u200d"  # inside words of Persian, of Malayalam and others
CLITICS = {"'s", "'t", "'d", "'m", "'n", "'n'", "'em", "'ll", "'re", "'ve"}  # where they stand by themselves: the dog 's toy
# Thai and Lao, Myanmar, Khmer, kana, Chinese characters.
WITHOUT_SPACES = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
                            "\U00020000-\U0003ffff]{2}")


def tokenize(caption: str) -> list[str]:
    """Lower-case words; punctuation marks are words, hyphenated words stay whole (as in the released captions).

    A word is letters, digits, hyphens and apostrophes with the marks that belong to them, in Unicode's form NFC. The
    apostrophe may be curly, and HTML's entities are read as what they stand for. Quotes around a word are no part of it.
    What stands between two spaces is one word in scripts that put no spaces between words, too.
    """
    text = _spelled(caption)
    words = (text[found.start():found.end()] for found in re.finditer(r"[\w'-]+|[.,;:!?]", _without_marks(text)))
    return [UNKNOWN if word == UNKNOWN else word.lower() for word in map(_unquoted, words)]


def _spelled(caption: str) -> str:
    """A caption with one spelling for what is spelled in several ways."""
    if "&" in caption:
        caption = ENTITY.sub(_character, ENTITY.sub(_character, caption))  # &amp;#39; is seen as often as &#39;
    if caption.isascii():
        return ACCENT_FOR_APOSTROPHE.sub("'", caption)
    return ACCENT_FOR_APOSTROPHE.sub("'", unicodedata.normalize("NFC", _with_few_marks(caption)).translate(SPELLINGS))


def _with_few_marks(text: str) -> str:
    """A text without the marks of a letter beyond MOST_MARKS, which normalizing takes the square of their number for."""
    if len(text) < 1000:
        return text
    kept, marks = [], 0
    for character in text:
        marks = marks + 1 if unicodedata.combining(character) else 0
        if marks <= MOST_MARKS:
            kept.append(character)
    return "".join(kept)


def _character(entity: re.Match[str]) -> str:
    known = entity[1].startswith("#") or f"{entity[1]};" in html5
    return html.unescape(entity[0]) if known else entity[0]


def _without_marks(text: str) -> str:
    """A text of the same length, in which every mark and joiner of a word stands as a letter of it."""
    if text.isascii():
        return text
    letters, inside = [], False
    for character in text:
        mark = inside and (character in JOINERS or unicodedata.category(character).startswith("M"))
        inside = mark or character.isalnum() or character == "_"
        letters.append("_" if mark else character)
    return "".join(letters)


def _unquoted(word: str) -> str:
    """A word without the quotes around it; what has nothing else stays, as does what an apostrophe begins."""
    return word if word.lower() in CLITICS else word.strip("'") or word


class Vocabulary:
    """Words in id order. Id 0 is the padding; a vocabulary without UNK takes no word but its own."""

    def __init__(self, words: Sequence[str]):
        if not words or words[0] != PADDING:
            raise UserError(f"a vocabulary starts with '{PADDING}', the word of id 0; this one starts with {list(words[:1])}")
        self.words = tuple(words)
        self._ids = {word: i for i, word in enumerate(self.words)}
        if len(self._ids) != len(self.words):
            raise UserError(f"a vocabulary holds every word once; twice here: "
                            f"{', '.join(w for w, n in Counter(self.words).items() if n > 1)}")

    @classmethod
    def count(cls, captions: Iterable[Sequence[str]], min_count: int) -> "Vocabulary":
        """The words that occur at least `min_count` times, the most frequent first, after padding and UNK.

        Warns of words in a script without spaces, which are likely to be sentences.
        """
        counts = Counter(word for caption in captions for word in caption)
        run = max(filter(WITHOUT_SPACES.search, counts), key=len, default="")
        if run:
            warnings.warn(f"captions in a script that puts no spaces between words, such as '{run[:40]}': what stands between "
                          "spaces and punctuation marks is taken as one word; put a space after each word where there is none",
                          UserWarningLine, stacklevel=2)
        kept = [word for word, n in counts.items() if n >= min_count and word != UNKNOWN]
        if counts and not kept:
            raise UserError(f"min_count is {min_count}, and no word of training occurs so often (the most frequent one "
                            f"{max(counts.values()):,} times): lower it, or every word is {UNKNOWN}")
        return cls([PADDING, UNKNOWN, *sorted(kept, key=lambda word: (-counts[word], word))])

    @classmethod
    def load(cls, path: Path) -> "Vocabulary":
        """What `save` wrote. Raises UserError where it is no such file."""
        try:
            return cls(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: not a readable vocabulary ({error}); run `dvc repro` to make it again") from error

    def save(self, path: Path) -> None:
        """The words as a JSON list, in id order."""
        path.write_text(json.dumps(self.words, indent=0, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, caption: str) -> list[int]:
        """A caption's ids. What stands between spaces is a word as it is or as another spelling of it, where the vocabulary
        has it (as the released code takes every word), and is read as `tokenize` says where it has not.

        A word outside the vocabulary becomes UNK, with a warning that names it; where the vocabulary has no UNK
        it is a UserError, and so is a caption without words.
        """
        tokens = [token for part in caption.split() for token in self._words(part)]
        if not tokens:
            raise UserError("a caption is empty: give it at least one word")
        return [self._id(token, caption) for token in tokens]

    def _words(self, part: str) -> list[str]:
        """What stands between two spaces, as words."""
        for word in (part, _spelled(part)):
            if word in self._ids and not NAME_OF_NO_WORD.fullmatch(word):
                return [word]
        return tokenize(part)

    def _id(self, token: str, caption: str) -> int:
        if token in self._ids and token != PADDING:
            return self._ids[token]
        if UNKNOWN not in self._ids:
            raise UserError(f"the word '{token}' of the caption '{caption}' is not in the vocabulary: "
                            f"{nearest(token, list(self.words[1:]))}")
        warnings.warn(f"the word '{token}' of the caption '{caption}' is not in the vocabulary; it is read as {UNKNOWN}",
                      UserWarningLine, stacklevel=3)
        return self._ids[UNKNOWN]

    def known(self, tokens: Iterable[str]) -> list[int]:
        """Ids of a dataset's own captions, where unknown words are expected: UNK without a warning."""
        unknown = self._ids.get(UNKNOWN)
        ids = [self._ids.get(token, unknown) for token in tokens]
        if None in ids:
            raise UserError(f"words outside the vocabulary, which has no {UNKNOWN}: {list(tokens)}")
        return ids  # type: ignore[return-value]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """The words of ids, padding left out."""
        return [self.words[i] for i in ids if i]


def pad(captions: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Captions as (M, L) int32, zero padded, and their lengths (M,)."""
    lengths = np.array([len(caption) for caption in captions], np.int32)
    padded = np.zeros((len(captions), int(lengths.max(initial=0))), np.int32)
    for row, caption in zip(padded, captions, strict=True):
        row[:len(caption)] = caption
    return padded, lengths
