"""Captions as words, words as ids."""

import json
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from text2image.config import nearest
from text2image.errors import UserError, UserWarningLine

PADDING = "<pad>"
UNKNOWN = "UNK"  # as in the released dictionary.pkl
NAME_OF_NO_WORD = re.compile(r"<\w+>")  # the padding, and ids that a published dictionary leaves out


def tokenize(caption: str) -> list[str]:
    """Lower-case words; punctuation marks are words, hyphenated words stay whole (as in the released captions)."""
    return [UNKNOWN if token == UNKNOWN else token.lower() for token in re.findall(r"[\w'-]+|[.,;:!?]", caption)]


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
    def count(cls, captions: Iterable[Sequence[str]], least: int) -> "Vocabulary":
        """The words that occur at least `least` times, the most frequent first, after padding and UNK."""
        counts = Counter(word for caption in captions for word in caption)
        kept = [word for word, n in counts.items() if n >= least and word != UNKNOWN]
        return cls([PADDING, UNKNOWN, *sorted(kept, key=lambda word: (-counts[word], word))])

    @classmethod
    def load(cls, path: Path) -> "Vocabulary":
        try:
            return cls(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: not a readable vocabulary ({error}); run `dvc repro` to make it again") from error

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(self.words, indent=0, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, caption: str) -> list[int]:
        """A caption's ids. What stands between spaces is a word as it is, where the vocabulary has it (as the released code
        takes every word), and is read as `tokenize` says where it has not.

        A word outside the vocabulary becomes UNK, with a warning that names it; where the vocabulary has no UNK
        it is a UserError, and so is a caption without words.
        """
        tokens = [token for part in caption.split()
                  for token in ([part] if part in self._ids and not NAME_OF_NO_WORD.fullmatch(part) else tokenize(part))]
        if not tokens:
            raise UserError("a caption is empty: give it at least one word")
        return [self._id(token, caption) for token in tokens]

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
