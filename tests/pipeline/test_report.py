"""What made a result is noted, seeds are gathered, and stage `report` shows both."""

import json
import subprocess
import sys
import time

import dvc.api
import pytest

from pipeline import seeds, stage
from tests.results.recorded import write
from text2image.results import page, record
from text2image.training.resume import ResumableState


def git(folder, *arguments: str) -> str:
    return subprocess.run(("git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments), cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def test_the_revision_has_a_plus_where_code_or_parameters_differ(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert stage.revision() == "", "no repository"
    git(tmp_path, "init", "-q")
    assert stage.revision() == "", "no commit"
    for name in ("src/a.py", "params.yaml", "results/one/train.json"):
        write(tmp_path / name, "1")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "one")
    head = git(tmp_path, "rev-parse", "HEAD")[:10]
    write(tmp_path / "results/one/train.json", "2")
    assert stage.revision() == head, "a result is no code: while stages run, DVC has taken results away"
    write(tmp_path / "src/b.py", "new")
    assert stage.revision() == f"{head}+"


def run_stage(work, monkeypatch, *arguments: str, **named) -> int:
    monkeypatch.setattr(sys, "argv", ["stage", *arguments])
    monkeypatch.setattr(stage, "_parameters", lambda name: {})
    monkeypatch.setattr(stage, "_written", [])
    monkeypatch.setattr(stage.text2image, "__file__", str(stage.Path.cwd() / "src/text2image/__init__.py"))
    with pytest.raises(SystemExit) as left:
        stage.main("work", work, **named)
    return left.value.code


def test_a_stage_notes_what_made_its_result(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RANK", raising=False)

    def work(parameters, run):
        time.sleep(0.15)
        stage.write_result(run, "bounds", {"headline": {}})
        return 1000.0

    assert run_stage(work, monkeypatch, "one") == 0
    note = json.loads((tmp_path / "results/made/work-one.json").read_text())
    assert (note["stage"], note["command"]) == ("work@one", "python -m pipeline.work one")
    assert 1000.1 <= note["seconds"] < 1030, "with the seconds of the processes that it went on from"
    assert note["machine"]["cores"] >= 1 and note["machine"]["torch"]
    assert list(note["results"]) == ["results/one/bounds.json"]

    def fails(parameters, run):
        raise stage.UserError("no")

    for left_out, named, code in ((fails, {}, 1), (work, {"noted": False}, 0)):
        (tmp_path / "results/made/work-one.json").unlink(missing_ok=True)
        assert run_stage(left_out, monkeypatch, "one", **named) == code
        assert not (tmp_path / "results/made/work-one.json").exists()
    monkeypatch.setenv("RANK", "1")
    assert run_stage(work, monkeypatch, "one") == 0
    assert not (tmp_path / "results/made").is_dir() or not list((tmp_path / "results/made").iterdir()), "one process of several"


def test_a_resumed_training_counts_the_seconds_of_all_its_parts(tmp_path):
    with ResumableState(tmp_path, "run", "f" * 64) as first:
        time.sleep(0.2)
        first.save({"step": 1})
    with ResumableState(tmp_path, "run", "f" * 64) as second:
        assert second.load() == {"step": 1}
        earlier = second.earlier_seconds
        assert 0.2 <= earlier < 30
        time.sleep(0.1)
        second.save({"step": 2})
    with ResumableState(tmp_path, "run", "f" * 64) as third:
        third.load()
        assert third.earlier_seconds >= earlier + 0.1


def row(seed: int, value: object, **others: object) -> dict[str, object]:
    return {"Experiment": "x", "seed": seed, "metrics/digits.json:elbo_test": value, "metrics/shapes.json:elbo_test": -9.0, "runs.digits.train.epochs": 2,
            "pipeline.runs.digits.dataset": "digits", "datasets.digits.size": 18, "src/text2image/a.py": "1a2b", "runs.shapes.train.epochs": 1} | others


def test_experiments_that_differ_in_the_seed_alone_are_gathered():
    rows = [row(1, -35.0), row(2, -36.0), row(10, -37.0), row(2, -99.0), row(3, -1.0, **{"runs.digits.train.epochs": 3}),
            row(4, -1.0, **{"src/text2image/a.py": "ffff"}), row(5, -1.0, **{"datasets.digits.size": 20}), row(6, ""), row(7, float("nan")),
            row(8, -38.0, **{"runs.shapes.train.epochs": 9})]
    found = seeds.by_seed(rows, "digits")
    assert found == {"1": {"elbo_test": -35.0}, "2": {"elbo_test": -36.0}, "8": {"elbo_test": -38.0}, "10": {"elbo_test": -37.0}}
    assert list(found) == ["1", "2", "8", "10"]
    assert seeds.by_seed([], "digits") == {}


@pytest.mark.parametrize("digests", [(None, "eeee"), ("eeee", None), (None, None)])
def test_a_file_of_which_dvc_gives_no_digest_is_no_other_file(digests):
    """So it is where a run is switched on and not made yet. A parameter that one row alone has is a difference."""
    first, second = (row(seed, -35.0, **{"src/text2image/b.py": digest}) for seed, digest in zip((1, 2), digests, strict=True))
    assert list(seeds.by_seed([first, second], "digits")) == ["1", "2"]
    assert list(seeds.by_seed([first, second | {"src/text2image/a.py": "ffff"}], "digits")) == ["1"]
    assert list(seeds.by_seed([first, second | {"runs.digits.train.kl_warmup": 0.5}], "digits")) == ["1"]


def test_the_page_of_a_reproduced_pipeline(short):
    text = short.read("report/index.html")
    head = short.run("git", "rev-parse", "HEAD~1").strip()[:10]  # what it was made from, with shortened training
    for words in ("python -m pipeline.train digits digits align_draw", f"<td>{head}+</td>", "captions in which a word is exchanged", "ours: shapes"):
        assert words in text, words
    notes = {path.stem for path in (short.path / "results/made").glob("*.json")}
    assert {f"{name}-{run}" for name in ("fetch", "preprocess", "train", "sample", "bounds") for run in ("digits", "shapes")} <= notes
    assert not notes & {"report", "evaluate-digits"}
    assert len(text) < 12e6


def test_the_rows_of_dvc_are_read(short, monkeypatch):
    """Those of the workspace and of its commit: one seed; nothing is gathered of one alone."""
    refused = short.stage("seeds", "digits", code=1)
    assert refused == ("error: digits: there are 1 experiments of this commit that differ in the seed alone and have metrics/digits.json; queue them by "
                       "`dvc exp run --queue -S 'seed=1,2,3' evaluate@digits` and run them by `dvc exp run --run-all`\n")
    monkeypatch.chdir(short.path)
    row = json.loads(short.read("metrics/digits.json"))
    assert {"diversity", "right_held_out"} <= row.keys(), "which shapes does not have"
    assert seeds.by_seed(dvc.api.exp_show(), "digits", row) == {"1": row}


def test_seeds_reach_the_page(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(seeds.dvc.api, "exp_show", lambda: [row(1, -35.0), row(2, -37.0), row(3, -36.0)])
    monkeypatch.setattr(sys, "argv", ["seeds", "digits"])
    seeds.main()
    assert "digits.json: seeds 1, 2, 3" in capsys.readouterr().out
    write(tmp_path / "results/digits/train.json", {"headline": {"steps": 10}})
    assert "| digits | 1, 2, 3 | -36.00 ± 1.00 |" in page.markdown(record.read(tmp_path, {}))
