"""train_classifier: a classifier of a dataset's images, into models/classifiers/<dataset>. A killed run is resumed."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from pipeline import stage
from text2image import devices, seeds
from text2image.classifiers import network, training
from text2image.classifiers.network import Classifier, ClassifierConfig
from text2image.classifiers.training import Examples, TrainClassifierConfig
from text2image.config import from_mapping
from text2image.data import datasets
from text2image.data.vocabulary import Vocabulary
from text2image.lookup import lookup
from text2image.training.progress import ProgressBar
from text2image.training.resume import ResumableState, fingerprint

SPLITS = ("dev", "test", "test_held_out")


def train_classifier(parameters: dict[str, Any], dataset: str, labels: str) -> float:
    """Train a network that reads the labels `labels` of the dataset's images. Returns the seconds of a run that it
    went on from."""
    seed, where = stage.seed(parameters), f"datasets.{dataset}.train_classifier"
    config = stage.config(TrainClassifierConfig, parameters, "datasets", dataset, "train_classifier")
    module = lookup("classifiers", labels, "Settings", f"parameter 'pipeline.classifiers.{dataset}.labels'")
    settings = from_mapping(module.Settings, config.labels, f"{where}.labels")
    device, prepared = devices.choose(config.device), Path("data/prepared") / dataset
    devices.keep_freed_memory()
    devices.use_threads(config.threads)
    vocabulary = Vocabulary.load(prepared / "vocabulary.json")
    splits = {path.stem: datasets.load(path, device) for path in (prepared / f"{split}.h5" for split in ("train", *SPLITS))
              if path.exists()}
    found, views = module.make(splits["train"], vocabulary, settings)
    sizes = ClassifierConfig(labels, *splits["train"].shape, config.filters, config.pools, config.features, views.corners,
                             views.height, views.width, found.outputs)
    sizes.validate(where)
    classifier = seeds.network(lambda: Classifier(sizes), seed, "classifier", "weights").to(device)
    examples = {split: Examples(data, found, vocabulary) for split, data in splits.items()}
    digest = fingerprint([dataset, labels, asdict(config), seed], [*prepared.iterdir(), *stage.code_files()])
    with ResumableState(stage.state_folder(), f"classifier-{dataset}", digest) as state:
        with ProgressBar(f"classifier {dataset}", training.total_steps(examples["train"], config)) as bar:
            history = training.train(classifier, examples["train"], examples["dev"], config, seed, state, bar.show)
        write(dataset, labels, classifier, examples, config, history)
        stage.require_room_in_cache(Path("models/classifiers") / dataset)
        state.discard()
        return state.earlier_seconds


def write(dataset: str, labels: str, classifier: Classifier, examples: dict[str, Examples], config: TrainClassifierConfig,
          history: list[training.History]) -> None:
    """The classifier, its card, and how right it is on images that it was not trained on."""
    summary = training.summarize(history, classifier)
    result = {split: training.accuracy(classifier, examples[split], 0) for split in SPLITS if split in examples}
    with stage.output_folder(Path("models/classifiers") / dataset) as out:
        network.save(out, classifier)
        card = {"dataset": dataset, "labels": labels, **summary, **result, "train_classifier": asdict(config)}
        (out / "card.yaml").write_text(yaml.safe_dump(card, sort_keys=False), encoding="utf-8", newline="\n")
    stage.write_json(Path("results/classifiers") / f"{dataset}.json", {"labels": labels, **summary, **result})


if __name__ == "__main__":
    stage.main("train_classifier", train_classifier)
