"""README.md says what is so."""

import re
import shutil

import pytest

from pipeline import report
from tests.conftest import ROOT
from tests.test_dvc_yaml import everything_on

README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(name: str) -> str:
    return re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", README, re.DOTALL)[1].strip()


def test_the_table_is_that_of_the_metrics(checkout, tmp_path, monkeypatch):
    """As committed: `make reproduce` on another machine may give other last digits."""
    checkout.run("git", "clone", "-q", str(ROOT), str(tmp_path / "clone"))
    monkeypatch.chdir(tmp_path / "clone")
    committed = (tmp_path / "clone/README.md").read_text(encoding="utf-8")
    for block, on in (("report", True), ("recorded", False)):
        assert report.replace_block(committed, block, report.as_markdown(report.table(on))) == committed


def test_the_graph_is_that_of_the_pipeline(checkout):
    assert block("dag") == checkout.dvc("dag", "--md").strip()


def test_every_file_that_it_names_is_there():
    named = set(re.findall(r"\]\((?!http)([^)#]+)\)", README)) | set(re.findall(r"\b(?:captions|docs|src)/[\w/.]+\.\w+", README))
    assert len(named) > 5
    for name in named:
        assert (ROOT / name).is_file(), name


def test_every_parameter_and_target_that_it_names_is_there(checkout, tmp_path):
    copy = checkout.copy(tmp_path / "text2image")
    names = re.findall(r"-S ['\"]?((?:runs|datasets|pipeline)[\w.]+)=", README)
    assert len(names) >= 5
    from dvc.utils.hydra import to_hydra_overrides
    from dvc.utils.serialize import load_yaml

    overrides = re.findall(r"-S (?:'([^']+)'|\"([^\"]+)\"|(\S+))", README)
    assert len(to_hydra_overrides([next(filter(None, quoted)) for quoted in overrides])) >= 8, "DVC can read them all"

    parameters = load_yaml(str(copy.path / "params.yaml"))
    for name in names:
        value = parameters
        for part in name.split("."):
            value = value[part]
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"(?:`|\$ |whl/cpu )make ([\w-]+)", README)) <= targets
    everything_on(copy)
    stages = set(re.findall(r"\b((?:fetch|preprocess|train|sample|evaluate|train_sharpener|sharpen)@\w+)", README))
    assert len(stages) > 5
    assert stages <= {line.split()[0] for line in copy.dvc("stage", "list").splitlines()}


def test_switching_mnist_on_by_an_experiment(checkout, tmp_path):
    """The command of README.md, as it stands there, as far as the graph: the stages of mnist are found."""
    copy = checkout.copy(tmp_path / "text2image")
    command = re.search(r"\$ (dvc exp run -S '\+pipeline.*? evaluate@mnist sample@mnist)", README, re.DOTALL)[1]
    copy.run("sh", "-c", command.replace("\\\n", " ").replace("exp run", "exp run --queue"))
    copy.run("git", "stash", "apply", copy.run("git", "rev-parse", "refs/exps/celery/stash").strip())
    listed = {line.split()[0] for line in copy.dvc("stage", "list").splitlines()}
    assert {"fetch@mnist", "train@mnist", "evaluate@mnist", "sample@mnist"} <= listed


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_the_makefile_installs_once_and_then_reproduces(checkout, tmp_path):
    copy = checkout.copy(tmp_path / "text2image")
    said = copy.run("make", "-n", "reproduce")
    assert said.index("-m venv .venv") < said.index("pip install") < said.index("dvc repro") < said.index("pipeline.report")
    (copy.path / ".venv").mkdir()
    (copy.path / ".venv/ready").touch()
    assert "pip install" not in copy.run("make", "-n", "test")


def test_the_override_of_captions_is_understood(checkout, tmp_path):
    copy = checkout.copy(tmp_path / "text2image")
    command = re.search(r"\$ (dvc exp run -S 'runs.shapes.sample.captions=.*?)\n", README)[1]
    copy.run("sh", "-c", command.replace("exp run", "exp run --queue"))
    copy.run("git", "stash", "apply", copy.run("git", "rev-parse", "refs/exps/celery/stash").strip())
    from dvc.utils.serialize import load_yaml

    assert load_yaml(str(copy.path / "params.yaml"))["runs"]["shapes"]["sample"]["captions"] == [
        "a small red square below a large blue circle ."]
