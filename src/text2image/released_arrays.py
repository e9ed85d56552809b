"""The released Theano code's checkpoints as files: 33 arrays in HDF5, by the names of `params_names` (coco/alignDraw.py:33)."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from text2image.errors import UserError
from text2image.hdf5 import own_array

FILE = "aligndraw.h5"
LARGEST = 1 << 31  # bytes of all arrays; the published ones take 132 million


class Sizes(NamedTuple):
    """What the arrays' shapes tell."""

    words: int     # K: rows of word ids, that of id 0 included
    language: int  # M, of each direction
    align: int     # A
    infer: int     # V
    generate: int  # U
    latent: int    # D
    seen: int      # 2 C N^2: values read, of the picture and of its error
    patch: int     # C p^2: values written
    picture: int   # C H W


def _shapes(s: Sizes) -> dict[str, tuple[int, ...]]:
    k, m, a, v, u, d, seen, patch, picture = s
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
        "h0_lang": (1, m), "h0_enc": (1, v), "h0_dec": (1, u), "c0": (1, picture)}


NAMES = tuple(_shapes(Sizes(*[1] * len(Sizes._fields))))


def sizes(arrays: Mapping[str, np.ndarray | h5py.Dataset]) -> Sizes:
    """The sizes that the arrays agree on. Raises UserError where one has a shape that the others rule out."""
    def size(name: str, axis: int) -> int:
        if axis >= len(arrays[name].shape):
            raise UserError(f"array '{name}' is {arrays[name].shape}: it has no axis {axis}")
        return arrays[name].shape[axis]

    generate = size("W_hdec_c", 0)
    found = Sizes(words=size("W_y_hLangEnc", 0), language=size("W_hLangEnc_hLangEnc", 0), align=size("b_align", 0),
                  infer=size("W_henc_henc", 0), generate=generate, latent=size("W_henc_mu", 1),
                  seen=size("W_inp_henc", 0) - generate, patch=size("b_c", 0), picture=size("c0", 1))
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
            try:
                sizes(stored)
            except UserError as error:
                raise UserError(f"{path.name}: {error}; fetch it again") from error
            if sum(array.nbytes for array in stored.values()) > LARGEST:  # a small file can claim to hold as much as it likes
                raise UserError(f"{path.name}: its arrays are too large for a checkpoint of the released code; fetch it again")
            arrays = {name: array[()] for name, array in stored.items()}
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise UserError(f"{path.name}: not readable as HDF5 ({error}); fetch it again") from error
    for name, array in arrays.items():
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            raise UserError(f"{path.name}: '{name}' holds something else than finite floats; fetch it again")
    return arrays
