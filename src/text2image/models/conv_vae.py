"""The convolutional variational autoencoder of the paper's tables ("Conv-Deconv"): convolutions of stride 2 from the image
to z, their transposes back.

Letter code: B batch, S numbers of a caption's vector, C channels, H W image, D latent, F units before the posterior.
"""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from text2image.config import frozen, parameter
from text2image.errors import UserError
from text2image.models.vae import MOST_LAYERS, ConditionalVAE, VAEConfig, rectified

STRIDE = 2


@frozen
class ConvolutionalConfig(VAEConfig):
    """As VAEConfig, and the layers."""

    filters: tuple[int, ...] = parameter(ge=1, le=10**4)  # of the convolutions, each of which halves the sides
    kernel: int = parameter(ge=1, le=31)                  # their sides, pixels; odd
    hidden: int = parameter(ge=1, le=10**5)               # units of the layer that joins image and caption, or z and caption

    def validate(self, where: str) -> None:
        """Raise UserError for layers that there cannot be."""
        if not 1 <= len(self.filters) <= MOST_LAYERS:
            raise UserError(f"parameter '{where}.filters' has {len(self.filters)} layers; 1 to {MOST_LAYERS}")
        if self.kernel % 2 == 0:
            raise UserError(f"parameter '{where}.kernel' is {self.kernel}; it must be odd, so that a filter has a middle")


class ConvolutionalVAE(ConditionalVAE):
    """The model. The caption's vector stands beside the last convolution's output, and beside z."""

    config: ConvolutionalConfig
    outputs = ("posterior", "image")

    def add_layers(self, sentence: int) -> int:
        """The layers of both directions; deconvolutions give back the sides that their convolutions took, odd ones too."""
        c = self.config
        half = c.kernel // 2
        sides = [(c.height, c.width)]
        for height, width in (sides[-1] for _ in c.filters):
            sides.append((-(-height // STRIDE), -(-width // STRIDE)))
        planes = (c.channels, *c.filters)
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, c.kernel, STRIDE, half) for a, b in pairwise(planes))
        self.smallest = c.filters[-1], *sides[-1]
        flat = self.smallest[0] * self.smallest[1] * self.smallest[2]
        self.join = nn.Linear(flat + sentence, c.hidden)
        self.generation = nn.ModuleList([nn.Linear(c.latent + sentence, c.hidden), nn.Linear(c.hidden, flat)])
        deconvolutions = [nn.ConvTranspose2d(b, a, c.kernel, STRIDE, half, (1 - height % 2, 1 - width % 2))
                          for (a, b), (height, width) in zip(pairwise(planes), sides, strict=False)]
        self.image, *others = deconvolutions
        self.deconvolutions = nn.ModuleList(reversed(others))
        return c.hidden

    def infer(self, images: Float[Tensor, "B C H W"], sentence: Float[Tensor, "B S"]) -> Float[Tensor, "B F"]:
        """The layer that joins image and caption."""
        seen = rectified(self.convolutions, images).flatten(1)
        return self.join(torch.cat([seen, sentence], 1)).relu()

    def decode(self, z: Float[Tensor, "B D"], sentence: Float[Tensor, "B S"]) -> Float[Tensor, "B C H W"]:
        """The image's mean, before the sigmoid."""
        small = rectified(self.generation, torch.cat([z, sentence], 1)).unflatten(1, self.smallest)
        return self.image(rectified(self.deconvolutions, small))


# How a model kind is looked up: text2image.models.base.
Config = ConvolutionalConfig
Model = ConvolutionalVAE
