"""The released Theano code's own answers: bound, canvases, attention and every gradient."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from text2image.errors import UserError
from text2image.files.released_arrays import NAMES, read
from text2image.models.align_draw import AlignDRAW
from text2image.models.base import Glimpse
from text2image.models.released import model_of, state_of

GOLDEN = Path(__file__).parent / "golden"


def golden_arrays(name: str = "coco_captions") -> dict[str, np.ndarray]:
    with np.load(GOLDEN / f"{name}.npz") as file:
        return {array: file[f"param_{array}"] for array in NAMES}


def write_weights(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with h5py.File(path, "w") as h5:
        for name, array in arrays.items():
            h5[name] = array


@pytest.fixture(params=["mnist_captions", "coco_captions"])
def golden(request):
    with np.load(GOLDEN / f"{request.param}.npz") as file:
        answers = {name: file[name] for name in file.files}
    return answers


@pytest.fixture
def model(golden) -> AlignDRAW:
    arrays = {name: golden[f"param_{name}"].astype(np.float64) for name in NAMES}
    return model_of(arrays, json.loads(str(golden["config"]))["runSteps"])


def test_a_checkpoint_of_the_released_code_is_read_from_its_file(golden, model, tmp_path):
    write_weights(tmp_path / "aligndraw.h5", {name: golden[f"param_{name}"] for name in NAMES})
    loaded = model_of(read(tmp_path / "aligndraw.h5"), model.config.glimpses)
    assert loaded.config == model.config
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name].double(), value), name


@pytest.mark.parametrize("name", ["c0", "W_hdec_c", "W_henc_mu", "W_z_hdec", "W_inp_henc", "b_c"])
def test_arrays_that_contradict_each_other_are_refused(golden, name):
    arrays = {name: golden[f"param_{name}"] for name in NAMES}
    for wrong in (arrays[name][..., :-1], arrays[name].ravel()[0], arrays[name][:0]):
        with pytest.raises(UserError, match="array"):
            model_of(arrays | {name: wrong})


def inputs(golden, model):
    c = model.config
    images = torch.from_numpy(golden["x"].astype(np.float64)).view(-1, c.channels, c.height, c.width)
    return images, torch.from_numpy(golden["y"]).long(), torch.from_numpy(golden["eps"].astype(np.float64))


def near(ours: torch.Tensor, theirs: np.ndarray, what: str) -> None:
    ours = ours.detach().numpy().reshape(theirs.shape)
    assert np.abs(ours - theirs).max() <= 1e-6 * np.abs(theirs).max(), what


def test_bound_to_ten_digits(golden, model):
    bound = model.elbo(*inputs(golden, model))
    for name, ours in (("kl", bound.kl), ("logpxz", bound.reconstruction), ("bound", bound.negative_elbo)):
        assert ours.mean().item() == pytest.approx(float(golden[name]), rel=1e-10), name


def stacked(glimpses: list[Glimpse]) -> Glimpse:
    """All glimpses as one, along a first axis T."""
    return Glimpse(*(torch.stack(parts) for parts in zip(*glimpses, strict=True)))


def test_what_inference_reads_and_writes(golden, model):
    glimpses: list[Glimpse] = []
    model.elbo(*inputs(golden, model), on_step=lambda t, glimpse: glimpses.append(glimpse))
    near(stacked(glimpses).canvas, golden["canvas"], "canvas")
    near(stacked(glimpses).read_window, golden["read"], "read")
    near(stacked(glimpses).write_window, golden["write"], "write")


def test_what_generation_draws(golden, model):
    _, captions, noise = inputs(golden, model)
    glimpses: list[Glimpse] = []
    images = model.generate(captions, noise, on_step=lambda t, glimpse: glimpses.append(glimpse))
    near(stacked(glimpses).canvas, golden["gen_canvas"], "gen_canvas")
    near(stacked(glimpses).write_window, golden["gen_write"], "gen_write")
    near(stacked(glimpses).alpha, golden["alphas"], "alphas")
    near(images, 1 / (1 + np.exp(-golden["gen_canvas"][-1])), "the last canvas, as an image")


def test_every_gradient(golden, model):
    model.elbo(*inputs(golden, model)).negative_elbo.mean().backward()
    theirs = state_of({name: golden[f"grad_{name}"].astype(np.float64) for name in NAMES}, model.config)
    ours = dict(model.named_parameters())
    assert theirs.keys() == ours.keys()
    for name, value in ours.items():
        near(value.grad, theirs[name].numpy(), name)
