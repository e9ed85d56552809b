"""evaluate: bounds on every split, into metrics/evaluate/<run>.json."""

from pathlib import Path
from typing import Any

from pipeline import stage
from text2image import bounds, checkpoints, datasets, devices
from text2image.bounds import EvaluateConfig
from text2image.captions import Vocabulary
from text2image.config import from_mapping
from text2image.errors import UserError

SPLITS = ("train", "dev", "test", "test_held_out")


def evaluate(parameters: dict[str, Any], run: str, dataset: str) -> None:
    config = from_mapping(EvaluateConfig, parameters["runs"][run]["evaluate"], f"runs.{run}.evaluate")
    device = devices.choose(config.device)
    devices.keep_freed_memory()
    checkpoint = checkpoints.load(Path("models") / run / "model.safetensors")
    checkpoint.model.to(device)
    prepared = Path("data/prepared") / dataset
    check_words(checkpoint, prepared)
    metrics = {split: bounds.evaluate(checkpoint.model, datasets.load(prepared / f"{split}.h5", device), config, split)
               for split in SPLITS if (prepared / f"{split}.h5").exists()}
    stage.write_metrics(Path("metrics/evaluate") / f"{run}.json", metrics)


def check_words(checkpoint: checkpoints.Checkpoint, prepared: Path) -> None:
    vocabulary = Vocabulary.load(prepared / "vocabulary.json")
    if vocabulary.words != checkpoint.vocabulary.words:
        raise UserError(f"{prepared}: its vocabulary is not that of the model, which was trained on other data; "
                        "`dvc repro` trains it again")


if __name__ == "__main__":
    stage.main("evaluate", evaluate)
