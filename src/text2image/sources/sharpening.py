"""`sharpening`: the authors' sharpening network and the skip-thoughts (Kiros et al., 2015) that it takes captions as.

gan.hdf5 lies beside the captioned images of the dataset host. Skip-thoughts are published as

    dictionary.txt  a word a line, UTF-8; line n belongs to row n of both tables
    utable.npy      word embeddings of uni-skip, btable.npy of bi-skip: pickled arrays (text2image.files.object_arrays)
    uni_skip.npz    a GRU of 2400 units, encoder_*
    bi_skip.npz     two of 1200, encoder_* that reads forward and encoder_r_* that reads backward

`prepare` makes plain files of them (text2image.data.sharpening_files): the tables as float32 .npy, which are mapped into
memory, not read; the weights as safetensors.
"""

import hashlib
import math
import shutil
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import Any, NamedTuple

import h5py
import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from text2image.data import sharpening_files, toronto_arrays
from text2image.data.sharpening_files import DICTIONARY, TABLES, read_dictionary
from text2image.data.writer import Writer
from text2image.errors import UserError
from text2image.files import download, safetensors_file
from text2image.files.atomic import require_room
from text2image.files.download import Expected
from text2image.files.hdf5 import UNREADABLE, own_array, read_numbers
from text2image.files.object_arrays import ObjectTable, read_header
from text2image.files.pickles import shown

FOLDER = "~rkiros/models"
WEIGHTS = {"uni": "uni_skip.npz", "bi": "bi_skip.npz"}
DIRECTIONS = {"uni": {"encoder_": ""}, "bi": {"encoder_": "", "encoder_r_": "_reverse"}}  # names there, and PyTorch's
GRU_ARRAYS = ("W", "b", "U", "Wx", "Ux", "bx")
GAN = "gan.hdf5"
GAN_LAYERS = 3
GAN_FACTOR = 2
LARGEST_GAN = 1 << 30      # bytes of the file
LARGEST_WEIGHTS = 1 << 28  # bytes of all the arrays that are read of a file; the largest, of uni_skip.npz, have 90 million


@dataclass(frozen=True)
class FetchConfig:
    """Where the network and the skip-thoughts come from."""

    base_urls: tuple[str, ...]    # of the dataset host
    models_urls: tuple[str, ...]  # of skip-thoughts, below ~rkiros/models


@dataclass(frozen=True)
class PrepareConfig:
    """Nothing to choose."""


def fetch(config: FetchConfig, out: Path, kept: Path, where: str) -> None:
    """Bring the files into `out`, checked alone and together; what has come stays in `kept` until all has."""
    files = download.fetch({f"{toronto_arrays.FOLDER}/{GAN}": Expected(read_gan, LARGEST_GAN)}, config.base_urls, kept)
    skip_thoughts = {name: Expected(check, PUBLISHED[Path(name).name].size) for name, check in checks().items()}
    files += download.fetch(skip_thoughts, config.models_urls, kept)
    try:
        check_together(kept, read_gan(kept / GAN).config["language"])
    except UserError:  # either may be the wrong one; files whose SHA-256 was found right are kept
        for name in (*PUBLISHED, GAN):
            published = PUBLISHED.get(name)
            if published is None or (kept / name).stat().st_size != published.size:
                (kept / name).unlink()
        raise
    download.put(files, out)


def prepare(config: PrepareConfig, raw: Path, out: Writer, seed: int, where: str) -> None:
    """Write the network and the skip-thoughts as plain files."""
    save_gan(read_gan(raw / GAN), out.folder / sharpening_files.SHARPENER)
    out.counts["vocabulary"] = convert(raw, out.folder)


class Published(NamedTuple):
    """Size in bytes and content of a published file."""

    size: int
    sha256: str


# As their page publishes them. A file of another size (a smaller vocabulary) is judged by its content alone.
PUBLISHED = {
    "dictionary.txt": Published(7_996_547, "4dc5622978a30cddea8c975c871ea8b6382423efb107d27248ed7b6cfa490c7c"),
    "utable.npy": Published(2_342_138_474, "790951d4b08e843e3bca0563570f4134ffd17b6bd4ab8d237d2e5ae15e4febb3"),
    "btable.npy": Published(2_342_138_474, "4a4ed9d7560bb87f91f241739a8f80d8f2ba787a871da96e1119e913ccd61c53"),
    "uni_skip.npz": Published(663_989_216, "7f40ff16ff5c54ce9b02bd1a3eb24db3e6adaf7712a7a714f160af3a158899c8"),
    "bi_skip.npz": Published(289_340_074, "8ab7965d2db5d146a907956d103badfa723b57e0acffb75e10198ba9f124edb0"),
}


