"""The conditioning `skip_thoughts` (Kiros et al., 2015): caption vectors that the authors' sharpening network takes.

The encoder reads the plain files that the source `sharpening` makes of the published ones (text2image.data.sharpening_files).
A vector is [uni | bi], each half of length 1, as skipthoughts.encode(model, X) gives it: no end of sentence is appended, and
a word that is not in the dictionary is UNK.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from text2image.data.sharpening_files import DICTIONARY, GRUS, TABLES, read_dictionary
from text2image.data.vocabulary import UNKNOWN
from text2image.errors import UserError
from text2image.files.hdf5 import UNREADABLE
from text2image.models.sentence_encoders import last_states
from text2image.sharpening.generator import Conditioning, Sharpener


class SkipThoughts:
    """The encoder of a converted folder. Raises UserError where a file is missing, damaged, or contradicts another."""

    def __init__(self, folder: Path, device: torch.device | str = "cpu"):
        try:
            words = read_dictionary(folder / DICTIONARY)
            self.tables = {half: np.load(folder / name, mmap_mode="r") for half, name in TABLES.items()}
            weights = load_file(folder / GRUS)
            self.grus = {half: self._gru(half, weights).to(device) for half in TABLES}
        except (*UNREADABLE, SafetensorError) as error:
            raise UserError(f"{folder}: not readable as converted skip-thoughts ({error}); run `dvc repro` to convert them "
                            "again") from error
        self.rows = {word: row for row, word in enumerate(words)}  # of a word that is listed twice, the last
        for half, table in self.tables.items():
            wanted = len(words), self.grus[half].input_size
            if table.shape != wanted or table.dtype != np.float32:
                raise UserError(f"{folder / TABLES[half]}: {table.dtype} of shape {table.shape}, not float32 of {wanted}; "
                                "run `dvc repro` to convert it again")
        self.device = device

    @staticmethod
    def _gru(half: str, weights: dict[str, Tensor]) -> nn.GRU:
        state = {name.removeprefix(f"{half}."): value for name, value in weights.items() if name.startswith(f"{half}.")}
        units, inputs = state["weight_hh_l0"].shape[1], state["weight_ih_l0"].shape[1]
        gru = nn.GRU(inputs, units, batch_first=True, bidirectional=half == "bi")
        gru.load_state_dict(state, assign=True)
        return gru

    @property
    def language(self) -> int:
        """Numbers of a vector."""
        return sum(gru.hidden_size * (1 + gru.bidirectional) for gru in self.grus.values())

    @torch.no_grad()
    def encode(self, captions: Sequence[Sequence[str]]) -> Tensor:
        """Captions of any lengths, as words: (n, language), both halves of length 1."""
        if not all(captions):
            raise UserError("a caption is empty: skip-thoughts need at least one word")
        unknown = self.rows[UNKNOWN]
        lengths = torch.tensor([len(words) for words in captions])
        rows = np.zeros((len(captions), int(lengths.max())), np.int64)  # beyond a caption's end anything will do
        for row, words in zip(rows, captions, strict=True):
            row[:len(words)] = [self.rows.get(word, unknown) for word in words]
        halves = []
        for half, gru in self.grus.items():
            embedded = torch.from_numpy(np.asarray(self.tables[half][rows])).to(self.device)
            halves.append(last_states(gru, embedded, lengths))
        return torch.cat(halves, -1)


def conditioning(folder: Path, sharpener: Sharpener, checkpoint: object, device: torch.device) -> Conditioning:
    """Captions as words to vectors (n, D), by the skip-thoughts in the sharpener's own folder; `checkpoint` is not needed.

    Raises UserError where their size is not the one that the sharpener takes.
    """
    encoder = SkipThoughts(folder, device)
    if encoder.language != sharpener.config.language:
        raise UserError(f"{folder}: its skip-thoughts have {encoder.language} numbers, its sharpener takes "
                        f"{sharpener.config.language}; run `dvc repro` to convert them again")
    return encoder.encode
