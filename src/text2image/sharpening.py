"""Sharpeners trained here: what they hear of a caption, a trained alignDRAW's h^lang; and what any of them gains."""

import hashlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from text2image.bounds import Scores
from text2image.datasets import Batches
from text2image.model import CaptionEncoder
from text2image.sharpener import Sharpener, energy, make_coarse, squares


@torch.no_grad()
def caption_vectors(encoder: CaptionEncoder, words: Tensor) -> Tensor:
    """words (B, L): the mean over the words of h^lang (B, D), of each caption by itself."""
    h_lang = encoder(words)                                                    # (B, L, D)
    if encoder.batch_reversed:  # the released code's backward half belongs to the caption at the other end of the batch
        onward, back = h_lang.chunk(2, -1)
        h_lang = torch.cat([onward, back.flip(0)], -1)
    return h_lang.mean(1)


def digest(encoder: CaptionEncoder) -> str:
    """What tells a caption encoder from any other: a digest of its weights."""
    content = hashlib.sha256()
    for _, value in sorted(encoder.state_dict().items()):
        content.update(value.detach().cpu().numpy().tobytes())
    return f"alignDRAW {content.hexdigest()[:16]}"


def compare(sharpener: Sharpener, vectors: Callable[[Tensor], Tensor], batches: Batches) -> dict[str, Any]:
    """Real pictures, the same made coarse, and those sharpened: squared errors to the real ones, and energies.

    `vectors` gives the captions' vectors (B, D) for word ids (B, L). All are means over pictures, of sums over a picture.
    """
    scores, factor = Scores(), sharpener.config.factor
    for i in range(len(batches)):
        fine, words, picture, _ = batches[i]
        coarse = make_coarse(fine, factor)
        sharpened = sharpener.sharpen(coarse, vectors(words))
        scores.add(picture, coarse_error=squares(coarse - fine), sharpened_error=squares(sharpened - fine),
                   real_energy=energy(fine, factor), coarse_energy=energy(coarse, factor),
                   sharpened_energy=energy(sharpened, factor))
    return scores.summary()
