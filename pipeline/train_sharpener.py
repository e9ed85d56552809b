"""train_sharpener: a sharpener of pictures like a run's, into models/sharpeners/<run>. Goes on where a killed run stopped."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from tqdm import tqdm

from pipeline import stage
from text2image import checkpoints, datasets, devices, disk, sharpener, sharpener_training, sharpening
from text2image.captions import Vocabulary
from text2image.errors import UserError
from text2image.progress import WorkInProgress, fingerprint
from text2image.sharpener import Sharpener, SharpenerConfig
from text2image.sharpener_training import History, Report, TrainSharpenerConfig


def train_sharpener(parameters: dict[str, Any], run: str, dataset: str) -> None:
    seed = stage.seed(parameters)
    config = stage.config(TrainSharpenerConfig, parameters, "runs", run, "train_sharpener")
    prepared, trained = Path("data/prepared") / dataset, Path("models") / run / "model.safetensors"
    device = devices.choose(config.device)
    devices.keep_freed_memory()
    checkpoint = checkpoints.load(trained)
    if Vocabulary.load(prepared / "vocabulary.json").words != checkpoint.vocabulary.words:
        raise UserError(f"{prepared}: its vocabulary is not that of {trained}, which was trained on other data; "
                        "`dvc repro` trains it again")
    encoder = checkpoint.model.caption_encoder.to(device)
    data, dev = (datasets.load(prepared / f"{split}.h5", device) for split in ("train", "dev"))
    sizes = SharpenerConfig(*data.shape, 2 * checkpoint.model.config.language_units, config.filters, config.kernels,
                            config.factor, sharpening.digest(encoder))
    network = sharpener_training.seeded(seed, "sharpener", lambda: Sharpener(sizes))
    digest = fingerprint([run, asdict(config), seed], [trained, *prepared.iterdir(), *stage.code_files()])
    with WorkInProgress(stage.state_folder(), f"sharpener-{run}", digest) as work:
        with Bar(run, sharpener_training.steps_of(data, config)) as bar:
            history = sharpener_training.train(network, encoder, data, dev, config, seed, work, bar.show)
        summary = summarize(history, network)
        with stage.output_folder(Path("models/sharpeners") / run) as out:
            sharpener.save(out / sharpener.FILE, network)
            card = {"run": run, "dataset": dataset, "seed": seed, **summary, "train_sharpener": asdict(config)}
            (out / "card.yaml").write_text(yaml.safe_dump(card, sort_keys=False), encoding="utf-8", newline="\n")
        table = pd.DataFrame(sharpener_training.columns(history))
        stage.write_text(Path("plots/train_sharpener") / f"{run}.tsv", table.to_csv(sep="\t", index=False, lineterminator="\n"))
        stage.write_metrics(Path("metrics/train_sharpener") / f"{run}.json", summary)
        # DVC copies the sharpener into its cache next; until there is room for that, the work is not done.
        disk.require_room(Path.cwd(), sum(file.stat().st_size for file in (Path("models/sharpeners") / run).iterdir()))
        work.finish()


def summarize(history: list[History], network: Sharpener) -> dict[str, Any]:
    last = sharpener_training.columns(history[-1:])[0]
    return {"parameters": sum(weights.numel() for weights in network.parameters()), "epochs": last.pop("epoch"),
            "steps": last.pop("step"), "last": last}


class Bar:
    """A progress bar; a line an epoch as well, which is all there is where there is no terminal."""

    def __init__(self, run: str, steps: int):
        self.bar = tqdm(total=steps, desc=f"sharpener {run}", unit="step", disable=None, smoothing=0.05)
        self.run, self.done = run, 0

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def show(self, report: Report) -> None:
        if self.done == 0 and report.going_on:
            self.bar.initial = self.bar.n = self.done = report.step - 1
            self.bar.write(f"sharpener {self.run}: going on at step {report.step}")
        self.bar.update(report.step - self.done)
        self.done = report.step
        if report.history is not None:
            row = report.history
            self.bar.write(f"sharpener {self.run}: epoch {row.epoch}  step {row.step}  taken for real: real "
                           f"{row.verdict_on_real:.2f}, made {row.verdict_on_made:.2f}  squared error on dev: coarse "
                           f"{row.coarse_error:.3f}, sharpened {row.sharpened_error:.3f}")


if __name__ == "__main__":
    stage.main("train_sharpener", train_sharpener)
