"""The sentence encoder `word_llama`: the package wordllama ships one, trained on pairs of sentences that mean the same.

WordLlama (github.com/dleemiller/WordLlama, MIT licence) has a vector for each of the 32,000 word pieces of Llama 2; a caption's
vector is the mean over its pieces. No piece spans two words, so that the words of a vocabulary are all that is needed.
"""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors.torch import load_file

from text2image.data.vocabulary import Vocabulary
from text2image.errors import UserError
from text2image.models.sentence_encoders import SentenceEncoder, WordPiecesConfig

PACKAGE = "wordllama"
WEIGHTS, TOKENIZER = "weights/l2_supercat_256.safetensors", "tokenizers/l2_supercat_tokenizer_config.json"


def sentence_encoder(folder: Path, vocabulary: Vocabulary) -> SentenceEncoder:
    """The encoder of the installed package, whose version is what the file `folder` is there for: constraints.txt.

    Raises UserError where the package is not installed, or is not as it should be.
    """
    try:
        tokenizer = import_module("tokenizers").Tokenizer
        spec = find_spec(PACKAGE)
        root = Path((spec.submodule_search_locations or [])[0] if spec else "")
    except (ImportError, IndexError):
        spec = None
    if spec is None:
        raise UserError("the sentence encoder word_llama is in the package wordllama, which is not installed: "
                        "`pip install -c constraints.txt wordllama`, or choose another encoder")
    try:
        vectors = load_file(root / WEIGHTS)["embedding.weight"].float()         # (pieces, S)
        split = tokenizer.from_file(str(root / TOKENIZER))
        pieces = [split.encode(word, add_special_tokens=False).ids for word in vocabulary.words[1:]]
        table = torch.stack([vectors[ids].sum(0) for ids in pieces])
    except Exception as error:  # tokenizers raises Exception itself
        raise UserError(f"{root}: not readable as WordLlama ({error}); install the version of constraints.txt") from error
    encoder = WordPiecesConfig("word_llama", table.shape[1]).make(len(vocabulary))
    counts = torch.tensor([[0.0], *([float(len(ids))] for ids in pieces)])
    encoder.load_state_dict({"table": torch.cat([torch.zeros_like(table[:1]), table]), "pieces": counts})
    return encoder
