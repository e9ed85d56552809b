"""dvc.yaml tells the truth: what each stage imports, what it reads, which parameters it takes."""

import re
import shutil
from pathlib import Path

import pytest
from dvc.repo import Repo
from dvc.utils.serialize import load_yaml, modify_yaml

from tests.conftest import ROOT, Repository
from tests.imports import LISTED_FOR_SOME, METRICS, closure, doors, needs

STAGES = ("fetch", "preprocess", "train", "sample", "bounds", "diversity", "evaluate")
TABLES = ("retrieval", "similarity")  # of some runs, by a group of their own
JUDGED = ("train_classifier", "caption_accuracy")
SHARPENING = ("train_sharpener", "sharpen")
SENTENCES = ("add_sentence_encoder",)
OF_ALL = {"report": {}}  # stages of no dataset or run, and what they are templated with
GROUPS = {"datasets": STAGES[:2], "sentences": SENTENCES, "runs": STAGES[2:], "classifiers": JUDGED[:1],
          "caption_accuracy": JUDGED[1:], "sharpeners": SHARPENING[:1], "sharpened": SHARPENING[1:],
          **{name: (name,) for name in TABLES}}


def everything_on(repository: Repository) -> None:
    """Switch on every dataset and run that params.yaml describes, as its comments say."""
    text = re.sub(r"^    # (\w+: \{)", r"    \1", repository.read("params.yaml"), flags=re.MULTILINE)
    (repository.path / "params.yaml").write_text(text, encoding="utf-8")
    for name in ("sentences", "sharpeners", "sharpened"):
        text = re.sub(rf"\n  {name}: {{}}.*", "", repository.read("params.yaml"))
        lines = re.search(rf"\n  # {name}:(\n  #   .*)+", text)[0]
        (repository.path / "params.yaml").write_text(text.replace(lines, lines.replace("\n  # ", "\n  ")), encoding="utf-8")


@pytest.fixture(scope="module")
def everything(checkout, tmp_path_factory) -> Repository:
    repository = checkout.copy(tmp_path_factory.mktemp("everything") / "text2image")
    everything_on(repository)
    return repository


@pytest.fixture(scope="module")
def stages(everything) -> dict[str, object]:
    with Repo(str(everything.path)) as repo:
        return {stage.addressing.split(":")[-1]: stage for stage in repo.index.stages
                if not stage.addressing.endswith(".dvc")}


def paths(dependencies) -> set[str]:
    return {dependency.def_path for dependency in dependencies if not dependency.def_path.endswith("params.yaml")}


def test_each_stage_is_there_for_every_dataset_or_run(everything, stages):
    parameters = load_yaml(str(everything.path / "params.yaml"))
    assert parameters["pipeline"]["datasets"].keys() == parameters["datasets"].keys()
    assert parameters["pipeline"]["runs"].keys() == parameters["runs"].keys()
    expected = {f"{stage}@{name}" for stage in STAGES[:2] for name in parameters["datasets"]}
    expected |= {f"{stage}@{name}" for stage in STAGES[2:] for name in parameters["runs"]}
    sharpened = [name for name, run in parameters["runs"].items() if "sharpen" in run]
    assert sorted(parameters["pipeline"]["sharpeners"]) == sorted(parameters["pipeline"]["sharpened"]) == sorted(sharpened)
    expected |= {f"{stage}@{name}" for stage in SHARPENING for name in sharpened}
    datasets = {run["dataset"] for run in parameters["pipeline"]["runs"].values()} - parameters["datasets"].keys()
    assert datasets == parameters["pipeline"]["sentences"].keys()
    expected |= {f"{stage}@{name}" for stage in SENTENCES for name in datasets}
    for table in TABLES:
        runs = [name for name, run in parameters["runs"].items() if table in run]
        assert sorted(parameters["pipeline"][table]) == sorted(runs)
        expected |= {f"{table}@{name}" for name in runs}
    judged = {stage: [name for name, block in parameters[group].items() if stage in block]
              for stage, group in (("train_classifier", "datasets"), ("caption_accuracy", "runs"))}
    expected |= {f"{stage}@{name}" for stage, names in judged.items() for name in names}
    assert set(stages) == expected | OF_ALL.keys()


