"""evaluate: bounds on every split that there is, into metrics/evaluate/<run>.json."""

from pathlib import Path
from typing import Any

from pipeline import stage
from text2image import bounds, checkpoints, datasets, devices
from text2image.bounds import EvaluateConfig
from text2image.captions import Vocabulary
from text2image.errors import UserError

SPLITS = ("train", "dev", "test", "test_held_out")


def evaluate(parameters: dict[str, Any], run: str, dataset: str) -> None:
    config = stage.config(EvaluateConfig, parameters, "runs", run, "evaluate")
    device = devices.choose(config.device)
    devices.keep_freed_memory()
    checkpoint = checkpoints.load(Path("models") / run / "model.safetensors")
    checkpoint.model.to(device)
    prepared = Path("data/prepared") / dataset
    metrics = {}
    for split in SPLITS:
        if split not in ("train", "dev") and not (prepared / f"{split}.h5").exists():
            continue  # not every dataset has all: no test split is published of pictures of 56x56
        data = datasets.load(prepared / f"{split}.h5", device)
        if split == "train":
            check_same_captions(checkpoint, prepared, data)
            mean = bounds.mean_picture(data.in_order(config.batch_size, 0))
        metrics[split] = bounds.evaluate(checkpoint.model, data, mean, config, split)
    stage.write_metrics(Path("metrics/evaluate") / f"{run}.json", metrics)


def check_same_captions(checkpoint: checkpoints.Checkpoint, prepared: Path, train: datasets.Dataset) -> None:
    same_words = Vocabulary.load(prepared / "vocabulary.json").words == checkpoint.vocabulary.words
    grammar = train.grammar if isinstance(train, datasets.CaptionedDigits) else None
    if not same_words or grammar != checkpoint.grammar:
        what = "held-out captions are" if same_words else "vocabulary is"
        raise UserError(f"{prepared}: its {what} not that of the model, which was trained on other data; "
                        "`dvc repro` trains it again")


if __name__ == "__main__":
    stage.main("evaluate", evaluate)
