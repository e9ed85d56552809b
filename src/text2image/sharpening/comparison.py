"""What a sharpener gains: images of dev made coarse, sharpened, and compared with the real ones."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from text2image.config import MAX_COUNT, frozen, parameter
from text2image.data.datasets import Batches
from text2image.devices import Device
from text2image.results.scores import Scores
from text2image.sharpening.generator import Sharpener, energy, make_coarse, squares


@frozen
class SharpenConfig:
    """How much of dev is made coarse and sharpened, beside the run's samples."""

    dev_size: int = parameter(ge=0, le=MAX_COUNT)  # captions; 0: all
    batch_size: int = parameter(ge=1, le=10**6)
    device: Device


def compare(sharpener: Sharpener, vectors: Callable[[Tensor], Tensor], batches: Batches) -> dict[str, Any]:
    """Real images, the same made coarse, and those sharpened: squared errors to the real ones, and energies.

    `vectors` gives the captions' vectors (B, D) for word ids (B, L). All are means over images, of sums over an image.
    """
    scores, factor = Scores(), sharpener.config.factor
    for i in range(len(batches)):
        fine, words, image_index, _ = batches[i]
        coarse = make_coarse(fine, factor)
        sharpened = sharpener.sharpen(coarse, vectors(words))
        scores.add(image_index, coarse_error=squares(coarse - fine), sharpened_error=squares(sharpened - fine),
                   real_energy=energy(fine, factor), coarse_energy=energy(coarse, factor),
                   sharpened_energy=energy(sharpened, factor))
    return scores.summary()
