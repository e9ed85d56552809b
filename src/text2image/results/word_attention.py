"""Where a model writes while it attends to a word: the write window of each glimpse, weighted by the word's attention.

The paper shows attention over words glimpse by glimpse (its figure of the motorcycle rider, and that of MNIST); here the two
kinds of attention, over words and over the canvas, are put together.
"""

from collections.abc import Sequence

import numpy as np

# Words that name nothing one could see: articles, prepositions, conjunctions, forms of "be" and "have", pronouns.
FUNCTION_WORDS = frozenset((
    "a", "an", "the", "this", "that", "these", "those", "some", "any", "each", "of", "on", "in", "at", "to", "from", "by",
    "with", "without", "for", "into", "onto", "over", "up", "off", "out", "as", "and", "or", "but", "while", "is", "are",
    "was", "were", "be", "been", "being", "has", "have", "having", "do", "does", "there", "it", "its", "his", "her",
    "their", "them", "they", "he", "she", "who", "which", "very", "through", "near", "next"))


def content_words(words: Sequence[str]) -> list[int]:
    """The places of a caption's content words: neither function words nor punctuation."""
    return [place for place, word in enumerate(words)
            if word.lower() not in FUNCTION_WORDS and any(letter.isalnum() for letter in word)]


def coverage(windows: np.ndarray, height: int, width: int) -> np.ndarray:
    """(..., H, W): the share of each pixel that a window covers; windows (..., 4) left, top, right, bottom in pixels.

    A window narrower than a pixel counts as a pixel wide, so that none vanishes; what lies beyond the image is cut off.
    """
    left, top, right, bottom = np.moveaxis(windows.astype(np.float64), -1, 0)
    return _covered(top, bottom, height)[..., :, None] * _covered(left, right, width)[..., None, :]


def _covered(start: np.ndarray, end: np.ndarray, size: int) -> np.ndarray:
    """(..., size): the share of each pixel of a row that lies between start and end (...)."""
    middle, half = (start + end) / 2, np.maximum((end - start) / 2, 0.5)
    pixels = np.arange(size)
    return (np.minimum((middle + half)[..., None], pixels + 1) - np.maximum((middle - half)[..., None], pixels)).clip(0, 1)


def share_of_glimpses(alphas: np.ndarray) -> np.ndarray:
    """(T, L): of each word's attention, alphas (T, L), the share that each glimpse has; zeros for a word never attended to."""
    totals = alphas.sum(0, keepdims=True, dtype=np.float64)
    return np.divide(alphas, totals, out=np.zeros(alphas.shape), where=totals > 0)


def maps(alphas: np.ndarray, windows: np.ndarray, height: int, width: int) -> np.ndarray:
    """(L, H, W): for each word how much of its attention fell into glimpses whose write window covered the pixel, in [0, 1].

    alphas (T, L), windows (T, 4). The map of a word is the mean of the windows, weighted by `share_of_glimpses`.
    """
    return np.einsum("tl,thw->lhw", share_of_glimpses(alphas), coverage(windows, height, width))
