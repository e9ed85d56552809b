"""Tables of whatever a result holds."""

import pytest

from tests.results.recorded import BOUNDS, HOSTILE, NOVEL
from text2image.results import tables


@pytest.mark.parametrize(("value", "text"), [
    ({"mean": -37.6265, "se": 0.4418}, "-37.63 ± 0.44"), ({"mean": 0.8475, "se": 0.0123}, "0.848 ± 0.012"),
    ({"mean": 0.156, "sd": 0.11}, "0.16 ± 0.11"), ({"mean": 0.0312, "se": 0.00071}, "0.0312 ± 0.0007"), ({"mean": 0.5, "se": 0.0}, "0.50 ± 0.00"),
    ({"mean": 0.8475, "low": 0.8312, "high": 0.8621}, "0.848 (0.831 to 0.862)"), ({"mean": 3}, "3"),
    ({"median": 29.0, "se": 1.5}, "29.00 ± 1.50"), ({"mean": 0.1563, "se": 0.0021, "std": 0.1104}, "0.1563 ± 0.0021 (sd 0.11)"),
    (6000, "6,000"), (2.5, "2.50"), (0.0103, "0.010"), (float("nan"), "nan"), (True, "yes"), (None, "-"), ("x" * 90, "x" * 77 + "..."),
    ([1, "two"], "1 two")])
def test_a_cell(value, text):
    assert tables.cell(value) == text


def test_blocks_alike_are_rows_and_others_tables():
    first, iwae = tables.of_metric("bounds", {"one": BOUNDS})
    assert first.columns == ("run", "split", "ELBO", "KL", "captions", "images")
    assert first.rows == (
        ("one", "dev", "-36.99 ± 0.45", "2.85 ± 0.05", "40", "20"), ("one", "test", "-35.60 ± 0.42", "2.75 ± 0.04", "40", "20"),
        ("one", "test, never seen", "-40.00 ± 2.00", "3.00 ± 0.10", "4", "2"))
    assert (iwae.title, iwae.rows[1]) == ("bounds: IWAE", ("one", "test", "-35.15 ± 0.41", "10"))


def test_a_metric_that_nobody_knows():
    found = {table.title: table for table in tables.of_metric("novelty", {"one": NOVEL})}
    assert found["novelty"].rows == (("one", "test", "0.848 (0.831 to 0.862)", HOSTILE),)
    assert found["novelty: by digit"].columns == ("run", "split", "5", "8", "1")
    digits = found["novelty: held out digits"]
    assert digits.columns == ("run", "place", "digit", "drawn")
    assert digits.rows == (("one", "top left", "3", "8 0.75, 3 0.25"), ("one", "left", "7", ""))
    assert found["novelty: by digit"].rows == (("one", "test, 3", "10", "2", "-"), ("one", "test, 7", "-", "-", "4"))


def test_a_table_that_would_be_too_wide_has_a_row_a_number():
    (table,) = tables.of_metric("wide", {"one": {f"n{i}": i for i in range(tables.MOST_COLUMNS + 1)}})
    assert table.columns == ("run", "what", "value")
    assert table.rows[3] == ("one", "n3", "3")


def test_a_list_of_numbers_is_a_curve_and_no_cell():
    assert tables.curves(BOUNDS) == [tables.Curve(("test", "kl_of_glimpses"), (1.0, 0.5, 0.25))]
    of_one = {"test": {"elbo": {"mean": -1.0, "se": 0.1}, "kl_of_glimpses": [2.5]}}
    assert tables.curves(of_one) == [], "one number is no curve"
    assert not any("glimpses" in column for bounds in (BOUNDS, of_one) for table in tables.of_metric("bounds", {"one": bounds})
                   for column in table.columns)


def test_a_mean_beside_a_median_is_a_row():
    """Of distances to the nearest image both are told, and the smallest."""
    distances = {"real": {"mean": 1.99, "median": 1.84, "smallest": 0.64, "images": 500},
                 "samples": {"mean": 1.72, "median": 1.68, "smallest": 0.87, "images": 64}, "training_images": 10_000}
    searched, table = tables.of_metric("diversity", {"one": {"nearest": distances}})
    assert (searched.columns, searched.rows) == (("run", "of", "training images"), (("one", "nearest", "10,000"),))
    assert table.title == "diversity: nearest"
    assert table.columns == ("run", "of", "mean", "median", "smallest", "images")
    assert table.rows == (("one", "real", "1.99", "1.84", "0.64", "500"), ("one", "samples", "1.72", "1.68", "0.87", "64"))


def test_a_headline_has_the_error_of_the_number_that_it_is():
    assert tables.with_error("elbo_test", -35.6037, BOUNDS) == "-35.60 ± 0.42"
    assert tables.with_error("iwae_test", -35.1545, BOUNDS) == "-35.15 ± 0.41"
    same = {"dev": {"a": {"mean": 1.5, "se": 0.1}}, "test": {"a": {"mean": 1.5, "se": 0.2}}}
    assert tables.with_error("a_test", 1.5, same) == "1.50 ± 0.20", "of two such means that whose path has its words"
    same = {"drawn": {"other_wording": {"right": {"mean": 1.0, "se": 0.2}}, "seen": {"right": {"mean": 1.0, "se": 0.1}}}}
    assert tables.with_error("right", 1.0, same) == "1.00 ± 0.10", "and of those whose paths have its words the shortest"
    assert tables.with_error("elbo_test", -1.25, BOUNDS) == "-1.25", "no error where nothing says"
    assert tables.with_error("steps", 6000, {}) == "6,000"


def test_markdown_is_one_table_whatever_a_result_holds():
    text = tables.as_markdown(tables.Table("", ("a", "b"), ((HOSTILE, "x | y\nz"), ("`c`", "d"))))
    assert "<" not in text
    assert [line.replace("\\|", "").count("|") for line in text.splitlines()] == [3, 3, 3, 3]
