"""The sentence encoder `caption_encoder`: that of another trained run, the mean over the words of its h^lang."""

from pathlib import Path

from text2image.data.vocabulary import Vocabulary
from text2image.errors import UserError
from text2image.models import checkpoints
from text2image.models.caption_encoder import ReadsWords
from text2image.models.sentence_encoders import CaptionEncoderConfig, SentenceEncoder


def sentence_encoder(folder: Path, vocabulary: Vocabulary) -> SentenceEncoder:
    """The caption encoder of the model in `folder`.

    Raises UserError where it has none, was trained on other words, or reads the batch backward (docs/fidelity.md).
    """
    path = folder / "model.safetensors"
    checkpoint = checkpoints.load(path)
    model = checkpoint.model
    if not isinstance(model, ReadsWords):
        raise UserError(f"{path}: a model of kind {model.kind} has no caption encoder of its own: name a run of align_draw or "
                        "noalign")
    if checkpoint.vocabulary.words != vocabulary.words:
        raise UserError(f"{path}: its vocabulary is not that of the dataset: name a run that was trained on the same data")
    if model.mixes_batch:
        raise UserError(f"{path}: its backward_words is released, so that a caption has no vector of its own: name a run whose "
                        "backward_words is paper")
    encoder = CaptionEncoderConfig("caption_encoder", model.caption_encoder.h0.shape[1]).make(len(vocabulary))
    encoder.load_state_dict({f"caption_encoder.{name}": value for name, value in model.caption_encoder.state_dict().items()})
    return encoder
