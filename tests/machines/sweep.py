"""A sweep on SLURM as docs/scaling.md describes it: docs/sweep.sbatch, a task killed and queued again, results back.

    python -m tests.machines.sweep FOLDER

as root, on Linux, with Debian's packages slurm-wlm and munge. It starts munged, slurmctld and slurmd of its own, with all they
write below FOLDER, and ends them. The quick start's digits, shortened, are trained at two numbers of glimpses; the first task
is requeued while it trains. Prints what happened, and raises AssertionError where it should not have.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import ROOT, Repository, as_it_stands
from tests.machines.two_hosts import wait_for

SHORT = {"runs.digits.train.epochs": 40, "runs.digits.train.epoch_size": 400, "runs.digits.train.dev_size": 100,
         "runs.digits.bounds.captions": 100, "runs.digits.bounds.iwae_captions": 10, "runs.digits.bounds.iwae_samples": 5,
         "datasets.digits.preprocess.images.dev": 100, "datasets.digits.preprocess.images.test": 100}
EXPERIMENTS = ["-S runs.digits.model.glimpses=4 bounds@digits", "-S runs.digits.model.glimpses=2 bounds@digits"]
SLURM = """
ClusterName=test
SlurmctldHost=localhost
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
SlurmctldPort=26817
SlurmdPort=26818
StateSaveLocation={folder}/ctld
SlurmdSpoolDir={folder}/d
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
KillWait=2
ReturnToService=2
NodeName=localhost CPUs={cpus} State=UNKNOWN
PartitionName=test Nodes=ALL Default=YES MaxTime=60 State=UP
"""


@contextmanager
def slurm(folder: Path) -> Iterator[dict[str, str]]:
    """A SLURM of this machine alone; gives the environment in which its commands find it."""
    folder.mkdir(parents=True)
    for name in ("ctld", "d"):
        (folder / name).mkdir()
    (folder / "slurm.conf").write_text(SLURM.format(folder=folder, cpus=os.cpu_count()))
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o600)
    environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
    munged = ["munged", "--foreground", "--force", f"--key-file={folder}/munge.key", f"--socket={folder}/munge.socket",
              f"--pid-file={folder}/munged.pid", f"--log-file={folder}/munged.log", f"--seed-file={folder}/munged.seed"]
    started = []
    try:
        for command in (munged, ["slurmctld", "-D"], ["slurmd", "-D", "-N", "localhost"]):
            with (folder / f"{command[0]}.out").open("wb") as out:
                started.append(subprocess.Popen(command, env=environment, stdout=out, stderr=out, start_new_session=True))
            time.sleep(1)
        wait_for(lambda: "idle" in command_of("sinfo", "-h", environment=environment), 60)
        yield environment
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait(30)


def command_of(*command: str, environment: dict[str, str], folder: Path = ROOT) -> str:
    """Run a command and return what it printed."""
    done = subprocess.run(command, env=environment, cwd=folder, text=True, capture_output=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout


def set_up(folder: Path) -> tuple[Repository, Path]:
    """A clone to work in and, on the disk that all nodes see, the bare repository it is pushed to, with a cache that has the
    digits."""
    login, shared = as_it_stands(folder / "login" / "text2image"), folder / "shared"
    login.set_parameters(SHORT)
    shared.mkdir()
    login.dvc("cache", "dir", "--local", str(shared / "cache"))
    login.dvc("repro", "preprocess@digits")
    login.commit()
    login.run("git", "clone", "-q", "--bare", ".", str(shared / "origin.git"))
    login.run("git", "remote", "add", "sweep", str(shared / "origin.git"))
    for remote in ("embedded", "scratch"):
        login.dvc("remote", "modify", "--local", remote, "url", str(shared / "dvc-remote"))
    return login, shared


def main(folder: Path) -> None:
    """Submit, requeue, wait, fetch the results, and compare with a training that was not interrupted."""
    login, shared = set_up(folder)
    queue = folder / "sweep.txt"
    queue.write_text("".join(f"{line}\n" for line in EXPERIMENTS))
    with slurm(folder / "slurm") as slurm_environment:
        environment = slurm_environment | login.environment
        said = command_of("sbatch", f"--array=1-{len(EXPERIMENTS)}", "--cpus-per-task=1", "docs/sweep.sbatch", str(queue), str(shared),
                          environment=environment, folder=login.path)
        job = re.search(r"batch job (\d+)", said)[1]
        logs = [login.path / f"sweep-{job}-{n}.log" for n in range(1, len(EXPERIMENTS) + 1)]
        print(f"sbatch: job {job}, {len(EXPERIMENTS)} tasks")

        def log(n: int) -> str:
            return logs[n].read_text(errors="replace") if logs[n].exists() else ""

        wait_for(lambda: "epoch 5 " in log(0), 240)
        command_of("scontrol", "requeue", f"{job}_1", environment=environment)
        print("scontrol requeue: the first task, after epoch 5 or later")
        wait_for(lambda: not command_of("squeue", "-h", environment=environment).strip(), 400)
    for n in range(len(EXPERIMENTS)):
        assert f"Pushed experiment sweep-{job}-{n + 1} to Git remote 'origin'" in log(n), log(n)
    resumed = re.findall(r"digits: resumed at step (\d+)", log(0))
    assert len(resumed) == 1, log(0)
    assert "run 1 after the first" in log(0)
    print(f"the first task ran again: digits: resumed at step {resumed[0]}")
    names = [f"sweep-{job}-{n + 1}" for n in range(len(EXPERIMENTS))]
    login.dvc("exp", "pull", "sweep", *names)
    table = json.loads(login.dvc("exp", "show", "--json"))
    rows = {row["name"]: row for row in _rows(table)}
    for name, glimpses in zip(names, (4, 2), strict=True):
        measured = json.loads(login.run("git", "show", f"{rows[name]['rev']}:results/digits/bounds.json"))
        print(f"{name}: glimpses {glimpses}, ELBO on test {measured['test']['elbo']['mean']:.3f}")
    assert not list((shared / "state").glob("digits-*/state.pt")), "it is forgotten when all is done"
    login.run("git", "checkout", rows[names[0]]["rev"], "--", "dvc.lock", "params.yaml")
    login.dvc("checkout", "--force", "models/digits")
    swept = hashlib.sha256((login.path / "models/digits/model.safetensors").read_bytes()).hexdigest()
    shutil.rmtree(login.path / "models/digits")
    login.stage("train", "digits", "digits", "align_draw")
    assert hashlib.sha256((login.path / "models/digits/model.safetensors").read_bytes()).hexdigest() == swept
    print("a training without the break gives the first task's checkpoint, bit for bit")


def _rows(found: object) -> Iterator[dict]:
    """Every experiment with a name in what `dvc exp show --json` prints."""
    if isinstance(found, dict):
        if isinstance(found.get("name"), str) and found.get("data"):
            yield found
        found = list(found.values())
    if isinstance(found, list):
        for each in found:
            yield from _rows(each)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
