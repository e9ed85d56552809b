"""add_sentence_encoder: prepared data of a dataset with a frozen sentence encoder beside it, into data/prepared/<name>.

A run whose model reads one fixed vector of a caption names this as its dataset.
"""

import shutil
from pathlib import Path
from typing import Any

from pipeline import stage
from text2image.data.vocabulary import Vocabulary
from text2image.files import atomic
from text2image.lookup import lookup
from text2image.models import sentence_encoders


def add_sentence_encoder(parameters: dict[str, Any], name: str, dataset: str, encoder: str, folder: str) -> None:
    """Make an encoder of the kind `encoder` from `folder`, for the words of `dataset`, and lay it beside a copy of that."""
    module = lookup("sentences", encoder, "sentence_encoder", f"parameter 'pipeline.sentences.{name}.encoder'")
    prepared = Path("data/prepared") / dataset
    made = module.sentence_encoder(Path(folder), Vocabulary.load(prepared / "vocabulary.json"))
    files = sorted(prepared.iterdir())
    with stage.output_folder(Path("data/prepared") / name) as out:
        atomic.require_room(out, sum(file.stat().st_size for file in files))
        for file in files:
            shutil.copyfile(file, out / file.name)
        sentence_encoders.save(out, made)


if __name__ == "__main__":
    stage.main("add_sentence_encoder", add_sentence_encoder)
