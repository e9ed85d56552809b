"""The report: one HTML page that needs nothing else, and docs/results.md, from the same record.

The page's form is page.html beside this module, a Jinja template that escapes all that it is given. Its pictures stand in it as
data URIs, its curves as SVG, its policy lets a browser load nothing: it opens from disk, offline, on a phone.
"""

import glob
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup

from text2image.results import charts, paper, pictures, record, tables
from text2image.results.pictures import Picture
from text2image.results.record import Record, Run
from text2image.results.tables import label

TEMPLATE = "page.html"
# Where figures of a run lie, and what their names begin with; the last: of runs that Git records.
PLACES = (("samples/{}/*", ""), ("nearest/{}.*", "nearest"), ("sharpened/{}/*", "sharpened-"), ("docs/figures/{}/*", ""))
# Figures in this order, what they show, and who sees them; other figures follow by their names.
FIGURES = {"grid": "images of each caption, a row a caption",
           "exchanged": "captions in which a word is exchanged, drawn with the same noise: a column differs in that word alone",
           "words": "where it wrote while it attended to each word: glimpses, brighter the more the word was attended to, and "
                    "last the image with those places in red",
           "attention": "the canvas over the glimpses, and below it how much each word was attended to",
           "animation": "the canvas glimpse by glimpse, with the write window in red",
           "nearest": "what it drew, and below each row the training images that are nearest to it",
           "sharpened-grid": "images of each caption, and below them the same sharpened",
           "sharpened-dev": "images of dev: real, made coarse, and sharpened"}
INTRODUCTION = """All bounds are lower bounds on log p(image | caption) in nats per image, mean ± standard error over images.
The IWAE bound and the ELBO beside it are of the same images, often fewer than those of the other ELBO. The mean image of
training, pixel by pixel, is what there is to beat."""
OF_THE_PAPER = f"""The paper's figures are {paper.STATUS}. Ours are of the dataset that stands beside them: where it is another
than the paper's, the two do not compare. A model of ours that has no such number is not listed."""
MADE = """A revision has a + where code or parameters differed from it. The time of a training that was broken off is that of
all its parts. - is what nobody noted, or what was noted of another result."""
RESULTS = """# Results

Made by `make docs` (stage `report`) from `results/`, which `dvc repro` writes. The same with curves, samples and films is
`report/index.html`. {introduction}

"""


class Figure(NamedTuple):
    """A figure of a run, what it shows, and the name of its file."""

    name: str
    shows: str
    picture: Picture


def html(found: Record, root: Path) -> str:
    """The page of all that lies below the folder `root`."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True,
                                     lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    runs = [{"name": run.name, "id": _identifier(run.name), "dataset": run.dataset, "kind": run.kind, "made": run.made,
             "charts": run_charts(run), "figures": figures(root, run.name),
             "tables": [table for metric in run.results for table in tables.of_metric(metric, {run.name: run.results[metric]})]}
            for run in found.runs.values()]
    return environment.get_template(TEMPLATE).render(
        runs=runs, introduction=INTRODUCTION, summary=record.summary(found, list(found.runs)), seeds=record.seeds(found),
        paper=record.beside_the_paper(found), of_the_paper=OF_THE_PAPER, status=paper.STATUS,
        of_paper=record.PAPER, datasets=record.of_datasets(found), of_notes=MADE) + "\n"


def _identifier(name: str) -> str:
    """A run's name as an anchor."""
    return "run-" + re.sub(r"[^\w-]", "-", name)


def figures(root: Path, run: str) -> list[Figure]:
    """The figures of a run."""
    return [Figure(name, FIGURES.get(name, label(name.replace("-", "_"))), pictures.read(path))
            for name, path in figure_files(root, run).items()]


def figure_files(root: Path, run: str) -> dict[str, Path]:
    """The files of a run's figures by their names. What was drawn here comes before what Git keeps of a run that was drawn
    elsewhere."""
    found: dict[str, Path] = {}
    for pattern, prefix in PLACES:
        for path in sorted(root.glob(pattern.format(glob.escape(run)))):
            if path.suffix in pictures.SUFFIXES:
                found.setdefault(prefix + (path.stem if pattern.endswith("/*") else ""), path)
    order = list(FIGURES)
    names = sorted(found, key=lambda name: (order.index(name) if name in order else len(order), name))
    return {name: found[name] for name in names}


def run_charts(run: Run) -> list[Markup]:
    """Learning curves, and every list of numbers that a result holds, such as KL by glimpse."""
    drawn = []
    for stage, columns in run.curves.items():
        x = next((axis for axis in record.AXES if axis in columns), None)
        if x is None:
            continue
        for group, names in alike(name for name in columns if name not in record.NOT_DRAWN).items():
            lines = {label(name): list(zip(columns[x], columns[name], strict=True)) for name in names}
            drawn.append(charts.line_chart(f"{run.name}, {label(stage)}: {label(group)}", lines, x, label(group)))
    for metric, result in run.results.items():
        by_name: dict[str, dict[str, charts.Points]] = {}
        for curve in tables.curves(result):
            *where, name = curve.path
            line = ", ".join(map(label, where)) or label(name)
            by_name.setdefault(name, {})[line] = list(enumerate(curve.values, 1))
        for name, series in by_name.items():
            y, _, x = name.partition("_of_")
            drawn.append(charts.line_chart(f"{run.name}, {label(metric)}: {label(name)}", series,
                                           label(x.removesuffix("s")) if x else "number", label(y)))
    return [Markup(chart) for chart in drawn if chart]  # charts escapes what it is given


def alike(names: Iterable[str]) -> Mapping[str, Sequence[str]]:
    """Names of columns by their last word: train_elbo and dev_elbo share a chart."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name.rpartition("_")[2], []).append(name)
    return groups


def markdown(found: Record) -> str:
    """docs/results.md."""
    parts = [RESULTS.format(introduction=INTRODUCTION)]

    def add(title: str, *content: Any) -> None:
        parts.append(f"## {title}\n\n" + "\n\n".join(part if isinstance(part, str) else tables.as_markdown(part)
                                                     for part in content) + "\n\n")

    beside = record.beside_the_paper(found)
    parts.append(f"## Paper and ours\n\n{OF_THE_PAPER}\n\n")
    for published, table in beside:
        parts.append(f"### {published.title}\n\n{_sentence(published.source)}; the paper's figures: {paper.STATUS}.\n\n"
                     f"{tables.as_markdown(table)}\n\n")
    if not found.runs:
        return "".join([*parts, "No run was made yet.\n"])
    add("All runs", record.summary(found, list(found.runs)))
    several = record.seeds(found)
    if several is not None:
        add("Several seeds", "Mean ± standard deviation over the seeds of a run ([scaling.md](scaling.md#several-seeds)).",
            several)
    for table in [*record.metrics(found), *record.of_datasets(found)]:
        add(_sentence(table.title), table)
    made = record.made(found)
    if made.rows:
        add("What made them", MADE, made)
    return "".join(parts).rstrip("\n") + "\n"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
