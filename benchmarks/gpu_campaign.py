"""All that waits for a GPU, in pieces: each call does as many as there is time for, and the next call goes on.

    make gpu-campaign                                  # as long as it takes
    make gpu-campaign MINUTES=9                        # where a machine is lent by the minute: call it again
    make gpu-campaign REHEARSE=1                       # on a CPU, with shortened training, into rehearsal/
    PYTHONPATH=src python -m benchmarks.gpu_campaign --keep    # results of the runs that are done, into this repository

The pieces, in this order: the tests that need a GPU; the benchmarks and profiles; and the runs below, trained, measured and
drawn by DVC in a copy of this repository for each seed, `campaign/seed-1` and so on, all of one commit: the last one when the
campaign began. Once MNIST is prepared, the pretrained model's bounds on GPU and CPU must agree to 0.01 nats. Training saves
its state twice a minute in `campaign/state`, and goes on from there; other pieces begin again, so that each of them, and each
stage of measuring, must fit into a call. A piece that was stopped and begins again comes after the others.

Real data comes from the host that TEXT2IMAGE_MIRROR names, as everywhere. What a piece said is in `campaign/<piece>.log`.
Results that are kept are those of seed 1, and of runs with several seeds the numbers by seed.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks import table
from benchmarks.step import CONFIGURATIONS
from pipeline import stage
from text2image.files import atomic
from text2image.results import record

ROOT = Path(__file__).parent.parent
# Runs of params.yaml and the seeds that they are trained with; the first ones first.
RUNS = {"binarized_mnist": (1,), "mnist": (1, 2, 3), "mnist_noalign": (1, 2, 3), "flickr8k_paper": (1,),
        "flickr8k_paper_noalign": (1,)}
PAPERS_SCHEDULE = ("flickr8k_paper", "flickr8k_paper_noalign")  # by 18 epochs, as COCO; params.yaml has what two cores can do
KEPT = ("results/{run}/*.json", "metrics/{run}.json", "plots/*/{run}.tsv", "results/made/*-{run}.json")  # of a run
NOTES = "done.json"  # of a campaign: what became of each piece
PATIENCE = 30  # seconds that a piece has to end, once it is told to
SHORT = {"epochs": 1, "epoch_size": 200, "dev_size": 100}  # of training, in a rehearsal
SHORT_ELSEWHERE = {"bounds": {"captions": 100, "iwae_captions": 10, "iwae_samples": 3},
                   "diversity": {"captions": 3, "images": 5, "training_images": 200, "test_images": 20},
                   "retrieval": {"captions": 5, "shortlist": 10}, "similarity": {"captions": 3, "samples": 4},
                   "caption_accuracy": {"captions": 5, "images": 2}, "sample": {"images": 2}}


class Piece(NamedTuple):
    """Something to do."""

    name: str
    command: tuple[str, ...]
    folder: Path


def pieces(campaign: Path, rehearse: bool) -> Iterator[Piece]:
    """All there is to do, in its order."""
    python, device = sys.executable, "cpu" if rehearse else "cuda"
    sizes = ("--device", device, "--batch", "10" if rehearse else "100")
    yield Piece("tests", (python, "-m", "pytest", "-n", "0", "-q", "tests/test_cuda.py", "tests/models/test_fusing.py"), ROOT)
    for part in table.PARTS:
        yield Piece(part, (python, "-m", "benchmarks.table", part, *sizes), ROOT)
    for configuration in CONFIGURATIONS:
        command = (python, "-m", "benchmarks.profile", "--configuration", configuration, *sizes)
        yield Piece(f"profile {configuration}", command, ROOT)
    for run, seeds in RUNS.items():
        for seed in seeds:
            copy = campaign / f"seed-{seed}"
            yield Piece(of_seed(run, seed), ("dvc", "repro", f"evaluate@{run}", f"sample@{run}"), copy)
            if run == "mnist" and seed == 1:
                yield Piece("agreement", (python, "-m", "benchmarks.agreement", str(copy / "data/prepared/mnist/test.h5"),
                                          "--captions", "100" if rehearse else "1000"), ROOT)


def of_seed(run: str, seed: int) -> str:
    """The name of the piece that trains a run."""
    return f"{run} of seed {seed}"


def dataset_of(run: str) -> str:
    """The dataset of a run, by its name."""
    return run.removesuffix("_noalign").removesuffix("_paper")


def switched_on(text: str) -> str:
    """params.yaml with the runs, and their datasets with the judges of these, switched on."""
    block, lines = "", []
    for line in text.splitlines(keepends=True):
        if line.startswith("  ") and line[2].isalpha():
            block = line.split(":")[0].strip()
        names = set(map(dataset_of, RUNS)) if block in ("datasets", "classifiers") else set(RUNS)
        off = re.match(r"    # (\w+): \{", line)
        lines.append(line.replace("# ", "", 1) if off and off[1] in names else line)
    return "".join(lines)


def prepare(folder: Path, seed: int, rehearse: bool) -> None:
    """A copy of this repository, of the commit that the campaign began with, in which the runs are switched on and the seed is
    set."""
    if (folder / "ready").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run(("git", "clone", "-q", str(ROOT), str(folder)), check=True)
    noted = folder.parent / "commit"
    if not noted.exists():
        head = subprocess.run(("git", "rev-parse", "HEAD"), cwd=folder, check=True, capture_output=True, text=True).stdout
        noted.write_text(head, encoding="utf-8")
    subprocess.run(("git", "checkout", "-q", noted.read_text(encoding="utf-8").strip()), cwd=folder, check=True)
    path = folder / "params.yaml"
    path.write_text(switched_on(path.read_text(encoding="utf-8")), encoding="utf-8")

    from dvc.utils.serialize import modify_yaml  # only here: it takes a while

    with modify_yaml(str(path)) as parameters:
        parameters["seed"] = seed
        for run in PAPERS_SCHEDULE:
            for key in ("epochs", "schedule"):
                parameters["runs"][run]["train"][key] = deepcopy(parameters["runs"]["coco"]["train"][key])
        if rehearse:
            for run in RUNS:
                block = parameters["runs"][run]
                block["train"] |= SHORT
                for name, short in SHORT_ELSEWHERE.items():
                    block.get(name, {}).update(short)
            for dataset in ("mnist", "flickr8k"):  # those with a classifier
                parameters["datasets"][dataset]["train_classifier"] |= SHORT
    subprocess.run(("dvc", "pull", "-q", "pretrained/mnist"), cwd=folder, check=True)
    (folder / "ready").touch()


def do(piece: Piece, campaign: Path, seconds: float) -> int | None:
    """Run a piece for at most so long, with its words in its log; returns its exit status, or None where time ran out."""
    environment = os.environ | {"PYTHONPATH": "src", "TEXT2IMAGE_STATE": str(campaign / "state"), "PYTHONUNBUFFERED": "1"}
    if piece.folder != ROOT:
        (piece.folder / ".dvc/tmp/rwlock").unlink(missing_ok=True)  # of a DVC that was killed
    with (campaign / f"{piece.name}.log").open("ab") as log:
        running = subprocess.Popen(piece.command, cwd=piece.folder, env=environment, stdout=log, stderr=subprocess.STDOUT,
                                   start_new_session=True)
        try:
            return running.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            if running.poll() is None:  # what it saved last is a good state; DVC lets go of its locks
                os.killpg(running.pid, signal.SIGINT)
                try:
                    running.wait(PATIENCE)
                except subprocess.TimeoutExpired:
                    os.killpg(running.pid, signal.SIGKILL)
                    running.wait()


def keep(campaign: Path, done: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Copy the results of all runs of seed 1 that are done into this repository, and the numbers by seed of those with
    several; returns the runs' names."""
    kept = []
    for run, seeds in RUNS.items():
        finished = [seed for seed in seeds if done.get(of_seed(run, seed), {}).get("status") == 0]
        if 1 not in finished:
            continue
        for pattern in KEPT:
            for path in sorted((campaign / "seed-1").glob(pattern.format(run=run))):
                with atomic.atomic_write(ROOT / path.relative_to(campaign / "seed-1")) as partial:
                    shutil.copyfile(path, partial)
        if len(finished) > 1:
            stage.write_json(ROOT / "results/seeds" / f"{run}.json",
                             {str(seed): record.metrics_of(campaign / f"seed-{seed}", run) for seed in finished})
        kept.append(run)
    return kept


