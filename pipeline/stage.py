"""What every stage shares: its parameters, its outputs, one clear line when something is wrong, and a note of what made it.

A stage is run as `PYTHONPATH=src python -m pipeline.NAME KEY ...` from the repository's root, so that an
experiment in a copy of the repository runs the copy's own code.

What made a result (command, Git revision, seconds, machine) is noted in results/made/<stage>-<key>.json. It is no output of
the stage: it differs at every run, and an output that differs would make everything after it stale. Git has it, as it has the
results, and stage `report` alone depends on it.
"""

import hashlib
import inspect
import json
import os
import platform
import subprocess
import sys
import time
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
MADE = Path("results/made")
DECIDES = ("src", "pipeline", "captions", "params.yaml", "dvc.yaml")  # with the data, what a result comes from
T = TypeVar("T")

output_folder = outputs.replaced
_written: list[Path] = []  # by this process, of what Git keeps


def main(script: str, work: Callable[..., float | None], stage_of: Callable[..., str] | None = None,
         noted: bool = True) -> NoReturn:
    """Run `work(parameters, *command-line arguments)` of the module `script`, as the stage that `stage_of` names by the
    arguments: by default that of the script's name and the first argument, fetch@digits.

    `work` returns the seconds of earlier processes whose work it went on from, if there were any. What made the result is
    `noted` beside it. Exits with 0, or with 1 (130 when interrupted) after one line on standard error.
    """
    def run() -> None:
        begun = time.monotonic()
        if not Path(text2image.__file__).is_relative_to(Path.cwd()):
            raise UserError(f"text2image was imported from {Path(text2image.__file__).parent}, not from this repository: "
                            f"run as `PYTHONPATH=src python -m pipeline.{script} ...` from its root")
        arguments, wanted = sys.argv[1:], list(inspect.signature(work).parameters)[1:]
        if len(arguments) != len(wanted):
            raise UserError(f"usage: python -m pipeline.{script} {' '.join(wanted).upper()}; `dvc repro` gives them")
        stage = stage_of(*arguments) if stage_of else f"{script}@{arguments[0]}"
        parameters = _parameters(stage)
        outputs.require_elsewhere(parameters, state_folder())
        code = revision()
        earlier = work(parameters, *arguments) or 0.0
        if noted and os.environ.get("RANK", "0") == "0":  # of several processes of torchrun the first
            _note(stage, " ".join(("python -m", f"pipeline.{script}", *arguments)), code, earlier + time.monotonic() - begun)

    failures.run(run, "interrupted; `dvc repro` goes on from what was saved last")


def _parameters(stage: str) -> dict[str, Any]:
    """What dvc.yaml declares of params.yaml for the stage, and nothing else."""
    try:
        return dvc.api.params_show(stages=stage)
    except DvcException as error:
        raise UserError(f"{stage}: {error}; `dvc stage list` names the stages, README.md says how to switch one on") from error
    except (ValueError, RecursionError) as error:  # of a number with thousands of digits, of blocks a thousand deep
        raise UserError(f"params.yaml: not readable ({shown(str(error))})") from error


def _note(stage: str, command: str, code: str, seconds: float) -> None:
    """Write what made the stage's result, and by which digests it is known that it is still this result that lies there."""
    digests = {path.as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in _written if path.is_file()}
    write_json(MADE / f"{stage.replace('@', '-')}.json", {
        "stage": stage, "command": command, "revision": code, "seconds": round(seconds, 1), "machine": machine(),
        "results": digests})


def revision() -> str:
    """The Git revision of the code and parameters, with a + where they differ from it; empty where there is none."""
    head = _git("rev-parse", "--short=10", "HEAD")
    return head + "+" if head and _git("status", "--porcelain", "--", *DECIDES) else head


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(("git", *arguments), capture_output=True, text=True, errors="replace", timeout=60)
    except (OSError, subprocess.TimeoutExpired):  # no Git here, or one that waits for something
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def machine() -> dict[str, Any]:
    """The processor and its cores, the GPU that was used and the version of PyTorch, if any were."""
    found: dict[str, Any] = {"processor": _processor(), "cores": os.cpu_count() or 0, "python": platform.python_version()}
    torch = sys.modules.get("torch")  # not every stage imports it
    if torch is not None:
        found["torch"] = str(torch.__version__)
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            found["gpu"] = torch.cuda.get_device_name()
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # macOS
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


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
    _written.append(path)


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


def require_room_in_cache(folder: Path) -> None:
    """Raise UserError where the disk has no room for a copy of a folder, which DVC puts into its cache next: until then a
    training is not done, and its state is kept."""
    atomic.require_room(Path.cwd(), sum(file.stat().st_size for file in folder.iterdir()))


def state_folder() -> Path:
    """Where the state of unfinished runs lies: state/, or the folder that TEXT2IMAGE_STATE names."""
    return Path(os.environ.get(STATE) or "state").expanduser()


def code_files() -> list[Path]:
    """The repository's own modules that this process has imported."""
    root = Path.cwd()
    names = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    files = {Path(name) for name in names if name}
    return sorted(file for file in files if file.is_relative_to(root / "src") or file.is_relative_to(root / "pipeline"))