def checks() -> dict[str, Callable[[Path], object]]:
    """What each published file must be by itself, by its path below a base URL."""
    of_each: dict[str, Callable[[Path], object]] = {DICTIONARY: read_dictionary}
    of_each |= {name: read_through for name in TABLES.values()}
    of_each |= {name: partial(read_weights, half) for half, name in WEIGHTS.items()}
    return {f"{FOLDER}/{name}": partial(check_file, check) for name, check in of_each.items()}


def check_file(content: Callable[[Path], object], path: Path) -> None:
    """Raise UserError where a file's content is not right, or is not the published one."""
    content(path)
    check_published(path)


def check_published(path: Path) -> None:
    """Raise UserError where a file has the size of the published one and not its content."""
    published = PUBLISHED[path.name]
    if path.stat().st_size == published.size:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != published.sha256:
            raise UserError(f"{path.name}: SHA-256 is {digest}, not {published.sha256}: the file was altered; fetch it from "
                            "another base URL")


def read_through(path: Path) -> None:
    """Raise UserError unless a table is whole."""
    for _ in ObjectTable(path):
        pass


def read_weights(half: str, path: Path) -> dict[str, Tensor]:
    """The GRUs of one half, `uni` or `bi`, by the names of torch.nn.GRU: gates r, z, n; one bias, the other is zero.

    Raises UserError where the file holds something else.
    """
    state: dict[str, Tensor] = {}
    try:
        with path.open("rb") as opened, np.load(opened) as file:
            _check_headers(file.zip, path, tuple(DIRECTIONS[half]))
            for there, suffix in DIRECTIONS[half].items():
                w, b, u, wx, ux, bx = (_npz_array(file, path, there + name) for name in GRU_ARRAYS)
                state |= {f"weight_ih_l0{suffix}": torch.cat([w.T, wx.T]),
                          f"weight_hh_l0{suffix}": torch.cat([u.T, ux.T]),
                          f"bias_ih_l0{suffix}": torch.cat([b, bx]), f"bias_hh_l0{suffix}": torch.zeros(3 * len(bx))}
    except UserError:
        raise
    except Exception as error:  # a damaged archive can fail at any step of reading it, each with an error of its own
        raise UserError(f"{path.name}: not readable as NumPy arrays ({shorten(str(error), 200)}); fetch it again") from error
    if len({state[f"weight_ih_l0{suffix}"].shape for suffix in DIRECTIONS[half].values()}) > 1:
        raise UserError(f"{path.name}: its two directions differ in size; fetch it again")
    return state


def _check_headers(archive: zipfile.ZipFile, path: Path, prefixes: Sequence[str]) -> None:
    """Raise UserError unless the headers of all arrays are those of GRUs, and of what the archive holds of each."""
    total = 0
    for there in prefixes:
        shapes = []
        for name in GRU_ARRAYS:
            member = archive.getinfo(f"{there}{name}.npy")
            with archive.open(member) as file:
                shape, kind = read_header(file)
                held = member.file_size - file.tell()
            shapes.append(shape)
            if kind.kind != "f" or kind.itemsize > 8:
                raise UserError(f"{path.name}: its '{there}{name}' ({kind}) does not hold finite numbers alone; fetch it again")
            if math.prod(shape) * kind.itemsize != held:
                raise UserError(f"{path.name}: its '{there}{name}' has {held:,} bytes of data, not {kind} of shape "
                                f"{shown(shape)}; fetch it again")
            total += held
        words, units = shapes[3][0], shapes[5][0]
        if shapes != [(words, 2 * units), (2 * units,), (units, 2 * units), (words, units), (units, units), (units,)]:
            raise UserError(f"{path.name}: the arrays {there}{', '.join(GRU_ARRAYS)} have shapes "
                            f"{', '.join(map(shown, shapes))}, which are those of no GRU; fetch it again")
    if total > LARGEST_WEIGHTS:
        raise UserError(f"{path.name}: its arrays have {total:,} bytes, more than such a file has; fetch it again")


def _npz_array(file: Any, path: Path, name: str) -> Tensor:
    array = file[name]
    if not np.isfinite(array).all():
        raise UserError(f"{path.name}: its '{name}' ({array.dtype}) does not hold finite numbers alone; fetch it again")
    return torch.from_numpy(array.astype(np.float32, copy=False))


