"""What every stage shares: its parameters, its outputs, and one clear line when something is wrong.

A stage is run as `PYTHONPATH=src python -m pipeline.NAME KEY ...` from the repository's root, so that an
experiment in a copy of the repository runs the copy's own code.
"""

import json
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import dvc.api
import torch
from dvc.exceptions import DvcException

import text2image
from text2image import disk
from text2image.errors import UserError, UserWarningLine

STATE = "TEXT2IMAGE_STATE"


def main(stage: str, work: Callable[..., None]) -> NoReturn:
    """Run `work(parameters, *command-line arguments)` as the stage `stage` of the first argument.

    Exits with 0, or with 1 (130 when interrupted) after one line on standard error.
    """
    warnings.showwarning = _show_warning
    try:
        if not Path(text2image.__file__).is_relative_to(Path.cwd()):
            raise UserError(f"text2image was imported from {Path(text2image.__file__).parent}, not from this repository: "
                            f"run as `PYTHONPATH=src python -m pipeline.{stage} ...` from its root")
        if len(sys.argv) < 2:
            raise UserError(f"usage: python -m pipeline.{stage} KEY ...; `dvc repro {stage}` gives the arguments")
        work(_parameters(f"{stage}@{sys.argv[1]}"), *sys.argv[1:])
    except UserError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        _fail("interrupted; `dvc repro` goes on from what was saved last", 130)
    except torch.OutOfMemoryError:
        _fail("the GPU is out of memory: lower batch_size")
    except Exception as error:
        if not disk.is_full(error):
            raise
        _fail("the disk is full: make room and run `dvc repro` again")
    sys.exit(0)


def _fail(line: str, code: int = 1) -> NoReturn:
    sys.stderr.write("error: " + " ".join(line.split()) + "\n")
    sys.exit(code)


def _show_warning(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any) -> None:
    where = "" if issubclass(category, UserWarningLine) else f" ({category.__name__}, {filename}:{lineno})"
    sys.stderr.write(f"warning: {message}{where}\n")


def _parameters(stage: str) -> dict[str, Any]:
    """What dvc.yaml declares of params.yaml for the stage, and nothing else."""
    try:
        return dvc.api.params_show(stages=stage)
    except DvcException as error:
        raise UserError(f"{stage}: {error}; `dvc stage list` names the stages, README.md says how to switch one on") from error


@contextmanager
def output_folder(path: Path) -> Iterator[Path]:
    """A folder to write into, which takes the name `path` only when all went well."""
    partial = path.with_name(path.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    shutil.rmtree(path, ignore_errors=True)
    partial.replace(path)


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all, with the same bytes on every system."""
    with disk.whole(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def write_metrics(path: Path, metrics: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(metrics, indent=2, sort_keys=True) + "\n")


def state_folder() -> Path:
    """Where work in progress lies: state/, or the folder that TEXT2IMAGE_STATE names."""
    return Path(os.environ.get(STATE) or "state")


def code_files() -> list[Path]:
    """The repository's own modules that this process has imported."""
    root = Path.cwd()
    files = {Path(module.__file__) for module in list(sys.modules.values()) if getattr(module, "__file__", None)}
    return sorted(file for file in files if file.is_relative_to(root / "src") or file.is_relative_to(root / "pipeline"))
