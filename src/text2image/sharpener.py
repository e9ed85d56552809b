"""Sharpening (paper, section 3.4): a generator adds to a blurred picture what it lacks, given the caption.

What is lacking is the residual of a Laplacian pyramid: a picture less what is left of it when it is made smaller and
enlarged again (Denton et al., 2015). The generator sees three kinds of planes of the picture's size: noise, the caption's
vector through a linear map and a ReLU, and the blurred picture. Its noise is held at its mean, 0, so that a
sharpened picture is a function of the blurred one and the caption.

B batch, C channels, H W picture, D the caption's vector: skip-thoughts for the authors' own network (4800 numbers), for
those trained here the mean over the words of h^lang, the states of a trained alignDRAW's caption encoder.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from text2image.config import from_mapping, parameter
from text2image.disk import whole
from text2image.errors import UserError
from text2image.hdf5 import own_array

FILE = "sharpener.safetensors"
KEY, VERSION = "text2image sharpener", 1
SKIP_THOUGHTS = "skip-thoughts"
GAN = "gan.hdf5"  # in the same folder of the dataset host as the captioned pictures
GAN_LAYERS = 3
GAN_FACTOR = 2
LARGEST_ARRAY = 1 << 28  # bytes


@dataclass(frozen=True)
class SharpenerConfig:
    """Sizes of a generator, and what it was trained for."""

    channels: int = parameter(least=1)
    height: int = parameter(least=1)
    width: int = parameter(least=1)
    language: int = parameter(least=1)  # D
    filters: int = parameter(least=1)   # of every layer but the last
    kernels: tuple[int, ...]            # of each layer, odd
    factor: int = parameter(least=2)    # by how much coarse pictures were made smaller before they were enlarged again
    hears: str                          # SKIP_THOUGHTS, or which caption encoder (text2image.sharpening.digest)


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

    def forward(self, coarse: Tensor, caption: Tensor, noise: Tensor) -> Tensor:  # (B, C, H, W), (B, D), (B, 1, H, W)
        heard = self.caption(caption).relu().unflatten(1, (1, *coarse.shape[2:]))  # (B, 1, H, W)
        x = torch.cat([noise, heard, coarse], 1)                               # (B, 2 + C, H, W)
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        return self.layers[-1](x)                                              # (B, C, H, W), the residual

    @torch.no_grad()
    def sharpen(self, coarse: Tensor, caption: Tensor) -> Tensor:
        """coarse (B, C, H, W) in [0, 1], caption (B, D): the picture with its residual, in [0, 1]."""
        noise = coarse.new_zeros(len(coarse), 1, *coarse.shape[2:])
        return (coarse + self(coarse, caption, noise)).clamp(0, 1)

    def check(self, shape: tuple[int, ...], where: str) -> None:
        """Raise UserError unless pictures of `shape` (C, H, W) can be sharpened."""
        wanted = self.config.channels, self.config.height, self.config.width
        if shape != wanted:
            raise UserError(f"{where} sharpens pictures of (C, H, W) = {wanted}, these are {shape}: "
                            "name a sharpener that was trained on such pictures")


def make_coarse(fine: Tensor, factor: int) -> Tensor:
    """(B, C, H, W): made smaller by `factor`, each pixel a mean, and enlarged again; sizes need not divide."""
    size = fine.shape[2:]
    small = F.interpolate(fine, [math.ceil(n / factor) for n in size], mode="area")
    return F.interpolate(small, size, mode="bilinear", align_corners=False)


def squares(difference: Tensor) -> Tensor:
    """(B, C, H, W): the sum of squares of each picture (B,)."""
    return difference.square().flatten(1).sum(1)


def energy(pictures: Tensor, factor: int) -> Tensor:
    """(B, C, H, W): of each picture the squares of what `make_coarse` takes away (B,). The sharper, the larger."""
    return squares(pictures - make_coarse(pictures, factor))


def save(path: Path, sharpener: Sharpener) -> None:
    """Write a sharpener, whole or not at all: weights in safetensors, sizes in its metadata."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in sharpener.state_dict().items()}
    described = json.dumps({"version": VERSION, "config": asdict(sharpener.config)}, sort_keys=True)
    with whole(path) as partial:
        save_file(tensors, partial, {KEY: described})


