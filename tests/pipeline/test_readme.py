"""README.md and the other documents say what is so: tables, files, parameters, stages, commands and code."""

import re
import shutil
from pathlib import Path

import pytest

from pipeline import docs, table
from tests.conftest import ROOT
from tests.documents import blocks
from tests.pipeline.test_dvc_yaml import everything_on
from text2image.results import page, record, tables

README = (ROOT / "README.md").read_text(encoding="utf-8")
EXTENDING = ROOT / "docs/extending.md"  # it names files and stages that its reader makes
OTHERS = [path for path in (*sorted((ROOT / "docs").glob("*.md")), ROOT / "CONTRIBUTING.md", ROOT / "pretrained/README.md")
          if path != EXTENDING]
DOCUMENTS = "\n".join([README, *(path.read_text(encoding="utf-8") for path in OTHERS)])
FILE = re.compile(r"\b(?:captions|docs|src|tests|pipeline|benchmarks)/[\w/.]+\.(?:md|png|gif|py|yaml)\b")


def block(name: str) -> str:
    return re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", README, re.DOTALL)[1].strip()


def test_the_table_is_that_of_the_metrics(checkout, tmp_path, monkeypatch):
    """As committed: `make reproduce` on another machine may give other last digits."""
    checkout.run("git", "clone", "-q", str(ROOT), str(tmp_path / "clone"))
    monkeypatch.chdir(tmp_path / "clone")
    committed = (tmp_path / "clone/README.md").read_text(encoding="utf-8")
    found, on, others = table.read()
    for block, names in (("report", on), ("recorded", others)):
        assert docs.replace_block(committed, block, tables.as_markdown(record.summary(found, names))) == committed
    assert (tmp_path / "clone/docs/results.md").read_text(encoding="utf-8") == page.markdown(found)
    compared = (tmp_path / "clone" / docs.COMPARISON).read_text(encoding="utf-8")
    assert docs.with_comparisons(compared, found) == compared
    card = (tmp_path / "clone/pretrained/README.md").read_text(encoding="utf-8")
    assert docs.replace_block(card, "bounds", docs.card_tables(found)) == card


def test_figures_that_show_images_of_the_data_are_not_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for drawn in ("samples/run/grid.png", "nearest/run.png", "sharpened/run/grid.png", "sharpened/run/dev.png"):
        Path(drawn).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / "docs/growth.png", drawn)
    assert {*page.figure_files(Path(), "run")} == {"grid", "sharpened-grid", *docs.SHOW_DATA}
    docs.keep_figures("run")
    assert {path.name for path in (docs.KEPT / "run").iterdir()} == {"grid.webp", "sharpened-grid.webp"}


def test_the_graph_is_that_of_the_pipeline(checkout):
    assert block("dag") == checkout.dvc("dag", "--md").strip()


def test_every_file_that_it_names_is_there():
    named = set(re.findall(r"\]\((?!http)([^)#]+)\)", README)) | set(FILE.findall(README))
    assert len(named) > 5
    for name in named:
        assert (ROOT / name).is_file(), name


def test_every_file_that_the_other_documents_name_is_there():
    made = {block.path for block in blocks(EXTENDING)}
    named = set(FILE.findall(DOCUMENTS)) | set(FILE.findall(EXTENDING.read_text(encoding="utf-8"))) - made
    assert len(named) > 20
    for name in named:
        assert (ROOT / name).is_file(), name


def test_every_parameter_and_target_that_they_name_is_there(checkout, tmp_path):
    copy = checkout.copy(tmp_path / "text2image")
    names = re.findall(r"-S ['\"]?((?:runs|datasets|pipeline)[\w.]+)=", DOCUMENTS)
    assert len(names) >= 5
    from dvc.utils.hydra import to_hydra_overrides
    from dvc.utils.serialize import load_yaml

    overrides = re.findall(r"-S (?:'([^']+)'|\"([^\"]+)\"|(\S+))", DOCUMENTS)
    assert len(to_hydra_overrides([next(filter(None, quoted)) for quoted in overrides])) >= 8, "DVC can read them all"

    parameters = load_yaml(str(copy.path / "params.yaml"))
    for name in names:
        value = parameters
        for part in name.split("."):
            value = value[part]
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"(?:`|\$ |whl/cpu |=\.\.\. )make ([\w-]+)", DOCUMENTS)) <= targets
    everything_on(copy)
    stages = set(re.findall(r"\b((?:fetch|preprocess|train|sample|bounds|evaluate|train_sharpener|sharpen)@\w+)", DOCUMENTS))
    assert len(stages) > 5
    assert stages <= {line.split()[0] for line in copy.dvc("stage", "list").splitlines()}