def check_together(folder: Path, language: int) -> None:
    """Raise UserError where the published files contradict each other, or make no vector of `language` numbers."""
    words = len(read_dictionary(folder / DICTIONARY))
    units = 0
    for half, name in TABLES.items():
        weights = read_weights(half, folder / WEIGHTS[half])
        table = ObjectTable(folder / name)
        if table.count != words:
            raise UserError(f"{name}: {table.count:,} rows, {DICTIONARY} has {words:,} lines; fetch both again")
        width, wanted = next(iter(table)).shape[1], weights["weight_ih_l0"].shape[1]
        if width != wanted:
            raise UserError(f"{name}: rows of {width} numbers, {WEIGHTS[half]} takes {wanted}; fetch both again")
        units += sum(weights[f"weight_hh_l0{suffix}"].shape[1] for suffix in DIRECTIONS[half].values())
    if units != language:
        raise UserError(f"{' and '.join(WEIGHTS.values())} make vectors of {units} numbers, the generator takes {language}; "
                        "fetch all of them again")


def convert(published: Path, out: Path) -> int:
    """The published files as plain ones, a block of rows in memory at a time; returns the number of words."""
    shutil.copyfile(published / DICTIONARY, out / DICTIONARY)
    states = {half: read_weights(half, published / name) for half, name in WEIGHTS.items()}
    tensors = {f"{half}.{name}": value for half, state in states.items() for name, value in state.items()}
    save_file(tensors, out / sharpening_files.GRUS)
    for name in TABLES.values():
        table = ObjectTable(published / name)
        with (out / name).open("wb") as file:
            for number, block in enumerate(table):
                if number == 0:
                    shape = table.count, block.shape[1]
                    require_room(out, block.itemsize * shape[0] * shape[1])
                    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
                file.write(block.astype("<f4").tobytes())
    return table.count


class Gan(NamedTuple):
    """The authors' generator: tensors and sizes by the names that text2image.sharpening.generator has for them."""

    tensors: dict[str, Tensor]
    config: dict[str, Any]


def read_gan(path: Path) -> Gan:
    """The authors' generator from gan.hdf5, as their sharpen.py applies it.

    Theano's convolution turns a filter by 180 degrees; that code turns the stored ones first. So, as they are stored, they
    are those of a cross-correlation, which is what PyTorch computes. Sizes follow from the arrays. Raises UserError where
    one is missing or contradicts another.
    """
    names = ("skipthought2image", "skipthought2image-bias", *(f"{kind}_conv{i}" for i in range(GAN_LAYERS) for kind in "Wb"))
    try:
        with h5py.File(path, "r") as h5:
            stored = {name: _stored(h5, path, name) for name in names}
            if sum(array.nbytes for array in stored.values()) > LARGEST_WEIGHTS:
                raise UserError(f"{path.name}: its arrays are too large for the authors' network; fetch it again")
            arrays = {name: _h5_array(array, path, name) for name, array in stored.items()}
    except UNREADABLE as error:
        raise UserError(f"{path.name}: not readable as HDF5 ({shorten(str(error), 200)}); fetch it again") from error
    config = _config(arrays, path)
    state = {"caption.weight": arrays[names[0]].T.contiguous(), "caption.bias": arrays[names[1]]}
    for i in range(GAN_LAYERS):
        state |= {f"layers.{i}.weight": arrays[f"W_conv{i}"], f"layers.{i}.bias": arrays[f"b_conv{i}"]}
    return Gan(state, config)


def save_gan(gan: Gan, path: Path) -> None:
    """Write the generator as text2image.sharpening.generator reads it: weights in safetensors, sizes in its metadata."""
    safetensors_file.write(path, gan.tensors, {"config": gan.config}, sharpening_files.FORMAT)


def _stored(h5: h5py.File, path: Path, name: str) -> h5py.Dataset:
    found = own_array(h5, name)
    if found is None:
        raise UserError(f"{path.name}: it lacks the array '{name}'; fetch it again")
    if found.dtype.kind != "f":
        raise UserError(f"{path.name}: '{name}' is {shorten(str(found.dtype), 80)} of shape {found.shape}, not an array of "
                        "numbers; fetch it again")
    return found


def _h5_array(stored: h5py.Dataset, path: Path, name: str) -> Tensor:
    array = np.asarray(read_numbers(stored, "f", LARGEST_WEIGHTS), np.float32)
    if not np.isfinite(array).all():
        raise UserError(f"{path.name}: '{name}' holds what is no finite number; fetch it again")
    return torch.from_numpy(array)


def _config(arrays: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
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
    return {"channels": channels, "height": side, "width": side, "language": maps[0], "filters": planes, "kernels": kernels,
            "factor": GAN_FACTOR, "conditioning": sharpening_files.SKIP_THOUGHTS}
