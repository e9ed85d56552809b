"""train_sharpener: a sharpener of images like a run's, into models/sharpeners/<run>. A killed run is resumed."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from pipeline import stage
from text2image import devices, seeds
from text2image.data import datasets
from text2image.data.vocabulary import Vocabulary
from text2image.errors import UserError
from text2image.models import checkpoints
from text2image.sharpening import generator, h_lang, training
from text2image.sharpening.generator import Sharpener, SharpenerConfig
from text2image.sharpening.training import TrainSharpenerConfig
from text2image.training.progress import ProgressBar
from text2image.training.resume import ResumableState, fingerprint


def train_sharpener(parameters: dict[str, Any], run: str, dataset: str) -> float:
    """Train a generator against a discriminator, conditioned on the caption encoder of the run's model. Returns the seconds
    of a run that it went on from."""
    seed = stage.seed(parameters)
    config = stage.config(TrainSharpenerConfig, parameters, "runs", run, "train_sharpener")
    prepared, trained = Path("data/prepared") / dataset, Path("models") / run / "model.safetensors"
    device = devices.choose(config.device)
    devices.keep_freed_memory()
    devices.use_threads(config.threads)
    checkpoint = checkpoints.load(trained)
    if Vocabulary.load(prepared / "vocabulary.json").words != checkpoint.vocabulary.words:
        raise UserError(f"{prepared}: its vocabulary is not that of {trained}, which was trained on other data; "
                        "`dvc repro` trains it again")
    encoder = h_lang.encoder_of(checkpoint).to(device)
    data, dev = (datasets.load(prepared / f"{split}.h5", device) for split in ("train", "dev"))
    sizes = SharpenerConfig(*data.shape, encoder.features, config.filters, config.kernels, config.factor,
                            h_lang.digest(encoder))
    sharpener = seeds.network(lambda: Sharpener(sizes), seed, "sharpener", "weights")
    digest = fingerprint([run, asdict(config), seed], [trained, *prepared.iterdir(), *stage.code_files()])
    with ResumableState(stage.state_folder(), f"sharpener-{run}", digest) as state:
        with ProgressBar(f"sharpener {run}", training.total_steps(data, config)) as bar:
            history = training.train(sharpener, encoder, data, dev, config, seed, state, bar.show)
        summary = training.summarize(history, sharpener)
        with stage.output_folder(Path("models/sharpeners") / run) as out:
            generator.save(out / generator.FILE, sharpener)
            card = {"run": run, "dataset": dataset, "seed": seed, **summary, "train_sharpener": asdict(config)}
            (out / "card.yaml").write_text(yaml.safe_dump(card, sort_keys=False), encoding="utf-8", newline="\n")
        stage.write_table(Path("plots/train_sharpener") / f"{run}.tsv", training.columns(history))
        stage.write_result(run, "train_sharpener", summary)
        stage.require_room_in_cache(Path("models/sharpeners") / run)
        state.discard()
        return state.earlier_seconds


if __name__ == "__main__":
    stage.main("train_sharpener", train_sharpener)
