"""fetch: raw data as it is published, checked, into data/fetched/<dataset>. What a source is: text2image.sources."""

import shutil
from pathlib import Path
from typing import Any

from pipeline import stage
from text2image.files import skipped
from text2image.files.lock import Lock
from text2image.lookup import lookup


def fetch(parameters: dict[str, Any], name: str, source: str) -> None:
    """Fetch the dataset `name` from a module of text2image.sources. One process alone does so with one folder of state."""
    module = lookup("sources", source, "FetchConfig", f"parameter 'pipeline.datasets.{name}.source'")
    config = stage.config(module.FetchConfig, parameters, "datasets", name, "fetch")
    raw, kept = Path("data/fetched") / name, stage.state_folder() / f"fetch-{name}"
    busy = f"{kept}: another process fetches {name}; wait for it, or end it and run again"
    with Lock(kept.with_name(f"{kept.name}.lock"), busy):
        with stage.output_folder(raw) as out:
            module.fetch(config, out, kept, f"datasets.{name}.fetch")
            left_out = skipped.read(out)
        shutil.rmtree(kept, ignore_errors=True)
    skipped.warn(left_out, raw / skipped.FILE)


if __name__ == "__main__":
    stage.main("fetch", fetch)
