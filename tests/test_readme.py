"""README.md says what is so."""

import re
import shutil

import pytest

from pipeline import report
from tests.conftest import ROOT, Repository

README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(name: str) -> str:
    return re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", README, re.DOTALL)[1].strip()


def test_the_table_is_that_of_the_metrics(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert block("report") == report.as_markdown(report.table())


def test_the_graph_is_that_of_the_pipeline(checkout):
    assert block("dag") == checkout.dvc("dag", "--md").strip()


def test_every_file_that_it_names_is_there():
    named = set(re.findall(r"\]\((?!http)([^)#]+)\)", README)) | set(re.findall(r"\b(?:captions|docs|src)/[\w/.]+\.\w+", README))
    assert len(named) > 5
    for name in named:
        assert (ROOT / name).is_file(), name


def test_every_parameter_and_target_that_it_names_is_there(checkout, tmp_path):
    copy = checkout.copy(tmp_path / "text2image")
    names = re.findall(r"-S '?((?:runs|datasets)[\w.]+)=", README)
    assert len(names) >= 4
    from dvc.utils.serialize import load_yaml

    parameters = load_yaml(str(copy.path / "params.yaml"))
    for name in names:
        value = parameters
        for part in name.split("."):
            value = value[part]
    for target in re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE):
        assert target in (*re.findall(r"`?make ([\w-]+)", README), "report", "docs"), f"README.md does not speak of make {target}"


def test_switching_mnist_on_by_an_experiment(checkout, tmp_path):
    """The command of README.md, as it stands there, as far as the graph: the stages of mnist are found."""
    copy = checkout.copy(tmp_path / "text2image")
    command = re.search(r"\$ (dvc exp run -S '\+pipeline.*?) evaluate@mnist sample@mnist", README, re.DOTALL)[1]
    said = copy.run("sh", "-c", command.replace("\\\n", " ") + " --dry evaluate@mnist", code=None)
    assert "Running stage 'fetch@mnist'" in said or "pipeline.fetch mnist" in said, said


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_the_makefile_installs_only_once(checkout):
    said = Repository(checkout.path).run("make", "-n", "reproduce")
    assert "-m venv .venv" in said
    assert said.index("pip install") < said.index("dvc repro") < said.index("pipeline.report")
