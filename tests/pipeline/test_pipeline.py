"""What DVC's verbs do with the pipeline, on shortened runs: each test works in a copy of its own."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
from dvc.utils.serialize import load_yaml

from pipeline import draw
from pipeline.measure import measure
from pipeline.preprocess import preprocess
from pipeline.sample import sample
from pipeline.train import train
from tests.conftest import Repository
from text2image.errors import UserError


@pytest.fixture
def copy(short, tmp_path) -> Repository:
    return short.copy(tmp_path / "text2image")


def changed(repository: Repository) -> set[str]:
    return set(json.loads(repository.dvc("status", "--json")))


def test_what_repro_leaves(short):
    assert changed(short) == set()
    assert "up to date" in short.dvc("repro")
    shown = json.loads(short.dvc("metrics", "show", "--json"))[""]["data"]
    for run, splits in (("digits", {"train", "dev", "test", "test_held_out"}), ("shapes", {"train", "dev", "test"})):
        bounds = json.loads(short.read(f"results/{run}/bounds.json"))
        row, headline = shown[f"metrics/{run}.json"]["data"], bounds.pop("headline")
        assert set(bounds) == splits
        for split, numbers in bounds.items():
            assert numbers["elbo"]["mean"] == pytest.approx(-numbers["reconstruction"]["mean"] - numbers["kl"]["mean"], abs=1e-3)
            assert numbers["elbo"]["se"] > 0
            assert numbers["iwae"]["bound"]["mean"] < 0
            assert headline.get(f"elbo_{split.removeprefix('test_')}") == (None if split == "train" else numbers["elbo"]["mean"])
        headline["steps"] = json.loads(short.read(f"results/{run}/train.json"))["steps"]
        if run == "shapes":
            retrieval, similarity = (json.loads(short.read(f"results/{run}/{metric}.json")) for metric in ("retrieval", "similarity"))
            assert (retrieval["captions"], retrieval["shortlist"], similarity["captions"], similarity["samples"]) == (5, 10, 3, 4)
        for path in (short.path / "results" / run).glob("*.json"):
            headline |= json.loads(path.read_text()).get("headline", {})
        # Of 200 shapes no caption describes enough images to measure their diversity.
        assert {"right", "steps", *(("right_held_out", "diversity") if run == "digits" else ("R@1",))} <= headline.keys()
        assert row == {name: round(value, 2) for name, value in headline.items()}
        counts = json.loads(short.read(f"results/datasets/{run}.json"))
        assert set(counts) == splits | {"vocabulary", "skipped"}
        assert counts["skipped"] == {"images": 0, "captions": 0}
        for name in ("grid.png", "animation.gif", "attention.png", "words.png", "exchanged.png"):
            assert (short.path / "samples" / run / name).stat().st_size > 1000
        header, *rows = short.read(f"plots/train/{run}.tsv").splitlines()
        assert header.split("\t")[:3] == ["epoch", "step", "learning_rate"]
        assert len(rows) == (2 if run == "digits" else 1)
    digits, shapes = (json.loads(short.read(f"results/datasets/{run}.json")) for run in ("digits", "shapes"))
    assert digits["train"] == {"digits": 1397}
    assert digits["test_held_out"] == {"images": 100, "captions": 100, "unknown_words": 0}
    assert (shapes["train"]["images"], shapes["train"]["captions"], shapes["dev"]["captions"]) == (200, 400, 80)
    assert 0 < shapes["train"]["unknown_words"] < 0.1
    table = short.stage("table")
    assert table.count("\n| digits |") == table.count("\n| shapes |") == 1
    assert "samples/shapes/grid.png" in table and "report/index.html" in table


def test_plots_are_drawn(copy):
    said = copy.dvc("plots", "show")
    assert "failed" not in said
    page = copy.read("dvc_plots/index.html")
    assert "train_elbo" in page
    assert "dev_elbo" in page
    assert "grid.png" in page
    assert "animation.gif" in page


def test_a_rate_retrains_its_run_alone_and_a_sampling_parameter_nothing(copy):
    copy.set_parameters({"runs.digits.train.learning_rate": 0.002})
    assert changed(copy) == {"train@digits"}
    assert "runs.digits.train.learning_rate" in copy.dvc("params", "diff")
    copy.run("git", "checkout", "-q", "params.yaml")
    copy.set_parameters({"runs.digits.sample.seed": 9})
    assert changed(copy) == {"sample@digits"}
    copy.run("git", "checkout", "-q", "params.yaml")
    copy.set_parameters({"runs.shapes.bounds.captions": 50})
    assert changed(copy) == {"bounds@shapes"}


@pytest.mark.parametrize(("file", "stage"), [("pipeline/evaluate.py", "evaluate"), ("src/text2image/results/bounds.py", "bounds"),
                                             ("src/text2image/results/figures.py", "sample"), ("captions/digits.yaml", "sample")])
def test_an_edit_of_code_runs_again_what_it_can_change(copy, file, stage):
    (copy.path / file).write_text(copy.read(file) + "\n# edited\n", encoding="utf-8")
    runs = ("digits",) if "digits" in file else ("digits", "shapes")
    stages = (stage, "diversity") if "figures" in file else (stage,)
    assert changed(copy) == {f"{each}@{run}" for each in stages for run in runs}


def test_an_experiment_and_how_it_compares(copy):
    copy.dvc("exp", "run", "-n", "faster", "-S", "runs.digits.train.learning_rate=0.01", "evaluate@digits")
    assert "0.01" in copy.dvc("params", "diff", "HEAD")
    differences = json.loads(copy.dvc("metrics", "diff", "HEAD", "--json"))
    assert "metrics/digits.json" in differences
    assert "metrics/shapes.json" not in differences
    assert "faster" in copy.dvc("exp", "show", "--csv")
    assert "Could not override" in copy.dvc("exp", "run", "-S", "runs.digits.train.lerning_rate=1", code=None)


def test_a_queued_or_temporary_experiment_runs_the_code_of_its_own_copy(copy, tmp_path):
    """The workspace's package is installed, editable, in the environment that the experiments run in."""
    environment = tmp_path / "environment"
    venv.create(environment, symlinks=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(environment), "platbase": str(environment)}))
    (site / "workspace.pth").write_text(f"{copy.path / 'src'}\n{sysconfig.get_path('purelib')}\n")
    copy.environment["PATH"] = f"{environment / 'bin'}{os.pathsep}{copy.environment['PATH']}"
    found = copy.run("python", "-c", "import text2image, sys; print(text2image.__file__, sys.prefix)")
    assert str(copy.path) in found
    assert str(environment) in found

    def mark(name: str) -> None:
        copy.run("git", "checkout", "-q", "src/text2image/results/scores.py")
        copy.replace("src/text2image/results/scores.py", '"captions": len(row), "images"', f'"captions": "{name}", "images"')

    def marks(experiment: str) -> set[str]:
        shown = json.loads(copy.run("git", "show", f"{experiment}:results/digits/bounds.json"))
        return {numbers["captions"] for name, numbers in shown.items() if name != "headline"}

    mark("queued")
    copy.run("python", "-m", "dvc", "exp", "run", "--queue", "-n", "from-queue", "bounds@digits")
    mark("temporary")
    copy.run("python", "-m", "dvc", "exp", "run", "--temp", "-n", "from-temp", "bounds@digits")
    mark("workspace")
    copy.run("python", "-m", "dvc", "exp", "run", "--run-all")
    refs = dict(line.split()[::-1] for line in copy.run("git", "for-each-ref", "--format=%(objectname) %(refname)",
                                                        "refs/exps").splitlines() if "from-" in line)
    commits = {name.rsplit("/", 1)[1]: commit for name, commit in refs.items()}
    assert marks(commits["from-queue"]) == {"queued"}
    assert marks(commits["from-temp"]) == {"temporary"}


