"""Copies of the repository to work in, and the real data where a mirror of it is named."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from jaxtyping import config, install_import_hook

# Before anything imports them: the shapes that their annotations name are checked at every call in tests/models, which halves
# the speed of a small model; elsewhere the check is off.
install_import_hook("text2image.models", "beartype.beartype")
config.update("jaxtyping_disable", True)

from tests import simulated_device  # noqa: E402 (after the hook)

if not torch.cuda.is_available():  # before the first gradient of the process
    simulated_device.the_device()

ROOT = Path(__file__).parent.parent
MIRROR = os.environ.get("TEXT2IMAGE_MIRROR", "")
SHORT = {  # a few seconds a stage, on the real code path
    "runs.digits.train.epochs": 2, "runs.digits.train.epoch_size": 200, "runs.digits.train.dev_size": 100,
    "runs.digits.bounds.captions": 100, "runs.digits.bounds.iwae_captions": 10,
    "runs.digits.bounds.iwae_samples": 5, "runs.digits.sample.images": 2,
    "datasets.digits.preprocess.images.dev": 100, "datasets.digits.preprocess.images.test": 100,
    **{f"datasets.{name}.train_classifier.{key}": value for name in ("digits", "shapes")
       for key, value in (("epochs", 1), ("epoch_size", 200), ("dev_size", 50))},
    "runs.digits.caption_accuracy.captions": 5, "runs.digits.caption_accuracy.images": 2,
    "runs.shapes.caption_accuracy.captions": 10, "runs.shapes.caption_accuracy.images": 2,
    **{f"runs.{name}.diversity.{key}": value for name in ("digits", "shapes")
       for key, value in (("captions", 3), ("images", 5), ("training_images", 200), ("test_images", 20))},
    "runs.shapes.train.epochs": 1, "runs.shapes.train.dev_size": 50, "runs.shapes.bounds.captions": 100,
    "runs.shapes.bounds.iwae_captions": 10, "runs.shapes.bounds.iwae_samples": 5,
    "runs.shapes.retrieval.captions": 5, "runs.shapes.retrieval.shortlist": 10, "runs.shapes.similarity.captions": 3,
    "runs.shapes.similarity.samples": 4, "runs.shapes.sample.images": 2, "datasets.shapes.fetch.images.train": 200, "datasets.shapes.fetch.images.dev": 40,
    "datasets.shapes.fetch.images.test": 40}


class Repository:
    """A copy of this repository with a history of its own."""

    def __init__(self, path: Path):
        self.path = path
        self.environment = {name: value for name, value in os.environ.items()
                            if not name.startswith(("GIT_", "DVC_", "TEXT2IMAGE_"))}
        self.environment |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                             "OMP_NUM_THREADS": "1",  # tests run beside each other
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


def as_it_stands(path: Path) -> Repository:
    """A copy of this repository's files at a path, in a history of its own that has nothing yet."""
    for name in repository_files():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, path / name)
    repository = Repository(path)
    repository.run("git", "init", "-q", "-b", "main")
    return repository


def shared(factory: pytest.TempPathFactory, name: str, build: Callable[[Path], object]) -> Repository:
    """A repository that `build` makes at a path, once for all the processes of a parallel run."""
    root = factory.getbasetemp().parent if "PYTEST_XDIST_WORKER" in os.environ else factory.getbasetemp()
    path, done = root / name / "text2image", root / f"{name}.done"
    with FileLock(root / f"{name}.lock"):
        if not done.exists():
            shutil.rmtree(path, ignore_errors=True)
            build(path)
            done.touch()
    return Repository(path)


@pytest.fixture(scope="session")
def checkout(tmp_path_factory) -> Repository:
    """This repository as it stands, committed. Read only: `copy` it to change it."""
    return shared(tmp_path_factory, "checkout", lambda path: as_it_stands(path).commit())


@pytest.fixture(scope="session")
def short(checkout, tmp_path_factory) -> Repository:
    """A copy with shortened training, reproduced and committed. Read only: `copy` it to change it."""
    def build(path: Path) -> None:
        repository = checkout.copy(path)
        repository.set_parameters(SHORT)
        (path / "dvc.lock").unlink()  # DVC writes all of it anew after each stage
        repository.dvc("pull", "pretrained/mnist")
        repository.dvc("repro")
        repository.commit()

    return shared(tmp_path_factory, "short", build)


@pytest.fixture
def mirror() -> Path:
    """The directory that TEXT2IMAGE_MIRROR names, with MNIST below it."""
    if not MIRROR or not (Path(MIRROR).expanduser() / "mnist" / "train-images-idx3-ubyte.gz").is_file():
        pytest.skip("TEXT2IMAGE_MIRROR names no directory with mnist/train-images-idx3-ubyte.gz")
    return Path(MIRROR).expanduser()


@pytest.fixture(autouse=True)
def _threads():
    """Bit-for-bit comparisons need one number of threads throughout, and tests run beside each other."""
    torch.set_num_threads(1)
