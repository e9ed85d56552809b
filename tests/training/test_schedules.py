"""Learning-rate schedules."""

import pytest

from text2image.training.schedules import CosineSchedule, DropSchedule


def test_schedules():
    drop = DropSchedule("drop", 2, 0.0003)
    assert [drop.rate(0.003, done, 3) for done in (0, 1.99, 2, 2.5)] == [0.003, 0.003, 0.0003, 0.0003]
    assert DropSchedule("drop", 0, 0.0003).rate(0.003, 2.9, 3) == 0.003
    cosine = CosineSchedule("cosine", 0.0003)
    assert [cosine.rate(0.003, done, 3) for done in (0, 1.5, 3)] == pytest.approx([0.003, 0.00165, 0.0003])
