"""DRAW conditioned on one fixed vector of a caption. With skip-thoughts: the paper's skipthoughtDRAW."""

from text2image.config import frozen
from text2image.models.conditional_draw import ConditionalDRAW, DRAWConfig
from text2image.models.sentence_encoders import ReadsSentence, SentenceEncoderConfig


@frozen
class SentenceConfig(DRAWConfig):
    """As DRAWConfig, and which encoder gives the vector."""

    encoder: SentenceEncoderConfig


class SentenceDRAW(ReadsSentence, ConditionalDRAW):
    """The model."""

    config: SentenceConfig

    def add_caption_modules(self) -> int:
        """The sentence encoder, which is not trained."""
        return self.add_sentence_encoder(self.config.encoder)


# How a model kind is looked up: text2image.models.base.
Config = SentenceConfig
Model = SentenceDRAW
