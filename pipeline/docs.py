"""docs: tables and figures of README.md, the model card and docs/, from what was measured and drawn. No stage: these are no
results. docs/results.md is the report's (pipeline/report.py)."""

import re
import shutil
import subprocess
from pathlib import Path

from pipeline import failures, stage, table
from text2image.errors import UserError
from text2image.files import atomic
from text2image.results import page, pictures, record, tables
from text2image.results.record import Record
from text2image.results.tables import Table

FIGURES = {"docs/digits.png": "samples/digits/grid.png", "docs/flickr8k.png": "sharpened/flickr8k/grid.png",
           "docs/mnist.png": "samples/mnist/grid.png", "docs/mnist.gif": "samples/mnist/animation.gif",
           "docs/shapes.gif": "samples/shapes/animation.gif", "docs/attention.png": "samples/shapes/attention.png"}
KEPT = Path("docs/figures")  # of runs that are recorded and not switched on, small: a clone has no other


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


def keep_figures(run: str) -> None:
    """Write the figures that a run has here, small, to where Git keeps them; where it has none, those stay that are there."""
    for name, path in page.figure_files(Path(), run).items():
        if not path.is_relative_to(KEPT):
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
    for target, source in FIGURES.items():
        if Path(source).exists():  # runs that are switched off leave theirs as it is
            shutil.copyfile(source, target)
    for run in others:
        keep_figures(run)


if __name__ == "__main__":
    failures.run(main)
