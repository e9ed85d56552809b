"""The released Theano code's checkpoints as files: 33 arrays in HDF5, by the names of `params_names` (coco/alignDraw.py:33)."""

from collections.abc import Mapping
from pathlib import Path
from textwrap import shorten
from typing import NamedTuple

import h5py
import numpy as np

from text2image.errors import UserError
from text2image.files.hdf5 import UNREADABLE, own_array, read_numbers

FILE = "aligndraw.h5"
LARGEST = 1 << 29  # bytes of all arrays; the published ones take 132 million


class ArraySizes(NamedTuple):
    """The sizes that the arrays' shapes imply."""

    words: int     # K: rows of word ids, that of id 0 included
    language: int  # M, of each direction
    align: int     # A
    infer: int     # V
    generate: int  # U
    latent: int    # D
    seen: int      # 2 C N^2: values read, of the image and of its error
    patch: int     # C p^2: values written
    image: int     # C H W


def _shapes(s: ArraySizes) -> dict[str, tuple[int, ...]]:
    k, m, a, v, u, d, seen, patch, image = s
    return {
        "W_y_hLangEnc": (k, 4 * m), "W_hLangEnc_hLangEnc": (m, 4 * m), "b_hLangEnc": (4 * m,),
        "W_yRev_hLangEncRev": (k, 4 * m), "W_hLangEncRev_hLangEncRev": (m, 4 * m), "b_hLangEncRev": (4 * m,),
        "W_lang_align": (2 * m, a), "W_hdec_align": (u, a), "b_align": (a,), "v_align": (a,),
        "W_s_hdec": (2 * m, 4 * u), "W_hdec_read_attent": (u, 5), "b_read_attent": (5,),
        "W_henc_henc": (v, 4 * v), "W_inp_henc": (seen + u, 4 * v), "b_henc": (4 * v,),
        "W_henc_mu": (v, d), "W_henc_logsigma": (v, d), "b_mu": (d,), "b_logsigma": (d,),
        "W_hdec_hdec": (u, 4 * u), "W_z_hdec": (d, 4 * u), "b_hdec": (4 * u,),
        "W_hdec_write_attent": (u, 5), "b_write_attent": (5,), "W_hdec_c": (u, patch), "b_c": (patch,),
        "W_hdec_mu_and_logsigma_prior": (u, 2 * d), "b_mu_and_logsigma_prior": (2 * d,),
        "h0_lang": (1, m), "h0_enc": (1, v), "h0_dec": (1, u), "c0": (1, image)}


NAMES = tuple(_shapes(ArraySizes(*[1] * len(ArraySizes._fields))))


def sizes(arrays: Mapping[str, np.ndarray | h5py.Dataset]) -> ArraySizes:
    """The sizes that the arrays agree on. Raises UserError where one has a shape that the others rule out."""
    def size(name: str, axis: int) -> int:
        if axis >= len(arrays[name].shape):
            raise UserError(f"array '{name}' is {arrays[name].shape}: it has no axis {axis}")
        return arrays[name].shape[axis]

    generate = size("W_hdec_c", 0)
    found = ArraySizes(words=size("W_y_hLangEnc", 0), language=size("W_hLangEnc_hLangEnc", 0), align=size("b_align", 0),
                       infer=size("W_henc_henc", 0), generate=generate, latent=size("W_henc_mu", 1),
                       seen=size("W_inp_henc", 0) - generate, patch=size("b_c", 0), image=size("c0", 1))
    if min(found) < 1:
        raise UserError(f"the arrays contradict each other: their shapes imply {found}")
    for name, wanted in _shapes(found).items():
        if arrays[name].shape != wanted:
            raise UserError(f"the arrays contradict each other: '{name}' is {arrays[name].shape}, the others ask for {wanted}")
    return found


def read(path: Path) -> dict[str, np.ndarray]:
    """The 33 arrays. Raises UserError unless all are there, agree in shape, and hold finite floats."""
    try:
        with h5py.File(path, "r") as h5:
            missing = [name for name in NAMES if own_array(h5, name) is None]
            if missing:
                raise UserError(f"{path.name}: not a checkpoint of the released code: it lacks {len(missing)} of its "
                                f"{len(NAMES)} arrays, {missing[0]} among them; fetch it again")
            stored = {name: h5[name] for name in NAMES}
            for name, array in stored.items():
                if array.dtype.kind != "f":
                    raise UserError(f"{path.name}: '{name}' holds something else than finite floats; fetch it again")
            try:
                sizes(stored)
            except UserError as error:
                raise UserError(f"{path.name}: {error}; fetch it again") from error
            if sum(array.nbytes for array in stored.values()) > LARGEST:  # a small file can claim to hold as much as it likes
                raise UserError(f"{path.name}: its arrays are too large for a checkpoint of the released code; fetch it again")
            arrays = {name: read_numbers(array, "f", LARGEST) for name, array in stored.items()}
    except UNREADABLE as error:
        raise UserError(f"{path.name}: not readable as HDF5 ({shorten(str(error), 200)}); fetch it again") from error
    for name, read_array in arrays.items():
        if not np.isfinite(read_array).all():
            raise UserError(f"{path.name}: '{name}' holds something else than finite floats; fetch it again")
    return arrays
