"""Benchmarks run, at sizes that take no time: nothing else of the tests depends on them."""

import json
import os
import subprocess
import sys
import time

import pytest
import torch
from dvc.utils.serialize import load_yaml

from benchmarks import agreement, gpu_campaign
from pipeline import stage
from tests.conftest import ROOT

SMALL = """
from dataclasses import replace
from benchmarks import growth, memory, step, table
small = replace(step.MNIST, glimpses=2, height=20, width=20, align_units=8, infer_units=8, generate_units=8, latent=4)
step.MNIST = table.MNIST = growth.MNIST = small
step.CONFIGURATIONS["mnist"] = small, 23
table.WORDS, table.medians.__defaults__ = 3, (1,)
cpu = step.torch.device("cpu")
"""


def run(code: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", SMALL + code, *arguments], cwd=ROOT, env={"PYTHONPATH": "src", "OMP_NUM_THREADS": "1"},
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_step_against_the_reference():
    said = run("step.subprocess.run = lambda *_, **__: type('done', (), {'stdout': 'peak memory'})\nstep.main()",
               "--batch", "2", "--words", "3", "--repeats", "1", "--device", "cpu", "--checkpoint-every", "1").splitlines()
    assert said[0].startswith("mnist, batch 2, 3 words, float32")
    assert [line.split()[1] for line in said[1:4]] == ["text2image", "plain", "ratio"]
    assert said[4] == "peak memory"


def test_growth_a_sample_and_the_data_of_a_step():
    said = run("growth.SIZES, growth.PAPER = {'words': (3, 6)}, growth.PAPER | {'words': 3, 'batch': 2, 'canvas': 20, 'glimpses': 2}\n"
               "print(sorted(growth.measure(cpu)['words']))\n"
               "table.samples(cpu, captions=2)\n"
               "table.CONFIGURATIONS.clear()\n"
               "table.CONFIGURATIONS['mnist'] = small, 23\n"
               "table.captured_steps(cpu, 2)\n"
               "table.torch.compile = lambda function, dynamic: function\n"
               "table.fused_steps(cpu, 2)\n"
               "table.MNIST = replace(small, height=60, width=60)\n"
               "table.idle_share(cpu, 2)\n")
    assert said.startswith("[3, 6]\n")
    assert "cpu: mnist, images of 2 captions" in said
    assert "cpu: mnist, a captured step of 2, float32, against eager" in said
    assert "cpu: mnist, a fused step of 2, float32, against eager" in said
    assert "cpu: mnist, images and noise of a step" in said


def test_memory_against_the_size_of_the_data(tmp_path):
    said = run("memory.STEPS = 2\n"
               "memory.write(memory.Path(memory.sys.argv[1]), 2000)\n"
               "for where in ('file', 'memory'):\n"
               "    memory.train(memory.Path(memory.sys.argv[1]), where)\n"
               "memory.train = memory.measure = lambda count: {how: memory.Row(10**9, 1, 3, 4, 0.005, 0.006) for how in memory.HOW}\n"
               "memory.SIZES, memory.sys.argv[1:] = (7, 9), [memory.sys.argv[1] + '.png']\n"
               "memory.main()\n", str(tmp_path / "train.h5")).splitlines()
    for line in said[:2]:
        begun, peak, loading, batch, step = map(float, line.split())
        assert 0 < begun < peak
        assert loading > 0
        assert 0 < batch < step
    assert said[-1] == "| 9 | 1.00 | in memory | 3 | 2 | 4.00 | 5.0 | 6.0 |"
    assert (tmp_path / "train.h5.png").stat().st_size > 1000


def test_where_a_step_spends_its_time():
    said = run("from benchmarks import profile\n"
               "print('\\n'.join(profile.rows('mnist', 2, 3, cpu, 1)))\n").splitlines()
    assert said[0].startswith("cpu: mnist, a step of 2: ")
    shares = {line[2:20].strip(): float(line.split()[-1].rstrip("%")) for line in said[1:5]}
    assert shares.keys() == {"large products", "small products", "passes", "between operations"}
    assert sum(shares.values()) == pytest.approx(100, abs=0.3)


@pytest.mark.parametrize(("of_gpu", "agree"), [(-149.508, True), (-149.512, False)])
def test_bounds_of_two_devices_agree_to_a_hundredth(monkeypatch, capsys, of_gpu, agree):
    monkeypatch.setattr(agreement, "elbo", lambda images, captions, device: -149.5 if device.type == "cpu" else of_gpu)
    monkeypatch.setattr(agreement.devices, "choose", lambda wanted: torch.device("cpu" if wanted == "cpu" else "meta"))
    monkeypatch.setattr(sys, "argv", ["agreement", "test.h5"])
    if agree:
        agreement.main()
    else:
        with pytest.raises(SystemExit, match=r"differ by 0\.0120 nats"):
            agreement.main()
    assert sorted(capsys.readouterr().out.splitlines()) == ["cpu: -149.5000 nats", f"meta: {of_gpu:.4f} nats"]


def test_the_campaign_goes_on_where_it_stopped(tmp_path, monkeypatch, capsys):
    """What failed, or was stopped when time ran out, is done by the next call; what is done is left."""
    asked, answers = [], {"good": 0, "bad": 3, "long": None, "last": 0}
    monkeypatch.setattr(gpu_campaign, "pieces", lambda folder, rehearse: [
        gpu_campaign.Piece(name, (), gpu_campaign.ROOT) for name in answers])
    monkeypatch.setattr(gpu_campaign, "do", lambda piece, campaign, seconds: asked.append(piece.name) or answers[piece.name])
    monkeypatch.setattr(sys, "argv", ["campaign", "--folder", str(tmp_path), "--rehearse"])

    def call(code: bool) -> str:
        asked.clear()
        with pytest.raises(SystemExit) as ended:
            gpu_campaign.main()
        assert ended.value.code == code
        return capsys.readouterr().out

    said = call(True)
    assert asked == ["good", "bad", "long", "last"]
    assert f"bad FAILED: {tmp_path / 'bad.log'}, " in said
    assert said.splitlines()[-1] == "left: bad, long"
    answers |= {"bad": 0, "long": 0}
    assert call(False).splitlines()[-1] == "left: nothing"
    assert asked == ["long", "bad"], "what failed comes last"
    call(False)
    assert not asked


def test_a_piece_is_stopped_when_time_runs_out_and_its_log_is_kept(tmp_path):
    """With all that it started."""
    child = ("import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
             "print(child.pid, flush=True); child.wait()")
    piece = gpu_campaign.Piece("long", (sys.executable, "-c", child), gpu_campaign.ROOT)
    assert gpu_campaign.do(piece, tmp_path, 5) is None
    assert gpu_campaign.do(piece._replace(command=(sys.executable, "-c", "raise SystemExit(4)")), tmp_path, 600) == 4
    pid = int((tmp_path / "long.log").read_text().split()[0])
    with pytest.raises(ProcessLookupError):
        for _ in range(600):  # until what adopted it has noticed
            os.kill(pid, 0)
            time.sleep(0.1)


def test_the_campaign_trains_what_params_yaml_describes(tmp_path):
    pieces = list(gpu_campaign.pieces(tmp_path, rehearse=True))
    assert len({piece.name for piece in pieces}) == len(pieces)
    described = load_yaml(str(ROOT / "params.yaml"))["runs"]
    assert gpu_campaign.RUNS.keys() <= described.keys()
    assert {piece.folder for piece in pieces} == {ROOT, *(tmp_path / f"seed-{seed}" for seed in (1, 2, 3))}


def test_each_seed_has_a_copy_of_the_commit_that_the_campaign_began_with(checkout, tmp_path, monkeypatch):
    repository = checkout.copy(tmp_path / "repository")
    monkeypatch.setattr(gpu_campaign, "ROOT", repository.path)
    monkeypatch.setenv("PATH", repository.environment["PATH"])
    for seed in (1, 2):
        copy = tmp_path / "rehearsal" / f"seed-{seed}"
        gpu_campaign.prepare(copy, seed, rehearse=True)
        parameters = load_yaml(str(copy / "params.yaml"))
        assert parameters["seed"] == seed
        assert gpu_campaign.RUNS.keys() <= parameters["pipeline"]["runs"].keys()
        assert {"mnist", "flickr8k"} <= parameters["pipeline"]["classifiers"].keys()
        assert all(parameters["runs"][run]["train"]["epochs"] == 1 for run in gpu_campaign.RUNS)
        assert parameters["runs"]["flickr8k_paper"]["train"]["schedule"] == parameters["runs"]["coco"]["train"]["schedule"]
        assert (copy / "pretrained/mnist/model.safetensors").is_file()
        assert not (copy / "later").exists()
        (repository.path / "later").touch()
        repository.commit()
    (tmp_path / "rehearsal/seed-1/own").touch()
    gpu_campaign.prepare(tmp_path / "rehearsal/seed-1", 1, rehearse=True)
    assert (tmp_path / "rehearsal/seed-1/own").exists(), "a copy that is ready is left as it is"


def test_results_of_what_is_done_are_kept(tmp_path, monkeypatch, capsys):
    """Of the first seed, with the numbers by seed where there are several; nothing of a run that is not done."""
    monkeypatch.setattr(gpu_campaign, "ROOT", tmp_path / "repository")
    for seed, bound in ((1, -149.5), (2, -150.5), (3, -151.5)):
        for run in ("mnist", "mnist_noalign"):
            for name in (f"results/{run}/bounds.json", f"results/made/bounds-{run}.json", f"plots/train/{run}.tsv",
                         f"metrics/{run}.json", f"models/{run}/model.safetensors"):
                path = tmp_path / f"campaign/seed-{seed}" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps({"elbo_test": bound}))
    stage.write_json(tmp_path / "campaign/done.json", {"mnist of seed 1": {"status": 0}, "mnist of seed 2": {"status": 0},
                                                       "mnist_noalign of seed 2": {"status": 0}})
    monkeypatch.setattr(sys, "argv", ["campaign", "--folder", str(tmp_path / "campaign"), "--keep"])
    gpu_campaign.main()
    assert capsys.readouterr().out == "kept: mnist\n"
    kept = {str(path.relative_to(tmp_path / "repository")) for path in (tmp_path / "repository").rglob("*.*")}
    assert kept == {"results/mnist/bounds.json", "results/made/bounds-mnist.json", "plots/train/mnist.tsv", "metrics/mnist.json",
                    "results/seeds/mnist.json"}
    assert json.loads((tmp_path / "repository/results/seeds/mnist.json").read_text()) == {
        "1": {"elbo_test": -149.5}, "2": {"elbo_test": -150.5}}
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--rehearse"])
    with pytest.raises(SystemExit, match="trains too little"):
        gpu_campaign.main()


@pytest.mark.skipif(torch.cuda.is_available(), reason="PyTorch finds a GPU here")
def test_without_a_gpu_the_campaign_is_rehearsed_where_it_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["campaign", "--folder", str(tmp_path)])
    with pytest.raises(SystemExit, match="finds no GPU here: `make gpu-campaign REHEARSE=1` does all of it"):
        gpu_campaign.main()
    assert not list(tmp_path.iterdir())
