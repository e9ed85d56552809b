"""measure: one metric of a run, by its name in text2image.results, into results/<run>/<metric>.json.

The metric is the stage's name as well as its params block: bounds@digits measures `bounds` by runs.digits.bounds.
"""

from pathlib import Path
from typing import Any

from pipeline import stage
from text2image import devices
from text2image.lookup import lookup
from text2image.results.subject import Subject


def measure(parameters: dict[str, Any], metric: str, run: str, dataset: str) -> None:
    """Look the metric up by its name, measure, write."""
    module = lookup("results", metric, "measure", "the metric")
    config = stage.config(module.Config, parameters, "runs", run, metric)
    devices.keep_freed_memory()
    subject = Subject.load(Path("models") / run / "model.safetensors", Path("data/prepared") / dataset,
                           Path("models/classifiers") / dataset)
    stage.write_result(run, metric, module.measure(config, subject))


if __name__ == "__main__":
    stage.main("measure", measure, lambda metric, run, *_: f"{metric}@{run}")
