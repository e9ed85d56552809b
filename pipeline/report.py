"""report: tables of the runs, from metrics/ and results/, and where the images lie. No stage: it changes no result.

    python -m pipeline.report           print the runs that are switched on
    python -m pipeline.report --docs    put tables into README.md, docs/results.md and the model card, and figures into docs/
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import dvc.api
import pandas as pd
from dvc.exceptions import DvcException

from pipeline import failures
from text2image.errors import UserError

SPLITS = ("train", "dev", "test", "test_held_out")
FIGURES = {"docs/digits.png": "samples/digits/grid.png", "docs/flickr8k.png": "sharpened/flickr8k/grid.png",
           "docs/mnist.png": "samples/mnist/grid.png", "docs/mnist.gif": "samples/mnist/animation.gif",
           "docs/shapes.gif": "samples/shapes/animation.gif", "docs/attention.png": "samples/shapes/attention.png"}
RESULTS = """# Results

Made by `make docs` from `results/`, which `dvc repro` writes. All bounds are lower bounds on log p(image | caption) in nats per
image, mean ± standard error over images. The IWAE bound is of fewer images than the ELBO beside it: compare each with its
standard error. The mean training image, pixel by pixel, is what there is to beat.

## Bounds of every split

{bounds}

## Training

`best epoch` has the highest ELBO of the first captions of dev; its weights are the checkpoint.

{training}

## Prepared data

