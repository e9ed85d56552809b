"""Where digits may lie."""

import pytest

from text2image.data.layout import Layout, Span
from text2image.errors import UserError

GOOD = {"top": Span(0, 2), "bottom": Span(5, 6), "left": Span(0, 1), "right": Span(4, 6), "middle": Span(2, 3)}


def test_digits_that_fit():
    Layout(13, **GOOD).check(7, "layout")


@pytest.mark.parametrize(("change", "words"), [
    ({"bottom": Span(5, 7)}, "'layout.bottom' is 5 to 7; digits of 7 pixels in an image of 13 may start at 0 to 6, min not above max"),
    ({"left": Span(2, 1)}, "'layout.left' is 2 to 1; digits of 7 pixels")])
def test_digits_that_do_not_fit(change, words):
    with pytest.raises(UserError) as error:
        Layout(13, **GOOD | change).check(7, "layout")
    assert words in str(error.value)
