"""The conditioning `h_lang`: a sharpener trained here is conditioned on the mean over the words of h^lang, the hidden
states of a trained model's caption encoder."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from text2image.errors import UserError
from text2image.models.caption_encoder import CaptionEncoder
from text2image.models.checkpoints import Checkpoint
from text2image.sharpening.generator import Conditioning, Sharpener


@torch.no_grad()
def caption_vectors(encoder: CaptionEncoder, words: Tensor) -> Tensor:
    """words (B, L): the mean over the words of h^lang (B, D), of each caption by itself."""
    h_lang = encoder(words)                                                    # (B, L, D)
    if encoder.batch_reversed:  # the released code's backward half belongs to the caption at the other end of the batch
        forward_states, backward_states = h_lang.chunk(2, -1)
        h_lang = torch.cat([forward_states, backward_states.flip(0)], -1)
    return h_lang.mean(1)


def digest(encoder: CaptionEncoder) -> str:
    """What tells a caption encoder from any other: a digest of its weights."""
    content = hashlib.sha256()
    for _, value in sorted(encoder.state_dict().items()):
        content.update(value.detach().cpu().numpy().tobytes())
    return f"alignDRAW {content.hexdigest()[:16]}"


def encoder_of(checkpoint: Checkpoint) -> CaptionEncoder:
    """The caption encoder of a trained model. Raises UserError for a model of a kind that has none."""
    encoder = getattr(checkpoint.model, "caption_encoder", None)
    if not isinstance(encoder, CaptionEncoder):
        raise UserError(f"a model of kind {checkpoint.model.kind} has no caption encoder to condition a sharpener on: name "
                        "a run of align_draw")
    return encoder


def conditioning(folder: Path, sharpener: Sharpener, checkpoint: Checkpoint, device: torch.device) -> Conditioning:
    """Captions as words to vectors (n, D), by the caption encoder of `checkpoint`.

    Raises UserError where the sharpener of `folder` was trained with another one.
    """
    encoder = encoder_of(checkpoint)
    if sharpener.config.conditioning != digest(encoder):
        raise UserError(f"{folder}: its sharpener was trained with the captions of another model; `dvc repro` trains it again")

    def encode(captions: Sequence[Sequence[str]]) -> Tensor:
        ids = (torch.tensor([checkpoint.vocabulary.encode(" ".join(words))], device=device) for words in captions)
        return torch.cat([caption_vectors(encoder, words) for words in ids])

    return encode
