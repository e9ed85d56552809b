"""seeds: the numbers of a run by the seed that it was trained with, from experiments, into results/seeds/<run>.json.

    dvc exp run --queue -S 'seed=1,2,3' evaluate@digits && dvc exp run --run-all
    python -m pipeline.seeds digits

No stage: experiments are branches of Git's history, and no file that DVC could watch. Stage `report` reads what it writes.
"""

import argparse
import math
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import dvc.api
from dvc.exceptions import DvcException

from pipeline import failures, stage
from text2image.errors import UserError
from text2image.results import record, tables

FOLDER = Path("results/seeds")
CODE = ("src/", "pipeline/")


def by_seed(experiments: Iterable[Mapping[str, Any]], run: str, own_names: Iterable[str] = ()) -> dict[str, dict[str, float]]:
    """The metrics of a run by the seed, from rows of `dvc exp show`: of those that differ in the seed alone from the first row,
    the workspace. Of two of one seed the first counts.

    own_names: names of the run's metrics. Of a number that no other run has, DVC gives the name without the file's.
    """
    prefix, own_names = f"metrics/{run}.json:", set(own_names)
    found: dict[str, dict[str, float]] = {}
    own: dict[str, str] | None = None
    for row in experiments:
        settings = _settings(row, run)
        own = settings if own is None else own
        numbers = {name.removeprefix(prefix): value for name, value in row.items()
                   if (name.startswith(prefix) or name in own_names) and tables.is_number(value) and math.isfinite(value)}
        if _same(own, settings) and tables.is_number(row.get("seed")) and numbers:
            found.setdefault(str(int(row["seed"])), numbers)
    return dict(sorted(found.items(), key=lambda item: int(item[0])))


def _settings(row: Mapping[str, Any], run: str) -> dict[str, str]:
    """The parameters, and the files of code by their digests, that decide the numbers of a run beside the seed.

    A file of which DVC gives no digest is left out: where the stages of a row, or of another run, have several, or none yet.
    """
    dataset = row.get(f"pipeline.runs.{run}.dataset")
    prefixes = (f"runs.{run}.", f"pipeline.runs.{run}.", f"datasets.{dataset}.", *CODE)
    return {name: str(value) for name, value in row.items()
            if name.startswith(prefixes) and not (value is None and name.startswith(CODE))}


def _same(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether two rows have the same parameters, and no file of code that is another."""
    names = {name for name in one.keys() | other.keys() if not name.startswith(CODE)} | (one.keys() & other.keys())
    return all(one.get(name) == other.get(name) for name in names)


def main() -> None:
    """Gather the runs that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.seeds", description="Gather a run's numbers by its seeds.")
    parser.add_argument("runs", nargs="+", metavar="run")
    given = parser.parse_args()
    try:
        experiments = dvc.api.exp_show()
    except DvcException as error:
        raise UserError(f"experiments: {error}") from error
    for run in given.runs:
        found = by_seed(experiments, run, record.metrics_of(Path(), run))
        if len(found) < 2:
            raise UserError(f"{run}: there are {len(found)} experiments of this commit that differ in the seed alone and have "
                            f"metrics/{run}.json; queue them by `dvc exp run --queue -S 'seed=1,2,3' evaluate@{run}` and run "
                            "them by `dvc exp run --run-all`")
        stage.write_json(FOLDER / f"{run}.json", found)
        sys.stdout.write(f"{FOLDER / run}.json: seeds {', '.join(found)}\n")


if __name__ == "__main__":
    failures.run(main)
