"""Sharpening (paper, section 3.4): a generator adds to a blurred image what it lacks, given the caption.

What is lacking is the residual of a Laplacian pyramid: an image minus what is left of it when it is made smaller and
enlarged again (Denton et al., 2015). The generator takes three kinds of planes of the image's size: noise, the caption's
vector through a linear map and a ReLU, and the blurred image. When it is applied its noise is held at its mean, 0, so that
a sharpened image is a function of the blurred one and the caption.

Letter code: B batch, C channels, H W image, D numbers of a caption's vector: skip-thoughts for the authors' own network
(4800 numbers), for those trained here the mean over the words of h^lang (text2image.sharpening.h_lang).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from text2image.config import MAX_SIDE, from_mapping, frozen, parameter
from text2image.data.sharpening_files import FORMAT
from text2image.data.sharpening_files import SHARPENER as FILE
from text2image.errors import UserError
from text2image.files import safetensors_file

Conditioning = Callable[[Sequence[Sequence[str]]], Tensor]  # captions as words: their vectors (n, D)


@frozen
class SharpenerConfig:
    """Sizes of a generator, and what it was trained for."""

    channels: int = parameter(ge=1, le=64)
    height: int = parameter(ge=1, le=MAX_SIDE)
    width: int = parameter(ge=1, le=MAX_SIDE)
    language: int = parameter(ge=1, le=10**6)  # D
    filters: int = parameter(ge=1, le=4096)    # of every layer but the last
    kernels: tuple[int, ...] = parameter(ge=1, le=99)  # of each layer, odd
    factor: int = parameter(ge=2, le=64)       # by how much coarse images were made smaller before they were enlarged again
    conditioning: str                # SKIP_THOUGHTS, or which caption encoder (text2image.sharpening.h_lang.digest)


class Sharpener(nn.Module):
    """The generator: convolutions that keep the size, ReLU between them, the last one linear."""

    def __init__(self, config: SharpenerConfig):
        super().__init__()
        c = self.config = config
        if not c.kernels or any(kernel < 1 or kernel % 2 == 0 for kernel in c.kernels):
            raise UserError(f"a sharpener's kernels must be odd and at least one, not {list(c.kernels)}")
        planes = [2 + c.channels] + [c.filters] * (len(c.kernels) - 1) + [c.channels]
        self.caption = nn.Linear(c.language, c.height * c.width)
        self.layers = nn.ModuleList(nn.Conv2d(planes[i], planes[i + 1], kernel, padding=kernel // 2)
                                    for i, kernel in enumerate(c.kernels))

    def forward(self, coarse: Tensor, caption: Tensor, noise: Tensor) -> Tensor:
        """coarse (B, C, H, W), caption (B, D), noise (B, 1, H, W): the residual (B, C, H, W)."""
        plane = self.caption(caption).relu().unflatten(1, (1, *coarse.shape[2:]))  # (B, 1, H, W)
        x = torch.cat([noise, plane, coarse], 1)                               # (B, 2 + C, H, W)
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        return self.layers[-1](x)

    @torch.no_grad()
    def sharpen(self, coarse: Tensor, caption: Tensor) -> Tensor:
        """coarse (B, C, H, W) in [0, 1], caption (B, D): the image with its residual, in [0, 1]."""
        noise = coarse.new_zeros(len(coarse), 1, *coarse.shape[2:])
        return (coarse + self(coarse, caption, noise)).clamp(0, 1)

    def check(self, shape: tuple[int, ...], where: str) -> None:
        """Raise UserError unless images of `shape` (C, H, W) can be sharpened."""
        wanted = self.config.channels, self.config.height, self.config.width
        if shape != wanted:
            raise UserError(f"{where} sharpens images of (C, H, W) = {wanted}, these are {shape}: "
                            "name a sharpener that was trained on such images")


def make_coarse(fine: Tensor, factor: int) -> Tensor:
    """(B, C, H, W): made smaller by `factor`, each pixel a mean, and enlarged again; sizes need not divide."""
    size = fine.shape[2:]
    small = F.interpolate(fine, [math.ceil(n / factor) for n in size], mode="area")
    return F.interpolate(small, size, mode="bilinear", align_corners=False)


def squares(difference: Tensor) -> Tensor:
    """(B, C, H, W): the sum of squares of each image (B,)."""
    return difference.square().flatten(1).sum(1)


def energy(images: Tensor, factor: int) -> Tensor:
    """(B, C, H, W): of each image the squares of what `make_coarse` takes away (B,). The sharper, the larger."""
    return squares(images - make_coarse(images, factor))


def save(path: Path, sharpener: Sharpener) -> None:
    """Write a sharpener, whole or not at all: weights in safetensors, sizes in its metadata."""
    safetensors_file.write(path, sharpener.state_dict(), {"config": asdict(sharpener.config)}, FORMAT)


def load(folder: Path) -> Sharpener:
    """The sharpener of a folder. Raises UserError when it is missing, damaged, or of a newer version.

    Sizes are compared before the network is built, and before a tensor is read.
    """
    path = folder / FILE
    with safetensors_file.opened(path, FORMAT) as file:
        with safetensors_file.building(path, FORMAT):
            config = dict(file.metadata["config"])
            if file.metadata["version"] == 1:
                config["conditioning"] = config.pop("hears")
            sizes = from_mapping(SharpenerConfig, config, f"{path}: config")
            if len(file.shapes) != 2 * len(sizes.kernels) + 2:  # a list of layers takes time for each
                raise UserError(f"{path}: {len(file.shapes):,} tensors are not those of {len(sizes.kernels):,} layers and of "
                                "the map of captions; the file was made by other code or altered")
            with torch.device("meta"):  # takes no memory
                file.check_shapes(Sharpener(sizes))
        sharpener = Sharpener(sizes)
        sharpener.load_state_dict(file.tensors())
    return sharpener