{data}
"""


def read(path: Path) -> dict[str, Any]:
    """A JSON file of ours; an empty one where it is not there."""
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as error:
        raise UserError(f"{path}: not a readable result ({error}); `dvc repro` makes it again") from error


def runs(on: bool) -> list[str]:
    """The runs with metrics that params.yaml switches on, or the others."""
    try:
        switched_on = dvc.api.params_show()["pipeline"]["runs"]
    except DvcException as error:
        raise UserError(f"params.yaml or dvc.yaml: {error}") from error
    return [path.stem for path in sorted(Path("metrics").glob("*.json")) if (path.stem in switched_on) == on]


def table(on: bool = True) -> pd.DataFrame:
    """A row a run, as `dvc metrics show` has it, with standard errors; in nats per image."""
    rows = []
    for run in runs(on):
        row, bounds = read(Path("metrics") / f"{run}.json"), read(Path("results") / run / "bounds.json")
        try:
            elbo = {f"ELBO {split.removeprefix('test_').replace('_', ' ')}":
                    mean(bounds[split]["elbo"]) if split in bounds else "-" for split in SPLITS}
            main = bounds["test" if "test" in bounds else "dev"]
            rows.append({"run": run, **elbo, "IWAE bound": mean(main["iwae"]["bound"]), "KL": mean(main["kl"]),
                         "steps": f"{row['steps']:,.0f}"})
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"metrics/{run}.json or results/{run}/bounds.json: not the whole result of {run} ({error!r}); "
                            f"`dvc repro evaluate@{run}` makes it again") from error
    return pd.DataFrame(rows)


def bounds_table() -> pd.DataFrame:
    """A row a run and split: each mean with its standard error."""
    rows = []
    for path in sorted(Path("results").glob("*/bounds.json")):
        result = read(path)
        for split in (name for name in SPLITS if name in result):
            numbers, iwae = result[split], result[split]["iwae"]
            rows.append({"run": path.parent.name, "split": split.replace("_", " "), "ELBO": mean(numbers["elbo"]),
                         "reconstruction": mean(numbers["reconstruction"]), "KL": mean(numbers["kl"]),
                         "IWAE bound": f"{mean(iwae['bound'])} (k = {iwae['samples']}, {iwae['images']:,} images)",
                         "mean training image": mean(numbers["mean_image"]), "images": f"{numbers['images']:,}"})
    return pd.DataFrame(rows)


def training_table() -> pd.DataFrame:
    """A row a run: its size and its best epoch."""
    rows = []
    for path in sorted(Path("results").glob("*/train.json")):
        result = read(path)
        rows.append({"run": path.parent.name, "parameters": f"{result['parameters']:,}", "epochs": f"{result['epochs']}",
                     "steps": f"{result['steps']:,}", "best epoch": f"{result['best_epoch']}",
                     "ELBO of dev then": f"{result['best_dev']['elbo']:.2f}"})
    return pd.DataFrame(rows)


def data_table() -> pd.DataFrame:
    """A row a dataset: images and captions of each split, and words."""
    rows = []
    for path in sorted(Path("results/datasets").glob("*.json")):
        result = read(path)
        counts = {split.replace("_", " "): counted(result.get(split, {})) for split in SPLITS}
        rows.append({"dataset": path.stem, **counts, "words": f"{result['vocabulary']:,}"})
    return pd.DataFrame(rows)


def counted(counts: dict[str, Any]) -> str:
    """Digits, or images and captions, of a split."""
    return ", ".join(f"{counts[what]:,} {what}" for what in ("digits", "images", "captions") if what in counts) or "-"


def mean(numbers: dict[str, float]) -> str:
    """A mean with its standard error, to two decimals."""
    return f"{numbers['mean']:.2f} ± {numbers['se']:.2f}"


def as_markdown(frame: pd.DataFrame) -> str:
    """A table of strings as Markdown."""
    lines = [list(frame.columns), ["---"] * len(frame.columns), *frame.itertuples(index=False)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def replace_block(text: str, name: str, block: str) -> str:
    """The text with what lies between the comments `name` and `/name` replaced."""
    return re.sub(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", lambda m: f"{m[1]}\n{block}\n\n{m[2]}", text, flags=re.DOTALL)


def write_docs() -> None:
    """Put tables and graph between their markers in README.md, write docs/results.md and the model card's table, and copy
    figures into docs/."""
    readme = Path("README.md")
    graph = subprocess.run(("dvc", "dag", "--md"), check=True, capture_output=True, text=True).stdout.strip()
    text = replace_block(readme.read_text(encoding="utf-8"), "report", as_markdown(table()))
    others = table(on=False)
    if len(others):
        text = replace_block(text, "recorded", as_markdown(others))
    readme.write_text(replace_block(text, "dag", graph), encoding="utf-8", newline="\n")
    Path("docs/results.md").write_text(results_document(), encoding="utf-8", newline="\n")
    card = Path("pretrained/README.md")
    text = replace_block(card.read_text(encoding="utf-8"), "bounds", as_markdown(card_table()))
    card.write_text(text, encoding="utf-8", newline="\n")
    for target, source in FIGURES.items():
        if Path(source).exists():  # runs that are switched off leave theirs as it is
            shutil.copyfile(source, target)


def card_table() -> pd.DataFrame:
    """The bounds of the pretrained model."""
    bounds = bounds_table()
    return bounds[bounds["run"] == "mnist"].drop(columns="run")


def results_document() -> str:
    """docs/results.md."""
    return RESULTS.format(bounds=as_markdown(bounds_table()), training=as_markdown(training_table()),
                          data=as_markdown(data_table()))


def main() -> None:
    """Print, or write the documents."""
    if sys.argv[1:] == ["--docs"]:
        try:
            write_docs()
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"results/: a file lacks what it should hold ({error!r}); `dvc repro` makes it again") from error
        return
    if not runs(on=True):
        raise UserError("metrics/ holds nothing of what is switched on; run `dvc repro` first")
    drawn = sorted(path for path in Path("samples").glob("*/*") if path.suffix in (".png", ".gif"))
    sys.stdout.write("Bounds on log p(image | caption), nats per image, mean ± standard error (more in docs/results.md)\n\n"
                     f"{as_markdown(table())}\n\nImages:\n" + "".join(f"  {path}\n" for path in drawn))


if __name__ == "__main__":
    failures.run(main)
