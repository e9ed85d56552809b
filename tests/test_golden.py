"""The released Theano code's own answers: bound, canvases, attention and every gradient."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from text2image.errors import UserError
from text2image.model import AlignDRAW
from text2image.released import model_of, state_of
from text2image.released_arrays import NAMES, read

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
    bound = model.bound(*inputs(golden, model))
    for name, ours in (("kl", bound.kl), ("logpxz", bound.reconstruction), ("bound", bound.cost)):
        assert ours.mean().item() == pytest.approx(float(golden[name]), rel=1e-10), name


def test_what_inference_sees_and_draws(golden, model):
    _, trace = model.infer_trace(*inputs(golden, model))
    near(trace.canvases, golden["canvas"], "canvas")
    near(trace.read_windows, golden["read"], "read")
    near(trace.write_windows, golden["write"], "write")


def test_what_generation_draws(golden, model):
    _, words, noise = inputs(golden, model)
    trace = model.generate_trace(words, noise)
    near(trace.canvases, golden["gen_canvas"], "gen_canvas")
    near(trace.write_windows, golden["gen_write"], "gen_write")
    near(trace.alphas, golden["alphas"], "alphas")


def test_every_gradient(golden, model):
    model.bound(*inputs(golden, model)).cost.mean().backward()
    theirs = state_of({name: golden[f"grad_{name}"].astype(np.float64) for name in NAMES}, model.config)
    ours = dict(model.named_parameters())
    assert theirs.keys() == ours.keys()
    for name, value in ours.items():
        near(value.grad, theirs[name].numpy(), name)
