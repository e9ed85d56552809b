"""docs: tables and figures of README.md, the model card and docs/, from what was measured and drawn. No stage: these are no
results. docs/results.md is the report's (pipeline/report.py)."""

import re
import shutil
import subprocess
from pathlib import Path

from pipeline import failures, stage, table
from text2image.errors import UserError
from text2image.files import atomic
from text2image.results import page, paper, pictures, record, tables
from text2image.results.record import Record
from text2image.results.tables import Table

FIGURES = {"docs/digits.png": "samples/digits/grid.png", "docs/flickr8k.png": "sharpened/flickr8k/grid.png",
           "docs/mnist.png": "samples/mnist/grid.png", "docs/mnist.gif": "samples/mnist/animation.gif",
           "docs/shapes.gif": "samples/shapes/animation.gif", "docs/attention.png": "samples/shapes/attention.png"}
# The tables of docs/comparison.md: columns, and of each the path of our number.
COMPARED = {"ELBO, test": r"^bounds test elbo$", "ELBO, held out": r"^bounds test held out elbo$",
            "right": r"^caption accuracy drawn (seen|test) right$",
            "right, other wording": r"^caption accuracy drawn other wording right$",
            "right, never seen": r"^caption accuracy drawn never seen right$", "diversity": r"^diversity headline diversity$",
            "R@1": r"^retrieval nearest uncorrected R@1$", "R@1, corrected": r"^retrieval nearest corrected R@1$",
            "SSI": r"^similarity ssi$"}
COMPARISON = Path("docs/comparison.md")
KEPT = Path("docs/figures")  # of runs that are recorded and not switched on, small: a clone has no other
SHOW_DATA = ("nearest", "sharpened-dev")  # photographs and scans among them, which may not be ours to pass on


def replace_block(text: str, name: str, block: str) -> str:
    """The text with what lies between the comments `name` and `/name` replaced."""
    return re.sub(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", lambda m: f"{m[1]}\n{block}\n\n{m[2]}", text, flags=re.DOTALL)


def card_tables(found: Record) -> str:
    """The bounds of the pretrained model, as Markdown."""
    run = found.runs.get("mnist")
    if run is None or "bounds" not in run.results:
        raise UserError("results/mnist/bounds.json is not there, of which pretrained/README.md tells; `git checkout results` "
                        "brings it back")
    return "\n\n".join(tables.as_markdown(Table("", table.columns[1:], tuple(row[1:] for row in table.rows)))
                       for table in tables.of_metric("bounds", {"mnist": run.results["bounds"]}))


def comparison(found: Record, dataset: str) -> str:
    """The runs on a dataset, with a sentence encoder beside it or without, a row a model, as Markdown."""
    order = {kind: place for place, kind in enumerate(paper.MODELS)}
    runs = sorted((run for run in found.runs.values() if run.dataset.removesuffix("_sentences") == dataset),
                  key=lambda run: (run.kind == "draw", -order.get(run.kind, -1), run.name))
    rows = [(paper.MODELS.get(run.kind, run.kind), run.name,
             *(tables.find(run.results, path) or "-" for path in COMPARED.values())) for run in runs]
    columns = ("model", "run", *COMPARED)
    there = [i for i in range(len(columns)) if any(row[i] != "-" for row in rows)]
    return tables.as_markdown(Table("", tuple(columns[i] for i in there), tuple(tuple(row[i] for i in there) for row in rows)))


def with_comparisons(text: str, found: Record) -> str:
    """docs/comparison.md with a table for each dataset that it has a block for."""
    for dataset in re.findall(r"<!-- (\w+) -->", text):
        text = replace_block(text, dataset, comparison(found, dataset))
    return text


def keep_figures(run: str) -> None:
    """Write the figures that a run has here, small, to where Git keeps them, but those that show images of its dataset; where
    it has none, those stay that are there."""
    for name, path in page.figure_files(Path(), run).items():
        if name not in SHOW_DATA and not path.is_relative_to(KEPT):
            with atomic.atomic_write(KEPT / run / f"{name}.webp") as partial:
                partial.write_bytes(pictures.small(path))


def main() -> None:
    """Write the blocks of README.md and of the model card, and copy figures into docs/."""
    found, on, others = table.read()
    graph = subprocess.run(("dvc", "dag", "--md"), check=True, capture_output=True, text=True).stdout.strip()
    readme, card = Path("README.md"), Path("pretrained/README.md")
    text = readme.read_text(encoding="utf-8")
    for name, names in (("report", on), ("recorded", others)):
        if names:
            text = replace_block(text, name, tables.as_markdown(record.summary(found, names)))
    bounds = replace_block(card.read_text(encoding="utf-8"), "bounds", card_tables(found))
    stage.write_text(readme, replace_block(text, "dag", graph))
    stage.write_text(card, bounds)
    stage.write_text(COMPARISON, with_comparisons(COMPARISON.read_text(encoding="utf-8"), found))
    for target, source in FIGURES.items():
        if Path(source).exists():  # runs that are switched off leave theirs as it is
            shutil.copyfile(source, target)
    for run in others:
        keep_figures(run)


if __name__ == "__main__":
    failures.run(main)
