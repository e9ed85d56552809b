"""What every stage shares: its parameters, its outputs, and one clear line when something is wrong.

A stage is run as `PYTHONPATH=src python -m pipeline.NAME KEY ...` from the repository's root, so that an
experiment in a copy of the repository runs the copy's own code.
"""

import inspect
import json
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import dvc.api
import torch
from dvc.exceptions import DvcException

import text2image
from text2image import disk
from text2image.config import from_mapping, nearest
from text2image.errors import UserError, UserWarningLine

STATE = "TEXT2IMAGE_STATE"
T = TypeVar("T")


def main(stage: str, work: Callable[..., None]) -> NoReturn:
    """Run `work(parameters, *command-line arguments)` as the stage `stage` of the first argument.

    Exits with 0, or with 1 (130 when interrupted) after one line on standard error.
    """
    warnings.showwarning = _show_warning
    try:
        if not Path(text2image.__file__).is_relative_to(Path.cwd()):
            raise UserError(f"text2image was imported from {Path(text2image.__file__).parent}, not from this repository: "
                            f"run as `PYTHONPATH=src python -m pipeline.{stage} ...` from its root")
        wanted = list(inspect.signature(work).parameters)[1:]
        if len(sys.argv) - 1 != len(wanted):
            raise UserError(f"usage: python -m pipeline.{stage} {' '.join(wanted).upper()}; `dvc repro {stage}` gives them")
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


def block(parameters: Mapping[str, Any], path: Sequence[str]) -> Any:
    """The block of parameters at a path. Raises UserError, with the nearest name, where there is none."""
    found: Any = parameters
    for depth, name in enumerate(path):
        if not isinstance(found, Mapping) or name not in found:
            hint = nearest(name, list(found)) if isinstance(found, Mapping) else "it must be a block"
            raise UserError(f"params.yaml has no '{'.'.join(path[:depth + 1])}': {hint}")
        found = found[name]
    return found


def config(cls: type[T], parameters: Mapping[str, Any], *path: str) -> T:
    """The dataclass `cls` from the block of parameters at a path."""
    return from_mapping(cls, block(parameters, path), ".".join(path))


def variant(parameters: Mapping[str, Any], path: Sequence[str], key: str, variants: Mapping[str, type]) -> Any:
    """As `config`, of the dataclass that the block's own `key` names."""
    found = block(parameters, path)
    name = found.get(key) if isinstance(found, Mapping) else None
    if not isinstance(name, str) or name not in variants:
        raise UserError(f"parameter '{'.'.join(path)}.{key}' is {name!r}; it takes one of {', '.join(variants)}")
    return from_mapping(variants[name], found, ".".join(path))


def seed(parameters: Mapping[str, Any]) -> int:
    """The project's seed."""
    value = block(parameters, ("seed",))
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise UserError(f"parameter 'seed' is {value!r}; it must be a whole number, 0 or more")
    return value


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
