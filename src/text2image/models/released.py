"""The released Theano code's checkpoints (text2image.files.released_arrays) as models of ours."""

import math
from collections.abc import Mapping
from dataclasses import asdict

import numpy as np
import torch
from torch import Tensor

from text2image.errors import UserError
from text2image.files.released_arrays import sizes
from text2image.models.align_draw import AlignDRAW, AlignDRAWConfig
from text2image.models.base import ImageModel


def config_of(arrays: Mapping[str, np.ndarray], glimpses: int) -> AlignDRAWConfig:
    """The configuration that the arrays' shapes imply. The released code knows square images and windows alone.

    The number of glimpses is in none of the arrays: it comes from the released json (32).
    """
    found = sizes(arrays)
    channels = 3 if _root(found.image, 3) else 1  # no number is a square and three times a square
    side, read, write = _root(found.image, channels), _root(found.seen, 2 * channels), _root(found.patch, channels)
    if not side or not read or not write:
        raise UserError(f"the arrays contradict each other: {found.image} values of an image, {found.seen} of a reading and "
                        f"{found.patch} of a patch are no squares of {channels} channels")
    return AlignDRAWConfig(
        channels=channels, height=side, width=side, glimpses=glimpses, language_units=found.language,
        align_units=found.align, infer_units=found.infer, generate_units=found.generate, latent=found.latent,
        read_window=read, write_window=write,
        init_std=0.01, canvas_init=0.0, preset="released")


def _root(size: int, planes: int) -> int:
    """The side of `planes` squares that have `size` values in all; 0 where there is none."""
    side = math.isqrt(size // planes)
    return side if side * side * planes == size else 0


def state_of(arrays: Mapping[str, np.ndarray], config: AlignDRAWConfig) -> dict[str, Tensor]:
    """The arrays as a state dict of `AlignDRAW`, in their own precision.

    Products there are x W, ours x W^T; planes lie (C, N, N) there, (N, C, N) here.
    """
    a = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    c, n, p = config.channels, config.read_window, config.write_window

    def rows_first(planes: Tensor, side: int) -> Tensor:  # (..., planes * C * side * side) along the first axis
        rest = planes.shape[1:]
        return planes.reshape(-1, c, side, side, *rest).transpose(1, 2).reshape(-1, *rest)

    of_read, of_h_gen = a["W_inp_henc"].split((2 * c * n * n, config.generate_units))
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
        "infer.weight_input": torch.cat([rows_first(of_read, n), of_h_gen]).mT,
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


def model_of(arrays: Mapping[str, np.ndarray], glimpses: int = 32) -> AlignDRAW:
    """A model that computes what the released code computes with these arrays, in their precision.

    Raises UserError when an array has a shape that the others rule out.
    """
    model = AlignDRAW(config_of(arrays, glimpses), len(arrays["W_y_hLangEnc"]))
    fill(model.to(torch.from_numpy(np.array(arrays["c0"])).dtype), arrays, "")
    return model


def fill(model: ImageModel, arrays: Mapping[str, np.ndarray], where: str) -> None:
    """Put the arrays into a model of their sizes.

    Raises UserError where the model is no alignDRAW, and where a parameter of the model's, named by its path `where`, is not
    what the arrays imply.
    """
    if not isinstance(model, AlignDRAW):
        raise UserError(f"'{where}' is a model of kind {model.kind}; the released weights are those of an align_draw")
    implied = config_of(arrays, model.config.glimpses)
    for name, value in asdict(implied).items():
        ours = getattr(model.config, name)
        if isinstance(value, int) and ours != value:
            raise UserError(f"parameter '{where}.{name}' is {ours}; the released weights imply {value}")
    if not model.config.released("prior_bias"):
        raise UserError(f"parameter '{where}.switches.prior_bias' says paper; the released weights have it: "
                        "set preset to released")
    if model.vocabulary_size != len(arrays["W_y_hLangEnc"]):
        raise UserError(f"the vocabulary has {model.vocabulary_size:,} words, the released weights have rows for "
                        f"{len(arrays['W_y_hLangEnc']):,}: prepare the data again with `dvc repro`")
    model.load_state_dict(state_of(arrays, implied))
