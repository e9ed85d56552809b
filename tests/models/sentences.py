"""Models that read one fixed vector of a caption, small and of prime sizes, with weights of their encoder that are not 0."""

from dataclasses import asdict
from zlib import crc32

import torch

from tests.models.small import PRIMES, WORDS_KNOWN, Model, fill
from text2image.config import from_mapping
from text2image.models import conv_vae, fc_vae, sentence
from text2image.models.base import ImageModel
from text2image.models.sentence_encoders import CaptionEncoderConfig, SentenceEncoder, SkipThoughtsConfig, WordPiecesConfig

CAPTION_ENCODER = CaptionEncoderConfig("caption_encoder", 19)
SKIP_THOUGHTS = SkipThoughtsConfig("skip_thoughts", word_features=53, uni_units=59, bi_units=61)
WORD_PIECES = WordPiecesConfig("word_llama", 67)
ENCODERS = (CAPTION_ENCODER, SKIP_THOUGHTS, WORD_PIECES)

SHARED = {name: value for name, value in asdict(PRIMES).items() if name not in ("language_units", "align_units")}
VAE = {"channels": 2, "height": 29, "width": 31, "latent": 17, "likelihood": {"kind": "bernoulli"}}
SENTENCE = from_mapping(sentence.Config, SHARED | {"encoder": asdict(CAPTION_ENCODER)}, "model")
FC = from_mapping(fc_vae.Config, VAE | {"hidden": [43, 37], "encoder": asdict(CAPTION_ENCODER)}, "model")
CONV = from_mapping(conv_vae.Config, VAE | {"filters": [5, 7, 11], "kernel": 3, "hidden": 41, "encoder": asdict(CAPTION_ENCODER)},
                    "model")
MODULES = {sentence.Config: sentence, fc_vae.Config: fc_vae, conv_vae.Config: conv_vae}


def filled(encoder: Model) -> Model:
    """An encoder as one that was read: its weights are not 0, and still not trained."""
    fill(encoder.requires_grad_(True)).requires_grad_(False)
    if hasattr(encoder, "pieces"):
        encoder.pieces.copy_((encoder.pieces.abs() * 10).ceil())
    return encoder


def make_encoder(config) -> SentenceEncoder:
    """A float64 encoder."""
    return filled(config.make(WORDS_KNOWN).double())


def make(config) -> ImageModel:
    """A float64 model."""
    model = MODULES[type(config)].Model(config, WORDS_KNOWN).double()
    if type(config) is sentence.Config:
        fill(model)
    else:  # layers of many inputs, whose weights are small
        model.reset(torch.Generator().manual_seed(4))
        for name, value in model.named_parameters():
            if value.requires_grad and name.endswith("bias"):
                value.data.normal_(0, 0.2, generator=torch.Generator().manual_seed(crc32(name.encode())))
    filled(model.sentence_encoder)
    return model


def values(model: ImageModel, batch: int = 11, length: int = 13) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images, captions and noise for a model."""
    generator = torch.Generator().manual_seed(2)
    images = torch.rand(batch, *model.image_shape, generator=generator, dtype=torch.double)
    captions = torch.randint(1, model.vocabulary_size, (batch, length), generator=generator)
    return images, captions, torch.randn(*model.noise_shape(batch), generator=generator, dtype=torch.double)
