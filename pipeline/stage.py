"""What every stage shares: its parameters, its outputs, and one clear line when something is wrong.

A stage is run as `PYTHONPATH=src python -m pipeline.NAME KEY ...` from the repository's root, so that an
experiment in a copy of the repository runs the copy's own code.
"""

import inspect
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import dvc.api
from dvc.exceptions import DvcException

import text2image
from pipeline import failures, outputs
from text2image.config import MAX_SEED, from_mapping, nearest, shown
from text2image.errors import UserError
from text2image.files import atomic

STATE = "TEXT2IMAGE_STATE"
T = TypeVar("T")

output_folder = outputs.replaced


def main(script: str, work: Callable[..., None], stage_of: Callable[..., str] | None = None) -> NoReturn:
    """Run `work(parameters, *command-line arguments)` of the module `script`, as the stage that `stage_of` names by the
    arguments: by default that of the script's name and the first argument, fetch@digits.

    Exits with 0, or with 1 (130 when interrupted) after one line on standard error.
    """
    def run() -> None:
        if not Path(text2image.__file__).is_relative_to(Path.cwd()):
            raise UserError(f"text2image was imported from {Path(text2image.__file__).parent}, not from this repository: "
                            f"run as `PYTHONPATH=src python -m pipeline.{script} ...` from its root")
        arguments, wanted = sys.argv[1:], list(inspect.signature(work).parameters)[1:]
        if len(arguments) != len(wanted):
            raise UserError(f"usage: python -m pipeline.{script} {' '.join(wanted).upper()}; `dvc repro` gives them")
        parameters = _parameters(stage_of(*arguments) if stage_of else f"{script}@{arguments[0]}")
        outputs.require_elsewhere(parameters, state_folder())
        work(parameters, *arguments)

    failures.run(run, "interrupted; `dvc repro` goes on from what was saved last")


def _parameters(stage: str) -> dict[str, Any]:
    """What dvc.yaml declares of params.yaml for the stage, and nothing else."""
    try:
        return dvc.api.params_show(stages=stage)
    except DvcException as error:
        raise UserError(f"{stage}: {error}; `dvc stage list` names the stages, README.md says how to switch one on") from error
    except (ValueError, RecursionError) as error:  # of a number with thousands of digits, of blocks a thousand deep
        raise UserError(f"params.yaml: not readable ({shown(str(error))})") from error


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


def seed(parameters: Mapping[str, Any]) -> int:
    """The project's seed."""
    value = block(parameters, ("seed",))
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_SEED:
        raise UserError(f"parameter 'seed' is {shown(value)}; it must be a whole number from 0 to {MAX_SEED}")
    return value


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all, with the same bytes on every system."""
    with atomic.atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write sorted JSON, whole or not at all."""
    write_text(path, json.dumps(content, indent=2, sort_keys=True) + "\n")


def write_result(run: str, name: str, result: Mapping[str, Any]) -> None:
    """Write what was measured of a run into results/<run>/<name>.json; its `headline` goes into metrics/<run>.json."""
    write_json(Path("results") / run / f"{name}.json", result)


def write_table(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Write rows as a table with tabs, whole or not at all; nan is an empty field."""
    lines = ["\t".join(rows[0]), *("\t".join("" if value != value else str(value) for value in row.values()) for row in rows)]
    write_text(path, "\n".join(lines) + "\n")


def state_folder() -> Path:
    """Where the state of unfinished runs lies: state/, or the folder that TEXT2IMAGE_STATE names."""
    return Path(os.environ.get(STATE) or "state").expanduser()


def code_files() -> list[Path]:
    """The repository's own modules that this process has imported."""
    root = Path.cwd()
    names = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    files = {Path(name) for name in names if name}
    return sorted(file for file in files if file.is_relative_to(root / "src") or file.is_relative_to(root / "pipeline"))
