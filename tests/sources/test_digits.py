"""scikit-learn's digits, fetched and prepared."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from text2image.data import datasets
from text2image.data.digit_bank import BankSizes, ComposeConfig, ImageCounts
from text2image.data.layout import Layout, Span
from text2image.data.prepared import PreparedWriter
from text2image.errors import UserError
from text2image.sources import digits

LAYOUT = Layout(19, top=Span(0, 1), bottom=Span(9, 11), left=Span(0, 1), right=Span(9, 11), middle=Span(4, 6))


def test_fetched_and_prepared(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "prepared").mkdir()
    digits.fetch(digits.FetchConfig(), tmp_path / "raw", tmp_path / "kept", "here")
    bank, real = digits.read_digits(tmp_path / "raw" / digits.FILE), load_digits()
    assert bank.images.shape == (1797, 8, 8)
    assert np.array_equal(bank.labels, real.target)
    assert np.array_equal(np.rint(bank.images * (16 / 255)), real.images), "17 shades"
    out = PreparedWriter(tmp_path / "prepared")
    config = ComposeConfig(BankSizes(1397, 200, 101), ImageCounts(13, 7), LAYOUT)
    digits.prepare(config, tmp_path / "raw", out, 1, "here")
    assert np.array_equal(datasets.load(tmp_path / "prepared/train.h5").digits.numpy(), bank.images[:1397])
    assert (out.counts["dev"]["images"], out.counts["test_held_out"]["images"]) == (13, 7)


def test_a_file_cut_short(tmp_path):
    path = tmp_path / digits.FILE
    digits.write_digits(path)
    content = path.read_bytes()
    for size in (0, 10, len(content) // 2, len(content) - 30):
        path.write_bytes(content[:size])
        with pytest.raises(UserError, match=r"not readable .*; run `dvc repro` to fetch it again"):
            digits.read_digits(path)
