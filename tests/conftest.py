"""Copies of the repository to work in, and the real data where a mirror of it is named."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
MIRROR = os.environ.get("TEXT2IMAGE_MIRROR", "")
SHORT = {  # a few seconds a stage, on the real code path
    "runs.digits.train.epochs": 2, "runs.digits.train.epoch_size": 200, "runs.digits.train.dev_size": 100,
    "runs.digits.evaluate.captions": 100, "runs.digits.evaluate.importance_captions": 10,
    "runs.digits.evaluate.importance_samples": 5, "runs.digits.sample.pictures": 2,
    "datasets.digits.preprocess.pictures.dev": 100, "datasets.digits.preprocess.pictures.test": 100,
    "runs.shapes.train.epochs": 1, "runs.shapes.train.dev_size": 50, "runs.shapes.evaluate.captions": 100,
    "runs.shapes.evaluate.importance_captions": 10, "runs.shapes.evaluate.importance_samples": 5,
    "runs.shapes.sample.pictures": 2, "datasets.shapes.fetch.scenes.train": 200, "datasets.shapes.fetch.scenes.dev": 40,
    "datasets.shapes.fetch.scenes.test": 40}


class Repository:
    """A copy of this repository with a history of its own."""

    def __init__(self, path: Path):
        self.path = path
        self.environment = {name: value for name, value in os.environ.items()
                            if not name.startswith(("GIT_", "DVC_", "TEXT2IMAGE_"))}
        self.environment |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                             "GIT_AUTHOR_NAME": "test", "GIT_AUTHOR_EMAIL": "test@example.org",
                             "GIT_COMMITTER_NAME": "test", "GIT_COMMITTER_EMAIL": "test@example.org"}

    def run(self, *command: str, code: int | None = 0, **environment: str) -> str:
        """Run a command in the copy and return all it said; its exit code must be `code` (None: any but 0)."""
        done = subprocess.run(command, cwd=self.path, env=self.environment | environment, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=900)
        right = done.returncode != 0 if code is None else done.returncode == code
        assert right, f"{' '.join(command)} exited with {done.returncode}:\n{done.stdout}"
        return done.stdout

    def dvc(self, *arguments: str, code: int | None = 0, **environment: str) -> str:
        return self.run("dvc", *arguments, code=code, **environment)

    def stage(self, name: str, *arguments: str, code: int | None = 0, **environment: str) -> str:
        """Run a stage's module as dvc.yaml does."""
        return self.run("python", "-m", f"pipeline.{name}", *arguments, code=code, **{"PYTHONPATH": "src"} | environment)

    def read(self, name: str) -> str:
        return (self.path / name).read_text(encoding="utf-8")

    def replace(self, name: str, old: str, new: str) -> None:
        text = self.read(name)
        assert old in text, f"{name} holds no {old!r}"
        (self.path / name).write_text(text.replace(old, new), encoding="utf-8")

    def set_parameters(self, values: dict[str, object]) -> None:
        from dvc.utils.serialize import modify_yaml

        with modify_yaml(str(self.path / "params.yaml")) as parameters:
            for dotted, value in values.items():
                *blocks, leaf = dotted.split(".")
                block = parameters
                for name in blocks:
                    block = block[name]
                block[leaf] = value

    def commit(self) -> None:
        self.run("git", "add", "-A")
        self.run("git", "commit", "-qm", "a state to come back to", "--allow-empty")

    def copy(self, path: Path) -> "Repository":
        shutil.copytree(self.path, path, symlinks=True)
        return Repository(path)


def repository_files() -> list[str]:
    listed = subprocess.run(("git", "ls-files", "-z", "-co", "--exclude-standard"), cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a Git checkout: DVC needs one")
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="session")
def checkout(tmp_path_factory) -> Repository:
    """This repository as it stands, committed. Read only: `copy` it to change it."""
    path = tmp_path_factory.mktemp("checkout") / "text2image"
    for name in repository_files():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, path / name)
    repository = Repository(path)
    repository.run("git", "init", "-q", "-b", "main")
    repository.commit()
    return repository


@pytest.fixture(scope="session")
def short(checkout, tmp_path_factory) -> Repository:
    """A copy with shortened training, reproduced and committed. Read only: `copy` it to change it."""
    repository = checkout.copy(tmp_path_factory.mktemp("short") / "text2image")
    repository.set_parameters(SHORT)
    repository.dvc("pull", "pretrained/mnist")
    repository.dvc("repro")
    repository.commit()
    return repository


@pytest.fixture
def mirror() -> Path:
    """The directory that TEXT2IMAGE_MIRROR names, with MNIST below it."""
    if not MIRROR or not (Path(MIRROR) / "mnist" / "train-images-idx3-ubyte.gz").is_file():
        pytest.skip("TEXT2IMAGE_MIRROR names no directory with mnist/train-images-idx3-ubyte.gz")
    return Path(MIRROR)


@pytest.fixture(autouse=True)
def _threads():
    """Bit-for-bit comparisons need one number of threads throughout."""
    torch.set_num_threads(2)
