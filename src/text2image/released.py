"""The released Theano code's checkpoints: 33 arrays in HDF5, by the names of `params_names` (coco/alignDraw.py:33)."""

import math
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from text2image.errors import UserError
from text2image.model import SWITCHES, AlignDRAW, ModelConfig

NAMES = ("W_y_hLangEnc", "W_hLangEnc_hLangEnc", "b_hLangEnc", "W_yRev_hLangEncRev", "W_hLangEncRev_hLangEncRev",
         "b_hLangEncRev", "W_lang_align", "W_hdec_align", "b_align", "v_align", "W_s_hdec", "W_hdec_read_attent",
         "b_read_attent", "W_henc_henc", "W_inp_henc", "b_henc", "W_henc_mu", "W_henc_logsigma", "b_mu",
         "b_logsigma", "W_hdec_hdec", "W_z_hdec", "b_hdec", "W_hdec_write_attent", "b_write_attent", "W_hdec_c",
         "b_c", "W_hdec_mu_and_logsigma_prior", "b_mu_and_logsigma_prior", "h0_lang", "h0_enc", "h0_dec", "c0")


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The 33 arrays of a released checkpoint. Raises UserError when the file is no such thing."""
    try:
        with h5py.File(path, "r") as h5:
            missing = [name for name in NAMES if name not in h5]
            if missing:
                raise UserError(f"{path}: not a checkpoint of the released code: it lacks {', '.join(missing)}")
            return {name: h5[name][()] for name in NAMES}
    except OSError as error:
        raise UserError(f"{path}: not readable as HDF5 ({error}); fetch the file again") from error


def config_of(arrays: Mapping[str, np.ndarray], channels: int, glimpses: int) -> ModelConfig:
    """The configuration that the arrays' shapes imply. The released code knows square pictures and windows alone.

    The number of glimpses is in none of the arrays: it comes from the released json (32).
    """
    shape = {name: np.shape(array) for name, array in arrays.items()}
    latent = shape["W_henc_mu"][1]
    generate = shape["W_hdec_c"][0]
    seen = shape["W_inp_henc"][0] - generate
    return ModelConfig(
        channels=channels, height=_root(shape["c0"][-1], channels, "c0"), width=_root(shape["c0"][-1], channels, "c0"),
        glimpses=glimpses, language_units=shape["W_hLangEnc_hLangEnc"][0], align_units=shape["b_align"][0],
        infer_units=shape["W_henc_henc"][0], generate_units=generate, latent=latent,
        read_window=_root(seen, 2 * channels, "W_inp_henc"), write_window=_root(shape["b_c"][0], channels, "b_c"),
        init_std=0.01, canvas_init=0.0, preset="released", **dict.fromkeys(SWITCHES, "preset"))


def _root(size: int, planes: int, name: str) -> int:
    side = math.isqrt(size // planes)
    if side * side * planes != size or not size:
        raise UserError(f"array '{name}': {size} values are not {planes} square planes; is the number of channels right?")
    return side


def state_of(arrays: Mapping[str, np.ndarray], config: ModelConfig) -> dict[str, Tensor]:
    """The arrays as a state dict of `AlignDRAW`, in their own precision.

    Products there are x W, ours x W^T; planes lie (C, N, N) there, (N, C, N) here.
    """
    a = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    c, n, p = config.channels, config.read_window, config.write_window

    def rows_first(planes: Tensor, side: int) -> Tensor:  # (..., planes * C * side * side) along the first axis
        rest = planes.shape[1:]
        return planes.reshape(-1, c, side, side, *rest).transpose(1, 2).reshape(-1, *rest)

    seen, heard = a["W_inp_henc"].split((2 * c * n * n, config.generate_units))
    return {
        "caption_encoder.h0": a["h0_lang"].reshape(1, -1),
        "caption_encoder.forward_lstm.table": a["W_y_hLangEnc"],
        "caption_encoder.forward_lstm.weight_hidden": a["W_hLangEnc_hLangEnc"].mT,
        "caption_encoder.forward_lstm.bias": a["b_hLangEnc"],
        "caption_encoder.backward_lstm.table": a["W_yRev_hLangEncRev"],
        "caption_encoder.backward_lstm.weight_hidden": a["W_hLangEncRev_hLangEncRev"].mT,
        "caption_encoder.backward_lstm.bias": a["b_hLangEncRev"],
        "align.language": a["W_lang_align"].mT,
        "align.generate.weight": a["W_hdec_align"].mT,
        "align.generate.bias": a["b_align"],
        "align.v": a["v_align"],
        "read.weight": a["W_hdec_read_attent"].mT,
        "read.bias": a["b_read_attent"],
        "infer.weight_input": torch.cat([rows_first(seen, n), heard]).mT,
        "infer.weight_hidden": a["W_henc_henc"].mT,
        "infer.bias": a["b_henc"],
        "posterior.weight": torch.cat([a["W_henc_mu"], a["W_henc_logsigma"]], 1).mT,
        "posterior.bias": torch.cat([a["b_mu"], a["b_logsigma"]]),
        "prior.weight": a["W_hdec_mu_and_logsigma_prior"].mT,
        "prior.bias": a["b_mu_and_logsigma_prior"],
        "generate.weight_input": torch.cat([a["W_z_hdec"], a["W_s_hdec"]]).mT,
        "generate.weight_hidden": a["W_hdec_hdec"].mT,
        "generate.bias": a["b_hdec"],
        "write.weight": a["W_hdec_write_attent"].mT,
        "write.bias": a["b_write_attent"],
        "patch.weight": rows_first(a["W_hdec_c"].mT, p),
        "patch.bias": rows_first(a["b_c"], p),
        "h0_infer": a["h0_enc"].reshape(1, -1),
        "h0_generate": a["h0_dec"].reshape(1, -1),
        "c0": a["c0"].reshape(c, config.height, config.width).transpose(0, 1).unsqueeze(0),
    }


def model_of(arrays: Mapping[str, np.ndarray], channels: int, glimpses: int = 32) -> AlignDRAW:
    """A model that computes what the released code computes with these arrays, in their precision.

    Raises UserError when an array has a shape that the others rule out.
    """
    try:
        config = config_of(arrays, channels, glimpses)
        model = AlignDRAW(config, vocabulary_size=len(arrays["W_y_hLangEnc"]))
        state = state_of(arrays, config)
    except (RuntimeError, IndexError, TypeError, ValueError) as error:
        raise UserError(f"the arrays have shapes that no checkpoint of the released code has: {error}") from error
    wanted = model.state_dict()
    for name, value in state.items():
        if value.shape != wanted[name].shape:
            raise UserError(f"the arrays contradict each other: '{name}' would be {tuple(value.shape)}, "
                            f"the others ask for {tuple(wanted[name].shape)}")
    model.to(state["c0"].dtype).load_state_dict(state)
    return model
