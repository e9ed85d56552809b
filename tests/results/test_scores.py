"""Means over images, with their standard errors."""

import pytest
import torch

from text2image.results.scores import Scores


def test_standard_errors_are_over_pictures():
    """Two captions of a image that score alike tell no more than one."""
    scores, doubled = Scores(), Scores()
    values = torch.tensor([1.0, 4.0, 2.0, 9.0])
    scores.add(torch.arange(4), bound=values)
    doubled.add(torch.arange(8) // 2, bound=values.repeat_interleave(2))
    assert scores.summary()["bound"] == doubled.summary()["bound"] == {"mean": 4.0, "se": pytest.approx(1.7795, abs=1e-4)}
    assert (doubled.summary()["captions"], doubled.summary()["images"]) == (8, 4)
