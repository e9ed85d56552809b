"""alignDRAW (paper, section 3): DRAW that aligns each glimpse with the words of a caption.

Letter code: B batch, L words, A units of align, M units of each direction of the caption encoder; U units of LSTM^gen.

| here                | paper                      | released code (coco/alignDraw.py)     |
|---------------------|----------------------------|---------------------------------------|
| captions            | y                          | y                                     |
| h_lang (B, L, 2M)   | h^lang                     | h_t_lang                              |
| sentence (B, 2M)    | s_t                        | s_t                                   |
| alpha (B, L)        | alpha^t                    | alpha                                 |

The rest of the model, which its baselines share, is text2image.models.conditional_draw.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from text2image.config import frozen, parameter
from text2image.models.base import Encoding
from text2image.models.caption_encoder import ReadsWords
from text2image.models.conditional_draw import ConditionalDRAW, DRAWConfig
from text2image.models.recurrence import Caption


@frozen
class AlignDRAWConfig(DRAWConfig):
    """As DRAWConfig, and what reads the caption."""

    language_units: int = parameter(ge=1, le=10**5)   # m / 2, of each direction
    align_units: int = parameter(ge=1, le=10**5)      # l


class Align(nn.Module):
    """alpha_k = softmax_k(v^T tanh(U h_lang_k + W h_gen + b)), s = sum_k alpha_k h_lang_k; section 3.2."""

    def __init__(self, language: int, generate: int, units: int):
        super().__init__()
        self.language = nn.Parameter(torch.empty(units, language))              # U
        self.generate = nn.Linear(generate, units)                              # W and b
        self.v = nn.Parameter(torch.empty(units))


class AlignDRAW(ReadsWords, ConditionalDRAW):
    """The model."""

    config: AlignDRAWConfig
    attends = True

    def add_caption_modules(self) -> int:
        """The caption encoder, and align."""
        c = self.config
        self.add_caption_encoder(c.language_units, c.released("backward_words"))
        self.align = Align(2 * c.language_units, c.generate_units, c.align_units)
        return 2 * c.language_units

    def encode(self, captions: Int[Tensor, "B L"], lengths: Int[Tensor, " B"] | None = None) -> Encoding:
        """h^lang, a vector a word. Raises UserError where lengths are given and the model does not support padding."""
        h_lang = self.read_words(captions, lengths)                             # (B, L, 2M)
        if lengths is None:
            return Encoding(h_lang)
        padding = torch.arange(captions.shape[1], device=captions.device) >= lengths.unsqueeze(1)
        return Encoding(h_lang, torch.zeros_like(padding, dtype=h_lang.dtype).masked_fill_(padding, -torch.inf))

    def query(self) -> tuple[Float[Tensor, "A U"], Float[Tensor, " A"]]:
        """W and b of align."""
        return self.align.generate.weight, self.align.generate.bias

    def as_caption(self, encoding: Encoding) -> Caption:
        """The states with their keys U h_lang, and v."""
        return Caption(encoding.states, encoding.states @ self.align.language.mT, self.align.v)


# How a model kind is looked up: text2image.models.base.
Config = AlignDRAWConfig
Model = AlignDRAW
