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
from text2image.errors import UserError
from text2image.mnist_captions import Grammar
from text2image.model import AlignDRAW, ModelConfig

VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    model: AlignDRAW
    vocabulary: Vocabulary
    grammar: Grammar | None


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint under a temporary name, then take its own."""
    model = checkpoint.model
    metadata = {"format": "text2image", "version": str(VERSION),
                "config": json.dumps(asdict(model.config), sort_keys=True),
                "vocabulary": json.dumps(checkpoint.vocabulary.words, ensure_ascii=False)}
    if checkpoint.grammar is not None:
        metadata["grammar"] = json.dumps(checkpoint.grammar.as_dict(), sort_keys=True)
    partial = path.with_suffix(".partial")
    save_file({name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}, partial, metadata)
    partial.replace(path)


def load(path: Path) -> Checkpoint:
    """Read a checkpoint. Raises UserError when it is missing, damaged, or of a newer version."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such checkpoint; `dvc pull` fetches it, `dvc repro` trains it") from error
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a readable checkpoint ({error}); fetch it again with `dvc pull`") from error
    if metadata.get("format") != "text2image":
        raise UserError(f"{path}: not a checkpoint of this project: its metadata names no format 'text2image'")
    if int(metadata["version"]) > VERSION:
        raise UserError(f"{path}: of version {metadata['version']}, newer than this code reads ({VERSION}); update text2image")
    vocabulary = Vocabulary(json.loads(metadata["vocabulary"]))
    config = from_mapping(ModelConfig, json.loads(metadata["config"]), f"{path}: config")
    model = AlignDRAW(config, len(vocabulary))
    wanted = {name: value.shape for name, value in model.state_dict().items()}
    for name in wanted.keys() | tensors.keys():
        if name not in wanted or name not in tensors or tensors[name].shape != wanted[name]:
            raise UserError(f"{path}: weights and configuration differ at '{name}'; the file was made by other code or altered")
    model.load_state_dict(tensors)
    grammar = Grammar.of(json.loads(metadata["grammar"]), f"{path}: grammar") if "grammar" in metadata else None
    return Checkpoint(model, vocabulary, grammar)
