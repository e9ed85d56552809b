"""noAlignDRAW of the paper's tables: alignDRAW without align. Every glimpse is given one vector of the caption.

The vector is what both directions of the caption encoder have when they have read the whole caption: the forward state at
its last word and the backward state at its first.
"""

import torch
from jaxtyping import Int
from torch import Tensor

from text2image.config import frozen, parameter
from text2image.models.base import Encoding
from text2image.models.caption_encoder import ReadsWords
from text2image.models.conditional_draw import ConditionalDRAW, DRAWConfig


@frozen
class NoAlignConfig(DRAWConfig):
    """As DRAWConfig, and what reads the caption."""

    language_units: int = parameter(ge=1, le=10**5)   # of each direction


class NoAlignDRAW(ReadsWords, ConditionalDRAW):
    """The model."""

    config: NoAlignConfig

    def add_caption_modules(self) -> int:
        """The caption encoder."""
        self.add_caption_encoder(self.config.language_units, self.config.released("backward_words"))
        return 2 * self.config.language_units

    def encode(self, captions: Int[Tensor, "B L"], lengths: Int[Tensor, " B"] | None = None) -> Encoding:
        """One vector a caption, (B, 1, 2M)."""
        forward_states, backward_states = self.read_words(captions, lengths).chunk(2, 2)
        if lengths is None:
            last = forward_states[:, -1:]
        else:
            last = forward_states.gather(1, (lengths - 1).view(-1, 1, 1).expand(-1, 1, forward_states.shape[2]))
        # The released encoder reads forward twice, so that the whole caption is read at its end.
        first = backward_states[:, -1:] if self.caption_encoder.batch_reversed else backward_states[:, :1]
        return Encoding(torch.cat([last, first], 2))


# How a model kind is looked up: text2image.models.base.
Config = NoAlignConfig
Model = NoAlignDRAW
