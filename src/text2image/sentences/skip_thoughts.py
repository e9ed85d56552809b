"""The sentence encoder `skip_thoughts`: the published one (Kiros et al., 2015), its word tables cut down to a vocabulary."""

from pathlib import Path

import numpy as np
import torch

from text2image.data.vocabulary import UNKNOWN, Vocabulary
from text2image.models.sentence_encoders import SentenceEncoder, SkipThoughtsConfig
from text2image.sharpening.skip_thoughts import SkipThoughts


def sentence_encoder(folder: Path, vocabulary: Vocabulary) -> SentenceEncoder:
    """The encoder of the converted files in `folder`. A word that their dictionary lacks is UNK; the padding's row is 0."""
    published = SkipThoughts(folder)
    config = SkipThoughtsConfig("skip_thoughts", published.grus["uni"].input_size, published.grus["uni"].hidden_size,
                                published.grus["bi"].hidden_size)
    encoder = config.make(len(vocabulary))
    rows = [published.rows.get(word, published.rows[UNKNOWN]) for word in vocabulary.words[1:]]
    state = {f"grus.{half}.{name}": value for half, gru in published.grus.items() for name, value in gru.state_dict().items()}
    for half, table in published.tables.items():
        words = torch.from_numpy(np.array(table[rows]))
        state[f"tables.{half}"] = torch.cat([torch.zeros_like(words[:1]), words])
    encoder.load_state_dict(state)
    return encoder
