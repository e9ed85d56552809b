"""report: the table of bounds and where the pictures lie, from metrics/ and samples/. No stage: it changes no result.

    python -m pipeline.report           print them
    python -m pipeline.report --docs    put them into README.md, with the pipeline's graph, and pictures into docs/
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import dvc.api
import pandas as pd

SPLITS = ("train", "dev", "test", "test_held_out")
PICTURES = {"docs/digits.png": "samples/digits/grid.png", "docs/flickr8k.png": "sharpened/flickr8k/grid.png",
            "docs/mnist.png": "samples/mnist/grid.png", "docs/mnist.gif": "samples/mnist/film.gif",
            "docs/shapes.gif": "samples/shapes/film.gif", "docs/words.png": "samples/shapes/words.png"}


def table(on: bool = True) -> pd.DataFrame:
    """A row a run and split, all in nats a picture: each mean with its standard error.

    Of the runs that params.yaml switches on; else of the others whose metrics are there.
    """
    switched_on = dvc.api.params_show()["pipeline"]["runs"]
    rows = []
    for path in sorted(Path("metrics/evaluate").glob("*.json")):
        if (path.stem in switched_on) != on:
            continue
        metrics = json.loads(path.read_text(encoding="utf-8"))
        for split in (name for name in SPLITS if name in metrics):
            numbers = metrics[split]
            importance = numbers["importance_weighted"]
            weighted = f"{importance['images']:,} pictures"
            rows.append({"run": path.stem, "split": split.replace("_", " "), "bound L": mean(numbers["bound"]),
                         "reconstruction": mean(numbers["reconstruction"]), "KL": mean(numbers["kl"]),
                         "importance-weighted": f"{mean(importance['bound'])} (k = {importance['samples']}, {weighted})",
                         "mean training picture": mean(numbers["mean_picture"]), "pictures": f"{numbers['images']:,}"})
    return pd.DataFrame(rows)


def mean(numbers: dict[str, float]) -> str:
    return f"{numbers['mean']:.2f} ± {numbers['se']:.2f}"


def as_markdown(frame: pd.DataFrame) -> str:
    lines = [list(frame.columns), ["---"] * len(frame.columns), *frame.itertuples(index=False)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def replace_block(text: str, name: str, block: str) -> str:
    """The text with what lies between the comments `name` and `/name` replaced."""
    return re.sub(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", lambda m: f"{m[1]}\n{block}\n\n{m[2]}", text, flags=re.DOTALL)


def write_docs() -> None:
    readme = Path("README.md")
    graph = subprocess.run(("dvc", "dag", "--md"), check=True, capture_output=True, text=True).stdout.strip()
    text = replace_block(readme.read_text(encoding="utf-8"), "report", as_markdown(table()))
    others = table(on=False)
    if len(others):
        text = replace_block(text, "recorded", as_markdown(others))
    readme.write_text(replace_block(text, "dag", graph), encoding="utf-8", newline="\n")
    for target, source in PICTURES.items():
        if Path(source).exists():  # runs that are switched off leave theirs as it is
            shutil.copyfile(source, target)


def main() -> None:
    if sys.argv[1:] == ["--docs"]:
        write_docs()
        return
    bounds = table()
    if bounds.empty:
        raise SystemExit("error: metrics/evaluate holds no metrics of what is switched on; run `dvc repro` first")
    pictures = sorted(path for path in Path("samples").glob("*/*") if path.suffix in (".png", ".gif"))
    sys.stdout.write("Bounds on log p(picture | caption), nats a picture, mean ± standard error\n\n"
                     f"{as_markdown(bounds)}\n\nPictures:\n" + "".join(f"  {path}\n" for path in pictures))


if __name__ == "__main__":
    main()
