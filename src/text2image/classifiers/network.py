"""The network of every classifier: convolutions, then one look at each of its views.

A view is a part of the image of one size, at a place of its own: for digits each of the eight places where one may stand, for
other images the whole. All views share the weights, so that a 3 is learned once and not at eight places. What the outputs
mean is known to the module of its labels (text2image.classifiers.digit_places, shapes, words).

Letter code: B batch, C channels, H W image, V views, F features, K outputs of a view.
"""

import math
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from text2image.config import MAX_SIDE, from_mapping, frozen, parameter
from text2image.errors import UserError
from text2image.files import safetensors_file
from text2image.files.safetensors_file import Format

FILE = "model.safetensors"
FORMAT = Format(key="text2image classifier", version=1, digest_since=1, noun="classifier",
                missing="`dvc pull` fetches it, `dvc repro` trains it", remedy="run `dvc repro` to train it again")
KERNEL = 3
MOMENTUM = 0.1  # of a batch's mean and variance in their running means
MOST_LAYERS = 16
MOST_VIEWS = 64


@frozen
class ClassifierConfig:
    """Sizes of a classifier, where it looks, and what its outputs are."""

    labels: str                                # the module of this room that knows what the outputs mean
    channels: int = parameter(ge=1, le=64)
    height: int = parameter(ge=1, le=MAX_SIDE)
    width: int = parameter(ge=1, le=MAX_SIDE)
    filters: tuple[int, ...] = parameter(ge=1, le=4096)  # of each convolution
    pools: int = parameter(ge=0, le=12)        # after so many of them, the first, images are halved
    features: int = parameter(ge=1, le=10**5)  # F
    views: tuple[tuple[int, ...], ...] = parameter(ge=0, le=MAX_SIDE)  # pixels: row and column of each view's upper left corner
    view_height: int = parameter(ge=1, le=MAX_SIDE)
    view_width: int = parameter(ge=1, le=MAX_SIDE)
    outputs: tuple[str, ...]                   # the names of a view's K outputs

    def validate(self, where: str) -> None:
        """Raise UserError where there is nothing to compute, or nothing would be left of an image."""
        for name, count, most in (("filters", len(self.filters), MOST_LAYERS), ("views", len(self.views), MOST_VIEWS)):
            if not 0 < count <= most:
                raise UserError(f"parameter '{where}.{name}' has {count:,} items; it may have 1 to {most}")
        if self.pools > len(self.filters) or min(self.height, self.width) < 2**self.pools:
            raise UserError(f"parameter '{where}.pools' is {self.pools}: images of {self.height}x{self.width} cannot be halved "
                            f"so often by {len(self.filters)} convolutions; lower it")
        if not self.outputs or any(len(view) != 2 for view in self.views):
            raise UserError(f"{where}: a classifier has at least one output, and a view a row and a column")


class BatchNorm(nn.Module):
    """Batch normalisation of planes; torch's own counts batches by an integer, which no file of ours holds."""

    mean: Tensor
    variance: Tensor

    def __init__(self, planes: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(planes)), nn.Parameter(torch.zeros(planes))
        self.register_buffer("mean", torch.zeros(planes))
        self.register_buffer("variance", torch.ones(planes))

    def forward(self, x: Tensor) -> Tensor:
        """(B, planes, H, W), by the batch's own mean and variance in training, else by their running means."""
        return F.batch_norm(x, self.mean, self.variance, self.weight, self.bias, self.training, MOMENTUM)


class Classifier(nn.Module):
    """Convolutions of 3x3, the first of them halved by a maximum, batch normalisation, ReLU; then each view, halved too, and
    two layers."""

    def __init__(self, config: ClassifierConfig):
        super().__init__()
        c = self.config = config
        planes = [c.channels, *c.filters]
        self.convolutions = nn.ModuleList(nn.Conv2d(*pair, KERNEL, padding=KERNEL // 2)
                                          for pair in pairwise(planes))
        self.norms = nn.ModuleList(map(BatchNorm, c.filters))
        stride = 2**c.pools
        rows, columns = c.height // stride, c.width // stride
        self.view_size = min(rows, math.ceil(c.view_height / stride)), min(columns, math.ceil(c.view_width / stride))
        h, w = self.view_size
        # The nearest place of the grid that is left of the image, all of the view inside it.
        self.corners = [(min(round(row / stride), rows - h), min(round(column / stride), columns - w))
                        for row, column in c.views]
        self.hidden = nn.Linear(planes[-1] * math.ceil(h / 2) * math.ceil(w / 2), c.features)
        self.output = nn.Linear(c.features, len(c.outputs))

    def look(self, images: Tensor) -> Tensor:
        """images (B, C, H, W) in [0, 1]: the features of each view, (B, V, F)."""
        x = images - 0.5
        for i, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            x = convolution(x)                                                 # (B, filters, H', W')
            if i < self.config.pools:
                x = F.max_pool2d(x, 2)
            x = norm(x).relu()
        h, w = self.view_size
        views = torch.stack([x[:, :, row:row + h, column:column + w] for row, column in self.corners], 1)
        views = F.max_pool2d(views.flatten(0, 1), 2, ceil_mode=True)           # (B V, filters, h / 2, w / 2)
        return self.hidden(views.flatten(1)).relu().unflatten(0, (len(images), -1))  # (B, V, F)

    def forward(self, images: Tensor, keep: Tensor | None = None) -> Tensor:
        """images (B, C, H, W): logits (B, V, K). `keep` (B, V, F) multiplies the features: dropout, in training."""
        found = self.look(images)
        return self.output(found if keep is None else found * keep)

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """images (B, C, H, W) in [0, 1]: what the last layer reads, of all views, (B, V F). Near features, alike images."""
        return self.look(images).flatten(1)

    def check(self, shape: tuple[int, ...], where: str) -> None:
        """Raise UserError unless it reads images of `shape` (C, H, W)."""
        wanted = self.config.channels, self.config.height, self.config.width
        if shape != wanted:
            raise UserError(f"{where} reads images of (C, H, W) = {wanted}, these are {shape}: name a classifier that was "
                            "trained on such images")


def save(folder: Path, classifier: Classifier) -> None:
    """Write a classifier into a folder, whole or not at all: weights in safetensors, sizes in its metadata."""
    safetensors_file.write(folder / FILE, classifier.state_dict(), {"config": asdict(classifier.config)}, FORMAT)


def load(folder: Path) -> Classifier:
    """The classifier of a folder, rebuilt from its file alone. Raises UserError when it is missing, damaged, or newer.

    Sizes are compared before the network is built, and before a tensor is read.
    """
    path = folder / FILE
    with safetensors_file.opened(path, FORMAT) as file:
        with safetensors_file.building(path, FORMAT):
            config = from_mapping(ClassifierConfig, file.metadata["config"], f"{path}: config")
            with torch.device("meta"):  # takes no memory
                file.check_shapes(Classifier(config))
        classifier = Classifier(config)
        classifier.load_state_dict(file.tensors())
    return classifier.eval()
