"""table: the numbers of the runs that are switched on, in the terminal, and where the images lie. No stage: it only reads."""

import sys
from pathlib import Path

import dvc.api
from dvc.exceptions import DvcException

from pipeline import failures
from text2image.errors import UserError
from text2image.results import record, tables
from text2image.results.record import Record


def read() -> tuple[Record, list[str], list[str]]:
    """The record of all runs, and the names of those that params.yaml switches on and of the others."""
    try:
        switched_on = dvc.api.params_show()["pipeline"]["runs"]
    except (DvcException, KeyError, TypeError) as error:
        raise UserError(f"params.yaml or dvc.yaml: {error}") from error
    found = record.read(Path(), switched_on)
    return found, [name for name in found.runs if name in switched_on], [name for name in found.runs if name not in switched_on]


def main() -> None:
    """Print."""
    found, on, _ = read()
    if not on:
        raise UserError("results/ holds nothing of what is switched on; run `dvc repro` first")
    shown = sorted(path for path in [*Path("samples").glob("*/*"), Path("report/index.html")]
                   if path.suffix in (".png", ".gif", ".html") and path.exists())
    sys.stdout.write("Bounds on log p(image | caption), nats per image, mean ± standard error (more in docs/results.md)\n\n"
                     f"{tables.as_markdown(record.summary(found, on))}\n\nImages, and the page of all results:\n"
                     + "".join(f"  {path}\n" for path in shown))


if __name__ == "__main__":
    failures.run(main)
