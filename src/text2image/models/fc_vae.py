"""The fully connected variational autoencoder of the paper's tables: rectified layers between image, z and caption."""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from text2image.config import frozen, parameter
from text2image.errors import UserError
from text2image.models.vae import MOST_LAYERS, ConditionalVAE, VAEConfig, rectified


@frozen
class FullyConnectedConfig(VAEConfig):
    """As VAEConfig, and the layers."""

    hidden: tuple[int, ...] = parameter(ge=1, le=10**5)   # units of the layers from the image to z; back they are reversed

    def validate(self, where: str) -> None:
        """Raise UserError for more layers than can be meant."""
        if len(self.hidden) > MOST_LAYERS:
            raise UserError(f"parameter '{where}.hidden' has {len(self.hidden)} layers; at most {MOST_LAYERS}")


class FullyConnectedVAE(ConditionalVAE):
    """The model. The caption's vector stands beside the image, and beside z."""

    config: FullyConnectedConfig
    outputs = ("posterior", "pixels")

    def add_layers(self, sentence: int) -> int:
        """The layers of both directions, and the map to the pixels."""
        c = self.config
        pixels = c.channels * c.height * c.width
        to_z, to_pixels = (pixels + sentence, *c.hidden), (c.latent + sentence, *reversed(c.hidden))
        self.inference, self.generation = (nn.ModuleList(nn.Linear(*sides) for sides in pairwise(layers))
                                           for layers in (to_z, to_pixels))
        self.pixels = nn.Linear(to_pixels[-1], pixels)
        return to_z[-1]

    def infer(self, images: Float[Tensor, "B C H W"], sentence: Float[Tensor, "B S"]) -> Float[Tensor, "B F"]:
        """The last layer before the posterior."""
        return rectified(self.inference, torch.cat([images.flatten(1), sentence], 1))

    def decode(self, z: Float[Tensor, "B D"], sentence: Float[Tensor, "B S"]) -> Float[Tensor, "B C H W"]:
        """The image's mean, before the sigmoid."""
        return self.pixels(rectified(self.generation, torch.cat([z, sentence], 1))).unflatten(1, self.image_shape)


# How a model kind is looked up: text2image.models.base.
Config = FullyConnectedConfig
Model = FullyConnectedVAE
