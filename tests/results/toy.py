"""Models whose answers are known, and images and captions for them."""

from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from text2image import seeds
from text2image.data.datasets import CaptionedImages
from text2image.models.base import Bound, Encoding, Glimpse, ImageModel

SHAPE = (1, 3, 5)
GRID = torch.linspace(-12, 12, 4801, dtype=torch.double)  # of z


class OneLatent(ImageModel):
    """One glimpse, one latent number z: logits of the pixels are w z + b(caption); Q(z | x) is a Gaussian whose mean is linear in x.

    log p(x | y) is an integral over a line, which a sum over a grid gives to every digit.
    """

    def __init__(self, vocabulary: int = 7, effect: float = 2.0):
        super().__init__(None, vocabulary)
        pixels = int(np.prod(SHAPE))
        drawn = seeds.torch_generator(3, "toy")
        self.register_buffer("words", effect * torch.randn(vocabulary, pixels, generator=drawn, dtype=torch.double))
        self.register_buffer("w", 0.7 * torch.randn(pixels, generator=drawn, dtype=torch.double))
        self.log_sigma = -0.2

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return SHAPE

    def reset(self, generator=None) -> None:
        pass

    def noise_shape(self, batch: int) -> tuple[int, int, int]:
        return 1, batch, 1

    def encode(self, captions: Tensor, lengths: Tensor | None = None) -> Encoding:
        return Encoding(self.words[captions])

    def posterior_mean(self, images: Tensor) -> Tensor:
        return (images.double().flatten(1) - 0.5) @ self.w * 0.4

    def log_likelihood(self, images: Tensor, encoding: Encoding, z: Tensor) -> Tensor:
        """log p(x | y, z), (B,), for z (B,)."""
        logits = z[:, None] * self.w + encoding.states.mean(1)
        return -F.binary_cross_entropy_with_logits(logits, images.double().flatten(1), reduction="none").sum(1)

    def score(self, images, encoding, noise, on_step=None) -> Bound:
        noise = noise[0, :, 0].double()
        mean, sigma = self.posterior_mean(images), np.exp(self.log_sigma)
        z = mean + sigma * noise
        log_likelihood = self.log_likelihood(images, encoding, z)
        kl = 0.5 * (mean.square() + sigma**2 - 1) - self.log_sigma
        ratio = 0.5 * (noise.square() - z.square()) + self.log_sigma
        return Bound(-log_likelihood, kl, log_likelihood + ratio, kl[None])

    def draw(self, encoding, noise, on_step=None) -> Tensor:
        canvas = noise[0].double() * self.w + encoding.states.mean(1)
        if on_step is not None:
            on_step(0, Glimpse(canvas.view(-1, *SHAPE)))
        return canvas.sigmoid().view(-1, *SHAPE).float()

    def exactly(self, images: Tensor, encoding: Encoding) -> tuple[Tensor, Tensor]:
        """log p(x | y) and the ELBO of each image (B,), by the integral over z."""
        joint = torch.stack([self.log_likelihood(images, encoding, z.expand(len(images))) for z in GRID], 1)  # (B, grid)
        step = float(GRID[1] - GRID[0])
        prior = -0.5 * (GRID.square() + np.log(2 * np.pi))
        log_p = (joint + prior).logsumexp(1) + np.log(step)
        mean, sigma = self.posterior_mean(images), np.exp(self.log_sigma)
        log_q = -0.5 * (((GRID - mean[:, None]) / sigma).square() + np.log(2 * np.pi)) - self.log_sigma
        return log_p, (log_q.exp() * (joint + prior - log_q)).sum(1) * step


class Oracle(ImageModel):
    """It knows the image of every caption, whose only word is the image's number plus 1: it draws that image, and scores any
    other by its squared distance to it."""

    def __init__(self, images: np.ndarray):
        super().__init__(None, len(images) + 1)
        known = torch.from_numpy(images).float() / 255
        self.known = torch.cat([torch.zeros_like(known[:1]), known])

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return tuple(self.known.shape[1:])

    def reset(self, generator=None) -> None:
        pass

    def noise_shape(self, batch: int) -> tuple[int, int, int]:
        return 1, batch, 1

    def encode(self, captions, lengths=None) -> Encoding:
        return Encoding(self.known[captions].flatten(2))

    def score(self, images, encoding, noise, on_step=None) -> Bound:
        distance = (images.flatten(1) - encoding.states[:, 0]).square().sum(1)
        return Bound(distance, 0 * distance, -distance)

    def draw(self, encoding, noise, on_step=None) -> Tensor:
        return encoding.states[:, 0].reshape(-1, *self.image_shape)


class Blind(OneLatent):
    """It reads nothing of a caption."""

    def encode(self, captions, lengths=None) -> Encoding:
        return Encoding(self.words[torch.ones_like(captions)])


def captioned(images: np.ndarray, captions: np.ndarray, image_of_caption: np.ndarray | None = None) -> CaptionedImages:
    """Images with captions of one length."""
    of = np.arange(len(images)) if image_of_caption is None else image_of_caption
    return CaptionedImages(images, captions.astype(np.int32), np.full(len(captions), captions.shape[1]), of)


def random_images(count: int, seed: int, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape)).astype(np.uint8)


class Subject:
    """A model and the splits of its dataset, as a metric takes them."""

    def __init__(self, model: ImageModel, **splits):
        self.checkpoint = SimpleNamespace(model=model, grammar=None)
        self.prepared, self._splits = "data/prepared/toy", splits

    @property
    def names(self) -> list[str]:
        return list(self._splits)

    def split(self, name: str, device: str):
        return self._splits[name]
