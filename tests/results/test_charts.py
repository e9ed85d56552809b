"""Line charts as SVG."""

import re
from xml.etree import ElementTree

import pytest

from text2image.results import charts


@pytest.mark.parametrize(("low", "high", "marks"), [(0, 10, [0, 2, 4, 6, 8, 10]), (1, 150, [50, 100, 150]), (-37.9, -35.2, [-37.5, -37.0, -36.5, -36.0, -35.5]),
                                                   (0.001, 0.0035, [0.001, 0.0015, 0.002, 0.0025, 0.003, 0.0035]), (5, 5, [5])])
def test_ticks_are_round_numbers_within(low, high, marks):
    assert charts.ticks(low, high) == pytest.approx(marks)


def points(svg: str, line: int) -> list[tuple[float, float]]:
    path = re.findall(rf'class="line{line}" d="M([^"h]+)"', svg)[0]
    return [tuple(map(float, point.split())) for point in path.split("L")]


def test_points_lie_where_they_belong():
    svg = charts.line_chart("t", {"a": [(0, 0.0), (10, 10.0)], "b": [(0, 10.0), (5, float("nan")), (10, 0.0)]}, "epoch", "y")
    left, right, top, bottom = charts.LEFT, charts.WIDTH - charts.RIGHT, charts.TOP, charts.HEIGHT - charts.BOTTOM
    assert points(svg, 0) == [(left, bottom), (right, top)]
    assert points(svg, 1) == [(left, top), (right, bottom)], "what is not finite is left out"


def test_first_epochs_that_dwarf_the_rest_do_not_decide_the_scale():
    values = [(epoch, -1000.0 if epoch == 1 else -150.0 + epoch) for epoch in range(1, 21)]
    svg = charts.line_chart("t", {"a": values}, "epoch", "y")
    found = points(svg, 0)
    assert found[0][1] == found[1][1] or found[0][1] == charts.HEIGHT - charts.BOTTOM
    assert found[-1][1] < charts.TOP + 20, "the rest has the whole height"
    even = charts.line_chart("t", {"a": [(epoch, float(epoch)) for epoch in range(20)]}, "epoch", "y")
    assert points(even, 0)[0][1] == charts.HEIGHT - charts.BOTTOM and points(even, 0)[1][1] < charts.HEIGHT - charts.BOTTOM


def test_it_is_well_formed_and_names_are_escaped():
    hostile = '<script>"&'
    root = ElementTree.fromstring(charts.line_chart(hostile, {hostile: [(1, 2.0)], "b": [(1, 3.0), (2, 4.0)]}, hostile, hostile))
    assert root.get("aria-label") == hostile
    assert not root.findall(".//script")
    assert len(root.findall("circle")) == 1, "a series of one point is a dot"
    assert charts.line_chart("t", {"a": [(1, float("nan"))]}, "x", "y") == ""
