"""Pictures from captions: the mean sigma(c_T) of what the prior draws (paper, section 3; no pixel is sampled)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from text2image import attention, seeds
from text2image.checkpoints import Checkpoint
from text2image.config import parameter
from text2image.devices import Device
from text2image.mnist_captions import caption as mnist_caption


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
    """Draw `pictures` for each caption of word ids; picture n depends on its caption and seed + n alone."""
    model, c = checkpoint.model, checkpoint.model.config
    noise = torch.stack([seeds.noise((c.glimpses, c.latent), seed + n, "sample", device="cpu")
                         for n in range(pictures)], 1).to(device)              # (T, n, D)
    longest = max(len(words) for words in captions)
    drawn, canvases, windows, alphas = [], [], [], []
    for words in captions:
        trace = model.generate_trace(torch.tensor([list(words)] * pictures, device=device), noise)
        drawn.append(trace.canvases[-1].sigmoid())
        canvases.append(trace.canvases[:, 0].sigmoid())
        windows.append(_corners(trace.write_windows[:, 0], checkpoint))
        alphas.append(torch.nn.functional.pad(trace.alphas[:, 0], (0, longest - len(words))))
    traces = (torch.stack(part, 1) for part in (canvases, windows, alphas))
    return Samples(*(part.cpu().numpy() for part in (torch.stack(drawn), *traces)))


def _corners(parameters: torch.Tensor, checkpoint: Checkpoint) -> torch.Tensor:
    """(T, 5) window parameters as the box around the outermost filters, (T, 4)."""
    c = checkpoint.model.config
    place = attention.window(parameters, c.height, c.width, c.write_window, c.geometry)
    steps = attention.grid(c.write_window, c.geometry, place.stride)
    first, last = place.stride * steps[0], place.stride * steps[-1]
    half = 0.5  # a pixel's centre is at its number, its edges half a pixel away
    return torch.cat([place.x + first + half, place.y + first + half, place.x + last + half, place.y + last + half], 1)


def held_out_captions(checkpoint: Checkpoint, count: int) -> list[str]:
    """`count` captions that were held out of training, spread over all of them; none without a grammar."""
    if checkpoint.grammar is None or not count:
        return []
    rows = checkpoint.grammar.combinations(held_out=True)
    chosen = np.unique(np.linspace(0, len(rows) - 1, count).round().astype(int)) if len(rows) else []
    return [mnist_caption(*rows[i]) for i in chosen]
