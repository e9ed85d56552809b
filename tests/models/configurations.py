"""The models of params.yaml, for tests."""

from pathlib import Path
from typing import Any

import yaml

from text2image.config import from_mapping
from text2image.models.align_draw import AlignDRAWConfig

PARAMETERS = Path(__file__).parents[2] / "params.yaml"


def runs() -> dict[str, dict[str, Any]]:
    """The block `model` of every run."""
    return {run: blocks["model"] for run, blocks in yaml.safe_load(PARAMETERS.read_text(encoding="utf-8"))["runs"].items()}


def align_draw(run: str) -> AlignDRAWConfig:
    """The alignDRAW of a run."""
    return from_mapping(AlignDRAWConfig, runs()[run], f"runs.{run}.model")


MNIST, COCO = align_draw("mnist"), align_draw("coco")  # the paper's
