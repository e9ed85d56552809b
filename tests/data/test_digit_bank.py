"""A bank of digits: divided in its order."""

import numpy as np
import pytest

from text2image.data.digit_bank import BankSizes, ComposeConfig, DigitBank, ImageCounts, prepare, split
from text2image.data.layout import Layout, Span
from text2image.data.prepared import PreparedWriter
from text2image.errors import UserError


def test_more_digits_asked_for_than_there_are():
    bank = DigitBank(np.zeros((5, 8, 8), np.uint8), np.zeros(5, np.uint8))
    with pytest.raises(UserError, match="ask for 6, the bank has 5"):
        split(bank, {"train": 4, "dev": 1, "test": 1})


def test_splits_are_in_the_order_of_the_bank():
    bank = DigitBank(np.arange(11, dtype=np.uint8).repeat(9).reshape(11, 3, 3), np.arange(11, dtype=np.uint8))
    parts = split(bank, {"train": 5, "dev": 3, "test": 2})
    assert {name: part.labels.tolist() for name, part in parts.items()} == {"train": [0, 1, 2, 3, 4], "dev": [5, 6, 7], "test": [8, 9]}
    assert all((part.images[:, 0, 0] == part.labels).all() for part in parts.values())


def test_a_layout_that_has_no_room_is_named_by_its_parameter(tmp_path):
    layout = Layout(12, top=Span(0, 1), bottom=Span(3, 5), left=Span(0, 1), right=Span(3, 4), middle=Span(2, 3))
    bank = DigitBank(np.zeros((5, 8, 8), np.uint8), np.zeros(5, np.uint8))
    with pytest.raises(UserError, match=r"'datasets\.x\.preprocess\.layout\.bottom' is 3 to 5; digits of 8 pixels in an image of 12"):
        prepare(bank, ComposeConfig(BankSizes(3, 1, 1), ImageCounts(1, 1), layout), PreparedWriter(tmp_path), 1, "datasets.x.preprocess")
