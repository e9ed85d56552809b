"""Where a model writes while it attends to a word."""

import numpy as np
from PIL import Image

from text2image.results import figures, word_attention


def test_content_words():
    words = ["the", "digit", "3", "is", "on", "the", "left", "of", "the", "digit", "7", "."]
    assert [words[place] for place in word_attention.content_words(words)] == ["digit", "3", "left", "digit", "7"]
    assert word_attention.content_words(["A", ".", "the"]) == []


def test_coverage_of_pixels():
    whole = word_attention.coverage(np.array([1.0, 2.0, 4.0, 3.0]), 5, 7)
    assert whole.shape == (5, 7)
    np.testing.assert_array_equal(np.argwhere(whole), [[2, 1], [2, 2], [2, 3]])
    assert whole.max() == 1 and whole.sum() == 3
    half = word_attention.coverage(np.array([0.5, 0.0, 1.5, 2.0]), 2, 3)
    np.testing.assert_allclose(half, [[0.5, 0.5, 0], [0.5, 0.5, 0]])
    assert word_attention.coverage(np.array([1.5, 1.5, 1.5, 1.5]), 3, 3).sum() == 1, "a window is never less than a pixel"
    np.testing.assert_array_equal(word_attention.coverage(np.array([-9.0, -9.0, 99.0, 99.0]), 2, 3), np.ones((2, 3)))
    assert word_attention.coverage(np.array([50.0, 50.0, 60.0, 60.0]), 2, 3).sum() == 0, "what lies beyond the image is cut off"


def test_the_map_of_a_word_is_the_mean_of_the_windows_by_its_attention():
    """Word 0 is attended to at the first glimpse alone, word 1 at both in the proportion 1 : 3, word 2 never."""
    alphas = np.array([[0.9, 0.1, 0.0], [0.0, 0.3, 0.0]], np.float32)
    windows = np.array([[0, 0, 2, 1], [3, 2, 5, 3]], np.float32)
    np.testing.assert_allclose(word_attention.share_of_glimpses(alphas), [[1, 0.25, 0], [0, 0.75, 0]], rtol=1e-6)
    maps = word_attention.maps(alphas, windows, 3, 5)
    first, second = np.zeros((3, 5)), np.zeros((3, 5))
    first[0, :2] = second[2, 3:] = 1
    np.testing.assert_allclose(maps, np.stack([first, 0.25 * first + 0.75 * second, np.zeros((3, 5))]), atol=1e-7)


def test_the_figure_has_a_row_a_word_and_is_bright_where_the_word_was_attended_to(tmp_path):
    rng = np.random.default_rng(0)
    canvases = np.full((2, 1, 11, 13), 1.0)
    windows = np.array([[1.0, 1, 5, 5], [6, 6, 11, 10]])
    lit = figures._lit(figures.as_bytes(canvases), np.array([1.0, 0.0]), windows)
    assert lit[0, 9, 1].tolist() == [255] * 3 and lit[1, 1, 1].tolist() == [38] * 3
    assert lit[0, 1, 1].tolist() == list(figures.INK), "the window's corner"
    where = np.zeros((11, 13))
    where[2, 3] = 0.5
    shown = figures._coloured(figures.as_bytes(canvases)[0], where)
    assert shown[2, 3, 0] > shown[2, 3, 2] and shown[0, 0].tolist() == [255] * 3
    words = [figures.AttendedWord(caption, word, rng.random((2, 3, 11, 13)), windows, np.array([0.2, 0.8]), where)
             for caption, word in (("a red dog", "red"), ("a red dog", "dog"), ("a cat", "cat"))]
    for name in ("one.png", "two.png"):
        figures.words_plot(tmp_path / name, words)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes(), "equal figures are equal files"
    figures.words_plot(tmp_path / "fewer.png", words[:1])
    with Image.open(tmp_path / "one.png") as more, Image.open(tmp_path / "fewer.png") as fewer:
        assert more.height > 1.5 * fewer.height


def test_exchanged_words_are_marked():
    assert figures.mark_exchanged(["a red dog .", "a blue dog .", "a blue cat ."]) == ["a [red] [dog] .", "a [blue] [dog] .", "a [blue] [cat] ."]
    assert figures.mark_exchanged(["a dog .", "a red dog ."]) == ["a dog .", "a red dog ."]
