"""evaluate: the few numbers of a run that a person compares, from all that was measured of it, into metrics/<run>.json."""

import json
from pathlib import Path
from typing import Any

from pipeline import stage
from text2image.errors import UserError


def evaluate(parameters: dict[str, Any], run: str) -> None:
    """Gather the `headline` of every result of the run into its row."""
    row: dict[str, float] = {}
    for path in sorted((Path("results") / run).glob("*.json")):
        try:
            headline = json.loads(path.read_text(encoding="utf-8")).get("headline", {})
            row |= {name: round(value, 2) for name, value in headline.items()}
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise UserError(f"{path}: not a readable result ({error}); `dvc repro evaluate@{run}` makes it again") from error
    stage.write_json(Path("metrics") / f"{run}.json", row)


if __name__ == "__main__":
    stage.main("evaluate", evaluate, noted=False)  # it gathers numbers and makes none
