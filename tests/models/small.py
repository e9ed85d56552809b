"""A model whose every size is another prime, so that no transposed axis can pass, and inputs for it."""

from typing import TypeVar
from zlib import crc32

import torch

from text2image.models.align_draw import AlignDRAW, AlignDRAWConfig

Model = TypeVar("Model", bound=torch.nn.Module)

PRIMES = AlignDRAWConfig(channels=2, height=29, width=31, glimpses=7, language_units=19, align_units=23, infer_units=37,
                         generate_units=41, latent=17, read_window=5, write_window=3, init_std=0.3, canvas_init=-1.0,
                         preset="paper")
WORDS_KNOWN, BATCH, LENGTH = 43, 11, 13


def fill(model: Model) -> Model:
    """The model with weights and biases that are all other than 0."""
    with torch.no_grad():
        for name, value in model.named_parameters():  # each of its own seed: one more moves no other
            if value.requires_grad:
                value.normal_(0, 0.2, generator=torch.Generator().manual_seed(crc32(name.encode())))
    return model


def make(config: AlignDRAWConfig = PRIMES) -> AlignDRAW:
    """A float64 model, filled."""
    return fill(AlignDRAW(config, WORDS_KNOWN).double())


def inputs(config: AlignDRAWConfig = PRIMES) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images, captions and noise."""
    generator = torch.Generator().manual_seed(2)
    images = torch.rand(BATCH, config.channels, config.height, config.width, generator=generator, dtype=torch.double)
    captions = torch.randint(1, WORDS_KNOWN, (BATCH, LENGTH), generator=generator)
    return images, captions, torch.randn(config.glimpses, BATCH, config.latent, generator=generator, dtype=torch.double)
