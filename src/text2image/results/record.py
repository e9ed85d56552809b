"""The record of all runs: what lies in results/, metrics/ and plots/ of a folder, read for the page and the documents.

    results/<run>/<metric>.json      what was measured, any number of metrics; `headline` are the numbers to compare
    results/datasets/<dataset>.json  and results/classifiers/<dataset>.json: the like of datasets
    results/made/<stage>-<key>.json  what made a result: command, revision, seconds, machine
    results/seeds/<run>.json         the run's numbers by seed, where it was trained with several
    metrics/<run>.json               the headlines of a run together
    plots/<stage>/<run>.tsv          learning curves
"""

import csv
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

from text2image.errors import UserError
from text2image.results import paper, tables
from text2image.results.tables import Table, label

OF_DATASETS = {"datasets": "Prepared data", "classifiers": "Classifiers"}
NO_RUNS = (*OF_DATASETS, "made", "seeds")
AXES = ("epoch", "step")
NOT_DRAWN = (*AXES, "learning_rate")
# Columns of the summary, in this order; the other numbers follow, and last come the steps.
SUMMARY = {"elbo_train": "ELBO train", "elbo_dev": "ELBO dev", "elbo_test": "ELBO test", "elbo_held_out": "ELBO held out",
           "iwae_test": "IWAE bound", "iwae_dev": "IWAE bound", "kl_test": "KL", "kl_dev": "KL"}
PAPER = "paper (unverified)"  # whose figures; paper.STATUS says more
OF_ITS_DATA = ("fetch@", "preprocess@", "train_classifier@")  # stages of a run's dataset
METRICS = ("train", "bounds")  # first; the others follow by their names


class Made(NamedTuple):
    """What made a result."""

    stage: str
    command: str
    revision: str
    seconds: str
    machine: str


class Run(NamedTuple):
    """One run: its results by metric, its learning curves by stage (a column's values by its name), what made them."""

    name: str
    dataset: str   # '' where nothing says
    kind: str      # of model; likewise
    results: Mapping[str, Mapping[str, Any]]
    curves: Mapping[str, Mapping[str, list[float]]]
    made: tuple[Made, ...]
    seeds: Mapping[str, Mapping[str, float]]


class Record(NamedTuple):
    """Every run that was made, by name, and what is known of datasets."""

    runs: Mapping[str, Run]
    datasets: Mapping[str, Mapping[str, Mapping[str, Any]]]  # by the folder of OF_DATASETS, then by the dataset


def read(root: Path, switched_on: Mapping[str, Mapping[str, Any]]) -> Record:
    """Read all that lies in a folder. `switched_on`: what params.yaml says of the runs that it switches on.

    Raises UserError for a file that is damaged or is not whole.
    """
    results = root / "results"
    folders = sorted(path for path in results.glob("*") if path.is_dir()) if results.is_dir() else []
    made = _read_made(root)
    runs = {path.name: _read_run(root, path.name, switched_on.get(path.name, {}), made)
            for path in folders if path.name not in NO_RUNS and any(path.glob("*.json"))}
    return Record(runs, {name: _read_folder(results / name, "") for name in OF_DATASETS})


def metrics_of(root: Path, run: str) -> Mapping[str, Any]:
    """The numbers of a run that are compared; none where it was not made. Raises UserError for a damaged file."""
    return _read_json(root / "metrics" / f"{run}.json", f"evaluate@{run}")


