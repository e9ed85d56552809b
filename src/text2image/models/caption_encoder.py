"""The caption encoder: a bidirectional LSTM over the words (paper, section 3.1), and what models that have one share.

Letter code: B batch, L words, M units of each direction, K vocabulary.
"""

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from text2image.errors import UserError
from text2image.models.base import ImageModel
from text2image.models.lstm import LSTMCellFunction, WordLSTM


class CaptionEncoder(nn.Module):
    """h^lang of the paper. `batch_reversed`: the backward direction as in the released code (docs/fidelity.md)."""

    def __init__(self, words: int, units: int, batch_reversed: bool):
        super().__init__()
        self.batch_reversed = batch_reversed
        self.sparse = False  # gradients of the tables: of the rows that were looked up alone
        self.forward_lstm = WordLSTM(words, units)
        self.backward_lstm = WordLSTM(words, units)
        self.h0 = nn.Parameter(torch.empty(1, units))  # of both directions

    @property
    def features(self) -> int:
        """2M: the numbers of a word's state."""
        return 2 * self.h0.shape[1]

    def forward(self, words: Int[Tensor, "B L"], lengths: Int[Tensor, " B"] | None = None) -> Float[Tensor, "B L two_M"]:
        """The states of both directions at each word: h^lang_i = [forward_i, backward_i].

        lengths: words of each caption, where captions are padded; at padding h^lang has no meaning.
        """
        # The released code reverses the batch where it means the words (coco/alignDraw.py:94).
        backward_words = words.flip(0) if self.batch_reversed else from_end(words, lengths)
        directions = (self.forward_lstm, self.backward_lstm)
        gates = torch.stack([F.embedding(y, d.table, sparse=self.sparse) + d.bias
                             for y, d in zip((words, backward_words), directions, strict=True)])  # (2, B, L, 4M)
        recurrent = torch.stack([d.weight_hidden.mT for d in directions])       # (2, M, 4M)
        h = self.h0.expand(2, len(words), -1)                                   # (2, B, M)
        cell = torch.zeros_like(h)
        states = []
        for word_gates in gates.unbind(2):
            h, cell = LSTMCellFunction.apply(torch.baddbmm(word_gates, h, recurrent), cell)
            states.append(h)
        forward_states, backward_states = torch.stack(states, 2)                # 2 x (B, L, M)
        if not self.batch_reversed:
            backward_states = from_end(backward_states, lengths)  # so that both halves of h_lang_i have read word i
        return torch.cat([forward_states, backward_states], -1)                 # (B, L, 2M)


def from_end(sequence: Shaped[Tensor, "B L *rest"], lengths: Int[Tensor, " B"] | None) -> Shaped[Tensor, "B L *rest"]:
    """A sequence read from each caption's end; padding stays where it is."""
    if lengths is None:
        return sequence.flip(1)
    positions = torch.arange(sequence.shape[1], device=sequence.device).expand(sequence.shape[:2])
    positions = torch.where(positions < lengths.unsqueeze(1), lengths.unsqueeze(1) - 1 - positions, positions)
    return sequence.gather(1, positions.view(*positions.shape, *[1] * (sequence.dim() - 2)).expand_as(sequence))


class ReadsWords(ImageModel):
    """A model with a caption encoder of its own that is trained with it."""

    caption_encoder: CaptionEncoder

    def add_caption_encoder(self, units: int, batch_reversed: bool) -> None:
        """Make it, for the model's vocabulary."""
        self.caption_encoder = CaptionEncoder(self.vocabulary_size, units, batch_reversed)

    def read_words(self, captions: Int[Tensor, "B L"], lengths: Int[Tensor, " B"] | None) -> Float[Tensor, "B L two_M"]:
        """h^lang. Raises UserError where lengths are given and the model does not support padding."""
        if lengths is not None and not self.supports_padding:
            raise UserError("captions of several lengths in a batch need the model's backward_words: paper; "
                            "set it so, or train.bucket to 1")
        return self.caption_encoder(captions, lengths)

    @property
    def mixes_batch(self) -> bool:
        """Whether a caption's encoding depends on the rest of its batch: in the released encoder it does."""
        return self.caption_encoder.batch_reversed

    @property
    def supports_padding(self) -> bool:
        """Whether captions may be padded: the released encoder reads another caption, whose padding is elsewhere."""
        return not self.caption_encoder.batch_reversed

    @property
    def sparse_gradients(self) -> bool:
        """Whether the gradients of the word tables are of the rows that were looked up alone."""
        return self.caption_encoder.sparse

    @sparse_gradients.setter
    def sparse_gradients(self, sparse: bool) -> None:
        self.caption_encoder.sparse = sparse
