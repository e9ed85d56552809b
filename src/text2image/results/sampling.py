"""Images from captions: the mean sigma(c_T) of what the prior draws (paper, section 3; no pixel is sampled)."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from text2image import seeds
from text2image.config import MAX_SEED, frozen, parameter, require_memory
from text2image.data.mnist_captions import caption as mnist_caption
from text2image.data.vocabulary import pad
from text2image.devices import Device
from text2image.errors import UserError
from text2image.files.hdf5 import UNREADABLE
from text2image.models.base import Glimpse, ImageModel
from text2image.models.checkpoints import Checkpoint

IMAGES_AT_ONCE = 250
MOST_SHOWN = 400   # rows, images of a row, words of a caption: a figure has at most 65,536 pixels a side


@frozen
class SampleConfig:
    """What to draw. `captions`, where there are any, stand in for those of the captions file."""

    captions: tuple[str, ...]
    held_out_captions: int = parameter(ge=0, le=MOST_SHOWN)  # more, of those held out of training, where the grammar has some
    images: int = parameter(ge=1, le=MOST_SHOWN)         # of each caption
    seed: int = parameter(ge=0, le=MAX_SEED)            # image n of a caption comes from seed + n
    scale: int = parameter(ge=1, le=512)                # of a pixel in the animation
    device: Device
    exchanges: tuple[tuple[str, ...], ...] = ()         # captions that differ in a word, drawn with the same noise

    def validate(self, where: str) -> None:
        """Raise UserError for a list of `exchanges` that compares nothing."""
        for i, captions in enumerate(self.exchanges):
            if len(captions) < 2:
                raise UserError(f"parameter '{where}.exchanges[{i}]' has {len(captions)} captions; give two or more to "
                                "compare, or leave the list out")


def check(model: ImageModel, captions: Sequence[Sequence[int]], config: SampleConfig) -> None:
    """Raise UserError for captions, as word ids, that are more or longer than a figure shows, or than memory holds."""
    glimpses, (channels, height, width) = model.noise_shape(1)[0], model.image_shape
    for number, what in ((len(captions), "captions"), (max(map(len, captions), default=0), "words of a caption"),
                         (math.ceil(config.images * width / height), f"images of a caption, of {height}x{width} pixels,")):
        if number > MOST_SHOWN:
            raise UserError(f"there are {number:,} {what}; a figure shows {MOST_SHOWN}: ask for fewer")
    drawn = len(captions) * (config.images + glimpses) * channels * height * width
    shown = 3 * (glimpses + 1) * min(len(captions), 12) * height * width * config.scale**2 // 4
    noise = config.images * math.prod(model.noise_shape(1))
    require_memory(4 * (drawn + shown + noise), f"{config.images} images of each of {len(captions)} captions, {glimpses} "
                                                f"glimpses each, and their animation at scale {config.scale}")


class Samples(NamedTuple):
    """What was drawn for M captions, n images of each; of each caption's first image how it came about."""

    images: np.ndarray            # (M, n, C, H, W) in [0, 1]
    canvases: np.ndarray          # (T, M, C, H, W) in [0, 1]
    windows: np.ndarray | None    # (T, M, 4): left, top, right, bottom of the write window in pixels; None: no windows
    alphas: np.ndarray | None     # (T, M, L); zero beyond a caption's words; None: the model does not attend to words


@torch.no_grad()
def draw(model: ImageModel, captions: Sequence[Sequence[int]], images: int, seed: int, device: torch.device) -> Samples:
    """Draw `images` images for each caption of word ids. Image n depends on its caption and seed + n alone, up to rounding,
    since captions are drawn together."""
    steps, _, *latent = model.noise_shape(1)
    noise = torch.stack([seeds.noise((steps, *latent), seed + n, "sample", device="cpu") for n in range(images)], 1).to(device)
    ids, lengths = (torch.from_numpy(part).to(device).long() for part in pad(captions))
    # Where an image depends on the others of its batch, or captions cannot be padded, each caption is drawn alone.
    together = max(1, IMAGES_AT_ONCE // images) if model.supports_padding else 1
    parts = [_draw(model, ids[i:i + together], lengths[i:i + together], noise) for i in range(0, len(ids), together)]
    drawn, canvases, windows, alphas = zip(*parts, strict=True)
    return Samples(torch.cat(drawn).cpu().numpy(), torch.cat(canvases, 1).cpu().numpy(), _joined(windows),
                   _joined(alphas))


def _draw(model: ImageModel, ids: Tensor, lengths: Tensor,
          noise: Tensor) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """`Samples` of some captions, word ids (M, L) and lengths (M,), in one batch."""
    captions, images = len(ids), noise.shape[1]
    longest = int(lengths.max())
    words = ids[:, :longest].repeat_interleave(images, 0)
    padded = None if (lengths == longest).all() else lengths.repeat_interleave(images)
    first = slice(None, None, images)
    canvases, windows, alphas = [], [], []

    def on_step(_: int, glimpse: Glimpse) -> None:
        canvases.append(glimpse.canvas[first].sigmoid())
        if glimpse.write_window is not None:
            windows.append(model.write_box(glimpse.write_window[first]))
        if glimpse.alpha is not None:
            alphas.append(F.pad(glimpse.alpha[first], (0, ids.shape[1] - longest)))

    drawn = model.generate(words, noise.repeat(1, captions, 1), padded, on_step)
    return drawn.unflatten(0, (captions, images)), torch.stack(canvases), _stack(windows), _stack(alphas)


def _stack(steps: list[Tensor]) -> Tensor | None:
    return torch.stack(steps) if steps else None


def _joined(traces: Sequence[Tensor | None]) -> np.ndarray | None:
    found = [trace for trace in traces if trace is not None]
    return torch.cat(found, 1).cpu().numpy() if found else None


def load_samples(path: Path) -> tuple[Tensor, list[str]]:
    """Images (M, n, C, H, W) in [0, 1] and M captions, as stage `sample` wrote them."""
    try:
        with path.open("rb") as opened, np.load(opened) as file:
            images, captions = file["images"], file["captions"]
    except (*UNREADABLE, AttributeError, IndexError) as error:
        raise UserError(f"{path}: not readable as samples ({error}); run `dvc repro` to draw them again") from error
    right = images.dtype == np.float32 and images.ndim == 5 and captions.dtype.kind == "U"
    right = right and captions.shape == images.shape[:1]
    if not right or not images.size or not (images.min() >= 0 and images.max() <= 1):
        raise UserError(f"{path}: {images.dtype} of shape {images.shape} for {captions.size} captions are no images in "
                        "[0, 1] for each; run `dvc repro` to draw them again")
    return torch.from_numpy(images), [str(caption) for caption in captions]


def held_out_captions(checkpoint: Checkpoint, count: int) -> list[str]:
    """`count` captions that were held out of training, spread over all of them; none without a grammar."""
    if checkpoint.grammar is None or not count:
        return []
    rows = checkpoint.grammar.combinations(held_out=True)
    if not len(rows):
        return []
    chosen = np.unique(np.linspace(0, len(rows) - 1, count).round().astype(int))
    return [mnist_caption(*rows[i]) for i in chosen]