def test_switching_mnist_on_by_an_experiment(checkout, tmp_path):
    """The command of docs/scaling.md, as it stands there, as far as the graph: the stages of mnist are found."""
    copy = checkout.copy(tmp_path / "text2image")
    command = re.search(r"\$ (dvc exp run -S '\+pipeline.*? evaluate@mnist sample@mnist)", DOCUMENTS, re.DOTALL)[1]
    copy.run("sh", "-c", command.replace("\\\n", " ").replace("exp run", "exp run --queue"))
    copy.run("git", "stash", "apply", copy.run("git", "rev-parse", "refs/exps/celery/stash").strip())
    listed = {line.split()[0] for line in copy.dvc("stage", "list").splitlines()}
    assert {"fetch@mnist", "train@mnist", "evaluate@mnist", "sample@mnist"} <= listed


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_the_makefile_installs_once_and_then_reproduces(checkout, tmp_path):
    copy = checkout.copy(tmp_path / "text2image")
    said = copy.run("make", "-n", "reproduce")
    assert said.index("-m venv .venv") < said.index("pip install") < said.index("dvc repro") < said.index("pipeline.table")
    (copy.path / ".venv").mkdir()
    (copy.path / ".venv/ready").touch()
    assert "pip install" not in copy.run("make", "-n", "test")


def test_the_override_of_captions_is_understood(checkout, tmp_path):
    copy = checkout.copy(tmp_path / "text2image")
    command = re.search(r"\$ (dvc exp run -S 'runs.shapes.sample.captions=.*?)\n", DOCUMENTS)[1]
    copy.run("sh", "-c", command.replace("exp run", "exp run --queue"))
    copy.run("git", "stash", "apply", copy.run("git", "rev-parse", "refs/exps/celery/stash").strip())
    from dvc.utils.serialize import load_yaml

    assert load_yaml(str(copy.path / "params.yaml"))["runs"]["shapes"]["sample"]["captions"] == [
        "a small red square below a large blue circle ."]


def python(document: str) -> str:
    """The one block of Python of a document."""
    (code,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / document).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return code


def test_the_use_from_python(checkout, tmp_path):
    copy = checkout.copy(tmp_path / "text2image")
    copy.dvc("pull", "pretrained/mnist")
    assert len(python("README.md").splitlines()) <= 10
    shape, bound = re.fullmatch(r"torch\.Size\((\[.*?\])\) tensor\(\[(.*?)\]\)\n",
                                copy.run("python", "-c", python("README.md"), PYTHONPATH="src")).groups()
    assert shape == "[1, 1, 1, 60, 60]"
    assert -1000 < float(bound) < 0
    said = copy.run("python", "-c", python("pretrained/README.md") + "print(images.shape)", PYTHONPATH="src")
    assert said == "torch.Size([1, 8, 1, 60, 60])\n"


def test_programs_in_documents_and_the_count_of_held_out_captions(checkout):
    # That of docs/troubleshooting.md prints something where a cache is damaged alone: tests/pipeline/test_failures.py runs it.
    documents = "\n".join(path.read_text(encoding="utf-8") for path in OTHERS if path.name != "troubleshooting.md")
    programs = re.findall(r"python - <<'END'\n(.*?)^END\n(.*?)\n```", documents, re.MULTILINE | re.DOTALL)
    for code, printed in programs:
        assert checkout.run("python", "-c", code, PYTHONPATH="src").strip() == printed
    counts = next(printed for code, printed in programs if "Grammar" in code)
    every, trained, reworded, unseen = counts.split()
    card = (ROOT / "pretrained/README.md").read_text(encoding="utf-8")
    for document, sentences in ((README, (f"{reworded} of the {every} held-out captions", f"the other {unseen} were never seen in any")),
                                (card, (f"{every} of the {int(every) + int(trained)} captions are held out",
                                        f"For {reworded} of these the same scene", f"the other {unseen} were never seen in any"))):
        for sentence in sentences:
            assert sentence in " ".join(document.split())
