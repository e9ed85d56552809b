"""Checkpoints: weights in safetensors, and all that is needed to use them in its metadata.

The stages after training rebuild the model from the file alone. The metadata holds the model's kind and configuration, the
vocabulary, where the captions have one the grammar with its held-out digits, and a digest of the weights.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from text2image.config import from_mapping
from text2image.data.mnist_captions import Grammar
from text2image.data.vocabulary import Vocabulary
from text2image.errors import UserError
from text2image.files import safetensors_file
from text2image.files.safetensors_file import Format
from text2image.lookup import lookup
from text2image.models.base import ImageModel

FORMAT = Format(key="text2image", version=2, digest_since=2, noun="checkpoint",
                missing="`dvc pull` fetches it, `dvc repro` trains it", remedy="fetch it again with `dvc pull`")
# Version 1 knew one kind of model, and had its switches among the sizes.
KIND_OF_VERSION_1 = "align_draw"
SWITCHES_OF_VERSION_1 = ("backward_words", "filter_grid", "window_centre", "filter_sum", "posterior_scale", "prior_bias")


@dataclass(frozen=True)
class Checkpoint:
    """A model and what its captions are made of."""

    model: ImageModel
    vocabulary: Vocabulary
    grammar: Grammar | None


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, whole or not at all. Equal checkpoints are equal files."""
    model = checkpoint.model
    metadata = {"kind": model.kind, "config": asdict(model.config), "vocabulary": checkpoint.vocabulary.words,
                "grammar": None if checkpoint.grammar is None else checkpoint.grammar.as_dict()}
    safetensors_file.write(path, model.state_dict(), metadata, FORMAT)


def load(path: Path) -> Checkpoint:
    """Read a checkpoint of this version or an older one, on the CPU.

    Raises UserError where it is missing, damaged, of a newer version or of no known kind of model. Sizes are compared before
    the model is built, and before a tensor is read.
    """
    with safetensors_file.opened(path, FORMAT) as file:
        with safetensors_file.building(path, FORMAT):
            metadata = _of_this_version(file.metadata)
            kind = lookup("models", metadata["kind"], "Model", f"{path}: kind")
            words = metadata["vocabulary"]
            if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
                raise TypeError("its vocabulary is no list of words")
            vocabulary = Vocabulary(words)
            config = from_mapping(kind.Config, metadata["config"], f"{path}: config")
            grammar = None if metadata["grammar"] is None else Grammar.of(metadata["grammar"], f"{path}: grammar")
        with torch.device("meta"):  # takes no memory
            file.check_shapes(_build(path, kind.Model, config, len(vocabulary)))
        tensors = file.tensors()
    model = _build(path, kind.Model, config, len(vocabulary))
    model.load_state_dict(tensors)
    return Checkpoint(model, vocabulary, grammar)


def _of_this_version(metadata: dict[str, Any]) -> dict[str, Any]:
    if metadata["version"] > 1:
        return metadata
    config = dict(metadata["config"])
    switches = {name: config.pop(name) for name in SWITCHES_OF_VERSION_1}
    return metadata | {"kind": KIND_OF_VERSION_1, "config": config | {"switches": switches}}


def _build(path: Path, model: type[ImageModel], config: Any, vocabulary_size: int) -> ImageModel:
    """The model. Raises UserError where its configuration asks for what no tensor can be or hold."""
    try:
        return model(config, vocabulary_size)
    except (RuntimeError, OverflowError, TypeError, MemoryError) as error:
        raise UserError(safetensors_file.one_line(f"{path}: no model can be built of its configuration ({error}); "
                                                  f"{FORMAT.remedy}")) from error
