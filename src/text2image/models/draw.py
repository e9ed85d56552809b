"""DRAW (Gregor et al., 2015), which knows of no caption: images in grey or colour."""

from typing import Literal

from jaxtyping import Int
from torch import Tensor

from text2image.config import frozen
from text2image.models.base import Encoding
from text2image.models.conditional_draw import ConditionalDRAW, DRAWConfig


@frozen
class UnconditionalConfig(DRAWConfig):
    """As DRAWConfig, and the prior of z_t: learned from h_gen, as alignDRAW's, or N(0, I) at every glimpse, as DRAW's."""

    prior: Literal["learned", "fixed"]


class DRAW(ConditionalDRAW):
    """The model. It takes captions as every model does, and ignores them."""

    config: UnconditionalConfig

    def __init__(self, config: UnconditionalConfig, vocabulary_size: int):
        super().__init__(config, vocabulary_size)
        if config.prior == "fixed":  # tanh(0) is the mean, and the logarithm of sigma
            for value in self.prior.parameters():
                value.requires_grad_(False).zero_()

    def add_caption_modules(self) -> int:
        """None: S is 0."""
        return 0

    @property
    def supports_padding(self) -> bool:
        """Whether captions may be padded: they are not read."""
        return True

    def encode(self, captions: Int[Tensor, "B L"], lengths: Int[Tensor, " B"] | None = None) -> Encoding:
        """Nothing, (B, 1, 0)."""
        return Encoding(self.c0.new_zeros(len(captions), 1, 0))


# How a model kind is looked up: text2image.models.base.
Config = UnconditionalConfig
Model = DRAW
