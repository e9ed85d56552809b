"""report: the table of bounds and where the pictures lie, from metrics/ and samples/. No stage: it only prints."""

import json
import sys
from pathlib import Path

import pandas as pd


def table() -> pd.DataFrame:
    """A row a run and split: bound, its standard error, reconstruction, KL, importance-weighted bound, captions."""
    rows = []
    for path in sorted(Path("metrics/evaluate").glob("*.json")):
        for split, numbers in json.loads(path.read_text(encoding="utf-8")).items():
            importance = numbers["importance_weighted"]
            weighted = f"{importance['bound']['mean']:.2f} ({importance['samples']})"
            rows.append({"run": path.stem, "split": split.replace("_", " "), "bound": numbers["bound"]["mean"],
                         "± s.e.": numbers["bound"]["se"], "reconstruction": numbers["reconstruction"]["mean"],
                         "KL": numbers["kl"]["mean"], "importance-weighted (k)": weighted, "captions": numbers["captions"]})
    if not rows:
        raise SystemExit("error: metrics/evaluate holds no metrics; run `dvc repro` first")
    order = {name: i for i, name in enumerate(("train", "dev", "test", "test held out"))}
    return pd.DataFrame(rows).sort_values(["run", "split"], key=lambda c: c.map(order) if c.name == "split" else c)


def as_markdown(frame: pd.DataFrame) -> str:
    cells = [list(frame.columns), ["---"] * len(frame.columns)]
    cells += [[f"{v:.2f}" if isinstance(v, float) else f"{v:,}" if isinstance(v, int) else str(v) for v in row]
              for row in frame.itertuples(index=False)]
    return "\n".join("| " + " | ".join(row) + " |" for row in cells)


if __name__ == "__main__":
    sys.stdout.write(f"Lower bounds on log p(picture | caption), nats a picture\n\n{as_markdown(table())}\n\nPictures:\n")
    for found in sorted(Path("samples").glob("*/*.png")) + sorted(Path("samples").glob("*/*.gif")):
        sys.stdout.write(f"  {found}\n")
