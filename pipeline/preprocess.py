"""preprocess: raw data in the prepared format (text2image.data.datasets), into data/prepared/<dataset>.

What there is of it is counted in results/datasets/<dataset>.json.
"""

from pathlib import Path
from typing import Any

from pipeline import stage
from text2image.data.prepared import PreparedWriter
from text2image.files import skipped
from text2image.lookup import lookup


def preprocess(parameters: dict[str, Any], name: str, source: str) -> None:
    """Prepare the dataset `name`, which a module of text2image.sources has fetched."""
    module = lookup("sources", source, "PrepareConfig", f"parameter 'pipeline.datasets.{name}.source'")
    config = stage.config(module.PrepareConfig, parameters, "datasets", name, "preprocess")
    raw, prepared = Path("data/fetched") / name, Path("data/prepared") / name
    with stage.output_folder(prepared) as folder:
        out = PreparedWriter(folder)
        module.prepare(config, raw, out, stage.seed(parameters), f"datasets.{name}.preprocess")
        left_out = skipped.read(folder)
        out.counts["skipped"] = skipped.count(skipped.read(raw) + left_out)
        stage.write_json(Path("results/datasets") / f"{name}.json", out.counts)
    skipped.warn(left_out, prepared / skipped.FILE)


if __name__ == "__main__":
    stage.main("preprocess", preprocess)
