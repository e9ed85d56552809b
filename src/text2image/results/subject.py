"""What a metric measures: a trained model, and the prepared data that it is measured on.

A metric is a module of this room with `Config` (its parameters) and `measure(config, subject)`, which returns its result:
whatever numbers it has, and under `headline` the few that a person compares between runs.
"""

from dataclasses import dataclass
from pathlib import Path

from text2image import devices
from text2image.data import datasets
from text2image.data.datasets import CaptionedDigits, CaptionedImages, Dataset
from text2image.data.vocabulary import Vocabulary
from text2image.devices import Device
from text2image.errors import UserError
from text2image.models import checkpoints
from text2image.models.checkpoints import Checkpoint

SPLITS = ("train", "dev", "test", "test_held_out")


@dataclass(frozen=True)
class Subject:
    """A checkpoint and its dataset, of the same words and the same held-out captions; and the classifier of that dataset."""

    checkpoint: Checkpoint
    prepared: Path
    classifier: Path | None = None  # its folder, where a metric reads one

    @property
    def classifier_folder(self) -> Path:
        """The folder of the dataset's classifier. Raises UserError where none was named."""
        if self.classifier is None:
            raise UserError(f"no classifier of {self.prepared.name} is named, and this metric needs one")
        return self.classifier

    @classmethod
    def load(cls, checkpoint: Path, prepared: Path, classifier: Path | None = None) -> "Subject":
        """Read the checkpoint. Raises UserError where it was trained on other data than that of the folder `prepared`."""
        subject = cls(checkpoints.load(checkpoint), prepared, classifier)
        train = datasets.load(prepared / "train.h5")
        same_words = Vocabulary.load(prepared / "vocabulary.json").words == subject.checkpoint.vocabulary.words
        grammar = train.grammar if isinstance(train, CaptionedDigits) else None
        if not same_words or grammar != subject.checkpoint.grammar:
            what = "held-out captions are" if same_words else "vocabulary is"
            raise UserError(f"{prepared}: its {what} not that of the model, which was trained on other data; "
                            "`dvc repro` trains it again")
        return subject

    @property
    def names(self) -> list[str]:
        """The splits that there are; not every dataset has all: no test split of 56x56 images is published."""
        return [split for split in SPLITS if split in ("train", "dev") or (self.prepared / f"{split}.h5").exists()]

    def split(self, name: str, device: Device) -> Dataset:
        """One split, on a device."""
        return datasets.load(self.prepared / f"{name}.h5", devices.choose(device))

    def splits(self, device: Device) -> dict[str, Dataset]:
        """All splits that there are, on a device."""
        return {name: self.split(name, device) for name in self.names}


def test_splits(subject: Subject, device: Device) -> dict[str, CaptionedImages]:
    """Images that were not trained on: test and test_held_out, or dev where there is no test split."""
    names = [name for name in subject.names if name.startswith("test")] or ["dev"]
    return {name: data for name in names if isinstance(data := subject.split(name, device), CaptionedImages)}