def load(folder: Path) -> Sharpener:
    """The sharpener of a folder. Raises UserError when it is missing, damaged, or of a newer version."""
    path = folder / FILE
    try:
        with safe_open(path, "pt") as file:
            described = (file.metadata() or {}).get(KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such sharpener; `dvc pull` fetches it, `dvc repro` makes it") from error
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a readable sharpener ({error}); run `dvc repro` to make it again") from error
    if described is None:
        raise UserError(f"{path}: not a sharpener of this project: its metadata has no entry '{KEY}'")
    try:
        metadata = json.loads(described)
        if metadata["version"] > VERSION:
            raise UserError(f"{path}: of version {metadata['version']}, newer than this code reads ({VERSION}); "
                            "update text2image")
        sharpener = Sharpener(from_mapping(SharpenerConfig, metadata["config"], f"{path}: config"))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: its metadata is damaged ({error!r}); run `dvc repro` to make it again") from error
    try:
        sharpener.load_state_dict(tensors)
    except RuntimeError as error:
        raise UserError(f"{path}: weights and sizes differ; the file was made by other code or altered") from error
    return sharpener


def read_gan(path: Path) -> Sharpener:
    """The authors' generator from gan.hdf5, as their sharpen.py applies it.

    Theano's convolution turns a filter by 180 degrees; that code turns the stored ones first. So, as they are stored, they
    are those of a cross-correlation, which is what PyTorch computes. Sizes follow from the arrays.
    """
    names = ("skipthought2image", "skipthought2image-bias", *(f"{kind}_conv{i}" for i in range(GAN_LAYERS) for kind in "Wb"))
    try:
        with h5py.File(path, "r") as h5:
            arrays = {name: _array(h5, path, name) for name in names}
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        raise UserError(f"{path.name}: not readable as HDF5 ({error}); fetch it again") from error
    config = _config(arrays, path)
    sharpener = Sharpener(config)
    state = {"caption.weight": arrays[names[0]].T.contiguous(), "caption.bias": arrays[names[1]]}
    for i in range(GAN_LAYERS):
        state |= {f"layers.{i}.weight": arrays[f"W_conv{i}"], f"layers.{i}.bias": arrays[f"b_conv{i}"]}
    sharpener.load_state_dict(state)
    return sharpener


def _array(h5: h5py.File, path: Path, name: str) -> Tensor:
    found = own_array(h5, name)
    if found is None:
        raise UserError(f"{path.name}: it lacks the array '{name}'; fetch it again")
    if found.dtype.kind != "f" or found.nbytes > LARGEST_ARRAY:
        raise UserError(f"{path.name}: '{name}' is {found.dtype} of shape {found.shape}, not an array of numbers; "
                        "fetch it again")
    array = np.asarray(found[()], np.float32)
    if not np.isfinite(array).all():
        raise UserError(f"{path.name}: '{name}' holds what is no finite number; fetch it again")
    return torch.from_numpy(array)


def _config(arrays: Mapping[str, Tensor], path: Path) -> SharpenerConfig:
    """The sizes that the arrays' shapes imply. Raises UserError where one contradicts another."""
    shapes = {name: tuple(array.shape) for name, array in arrays.items()}
    maps, bias = shapes["skipthought2image"], shapes["skipthought2image-bias"]
    filters, last = shapes["W_conv0"], shapes[f"W_conv{GAN_LAYERS - 1}"]
    if len(maps) != 2 or len(filters) != 4 or len(last) != 4:
        raise UserError(f"{path.name}: its arrays have the shapes {shapes}, which no generator has; fetch it again")
    side, channels, planes = math.isqrt(maps[1]), last[0], filters[0]
    kernels = [shapes[f"W_conv{i}"][-1] for i in range(GAN_LAYERS)]
    outputs = [planes] * (GAN_LAYERS - 1) + [channels]
    wanted = {"skipthought2image": (maps[0], side * side), "skipthought2image-bias": (side * side,)}
    for i, (inputs, out, kernel) in enumerate(zip([2 + channels, *outputs], outputs, kernels, strict=False)):
        wanted |= {f"W_conv{i}": (out, inputs, kernel, kernel), f"b_conv{i}": (out,)}
    for name, shape in wanted.items():
        if shapes[name] != shape or 0 in shape or bias == ():
            raise UserError(f"{path.name}: '{name}' is {shapes[name]}, by the other arrays it must be {shape}; fetch it again")
    if any(kernel % 2 == 0 for kernel in kernels):
        raise UserError(f"{path.name}: filters of {kernels} pixels; they must be odd: fetch it again")
    return SharpenerConfig(channels, side, side, maps[0], planes, tuple(kernels), GAN_FACTOR, SKIP_THOUGHTS)
