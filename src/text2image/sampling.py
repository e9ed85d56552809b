"""Pictures from captions: the mean sigma(c_T) of what the prior draws (paper, section 3; no pixel is sampled)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from text2image import attention, seeds
from text2image.captions import pad
from text2image.checkpoints import Checkpoint
from text2image.config import parameter
from text2image.devices import Device
from text2image.mnist_captions import caption as mnist_caption

PICTURES_AT_ONCE = 250


@dataclass(frozen=True)
class SampleConfig:
    """What to draw. `captions`, where there are any, stand in for those of the captions file."""

    captions: tuple[str, ...]
    held_out_captions: int = parameter(least=0)  # more, of those held out of training, where the grammar has some
    pictures: int = parameter(least=1)           # of each caption
    seed: int = parameter(least=0)               # picture n of a caption comes from seed + n
    scale: int = parameter(least=1)              # of a pixel in the film
    device: Device


class Samples(NamedTuple):
    """What was drawn for M captions, n pictures of each."""

    pictures: np.ndarray  # (M, n, C, H, W) in [0, 1]
    canvases: np.ndarray  # (T, M, C, H, W) in [0, 1], of each caption's first picture
    windows: np.ndarray   # (T, M, 4): left, top, right, bottom of the write window in pixels, likewise
    alphas: np.ndarray    # (T, M, L), likewise; zero beyond a caption's words


@torch.no_grad()
def draw(checkpoint: Checkpoint, captions: Sequence[Sequence[int]], pictures: int, seed: int, device: torch.device) -> Samples:
    """Draw `pictures` for each caption of word ids; picture n depends on its caption and seed + n alone,
    up to rounding, since captions are drawn together."""
    c = checkpoint.model.config
    noise = torch.stack([seeds.noise((c.glimpses, c.latent), seed + n, "sample", device="cpu")
                         for n in range(pictures)], 1).to(device)              # (T, n, D)
    ids, lengths = (torch.from_numpy(part).to(device).long() for part in pad(captions))
    # The released encoder reads the batch backward, not the words: it takes one caption at a time.
    together = 1 if c.released("backward_words") else max(1, PICTURES_AT_ONCE // pictures)
    parts = [_draw(checkpoint, ids[i:i + together], lengths[i:i + together], noise) for i in range(0, len(ids), together)]
    drawn, *traces = zip(*parts, strict=True)
    return Samples(*(torch.cat(part, dim).cpu().numpy() for part, dim in ((drawn, 0), *((trace, 1) for trace in traces))))


def _draw(checkpoint: Checkpoint, ids: torch.Tensor, lengths: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """`Samples` of some captions, (M, L) and (M,), in one batch."""
    captions, pictures = len(ids), noise.shape[1]
    longest = int(lengths.max())
    words = ids[:, :longest].repeat_interleave(pictures, 0)
    own = None if (lengths == longest).all() else lengths.repeat_interleave(pictures)
    trace = checkpoint.model.generate_trace(words, noise.repeat(1, captions, 1), own)
    first = slice(None, None, pictures)
    return (trace.canvases[-1].sigmoid().unflatten(0, (captions, pictures)), trace.canvases[:, first].sigmoid(),
            _corners(trace.write_windows[:, first], checkpoint), F.pad(trace.alphas[:, first], (0, ids.shape[1] - longest)))


def _corners(parameters: torch.Tensor, checkpoint: Checkpoint) -> torch.Tensor:
    """(..., 5) window parameters as the box around the outermost filters, (..., 4)."""
    c = checkpoint.model.config
    place = attention.window(parameters.flatten(0, -2), c.height, c.width, c.write_window, c.geometry)
    steps = attention.grid(c.write_window, c.geometry, place.stride)
    first, last = place.stride * steps[0], place.stride * steps[-1]
    half = 0.5  # a pixel's centre is at its number, its edges half a pixel away
    box = torch.cat([place.x + first + half, place.y + first + half, place.x + last + half, place.y + last + half], 1)
    return box.view(*parameters.shape[:-1], 4)


def held_out_captions(checkpoint: Checkpoint, count: int) -> list[str]:
    """`count` captions that were held out of training, spread over all of them; none without a grammar."""
    if checkpoint.grammar is None or not count:
        return []
    rows = checkpoint.grammar.combinations(held_out=True)
    chosen = np.unique(np.linspace(0, len(rows) - 1, count).round().astype(int)) if len(rows) else []
    return [mnist_caption(*rows[i]) for i in chosen]