@pytest.mark.skipif(not Path("/proc").exists(), reason="no /proc to find the trainer in")
def test_killed_and_run_again_training_ends_as_if_nothing_had_happened(copy, tmp_path):
    """kill -9 of the trainer within an epoch; `dvc repro` goes on; the checkpoint is bit for bit that of a whole run."""
    copy.set_parameters({"runs.digits.train.epochs": 6, "runs.digits.train.epoch_size": 800})
    whole = copy.copy(tmp_path / "whole")
    whole.dvc("repro", "train@digits")
    repro = subprocess.Popen(["dvc", "repro", "train@digits"], cwd=copy.path, env=copy.environment, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    for line in repro.stdout:
        if "epoch 2 " in line:
            break
    found = [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit() and _is_trainer(p, copy.path)]
    assert len(found) == 1
    os.kill(found[0], signal.SIGKILL)
    said = repro.communicate(timeout=300)[0]
    assert repro.returncode != 0
    assert "failed to reproduce 'train@digits'" in said
    assert not (copy.path / "models/digits").exists()
    assert len(list((copy.path / "state").iterdir())) == 1
    again = copy.dvc("repro", "train@digits")
    assert "digits: resumed at step" in again
    assert "epoch 1 " not in again
    for name in ("model.safetensors", "last.safetensors", "card.yaml"):
        assert (copy.path / "models/digits" / name).read_bytes() == (whole.path / "models/digits" / name).read_bytes()
    assert copy.read("plots/train/digits.tsv") == whole.read("plots/train/digits.tsv")
    assert not list((copy.path / "state").iterdir()), "the state goes when the run is done"


def _is_trainer(process: Path, folder: Path) -> bool:
    try:
        return (process / "cwd").resolve() == folder and (process / "cmdline").read_bytes().startswith(b"python\0-m\0pipeline.train")
    except OSError:
        return False


def refused(repository: Repository, stage: str, *arguments: str, **environment: str) -> str:
    """The one line that a stage leaves when it refuses; nothing may be left half-written."""
    said = repository.stage(stage, *arguments, code=1, **environment)
    assert "Traceback" not in said
    *_, line = said.splitlines()
    assert line.startswith("error: ")
    assert not list(repository.path.rglob("*.partial*")), "something is half-written"
    return line


def test_parameters_that_cannot_be(copy, monkeypatch):
    copy.set_parameters({"runs.digits.train.learning_rat": 0.1})
    assert "unknown parameter 'runs.digits.train.learning_rat': did you mean 'learning_rate'?" in refused(
        copy, "train", "digits", "digits", "align_draw")
    assert "is 'shape'; it takes one of" in refused(copy, "fetch", "digits", "shape")
    copy.run("git", "checkout", "-q", "params.yaml")
    monkeypatch.chdir(copy.path)
    as_they_are = load_yaml("params.yaml")
    training, sampling = ("digits", "digits", "align_draw"), ("digits", "captions/digits.yaml")
    for name, value, stage, arguments, words in (
            ("runs.digits.train.batch_size", 0, train, training, "'runs.digits.train.batch_size' is 0; it must be at least 1"),
            ("runs.digits.model.preset", "papr", train, training, "'runs.digits.model.preset' is 'papr'; it takes one of paper, released"),
            ("runs.digits.model.width", 20, train, training,
             "the model draws images of (C, H, W) = (1, 18, 20), the data holds (1, 18, 18)"),
            ("runs.digits.sample.captions", ["the digit twelve ."], sample, sampling,
             "the word 'twelve' of the caption 'the digit twelve .' is not in the vocabulary"),
            ("runs.digits.sample.captions", [" "], sample, sampling, "a caption is empty"),
            ("seed", 1, train, (*training[:2], "align_drwa"), "is 'align_drwa'; it takes one of align_draw, conv_vae, draw, fc_vae, "
                                                              "noalign, sentence: did you mean 'align_draw'?"),
            ("datasets.digits.preprocess.layout.size", 12, preprocess, ("digits", "digits"),
             "digits of 8 pixels in an image of 12 may start at 0 to 4")):
        *blocks, leaf = name.split(".")
        parameters = block = deepcopy(as_they_are)
        for each in blocks:
            block = block[each]
        block[leaf] = value
        with pytest.raises(UserError, match=re.escape(words)):
            stage(parameters, *arguments)
        assert not list(copy.path.rglob("*.partial*")), "something is half-written"
    assert (copy.path / "models/digits/model.safetensors").exists(), "what was there is still there"


def test_a_gpu_asked_for_where_there_is_none(copy):
    copy.set_parameters({"runs.digits.train.device": "cuda"})
    assert "'device' is cuda, but PyTorch finds no GPU here" in refused(copy, "train", "digits", "digits", "align_draw", CUDA_VISIBLE_DEVICES="")


def test_an_unknown_word_is_named_in_a_warning(copy):
    copy.set_parameters({"runs.shapes.sample.captions": ["a turquoise circle ."]})
    said = copy.stage("sample", "shapes", "captions/shapes.yaml")
    assert "warning: the word 'turquoise' of the caption 'a turquoise circle .' is not in the vocabulary; it is read as UNK\n" in said


def test_draw_is_what_sample_draws_and_replaces_nothing_but_its_own(copy, monkeypatch):
    captions = ["a small red square .", "a green circle left of a blue square ."]
    copy.set_parameters({"runs.shapes.sample.captions": captions, "runs.shapes.sample.scale": 10})
    copy.stage("sample", "shapes", "captions/shapes.yaml")
    said = copy.stage("draw", "models/shapes", *captions, "--images", "2")
    assert said.split() == ["drawn/animation.gif", "drawn/attention.png", "drawn/grid.png", "drawn/words.png"]
    for name in ("animation.gif", "grid.png", "attention.png", "words.png"):
        assert (copy.path / "drawn" / name).read_bytes() == (copy.path / "samples/shapes" / name).read_bytes()
    assert refused(copy, "draw", "models/none", "a caption").startswith("error: models/none/model.safetensors: no such checkpoint")

    monkeypatch.chdir(copy.path)

    def command(*arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["draw", *arguments])
        draw.main()

    command("models/shapes", captions[0], "--images", "1", "--seed", "5")
    assert (copy.path / "drawn/grid.png").read_bytes() != (copy.path / "samples/shapes/grid.png").read_bytes()
    for arguments, words in ((("models/digits", "the digit 3 is lfet"), "the word 'lfet' of"),
                             (("models/shapes", "a square", "--images", "0"), "--images must be 1 or more"),
                             *((("models/shapes", "a square", "--into", held), "holds something else") for held in ("src", "README.md"))):
        with pytest.raises(UserError, match=words):
            command(*arguments)
    assert (copy.path / "src").is_dir() and (copy.path / "README.md").is_file()


def test_inputs_that_are_damaged_or_of_another_run(copy, monkeypatch):
    monkeypatch.chdir(copy.path)
    parameters = load_yaml("params.yaml")

    def is_refused(words: str, stage: Callable[..., object], *arguments: str) -> None:
        with pytest.raises(UserError, match=re.escape(words)):
            stage(parameters, *arguments)
        assert not list(copy.path.rglob("*.partial*")), "something is half-written"

    model, prepared = copy.path / "models/digits/model.safetensors", copy.path / "data/prepared/digits/dev.h5"
    for path, words, stage, arguments in (
            (model, "model.safetensors: not a readable checkpoint", sample, ("digits", "captions/digits.yaml")),
            (prepared, "dev.h5: not readable as prepared data", measure, ("bounds", "digits", "digits"))):
        content = path.read_bytes()
        path.chmod(0o644)
        path.write_bytes(content[:len(content) // 3])
        is_refused(words, stage, *arguments)
        path.write_bytes(content)
    is_refused("its vocabulary is not that of the model", measure, "bounds", "digits", "shapes")
    (copy.path / "captions/digits.yaml").write_text("a caption that is no list\n")
    assert "captions/digits.yaml: must be a list of captions" in refused(copy, "sample", "digits", "captions/digits.yaml")
    is_refused("captions/none.yaml: not readable", sample, "digits", "captions/none.yaml")


def test_a_stage_that_is_not_switched_on(copy):
    assert "train@mnist" in refused(copy, "train", "mnist", "mnist", "align_draw")


@pytest.mark.parametrize(("folder", "stage", "arguments"), [
    ("data/prepared", "preprocess", ("shapes", "shapes")), ("data/fetched", "fetch", ("shapes", "shapes")), ("models", "train", ("digits", "digits", "align_draw")),
    ("state", "train", ("digits", "digits", "align_draw")), ("samples", "sample", ("shapes", "captions/shapes.yaml"))])
def test_a_full_disk_is_one_line_and_leaves_nothing(copy, folder, stage, arguments):
    """What a stage writes lies on a file system of 40 KB, where this process may mount one."""
    target = copy.path / folder
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", str(target)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no right to mount a small file system here")
    try:
        assert "the disk is full" in refused(copy, stage, *arguments)
        assert folder == "state" or not list(target.iterdir())
    finally:
        subprocess.run(["umount", str(target)], check=True)


def test_real_mnist_is_fetched_and_prepared_and_the_pretrained_model_scored_on_it(checkout, mirror, tmp_path):
    """The archive through DVC, from the mirror: dev and test composed, two test sets, held-out digits with the data. The
    bounds of fewer pictures are those recorded, up to their errors."""
    from text2image.data import datasets
    from text2image.data.mnist_captions import Grammar

    copy = checkout.copy(tmp_path / "text2image")
    copy.replace("params.yaml", "    # mnist: {", "    mnist: {")
    copy.set_parameters({"datasets.mnist.preprocess.images.dev": 500, "datasets.mnist.preprocess.images.test": 500})
    copy.dvc("repro", "preprocess@mnist", TEXT2IMAGE_MIRROR=str(mirror))
    prepared = copy.path / "data/prepared/mnist"
    train = datasets.load(prepared / "train.h5")
    assert (train.digits.shape, train.shape, train.grammar) == ((50_000, 28, 28), (1, 60, 60), Grammar.from_seed(1))
    for split in ("dev", "test", "test_held_out"):
        assert datasets.load(prepared / f"{split}.h5").images.shape == (500, 1, 60, 60)

    copy.dvc("pull", "pretrained/mnist")
    shutil.copytree(copy.path / "pretrained/mnist", copy.path / "models/mnist")
    copy.set_parameters({"runs.mnist.bounds.captions": 200, "runs.mnist.bounds.iwae_captions": 10,
                         "runs.mnist.bounds.iwae_samples": 5})
    recorded = json.loads(copy.read("results/mnist/bounds.json"))
    copy.stage("measure", "bounds", "mnist", "mnist")
    again = json.loads(copy.read("results/mnist/bounds.json"))
    assert set(again) == set(recorded) == {"headline", "train", "dev", "test", "test_held_out"}
    for split in set(recorded) - {"headline"}:
        there, here = recorded[split]["elbo"], again[split]["elbo"]
        assert abs(there["mean"] - here["mean"]) < 5 * math.hypot(there["se"], here["se"]), split

    moved = tmp_path / "moved"
    moved.mkdir()
    assert "cannot fetch mnist/train-images-idx3-ubyte.gz" in copy.dvc("repro", "-f", "fetch@mnist", code=None,
                                                                       TEXT2IMAGE_MIRROR=str(moved))


def test_the_suite_runs_the_interpreter_that_it_was_started_with(short):
    assert short.run("python", "-c", "import sys; print(sys.prefix)").strip() == sys.prefix
