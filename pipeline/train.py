"""train: a model from prepared data, into models/<run>; its history beside it. Goes on where a killed run stopped."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from tqdm import tqdm

from pipeline import stage
from text2image import checkpoints, datasets, devices, disk, processes, released, released_arrays, seeds, training
from text2image.captions import Vocabulary
from text2image.checkpoints import Checkpoint
from text2image.errors import UserError
from text2image.model import AlignDRAW, ModelConfig, count_parameters
from text2image.processes import Processes
from text2image.progress import WorkInProgress, fingerprint
from text2image.training import History, Report, TrainConfig


def train(parameters: dict[str, Any], run: str, dataset: str) -> None:
    config = stage.config(TrainConfig, parameters, "runs", run, "train")
    with processes.together(config.device) as these:
        train_with(these, config, parameters, run, dataset)


def train_with(these: Processes, config: TrainConfig, parameters: dict[str, Any], run: str, dataset: str) -> None:
    seed = stage.seed(parameters)
    model_config = stage.config(ModelConfig, parameters, "runs", run, "model")
    prepared = Path("data/prepared") / dataset
    devices.keep_freed_memory()
    vocabulary = Vocabulary.load(prepared / "vocabulary.json")
    data, dev = (datasets.load(prepared / f"{split}.h5", these.device) for split in ("train", "dev"))
    data = data.of_lengths(config.least_words, config.most_words)
    model = AlignDRAW(model_config, len(vocabulary))
    if config.start == "prepared":
        released.fill(model, read_weights(prepared, run), f"runs.{run}.model")
    else:
        model.reset(seeds.torch_generator(seed, "weights"))  # on the CPU: the same weights on every device
    model.to(these.device)
    model.precision = devices.product_type(config.precision)
    grammar = data.grammar if isinstance(data, datasets.CaptionedDigits) else None
    digest = fingerprint([run, asdict(model_config), asdict(config), seed], [*prepared.iterdir(), *stage.code_files()])
    with WorkInProgress(stage.state_folder(), run, digest, follow=these.rank > 0) as work:
        with Bar(run, training.steps_of(data, config), hidden=these.rank > 0) as bar:
            history, best = training.train(model, data, dev, config, seed, work, these, bar.show)
        if these.rank > 0:
            return  # the first process writes
        with stage.output_folder(Path("models") / run) as out:
            checkpoints.save(out / "last.safetensors", Checkpoint(model, vocabulary, grammar))
            model.load_state_dict(best)
            checkpoints.save(out / "model.safetensors", Checkpoint(model, vocabulary, grammar))
            summary = summarize(history, model)
            card = {"run": run, "dataset": dataset, "seed": seed, **summary,
                    "model": asdict(model_config), "train": asdict(config)}
            (out / "card.yaml").write_text(yaml.safe_dump(card, sort_keys=False), encoding="utf-8", newline="\n")
        write_history(run, history)
        stage.write_metrics(Path("metrics/train") / f"{run}.json", summary)
        # DVC copies the models into its cache next; until there is room for that, the work is not done.
        disk.require_room(Path.cwd(), sum(file.stat().st_size for file in (Path("models") / run).iterdir()))
        work.finish()


def read_weights(prepared: Path, run: str) -> dict[str, np.ndarray]:
    path = prepared / released_arrays.FILE
    if not path.exists():
        raise UserError(f"parameter 'runs.{run}.train.start' is prepared, but {path} is not there: "
                        f"name the weights in datasets.{prepared.name}.fetch.weights")
    return released_arrays.read(path)


def summarize(history: list[History], model: AlignDRAW) -> dict[str, Any]:
    best, last = max(history, key=lambda row: row.dev.bound), history[-1]
    summary = {"parameters": count_parameters(model), "epochs": last.epoch, "steps": last.step, "best_epoch": best.epoch,
               "best_dev": {name: round(value, 4) for name, value in best.dev._asdict().items()}}
    if last.epoch:
        summary["last_train"] = {name: round(value, 4) for name, value in last.train._asdict().items()}
    return summary


def write_history(run: str, history: list[History]) -> None:
    table = pd.DataFrame(training.columns(history))
    stage.write_text(Path("plots/train") / f"{run}.tsv", table.to_csv(sep="\t", index=False, lineterminator="\n"))


class Bar:
    """A progress bar with nats and time left; a line an epoch as well, which is all there is where there is no terminal."""

    def __init__(self, run: str, steps: int, hidden: bool):
        self.bar = tqdm(total=steps, desc=run, unit="step", disable=True if hidden else None, smoothing=0.05)
        self.run, self.hidden, self.done = run, hidden, 0

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def show(self, report: Report) -> None:
        if self.hidden:
            return
        if self.done == 0 and report.going_on:
            self.bar.initial = self.bar.n = self.done = report.step - 1
            self.bar.write(f"{self.run}: going on at step {report.step}")
        self.bar.update(report.step - self.done)
        self.done = report.step
        self.bar.set_postfix_str(f"{report.bound:.2f} nats", refresh=False)
        if report.history is not None:
            row = report.history
            trained = f"train {row.train.bound:.2f}  " if row.epoch else ""
            self.bar.write(f"{self.run}: epoch {row.epoch}  step {row.step}  {trained}"
                           f"dev {row.dev.bound:.2f} nats (KL {row.dev.kl:.2f})")


if __name__ == "__main__":
    stage.main("train", train)
