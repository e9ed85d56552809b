"""A checkpoint as the page takes it: without the inference network, which drawing does not use, and with weights in 16 bits
where the images stay the same to half a shade of 255."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from text2image.files.atomic import atomic_write
from text2image.files.safetensors_file import digest, opened
from text2image.models import checkpoints
from text2image.models.base import ImageModel
from text2image.models.checkpoints import FORMAT
from text2image.results import sampling

MOST = 0.35 / 255    # that an image which is looked at may change: other captions' images may change somewhat more
IMAGES = 8           # of each caption, seeds 0 to 7: those that the page shows first
HELD_OUT = 12        # captions, where there are some
SMALLEST = 10_000    # numbers of a tensor that is worth 16 bits
INFERENCE = ("read.", "infer.", "posterior.", "h0_infer")


def write(path: Path, source: Path, captions: Sequence[str]) -> None:
    """Write the checkpoint `source` for the page. Its metadata is that of the source, a digest of its own, and an entry
    `stored`: which tensors are float16, and how far the images of `captions`, and of some held-out ones, are off, in shades.

    The tensors are rounded one after another, the largest first; one that moves a pixel of these images by more than MOST
    stays float32. Raises UserError where the source is damaged or has no word for a caption.
    """
    checkpoint = checkpoints.load(source)
    looked_at = [*captions, *sampling.held_out_captions(checkpoint, HELD_OUT)]
    model, ids = checkpoint.model, [checkpoint.vocabulary.encode(caption) for caption in looked_at]
    with opened(source, FORMAT) as file:
        metadata = file.metadata
    tensors = {name: value for name, value in model.state_dict().items() if not name.startswith(INFERENCE)}
    rounded: list[str] = []
    exact, off = _images(model, ids), 0.0
    for name in sorted(tensors, key=lambda name: (-tensors[name].numel(), name)):
        weights = tensors[name].clone()
        if weights.numel() < SMALLEST or not _fits(weights):
            continue
        tensors[name].copy_(weights.half())
        difference = float(np.abs(_images(model, ids) - exact).max())
        if difference <= MOST:
            rounded, off = [*rounded, name], difference
        else:
            tensors[name].copy_(weights)
    stored = {"of": _of(source), "without": "inference", "float16": sorted(rounded),
              "largest_difference_in_shades": round(255 * off, 3)}
    for name in rounded:
        tensors[name] = tensors[name].half()
    text = json.dumps({**metadata, "digest": digest(tensors), "stored": stored}, sort_keys=True, ensure_ascii=False)
    with atomic_write(path) as partial:
        save_file(tensors, partial, {FORMAT.key: text})
        partial.chmod(0o644)  # a web server is another user


def is_of(path: Path, source: Path) -> bool:
    """Whether `write` made the file of this checkpoint, as it is now."""
    try:
        with safe_open(path, "pt") as file:
            return json.loads(file.metadata()[FORMAT.key])["stored"]["of"] == _of(source)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return False


def _of(source: Path) -> str:
    """SHA-256 of the checkpoint's bytes."""
    with source.open("rb") as opened_source:
        return hashlib.file_digest(opened_source, "sha256").hexdigest()


def _images(model: ImageModel, ids: Sequence[Sequence[int]]) -> np.ndarray:
    return sampling.draw(model, ids, IMAGES, 0, torch.device("cpu")).images


def _fits(weights: Tensor) -> bool:
    """Whether no weight is too large for 16 bits."""
    return bool(weights.half().isfinite().all())
