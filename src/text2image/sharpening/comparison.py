"""What a sharpener gains, images of dev made coarse, sharpened, and compared with the real ones; and what it costs, the bound
with a sharpened mean image."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from text2image import seeds
from text2image.config import MAX_COUNT, MAX_SEED, frozen, parameter
from text2image.data.datasets import Batches
from text2image.devices import Device
from text2image.models.base import Glimpse, ImageModel
from text2image.results.scores import Scores
from text2image.sharpening.generator import Sharpener, energy, make_coarse, squares

# Half a step of 8 bits. A sharpener gives 0 and 1 too, of which log p(x) of any other value would be minus infinity.
LEAST_PROBABILITY = 0.5 / 255


@frozen
class SharpenConfig:
    """How much is sharpened beside the run's samples: of dev made coarse, and of every split for its bound."""

    dev_size: int = parameter(ge=0, le=MAX_COUNT)        # captions; 0: all
    bound_captions: int = parameter(ge=0, le=MAX_COUNT)  # of each split; 0: all
    batch_size: int = parameter(ge=1, le=10**6)
    seed: int = parameter(ge=0, le=MAX_SEED)             # of the noise of the bounds
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


@torch.no_grad()
def bound(model: ImageModel, sharpener: Sharpener, vectors: Callable[[Tensor], Tensor], batches: Batches,
          *stream: int | str) -> dict[str, Any]:
    """The ELBO, and what it is when the mean image that the model ends with is sharpened (paper, appendix), in nats.

    The posterior's last canvas is the same in both: sigma(c_T) is sharpened, kept between LEAST_PROBABILITY and 1 minus it,
    and taken as the Bernoulli's parameter. The KL does not change. `difference` is the sharpened minus the other.
    """
    scores = Scores()
    for i in range(len(batches)):
        images, words, image_index, lengths = batches[i]
        noise = seeds.noise(model.noise_shape(len(words)), *stream, i, device="cpu").to(images.device)
        canvases: list[Tensor] = [images]

        def keep_last(_: int, glimpse: Glimpse, kept: list[Tensor] = canvases) -> None:
            kept[0] = glimpse.canvas

        before = model.elbo(images, words, noise, lengths, keep_last)
        mean = sharpener.sharpen(canvases[0].sigmoid(), vectors(words)).clamp(LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
        reconstruction = F.binary_cross_entropy(mean, images, reduction="none").flatten(1).sum(1)
        after = -(reconstruction + before.kl)
        scores.add(image_index, elbo=before.elbo, sharpened_elbo=after, difference=after - before.elbo)
    return scores.summary()
