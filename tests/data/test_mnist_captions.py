"""MNIST with captions: the grammar, what is held out, and where the digits lie."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from text2image.data import mnist_captions
from text2image.data.mnist_captions import TEMPLATES, TWO_DIGITS, VOCABULARY, Grammar, Layout, Scenes, Span, compose
from text2image.errors import UserError

PAPER = Layout(60, top=Span(0, 2), bottom=Span(30, 32), left=Span(0, 4), right=Span(28, 32), middle=Span(16, 18))
NOTHING = Grammar((10,) * 12)
COUNT = 4000


@pytest.fixture(scope="module")
def bank():
    digits = load_digits()
    return torch.from_numpy((digits.images * 255 / 16).round().astype(np.uint8)), digits.target


@pytest.fixture(scope="module")
def scenes(bank):
    return Grammar.from_seed(1).draw_scenes(COUNT, bank[1], PAPER, False, "test")


def texts(scenes: Scenes) -> list[str]:
    return [" ".join(VOCABULARY.decode(row)) for row in mnist_captions.words(scenes).tolist()]


def test_vocabulary_and_captions_are_those_of_the_released_code(scenes):
    assert len(VOCABULARY) == 23  # 22 words and the padding
    assert [VOCABULARY.words.index(w) - 1 for w in ("0", "9", "the", "digit", "image", ".")] == [0, 9, 10, 11, 20, 21]
    assert {len(t.format(first=1, second=2).split()) for t in TEMPLATES} == {12}
    for text, k, (a, b) in zip(texts(scenes), scenes.template.tolist(), scenes.digits.tolist(), strict=True):
        assert text == mnist_captions.caption(k, a, b)


def test_of_440_captions_none_held_out_is_drawn_and_every_other_is(bank):
    grammar = Grammar.from_seed(3)
    seen, held = grammar.combinations(held_out=False), grammar.combinations(held_out=True)
    assert len(seen) + len(held) == 4 * 100 + 4 * 10
    assert len(held) == 4 * 19 + 4  # a digit at each place: 10 + 10 - 1 of 100 pairs, 1 of 10 alone
    for held_out, expected in ((False, seen), (True, held)):
        drawn = grammar.draw_scenes(20_000, bank[1], PAPER, held_out, "all")
        rows = {(k, a, b if k < TWO_DIGITS else 0) for k, (a, b) in zip(drawn.template.tolist(), drawn.digits.tolist(), strict=True)}
        assert rows == set(map(tuple, expected.tolist()))


def test_held_out_means_what_banned_means_in_the_released_code():
    """create-captions.py skips a scene when banned[2k] is its left or upper digit, or banned[2k+1] the other one."""
    banned = (6, 7, 9, 5, 9, 2, 3, 1, 7, 8, 4, 0)
    grammar = Grammar(banned)
    for k in range(8):
        for i in range(10):
            for j in range(10):
                skipped = (i == banned[2 * k] or j == banned[2 * k + 1]) if k < 4 else i == banned[k + 4]
                assert grammar.is_held_out(k, i, j) == skipped


def test_templates_come_as_often_as_after_rejection(bank):
    """Two digits pass two bans (0.81), one digit one (0.9): the counts that a run of the released code printed."""
    template = Grammar.from_seed(1).draw_scenes(40_000, bank[1], PAPER, False, "often").template
    shares = np.bincount(template.numpy()) / 40_000
    assert shares[:4] == pytest.approx(0.81 / 6.84, abs=0.012)
    assert shares[4:] == pytest.approx(0.9 / 6.84, abs=0.012)


def test_digits_come_from_the_bank_by_label(bank, scenes):
    labels = torch.from_numpy(bank[1])
    assert (labels[scenes.source[:, 0]] == scenes.digits[:, 0]).all()
    two = scenes.template < TWO_DIGITS
    assert (labels[scenes.source[two, 1]] == scenes.digits[two, 1]).all()
    assert len(torch.unique(scenes.source)) > 0.9 * len(labels)


def test_offsets_are_those_of_create_captions(scenes):
    """Rows and columns of both digits, template by template; two digits in a line share the other coordinate."""
    top, bottom, left, right, middle = (0, 2), (30, 32), (0, 4), (28, 32), (16, 18)
    first = [(middle, left)] * 2 + [(top, middle)] * 2 + [(top, left), (bottom, right), (top, right), (bottom, left)]
    second = [(middle, right)] * 2 + [(bottom, middle)] * 2
    for k in range(8):
        at = scenes.offset[scenes.template == k]
        for digit, expected in enumerate([first[k]] + ([second[k]] if k < TWO_DIGITS else [])):
            for axis, (lowest, highest) in enumerate(expected):
                assert set(at[:, digit, axis].tolist()) == set(range(lowest, highest + 1))
        if k < TWO_DIGITS:
            shared = 0 if k < 2 else 1
            assert (at[:, 0, shared] == at[:, 1, shared]).all()


def test_composition_is_that_of_a_loop_over_images(bank):
    layout = Layout(18, top=Span(0, 1), bottom=Span(9, 10), left=Span(0, 4), right=Span(7, 10), middle=Span(4, 6))
    scenes = NOTHING.draw_scenes(300, bank[1], layout, False, "loop")
    expected = torch.zeros(300, 1, 18, 18, dtype=torch.uint8)
    for n in range(300):
        for d in range(2 if scenes.template[n] < TWO_DIGITS else 1):
            row, column = scenes.offset[n, d]
            expected[n, 0, row:row + 8, column:column + 8] = bank[0][scenes.source[n, d]]
    assert torch.equal(compose(scenes, bank[0], 18), expected)


def test_the_same_stream_draws_the_same_and_another_something_else(bank):
    grammar = Grammar.from_seed(1)
    one, same, other = (grammar.draw_scenes(100, bank[1], PAPER, False, 1, "pictures", n) for n in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not torch.equal(one.source, other.source)
    assert Grammar.from_seed(1) == Grammar.from_seed(1) != Grammar.from_seed(2)


def test_what_cannot_be_is_refused():
    with pytest.raises(UserError, match=r"'layout.right' is 28 to 40; digits of 28 pixels in an image of 60 may start at 0 to 32"):
        Layout(60, Span(0, 2), Span(30, 32), Span(0, 4), Span(28, 40), Span(16, 18)).check(28, "layout")
    with pytest.raises(UserError, match="twelve numbers"):
        Grammar.of({"held_out": [1, 2]}, "grammar")
    with pytest.raises(UserError, match=r"the word 'ten' of the caption 'the digit ten \.' is not in the vocabulary"):
        VOCABULARY.encode("the digit ten .")