def _read_run(root: Path, name: str, spec: Mapping[str, Any], made: Mapping[str, Mapping[str, Any]]) -> Run:
    results = _read_folder(root / "results" / name, f"evaluate@{name}")
    row = metrics_of(root, name)
    known: set[str] = set()
    for metric, result in results.items():
        headline = result.get("headline", {})
        if not isinstance(headline, Mapping) or not all(map(tables.is_number, headline.values())):
            raise _damaged(root / "results" / name / f"{metric}.json", "its headline holds something else than numbers",
                           f"evaluate@{name}")
        known |= headline.keys()
    missing = [key for key in row if key not in known]
    if missing:
        raise _damaged(root / "metrics" / f"{name}.json", f"no file of results/{name} has its {missing[0]}", f"evaluate@{name}")
    trained = [*str(made.get(f"train@{name}", {}).get("command", "")).split()[3:], "", "", ""]
    dataset = str(spec.get("dataset", trained[1]))
    notes = tuple(_made(root, made[stage]) for stage in sorted(made, key=_order) if stage.partition("@")[2] == (
        dataset if stage.startswith(OF_ITS_DATA) else name))
    curves = {path.parent.name: _read_columns(path) for path in sorted((root / "plots").glob(f"*/{name}.tsv"))}
    seeds = _read_json(root / "results/seeds" / f"{name}.json", "") if name not in NO_RUNS else {}
    return Run(name, dataset, str(spec.get("model", trained[2])), results, curves, notes, seeds)


def _read_folder(folder: Path, stage: str) -> dict[str, Mapping[str, Any]]:
    """The JSON files of a folder by their names: METRICS first."""
    found = sorted(folder.glob("*.json"), key=lambda path: (_rank(path.stem), path.stem))
    return {path.stem: _read_json(path, stage) for path in found}


def _rank(metric: str) -> int:
    return METRICS.index(metric) if metric in METRICS else len(METRICS)


def _order(stage: str) -> tuple[int, str]:
    """Stages in the order in which they run, as far as it matters."""
    first = ("fetch", "preprocess", "train_classifier", "train")
    name = stage.partition("@")[0]
    return first.index(name) if name in first else len(first), stage


def _read_json(path: Path, stage: str) -> dict[str, Any]:
    """A file of ours; an empty mapping where it is not there. `stage` makes it."""
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _damaged(path, str(error), stage) from error
    if not isinstance(found, dict):
        raise _damaged(path, "it holds no mapping", stage)
    return found


def _damaged(path: Path, why: str, stage: str) -> UserError:
    return UserError(f"{path}: not a whole result ({why}); `dvc repro{' ' if stage else ''}{stage}` makes it again")