def turn(piece: Piece, noted: dict[str, float] | None) -> int:
    """What was stopped and would begin again comes after the others, which go on; what failed comes last."""
    if noted is not None and "status" in noted:
        return 2
    return int(noted is not None and piece.folder == ROOT)


def work(wanted: Sequence[Piece], campaign: Path, done: dict[str, dict[str, float]], minutes: float, rehearse: bool) -> None:
    """Do what is left, until it is done or time runs out; `done` is kept in a file."""
    end = time.monotonic() + 60 * minutes
    for piece in sorted(wanted, key=lambda piece: turn(piece, done.get(piece.name))):
        before = done.get(piece.name, {})
        if before.get("status") == 0:
            continue
        if piece.folder != ROOT:
            prepare(piece.folder, int(piece.folder.name.rpartition("-")[2]), rehearse)
        begun = time.monotonic()
        if begun > end:
            break
        status = do(piece, campaign, end - begun)
        seconds = round(before.get("seconds", 0) + time.monotonic() - begun, 1)
        done[piece.name] = {"seconds": seconds} | ({} if status is None else {"status": status})
        stage.write_json(campaign / NOTES, done)
        said = "is not done yet" if status is None else "is done" if status == 0 else f"FAILED: {campaign / piece.name}.log"
        print(f"{piece.name} {said}, {seconds:.0f} s", flush=True)


