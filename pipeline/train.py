"""train: a model from prepared data, into models/<run>; its history beside it. A killed run is resumed."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from pipeline import stage
from text2image import devices, seeds
from text2image.data import datasets
from text2image.data.datasets import CaptionedDigits
from text2image.data.vocabulary import Vocabulary
from text2image.errors import UserError
from text2image.files import released_arrays
from text2image.lookup import lookup
from text2image.models import checkpoints
from text2image.models.base import ImageModel, require_memory_to_train
from text2image.models.checkpoints import Checkpoint
from text2image.training import elbo
from text2image.training.distributed import DistributedContext, init_distributed
from text2image.training.progress import ProgressBar
from text2image.training.resume import ResumableState, fingerprint
from text2image.training.train_config import TrainConfig


def train(parameters: dict[str, Any], run: str, dataset: str, model: str) -> float:
    """Train a model of the kind `model`, in the processes that there are. Returns the seconds of a run that it went on from."""
    config = stage.config(TrainConfig, parameters, "runs", run, "train")
    with init_distributed(config.device) as context:
        return train_in(context, config, parameters, run, Path("data/prepared") / dataset, model)


def train_in(context: DistributedContext, config: TrainConfig, parameters: dict[str, Any], run: str, prepared: Path,
             kind: str) -> float:
    """As `train`, in one process of the world that `context` describes."""
    seed = stage.seed(parameters)
    module = lookup("models", kind, "Model", f"parameter 'pipeline.runs.{run}.model'")
    model_config = stage.config(module.Config, parameters, "runs", run, "model")
    devices.keep_freed_memory()
    devices.use_threads(config.threads)
    vocabulary = Vocabulary.load(prepared / "vocabulary.json")
    data, dev = (datasets.load(prepared / f"{split}.h5", context.device) for split in ("train", "dev"))
    data = data.filter_by_length(config.min_words, config.max_words)
    captions = config.epoch_size or len(data.labels if isinstance(data, CaptionedDigits) else data.lengths)
    require_memory_to_train(module.Model, model_config, len(vocabulary), min(config.batch_size, captions), run)
    model = module.Model(model_config, len(vocabulary))
    if config.init == "released_weights":
        load_released_weights(model, prepared, run)
    else:
        model.reset(seeds.torch_generator(seed, "weights"))  # on the CPU: the same weights on every device
        model.load_frozen(prepared)
    model.to(context.device)
    model.precision = devices.product_type(config.precision)
    grammar = data.grammar if isinstance(data, CaptionedDigits) else None
    digest = fingerprint([run, kind, asdict(model_config), asdict(config), seed], [*prepared.iterdir(), *stage.code_files()])
    context.require_same(digest, "code, parameters and data")
    hidden = context.rank > 0  # the first process writes, and shows
    with ResumableState(stage.state_folder(), run, digest, read_only=hidden) as state:
        with ProgressBar(run, elbo.total_steps(data, config), hidden) as bar:
            history, best = elbo.train(model, data, dev, config, seed, state, context, bar.show)
        if hidden:
            return state.earlier_seconds
        summary = elbo.summarize(history, model)
        with stage.output_folder(Path("models") / run) as out:
            checkpoints.save(out / "last.safetensors", Checkpoint(model, vocabulary, grammar))
            model.load_state_dict(best)
            checkpoints.save(out / "model.safetensors", Checkpoint(model, vocabulary, grammar))
            card = {"run": run, "dataset": prepared.name, "seed": seed, **summary, "kind": kind, "model": asdict(model_config),
                    "train": asdict(config)}
            (out / "card.yaml").write_text(yaml.safe_dump(card, sort_keys=False), encoding="utf-8", newline="\n")
        stage.write_table(Path("plots/train") / f"{run}.tsv", elbo.columns(history))
        stage.write_result(run, "train", {"headline": {"steps": summary["steps"]}, **summary})
        stage.require_room_in_cache(Path("models") / run)
        state.discard()
        return state.earlier_seconds


def load_released_weights(model: ImageModel, prepared: Path, run: str) -> None:
    """Put the authors' weights, which came with the data, into a model of theirs."""
    path = prepared / released_arrays.FILE
    if not path.exists():
        raise UserError(f"parameter 'runs.{run}.train.init' is released_weights, but {path} is not there: "
                        f"name the weights in datasets.{prepared.name}.fetch.weights")
    if model.kind != "align_draw":
        raise UserError(f"parameter 'runs.{run}.train.init' is released_weights: the authors published weights of align_draw, "
                        f"none of {model.kind}; set it to random")
    lookup("models", "released", "fill", "the released weights").fill(model, released_arrays.read(path), f"runs.{run}.model")


if __name__ == "__main__":
    stage.main("train", train)
