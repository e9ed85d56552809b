"""Sentence encoders: a caption as one fixed vector, by weights that are not trained with the model that reads it.

The stage `add_sentence_encoder` lays an encoder beside prepared data, where training reads it (`ImageModel.load_frozen`). In
the model its weights are frozen, and they are part of its checkpoint. Where the weights come from: text2image.sentences.

Letter code: B batch, L words, S numbers of a caption's vector, K vocabulary, E numbers of a word.
"""

from abc import ABC, abstractmethod
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence

from text2image.config import frozen, parameter
from text2image.errors import UserError
from text2image.files import safetensors_file
from text2image.files.safetensors_file import Format
from text2image.models.base import Encoding, ImageModel
from text2image.models.caption_encoder import CaptionEncoder

FILE = "sentence_encoder.safetensors"
FORMAT = Format(key="text2image sentence encoder", version=1, digest_since=1, noun="sentence encoder",
                missing="the model reads one that lies beside its data: set the run's dataset to one of pipeline.sentences",
                remedy="run `dvc repro` to make it again")


class SentenceEncoder(nn.Module, ABC):
    """A caption's vector from its word ids. Its weights are 0 until they are read, and are never trained."""

    def __init__(self, config: Any, features: int):
        super().__init__()
        self.config = config
        self.features = features  # S

    @abstractmethod
    def forward(self, words: Int[Tensor, "B L"], lengths: Int[Tensor, " B"] | None = None) -> Float[Tensor, "B S"]:
        """The vectors of captions; lengths: words of each, where they are padded."""

    def freeze(self) -> "SentenceEncoder":
        """Itself, with weights of 0 that no optimizer moves."""
        for value in self.parameters():
            value.requires_grad_(False).zero_()
        return self


def words_of(captions: Int[Tensor, "B L"], lengths: Int[Tensor, " B"] | None) -> Bool[Tensor, "B L 1"]:
    """Where a caption has a word, and no padding."""
    positions = torch.arange(captions.shape[1], device=captions.device)
    if lengths is None:
        lengths = positions.new_full((len(captions),), captions.shape[1])
    return (positions < lengths.unsqueeze(1)).unsqueeze(2)


class MeanOfStates(SentenceEncoder):
    """The mean over the words of h^lang, the states of a caption encoder that was trained in another run."""

    def __init__(self, config: "CaptionEncoderConfig", vocabulary_size: int):
        super().__init__(config, 2 * config.units)
        self.caption_encoder = CaptionEncoder(vocabulary_size, config.units, batch_reversed=False)

    def forward(self, words: Int[Tensor, "B L"], lengths: Int[Tensor, " B"] | None = None) -> Float[Tensor, "B S"]:
        """(B, 2M): forward and backward states, each the mean of its own."""
        h_lang = self.caption_encoder(words, lengths)                           # (B, L, 2M)
        mask = words_of(words, lengths).to(h_lang.dtype)
        return (h_lang * mask).sum(1) / mask.sum(1)


def last_states(gru: nn.Module, embedded: Float[Tensor, "B L E"],
                lengths: Int[Tensor, " B"] | None) -> Float[Tensor, "B units"]:
    """A half of a skip-thoughts vector: the last states of a GRU, of both directions where it has two, of length 1."""
    packed: Any = embedded
    if lengths is not None:
        packed = pack_padded_sequence(embedded, lengths.cpu(), batch_first=True, enforce_sorted=False)
    return F.normalize(torch.cat(list(gru(packed)[1]), 1), dim=1)


class SkipThoughts(SentenceEncoder):
    """Skip-thoughts (Kiros et al., 2015): [uni | bi], each half of length 1, for the words of one vocabulary.

    As text2image.sharpening.skip_thoughts, which reads any word of the published dictionary.
    """

    def __init__(self, config: "SkipThoughtsConfig", vocabulary_size: int):
        super().__init__(config, config.uni_units + 2 * config.bi_units)
        self.tables = nn.ParameterDict({half: torch.empty(vocabulary_size, config.word_features) for half in ("uni", "bi")})
        self.grus = nn.ModuleDict({
            "uni": nn.GRU(config.word_features, config.uni_units, batch_first=True),
            "bi": nn.GRU(config.word_features, config.bi_units, batch_first=True, bidirectional=True)})

    def forward(self, words: Int[Tensor, "B L"], lengths: Int[Tensor, " B"] | None = None) -> Float[Tensor, "B S"]:
        """(B, uni + 2 bi): the last states of all three GRUs."""
        halves = []
        for half, gru in self.grus.items():
            halves.append(last_states(gru, F.embedding(words, self.tables[half]), lengths))
        return torch.cat(halves, 1)