def _read_columns(path: Path) -> dict[str, list[float]]:
    """A table with tabs by its columns; an empty field is nan."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        if any(None in (*row, *row.values()) for row in rows):
            raise ValueError("a row is not as long as the first")
        return {name: [float(row[name] or math.nan) for row in rows] for name in (rows[0] if rows else {})}
    except (ValueError, TypeError, csv.Error) as error:
        raise _damaged(path, str(error), f"{path.parent.name}@{path.stem}") from error


def _read_made(root: Path) -> dict[str, Mapping[str, Any]]:
    """Every note of what made a result, by its stage."""
    notes = (_read_json(path, "") for path in sorted((root / "results/made").glob("*.json")))
    return {str(note.get("stage", "")): note for note in notes}


def _made(root: Path, note: Mapping[str, Any]) -> Made:
    """A note as text. Where another result lies there than the note is of, nobody knows its revision and seconds."""
    digests, machine, seconds = _block(note, "results"), _block(note, "machine"), note.get("seconds")
    same = all((root / path).is_file() and hashlib.sha256((root / path).read_bytes()).hexdigest()[:16] == digest
               for path, digest in digests.items())
    words = [str(machine[key]) for key in ("gpu", "processor") if machine.get(key)][:1]
    words += [f"{machine['cores']} cores"] if machine.get("cores") and "gpu" not in machine else []
    words += [f"PyTorch {machine['torch']}"] if machine.get("torch") else []
    time = duration(float(seconds)) if isinstance(seconds, int | float) else "-"
    known = (str(note.get("revision") or "-"), time, ", ".join(words) or "-") if same else ("-", "-", "-")
    return Made(str(note.get("stage", "")), str(note.get("command", "")), *known)


def _block(note: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = note.get(name)
    return found if isinstance(found, Mapping) else {}


def duration(seconds: float) -> str:
    """Seconds as a person reads them."""
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def summary(record: Record, names: list[str]) -> Table:
    """A row a run: the headlines of all its metrics, with their errors."""
    found: dict[str, dict[str, str]] = {}
    for name in names:
        row = found.setdefault(name, {})
        for result in record.runs[name].results.values():
            for key, value in result.get("headline", {}).items():
                row[SUMMARY.get(key, label(key))] = tables.with_error(key, value, result)
    fullest_first = sorted(found.values(), key=len, reverse=True)  # a run that lacks some does not set their order
    given = dict.fromkeys(column for row in fullest_first for column in row)
    first = [column for column in dict.fromkeys(SUMMARY.values()) if column in given]
    columns = [*first, *(column for column in given if column not in first and column != "steps"),
               *(column for column in given if column == "steps")]
    return Table("All runs", ("run", *columns), tuple((name, *(row.get(column, "-") for column in columns))
                                                      for name, row in found.items()))


def metrics(record: Record) -> list[Table]:
    """The tables of every metric, all runs in one."""
    names = dict.fromkeys(metric for run in record.runs.values() for metric in run.results)
    ordered = sorted(names, key=_rank)
    return [table for metric in ordered for table in tables.of_metric(
        metric, {run.name: run.results[metric] for run in record.runs.values() if metric in run.results})]


def of_datasets(record: Record) -> list[Table]:
    """The tables of datasets."""
    return [table._replace(title=table.title.replace(label(folder), OF_DATASETS[folder], 1))
            for folder, found in record.datasets.items() for table in tables.of_metric(folder, found, "dataset")]


def seeds(record: Record) -> Table | None:
    """A row a run that was trained with several seeds: mean ± standard deviation over them."""
    several = {run.name: run.seeds for run in record.runs.values() if len(run.seeds) > 1}
    columns = tables.in_order(dict.fromkeys(key for found in several.values() for row in found.values() for key in row
                                            if key != "steps"))
    rows = tuple((name, ", ".join(sorted(found, key=lambda seed: (len(seed), seed))), *(_spread(found, key) for key in columns))
                 for name, found in several.items())
    return Table("Several seeds: mean ± standard deviation", ("run", "seeds", *map(label, columns)), rows) if rows else None


def _spread(found: Mapping[str, Mapping[str, float]], key: str) -> str:
    values = [row[key] for row in found.values() if tables.is_number(row.get(key))]
    return tables.cell({"mean": mean(values), "sd": stdev(values)}) if len(values) > 1 else "-"


def beside_the_paper(record: Record) -> list[tuple[paper.Published, Table]]:
    """The paper's tables; below each of its models the runs of ours that have such numbers, on whichever dataset."""
    found = []
    for published in paper.TABLES:
        rows: list[tuple[str, ...]] = []
        for model, figures in published.rows.items():
            rows.append((model, PAPER, published.dataset, *(figure or "-" for figure in figures)))
            rows += [row for run in record.runs.values() if paper.MODELS.get(run.kind) == model
                     and (row := _ours(run, published)) is not None]
        found.append((published, Table(published.title, ("model", "whose", "dataset", *published.columns), tuple(rows))))
    return found


def _ours(run: Run, published: paper.Published) -> tuple[str, ...] | None:
    binarized = "binarized" in run.dataset
    if binarized != (published is paper.BINARIZED):
        return None  # of other data in kind: neither compares with the other
    numbers = [tables.find(run.results, pattern) for pattern in published.columns.values()]
    if not any(numbers):
        return None
    return (paper.MODELS[run.kind], f"ours: {run.name}", run.dataset, *(number or "-" for number in numbers))


def made(record: Record) -> Table:
    """A row a stage of a run: what made its result."""
    return Table("What made them", ("stage", "command", "revision", "time", "machine"),
                 tuple(tuple(note) for run in record.runs.values() for note in run.made))
