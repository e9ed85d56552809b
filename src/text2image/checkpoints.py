"""Checkpoints: weights in safetensors, and all that is needed to use them in its metadata.

`sample` and `evaluate` rebuild the model from the file alone. The metadata holds the configuration, the
vocabulary, and, where the captions have one, the grammar with its held-out digits.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from text2image.captions import Vocabulary
from text2image.config import from_mapping
from text2image.disk import whole
from text2image.errors import UserError
from text2image.mnist_captions import Grammar
from text2image.model import AlignDRAW, ModelConfig

KEY = "text2image"
VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    model: AlignDRAW
    vocabulary: Vocabulary
    grammar: Grammar | None


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, whole or not at all."""
    model = checkpoint.model
    metadata = {"version": VERSION, "config": asdict(model.config), "vocabulary": checkpoint.vocabulary.words,
                "grammar": None if checkpoint.grammar is None else checkpoint.grammar.as_dict()}
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    # One entry: safetensors writes several in no fixed order, and equal checkpoints should be equal files.
    with whole(path) as partial:
        save_file(tensors, partial, {KEY: json.dumps(metadata, sort_keys=True, ensure_ascii=False)})


def load(path: Path) -> Checkpoint:
    """Read a checkpoint. Raises UserError when it is missing, damaged, or of a newer version."""
    try:
        with safe_open(path, "pt") as file:
            described = (file.metadata() or {}).get(KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such checkpoint; `dvc pull` fetches it, `dvc repro` trains it") from error
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a readable checkpoint ({error}); fetch it again with `dvc pull`") from error
    if described is None:
        raise UserError(f"{path}: not a checkpoint of this project: its metadata has no entry '{KEY}'")
    try:
        metadata = json.loads(described)
        if metadata["version"] > VERSION:
            raise UserError(f"{path}: of version {metadata['version']}, newer than this code reads ({VERSION}); "
                            "update text2image")
        vocabulary = Vocabulary(metadata["vocabulary"])
        config = from_mapping(ModelConfig, metadata["config"], f"{path}: config")
        grammar = None if metadata["grammar"] is None else Grammar.of(metadata["grammar"], f"{path}: grammar")
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: its metadata is damaged ({error!r}); fetch it again with `dvc pull`") from error
    model = AlignDRAW(config, len(vocabulary))
    wanted = {name: value.shape for name, value in model.state_dict().items()}
    for name in wanted.keys() | tensors.keys():
        if name not in wanted or name not in tensors or tensors[name].shape != wanted[name]:
            raise UserError(f"{path}: weights and configuration differ at '{name}'; the file was made by other code or altered")
    model.load_state_dict(tensors)
    return Checkpoint(model, vocabulary, grammar)