def test_what_reads_a_runs_images_is_of_its_own_model_and_dataset(everything):
    """A template cannot look into another group of params.yaml, so these say again what stands there."""
    pipeline = load_yaml(str(everything.path / "params.yaml"))["pipeline"]
    for run, item in pipeline["caption_accuracy"].items():
        own = dict(pipeline["runs"][run])
        own["dataset"] = pipeline["sentences"].get(own["dataset"], own)["dataset"]  # the same images and captions
        assert item == {"dataset": own["dataset"], "model": own["model"], "labels": pipeline["classifiers"][own["dataset"]]["labels"]}


def test_plain_repro_deals_with_the_embedded_runs_alone(checkout):
    listed = {line.split()[0] for line in checkout.dvc("stage", "list").splitlines()}
    assert listed == {f"{stage}@{name}" for stage in (*STAGES, *JUDGED) for name in ("digits", "shapes")} | {
        f"{table}@shapes" for table in TABLES} | OF_ALL.keys()


SOURCES = sorted(path for path in (ROOT / "src/text2image/sources").glob("*.py") if path.name != "__init__.py")


def items(everything: Repository) -> dict[str, dict[str, str]]:
    """What each stage is templated with: the item of its foreach."""
    pipeline = load_yaml(str(everything.path / "params.yaml"))["pipeline"]
    return {f"{stage}@{name}": item for group, its_stages in GROUPS.items() for stage in its_stages
            for name, item in pipeline[group].items()} | OF_ALL


def code(declared) -> set[str]:
    return {path for path in paths(declared.deps) if path.startswith(("src/", "pipeline/"))}


def test_a_stage_declares_what_it_runs_and_of_what_is_looked_up_by_name_its_own_alone(everything, stages):
    """Beside that, what other items of its template need: a template has one list for all of them."""
    found = items(everything)
    assert found.keys() == stages.keys()
    for name, item in found.items():
        stage = name.split("@")[0]
        siblings = {other: found[other] for other in found if other.split("@")[0] == stage}
        by_name = {other: {path.relative_to(ROOT).as_posix() for path in doors(stage, its)} for other, its in siblings.items()}
        anyones = set().union(*by_name.values())
        shared = set().union(*(needs(stage, its) for its in siblings.values())) - anyones
        assert code(stages[name]) == shared | by_name[name] | LISTED_FOR_SOME.get(stage, set()), name
        assert needs(stage, item) <= code(stages[name]), name
        key = name.partition("@")[2]
        script = f"measure {stage} {key}" if stage in METRICS else f"{stage} {key}"
        assert f"{stages[name].cmd} ".startswith(f"PYTHONPATH=src python -m pipeline.{script}".rstrip() + " ")


def stale(stages) -> dict[str, set[str]]:
    """For each module of the package the stages that an edit of it makes stale."""
    modules = sorted((ROOT / "src").rglob("*.py"))
    return {path: {name for name, declared in stages.items() if path in code(declared)}
            for path in (module.relative_to(ROOT).as_posix() for module in modules)}