class MeanOfPieces(SentenceEncoder):
    """The mean of the vectors of a caption's word pieces, as WordLlama computes it.

    `table` (K, S) holds the sum over the pieces of each word, `pieces` (K, 1) their number.
    """

    def __init__(self, config: "WordPiecesConfig", vocabulary_size: int):
        super().__init__(config, config.features)
        self.table = nn.Parameter(torch.empty(vocabulary_size, config.features))
        self.pieces = nn.Parameter(torch.empty(vocabulary_size, 1))

    def forward(self, words: Int[Tensor, "B L"], lengths: Int[Tensor, " B"] | None = None) -> Float[Tensor, "B S"]:
        """(B, S)."""
        mask = words_of(words, lengths).to(self.table.dtype)
        total, count = ((F.embedding(words, part) * mask).sum(1) for part in (self.table, self.pieces))
        return total / count.clamp(min=1)


@frozen
class CaptionEncoderConfig:
    """The caption encoder of a trained run."""

    kind: Literal["caption_encoder"]
    units: int = parameter(ge=1, le=10**5)           # of each direction; the vector has twice as many numbers

    def make(self, vocabulary_size: int) -> SentenceEncoder:
        """The encoder, without weights."""
        return MeanOfStates(self, vocabulary_size).freeze()


@frozen
class SkipThoughtsConfig:
    """Skip-thoughts; the published ones: 620, 2400, 1200."""

    kind: Literal["skip_thoughts"]
    word_features: int = parameter(ge=1, le=10**5)   # E
    uni_units: int = parameter(ge=1, le=10**5)       # of uni-skip's GRU
    bi_units: int = parameter(ge=1, le=10**5)        # of each of bi-skip's

    def make(self, vocabulary_size: int) -> SentenceEncoder:
        """The encoder, without weights."""
        return SkipThoughts(self, vocabulary_size).freeze()


@frozen
class WordPiecesConfig:
    """Vectors of word pieces that the package wordllama ships: 256 numbers each."""

    kind: Literal["word_llama"]
    features: int = parameter(ge=1, le=10**5)        # S

    def make(self, vocabulary_size: int) -> SentenceEncoder:
        """The encoder, without weights."""
        return MeanOfPieces(self, vocabulary_size).freeze()


SentenceEncoderConfig = CaptionEncoderConfig | SkipThoughtsConfig | WordPiecesConfig


def save(folder: Path, encoder: SentenceEncoder) -> None:
    """Write an encoder into a folder of prepared data, whole or not at all."""
    safetensors_file.write(folder / FILE, encoder.state_dict(), {"config": asdict(encoder.config)}, FORMAT)


def load_into(encoder: SentenceEncoder, folder: Path) -> None:
    """Give an encoder the weights that lie in a folder of prepared data.

    Raises UserError where there is none, or one of another kind, of other sizes or of another vocabulary.
    """
    path = folder / FILE
    with safetensors_file.opened(path, FORMAT) as file:
        found, wanted = file.metadata.get("config"), asdict(encoder.config)
        if found != wanted:
            raise UserError(safetensors_file.one_line(
                f"{path}: its sentence encoder is {_described(found)}, the model asks for {_described(wanted)}: "
                "set the run's model.encoder to what is there"))
        file.check_shapes(encoder)
        encoder.load_state_dict(file.tensors())


def _described(config: object) -> str:
    """A configuration as params.yaml has it."""
    plain = isinstance(config, dict) and all(isinstance(value, str | int) for value in config.values())
    return f"{{{', '.join(f'{key}: {value}' for key, value in config.items())}}}"[:200] if plain else "none"  # type: ignore[attr-defined]


class ReadsSentence(ImageModel):
    """A model that reads a caption as one fixed vector."""

    sentence_encoder: SentenceEncoder

    def add_sentence_encoder(self, config: SentenceEncoderConfig) -> int:
        """Make it, for the model's vocabulary; returns S."""
        self.sentence_encoder = config.make(self.vocabulary_size)
        return self.sentence_encoder.features

    @property
    def supports_padding(self) -> bool:
        """Padding is no part of a caption's vector."""
        return True

    @torch.no_grad()
    def encode(self, captions: Int[Tensor, "B L"], lengths: Int[Tensor, " B"] | None = None) -> Encoding:
        """One vector a caption, (B, 1, S)."""
        return Encoding(self.sentence_encoder(captions, lengths).unsqueeze(1))

    def load_frozen(self, folder: Path) -> None:
        """Read the encoder's weights from beside the prepared data. Raises UserError where it is not the model's."""
        load_into(self.sentence_encoder, folder)
