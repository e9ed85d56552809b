"""Models that draw what is known, for tests of what is measured of drawn images."""

from pathlib import Path

import torch
from torch import Tensor

from tests.classifiers import small as classifiers
from tests.small import DEV, LAYOUT, TRAIN
from text2image.classifiers import network
from text2image.data import datasets, mnist_captions
from text2image.data.datasets import CaptionedDigits, as_float
from text2image.data.mnist_captions import VOCABULARY
from text2image.models.base import Encoding, ImageModel
from text2image.models.checkpoints import Checkpoint
from text2image.results.subject import Subject
from text2image.seeds import numpy_generator


class Drawing(ImageModel):
    """A model that draws what `drawn` gives for captions (B, L) and a seed from the noise."""

    def __init__(self, shape: tuple[int, int, int], drawn):
        super().__init__(None, 23)
        self.shape, self.drawn = shape, drawn

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.shape

    def reset(self, generator=None) -> None:
        """It has no weights."""

    def noise_shape(self, batch: int) -> tuple[int, int, int]:
        return 1, batch, 2

    def encode(self, captions: Tensor, lengths: Tensor | None = None) -> Encoding:
        return Encoding(captions[:, :, None].float())

    def score(self, images, encoding, noise, on_step=None):
        raise NotImplementedError

    def draw(self, encoding: Encoding, noise: Tensor, on_step=None) -> Tensor:
        return self.drawn(encoding.states[:, :, 0].long(), int(noise.sum().item() * 1e6))


def real(captions: Tensor, seed: int, data: CaptionedDigits = TRAIN) -> Tensor:
    """Real images of captions, composed of the digits of `data`."""
    placed = mnist_captions.place(mnist_captions.scenes_of(captions), data.labels, LAYOUT, numpy_generator(seed))
    return as_float(mnist_captions.compose(placed, data.digits, 18))


def real_of_dev(captions: Tensor, seed: int) -> Tensor:
    """Real images of digits that the classifier was not trained on."""
    return real(captions, seed, DEV)


def constant(captions: Tensor, seed: int) -> Tensor:
    """The same image for each caption."""
    return torch.full((len(captions), 1, 18, 18), 0.2)


def subject(folder: Path, drawn) -> Subject:
    """A model that draws so, and digits prepared in `folder`, with a classifier; of dev's digits the images of test."""
    datasets.write_digits(folder / "train.h5", TRAIN.digits.numpy(), TRAIN.labels, TRAIN.grammar, LAYOUT)
    for name, held_out in (("dev", False), ("test", False), ("test_held_out", True)):
        images, words = DEV.compose(600, held_out, name)
        datasets.write_images(folder / f"{name}.h5", images, words, (words > 0).sum(1), torch.arange(len(words)).numpy())
    VOCABULARY.save(folder / "vocabulary.json")
    network.save(folder, classifiers.trained())
    return Subject(Checkpoint(Drawing((1, 18, 18), drawn), VOCABULARY, TRAIN.grammar), folder, folder)