def main() -> None:
    """Do what the command line asks for."""
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--minutes", type=float, default=1e6, help="how long this call may take")
    cli.add_argument("--folder", type=Path, help="where copies, logs and states lie (default: campaign/, or rehearsal/)")
    cli.add_argument("--rehearse", action="store_true", help="shortened, on a CPU")
    cli.add_argument("--only", default="", help="a regular expression: the pieces to do")
    cli.add_argument("--keep", action="store_true", help="copy results of what is done into this repository, and no more")
    arguments = cli.parse_args()
    campaign = (arguments.folder or ROOT / ("rehearsal" if arguments.rehearse else "campaign")).resolve()
    done = json.loads((campaign / NOTES).read_text(encoding="utf-8")) if (campaign / NOTES).exists() else {}
    if arguments.keep:
        if arguments.rehearse:
            sys.exit("error: a rehearsal trains too little for its results to be kept")
        print(f"kept: {', '.join(keep(campaign, done)) or 'nothing, as no run of seed 1 is done'}")
        return
    if not arguments.rehearse and not torch.cuda.is_available():
        sys.exit("error: PyTorch finds no GPU here: `make gpu-campaign REHEARSE=1` does all of it, shortened, on a CPU")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what runs is ended, too
    campaign.mkdir(parents=True, exist_ok=True)
    wanted = [piece for piece in pieces(campaign, arguments.rehearse) if re.search(arguments.only, piece.name)]
    work(wanted, campaign, done, arguments.minutes, arguments.rehearse)
    left = [piece.name for piece in wanted if done.get(piece.name, {}).get("status") != 0]
    print(f"left: {', '.join(left) or 'nothing'}")
    sys.exit(any(done.get(name, {}).get("status") for name in left))


if __name__ == "__main__":
    main()