def test_what_an_edit_makes_stale(everything, stages):
    """Of a source its own datasets, of a model kind its own runs, of a metric its own stage; no more."""
    found, by_item = stale(stages), items(everything)
    for source in SOURCES:
        own = {name for name, item in by_item.items() if item.get("source") == source.stem}
        assert found[f"src/text2image/sources/{source.name}"] == own != set()
    assert {name.split("@")[0] for name in found["src/text2image/models/align_draw.py"]} == {
        "train", "sample", *METRICS, "diversity", "train_sharpener", "sharpen", *SENTENCES}
    with_encoder = {name for name in by_item if name.split("@")[0] in SENTENCES}
    assert found["src/text2image/sharpening/skip_thoughts.py"] - with_encoder == {
        name for name, item in by_item.items() if item.get("conditioning") == "skip_thoughts"} == {"sharpen@coco"}
    for metric in METRICS:
        assert {name.split("@")[0] for name in found[f"src/text2image/results/{metric}.py"]} == {metric}
    assert {name.split("@")[0] for name in found["src/text2image/results/figures.py"]} == {"sample", "sharpen", "diversity"}
    assert found["src/text2image/classifiers/shapes.py"] == {name for name, item in by_item.items() if item.get("labels") == "shapes"}
    assert {name.split("@")[0] for name in found["src/text2image/classifiers/network.py"]} == {*JUDGED, "retrieval"}
    for path, names in found.items():
        if "/training/" in path or "/results/" in path:
            assert not {name for name in names if name.startswith(("fetch@", "preprocess@"))}, path
        if "/sharpening/" in path:
            assert {name.split("@")[0] for name in names} <= {"train_sharpener", "sharpen", *SENTENCES}, path
        if "/results/" in path and not path.endswith(("scores.py", "__init__.py")):
            assert not {name for name in names if name.startswith("train")}, path
    assert found["src/text2image/pretrained.py"] == found["src/text2image/models/reference.py"] == set(), "no stage needs them"


def test_what_writes_the_prepared_format_fetches_nothing_again():
    for path in SOURCES:
        code = closure(path)
        assert not code & {f"src/text2image/data/{name}.py" for name in ("datasets", "mnist_captions", "prepared")}, path.name
        assert not any("/sharpening/" in name or "/models/" in name for name in code), path.name


def test_a_stage_reads_only_what_another_writes_or_git_holds(everything, stages):
    written = {out.def_path for stage in stages.values() for out in stage.outs}
    for stage in stages.values():
        for path in paths(stage.deps):
            if not any(path == out or path.startswith(f"{out}/") or out.startswith(f"{path}/") for out in written):
                assert (everything.path / path).exists(), path


def leaves(block, prefix: str = ""):
    for name, value in block.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def test_every_leaf_of_params_yaml_reaches_a_stage(everything, stages):
    declared = {name for stage in stages.values() for dependency in stage.params for name in dependency.params}
    for leaf in leaves(load_yaml(str(everything.path / "params.yaml"))):
        if not leaf.startswith("pipeline."):  # these shape dvc.yaml itself
            assert any(leaf == name or leaf.startswith(name + ".") for name in declared), leaf


def test_params_yaml_is_in_the_form_that_dvc_writes_back(tmp_path):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    with modify_yaml(str(tmp_path / "params.yaml")):
        pass
    assert (tmp_path / "params.yaml").read_bytes() == (ROOT / "params.yaml").read_bytes()


@pytest.mark.parametrize("stage", ["fetch@digits", "fetch@shapes", "preprocess@digits", "preprocess@shapes", "train@digits",
                                   "sample@digits", "bounds@shapes", "retrieval@shapes", "similarity@shapes",
                                   "evaluate@shapes", "report", "train_classifier@digits", "caption_accuracy@shapes", "diversity@digits"])
def test_a_stage_runs_in_a_folder_that_holds_its_declared_dependencies_alone(short, tmp_path, stage):
    with Repo(str(short.path)) as repo:
        declared = next(s for s in repo.index.stages if s.addressing.split(":")[-1] == stage)
        needed, command, outs = paths(declared.deps), declared.cmd, [out.def_path for out in declared.outs]
    bare = Repository(tmp_path / "bare")
    for name in {"params.yaml", "dvc.yaml", ".dvc/config", *needed}:
        source, target = short.path / name, bare.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)
    bare.run("git", "init", "-q")
    bare.run("sh", "-c", command)
    for out in outs:
        assert (bare.path / out).exists(), out
        same = [p for p in [short.path / out, *Path(short.path / out).rglob("*")] if p.is_file() and p.suffix != ".png"]
        for file in same:
            assert file.read_bytes() == (bare.path / file.relative_to(short.path)).read_bytes(), f"{file}: not reproduced"
    assert not (bare.path / "state").exists() or not any((bare.path / "state").iterdir()), "work in progress is left behind"
