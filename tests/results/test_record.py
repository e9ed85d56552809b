"""The record of runs, as it is read for the page and the documents."""

import hashlib
import json
import re

import pytest

from tests.conftest import ROOT
from tests.results import recorded
from text2image.errors import UserError
from text2image.results import paper, record, tables


def test_a_run_is_read_whole(tmp_path):
    found = record.read(recorded.make(tmp_path), {"two": {"dataset": "other", "model": "draw"}})
    one, two = found.runs["one"], found.runs["two"]
    assert list(one.results) == ["train", "bounds", "novelty", "retrieval", "similarity"]
    assert (one.dataset, one.kind, two.dataset, two.kind) == ("small", "align_draw", "other", "draw")
    assert one.curves["train"]["train_elbo"] == [-60, -50, -40.5]
    assert one.curves["train"]["dev_elbo"][2] != one.curves["train"]["dev_elbo"][2], "an empty field is nan"
    assert one.made == (record.Made("train@one", "python -m pipeline.train one small align_draw", "0123456789+", "5 min",
                                    "a processor, 2 cores, PyTorch 2.13.0"),)
    assert record.of_datasets(found)[0].title == "Prepared data"


def test_the_summary_has_every_headline_with_its_error(tmp_path):
    found = record.read(recorded.make(tmp_path), {})
    table = record.summary(found, ["one", "two"])
    assert table.columns == ("run", "ELBO test", "IWAE bound", "novelty test", "R@1", "steps")
    assert table.rows == (("one", "-35.60 ± 0.42", "-35.15 ± 0.41", "0.848 (0.831 to 0.862)", "3.40 ± 0.50", "6,000"),
                          ("two", "-", "-", "-", "-", "6,000"))


def test_several_seeds_are_a_mean_with_its_standard_deviation(tmp_path):
    found = record.read(recorded.make(tmp_path), {})
    assert record.seeds(found).rows == (("one", "1, 2, 3", "-36.00 ± 1.00"),)
    (tmp_path / "results/seeds/one.json").write_text('{"1": {"elbo_test": -35.0}}')
    assert record.seeds(record.read(tmp_path, {})) is None


def test_ours_stand_below_the_papers_model_that_they_are(tmp_path):
    (retrieval, bounds, binarized) = (table for _, table in record.beside_the_paper(record.read(recorded.make(tmp_path), {})))
    assert retrieval.rows[-2:] == (("alignDRAW", record.PAPER, "Microsoft COCO", "3.0", "14.0", "22.9", "68.5", "31", "0.156 ± 0.11"),
                                   ("alignDRAW", "ours: one", "small", "3.40 ± 0.50", "15.10", "-", "-", "29.00 ± 1.50", "0.1563 ± 0.0021 (sd 0.11)"))
    assert bounds.rows[-1] == ("alignDRAW", "ours: one", "small", "-", "-35.60 ± 0.42", "-", "-")
    assert all(row[1] == record.PAPER for row in binarized.rows)


def test_bounds_after_sharpening_are_found():
    pattern = paper.BOUNDS.columns["test after sharpening"]
    assert re.search(pattern, "bounds test sharpened elbo") and re.search(pattern, "sharpen test sharpened elbo")
    assert not re.search(pattern, "bounds dev sharpened elbo") and not re.search(pattern, "sharpen dev sharpened error")
    sharpened = {"sharpen": json.loads((ROOT / "results/flickr8k/sharpen.json").read_text())}
    change = sharpened["sharpen"]["bounds"]["test"]["difference"]
    assert tables.find(sharpened, paper.BOUNDS.columns["change on the same images"]) == tables.cell(change)


def test_every_table_of_the_paper_is_whole_and_its_figures_as_they_are_recalled():
    for published in paper.TABLES:
        assert {len(row) for row in published.rows.values()} == {len(published.columns)}, published.title
    assert paper.RETRIEVAL.rows["noAlignDRAW"] == ("2.8", "14.1", "23.1", "68.0", "31", "0.155 ± 0.11")
    assert paper.BOUNDS.rows["alignDRAW"] == ("-1792.15", "-1791.53", "-2042.31", "-250.78")
    for _, test, sharpened, change in paper.BOUNDS.rows.values():
        assert float(change) == pytest.approx(float(sharpened) - float(test))
    assert paper.STATUS == "as recalled, unverified" and "unverified" in record.PAPER


def test_a_note_of_another_result_says_nothing_of_this_one(tmp_path):
    recorded.make(tmp_path)
    path, note = tmp_path / "results/made/train-one.json", json.loads((tmp_path / "results/made/train-one.json").read_text())
    digest = hashlib.sha256((tmp_path / "results/one/train.json").read_bytes()).hexdigest()[:16]
    for known, seconds in ((digest, "5 min"), ("0" * 16, "-")):
        recorded.write(path, note | {"results": {"results/one/train.json": known}})
        assert record.read(tmp_path, {}).runs["one"].made[0].seconds == seconds


@pytest.mark.parametrize(("seconds", "text"), [(3.21, "3.2 s"), (45.2, "45 s"), (321, "5 min"), (8400, "2.3 h")])
def test_durations(seconds, text):
    assert record.duration(seconds) == text


@pytest.mark.parametrize(("path", "content"), [
    ("results/one/bounds.json", "{"), ("results/one/bounds.json", "[1]"), ("results/one/bounds.json", '{"headline": {"elbo": "x"}}'), ("metrics/one.json", '{"elbo_dev": 1}'),
    ("results/made/train-one.json", "\0"), ("plots/train/one.tsv", "epoch\telbo\n1\tx\n"), ("plots/train/one.tsv", "epoch\telbo\n1\n"),
    ("results/seeds/one.json", "nothing"), ("results/datasets/small.json", "[" * 10**5)])
def test_what_is_damaged_is_named(tmp_path, path, content):
    recorded.make(tmp_path)
    (tmp_path / path).write_text(content)
    with pytest.raises(UserError, match=r"not a whole result \(.*\); `dvc repro.*` makes it again$") as error:
        record.read(tmp_path, {})
    assert str(error.value).startswith(str(tmp_path / path))


def test_nothing_at_all(tmp_path):
    found = record.read(tmp_path, {})
    assert (found.runs, record.metrics(found), record.of_datasets(found), record.seeds(found)) == ({}, [], [], None)
