"""The authors' weights and images of another size, through the stages: run in this process, in a folder of their own."""

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import yaml
from dvc.utils.serialize import load_yaml

from pipeline import evaluate, fetch, measure, preprocess, sample, train
from tests.conftest import ROOT
from tests.data.toronto_files import CAPTIONS, IMAGES, write
from tests.models.test_golden import GOLDEN, golden_arrays, write_weights
from text2image.data import datasets
from text2image.data import toronto_arrays as toronto
from text2image.errors import UserError, UserWarningLine
from text2image.files import released_arrays
from text2image.models import checkpoints, released
from text2image.models.align_draw import AlignDRAW
from text2image.results import bounds

RUN = "coco_released"
SIZES = {"height": 18, "width": 18, "glimpses": 5, "language_units": 6, "align_units": 10, "infer_units": 16,
         "generate_units": 14, "latent": 5, "read_window": 5, "write_window": 5}
WORDS = {"UNK": 1, "dog": 2, ".": 3, "a": 4} | {f"word{n}": n for n in range(5, 49)}
WEIGHTS = "~emansim/cap2im-weights/aligndraw.h5"


@pytest.fixture
def parameters(tmp_path, monkeypatch) -> dict:
    """params.yaml for a mirror of small images and small weights; the mirror, and a folder to work in."""
    parameters = load_yaml(str(ROOT / "params.yaml"))
    run = parameters["runs"][RUN]
    run["model"] |= SIZES
    run["train"] |= {"min_words": 1, "batch_size": 7, "device": "cpu"}
    run["sample"] |= {"images": 2, "captions": ["a dog .", "a zebra"], "exchanges": [], "device": "cpu"}
    run["bounds"] |= {"iwae_captions": 4, "iwae_samples": 3, "device": "cpu"}
    parameters["datasets"][RUN]["fetch"]["side"] = 18
    write(tmp_path / "mirror" / toronto.FOLDER, side=18, words=WORDS)
    (tmp_path / "mirror" / WEIGHTS).parent.mkdir()
    write_weights(tmp_path / "mirror" / WEIGHTS, golden_arrays())
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("TEXT2IMAGE_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.delenv("TEXT2IMAGE_STATE", raising=False)
    return parameters


def prepare(parameters: dict) -> None:
    fetch.fetch(parameters, RUN, "toronto")
    preprocess.preprocess(parameters, RUN, "toronto")


def result(name: str) -> dict:
    return json.loads(Path(f"results/{RUN}/{name}.json").read_text())


def test_the_authors_weights_through_the_stages(parameters, tmp_path):
    """Their bounds are those of the model that `released` makes of the file, on the same images with the same noise;
    and what has become of them at the end gives the released code's own answer."""
    prepare(parameters)
    train.train(parameters, RUN, RUN, "align_draw")
    measure.measure(parameters, "bounds", RUN, RUN)
    evaluate.evaluate({}, RUN)
    prepared = Path("data/prepared") / RUN
    assert (prepared / "aligndraw.h5").read_bytes() == (tmp_path / "mirror" / WEIGHTS).read_bytes()
    words = json.loads((prepared / "vocabulary.json").read_text())
    assert words == ["<pad>", *sorted(WORDS, key=WORDS.get), "<49>"], "word n has row n; the last row has no word"

    model = released.model_of(released_arrays.read(tmp_path / "mirror" / WEIGHTS), glimpses=5)
    config = bounds.Config(**parameters["runs"][RUN]["bounds"])
    mean = bounds.mean_image(datasets.load(prepared / "train.h5").sequential(100, 0))
    found = result("bounds")
    row = json.loads(Path(f"metrics/{RUN}.json").read_text())
    assert row == {name: round(value, 2) for name, value in found.pop("headline").items()} | {"steps": 0}
    assert found == {split: bounds.of_split(model, datasets.load(prepared / f"{split}.h5"), mean, config, split)
                     for split in IMAGES}
    summary = result("train")
    assert summary.pop("headline") == {"steps": 0}
    assert (summary["epochs"], summary["steps"], summary["best_epoch"]) == (0, 0, 0)
    assert "last_train" not in summary
    assert yaml.safe_load(Path(f"models/{RUN}/card.yaml").read_text())["best_dev"] == summary["best_dev"]
    assert summary["best_dev"]["elbo"] == pytest.approx(found["dev"]["elbo"]["mean"], rel=0.02)
    _, row = Path(f"plots/train/{RUN}.tsv").read_text().splitlines()
    assert row.split("\t")[:7] == ["0", "0", "0.0", "", "", "", str(summary["best_dev"]["elbo"])]

    with np.load(GOLDEN / "coco_captions.npz") as golden:
        images, noise = (torch.from_numpy(golden[name].astype(np.float64)) for name in ("x", "eps"))
        checkpoint = checkpoints.load(Path(f"models/{RUN}/model.safetensors"))
        bound = checkpoint.model.double().elbo(images.view(-1, 3, 18, 18), torch.from_numpy(golden["y"]).long(), noise)
        assert bound.negative_elbo.mean().item() == pytest.approx(float(golden["bound"]), rel=1e-10)

    with pytest.warns(UserWarningLine, match="the word 'zebra'"):
        sample.sample(parameters, RUN, "none.yaml")
    with np.load(f"data/samples/{RUN}.npz") as samples:
        assert samples["words"].tolist() == [[4, 2, 3], [4, 1, 0]], "ids of the dictionary, UNK for the rest"


def test_images_are_gone_through_once_to_check_them_and_twice_to_prepare_them(parameters, monkeypatch):
    """A gigabyte a pass: to fetch them, to see whether bytes lose nothing, and to write them."""
    passes = []
    blocks = toronto.Images._blocks
    monkeypatch.setattr(toronto.Images, "_blocks", lambda images: passes.append(images.path.name) or blocks(images))
    fetch.fetch(parameters, RUN, "toronto")
    assert sorted(passes) == sorted(toronto.names(split, 18).images for split in IMAGES)
    preprocess.preprocess(parameters, RUN, "toronto")
    assert len(passes) == 3 * len(IMAGES)


def test_the_authors_weights_are_trained_on(parameters):
    prepare(parameters)
    parameters["runs"][RUN]["train"] |= {"epochs": 2, "threads": 2}
    train.train(parameters, RUN, RUN, "align_draw")
    assert torch.get_num_threads() == 2
    rows = [row.split("\t") for row in Path(f"plots/train/{RUN}.tsv").read_text().splitlines()[1:]]
    assert [row[0] for row in rows] == ["0", "1", "2"]
    dev = [float(row[6]) for row in rows]
    assert dev[2] > dev[0], "they are a start that training goes on from"
    assert result("train")["best_dev"]["elbo"] == max(dev)
    assert result("train")["last_train"]["elbo"] == float(rows[2][3])


@pytest.mark.parametrize(("name", "value", "implied"), [
    ("channels", 1, 3), ("height", 19, 18), ("width", 17, 18), ("language_units", 7, 6), ("align_units", 9, 10), ("infer_units", 17, 16),
    ("generate_units", 13, 14), ("latent", 6, 5), ("read_window", 4, 5), ("write_window", 6, 5)])
def test_a_model_of_other_sizes_than_the_weights(name, value, implied):
    arrays = golden_arrays()
    config = replace(released.config_of(arrays, 5), **{name: value})
    with pytest.raises(UserError) as error:
        released.fill(AlignDRAW(config, 50), arrays, "runs.coco.model")
    assert str(error.value) == f"parameter 'runs.coco.model.{name}' is {value}; the released weights imply {implied}"


def test_a_model_that_the_weights_are_not_of():
    arrays = golden_arrays()
    with pytest.raises(UserError, match=r"'runs\.coco\.model\.switches\.prior_bias' says paper; .* set preset to released"):
        released.fill(AlignDRAW(replace(released.config_of(arrays, 5), preset="paper"), 50), arrays, "runs.coco.model")
    with pytest.raises(UserError, match="the vocabulary has 49 words, the released weights have rows for 50"):
        released.fill(AlignDRAW(released.config_of(arrays, 5), 49), arrays, "runs.coco.model")


@pytest.mark.parametrize(("change", "words"), [
    ({"c0": None}, "lacks 1 of its 33 arrays, c0 among them"),
    ({"c0": "group"}, "lacks 1 of its 33 arrays, c0 among them"),
    ({"c0": np.zeros((1, 971))}, "values of an image"),
    ({"c0": np.zeros(972)}, "array 'c0' is (972,): it has no axis 1"),
    ({"b_hdec": np.zeros(55)}, "'b_hdec' is (55,), the others ask for (56,)"),
    ({"W_y_hLangEnc": np.zeros((51, 24))}, "'W_yRev_hLangEncRev' is (50, 24), the others ask for (51, 24)"),
    ({"W_inp_henc": np.zeros((14, 64))}, "the arrays contradict each other: their shapes imply"),
    ({"b_mu": np.full(5, np.nan)}, "'b_mu' holds something else than finite floats"),
    ({"b_mu": np.full(5, -np.inf)}, "'b_mu' holds something else than finite floats"),
    ({"b_mu": np.zeros(5, int)}, "'b_mu' holds something else than finite floats"),
    ({"b_mu": np.full(5, b"1")}, "'b_mu' holds something else than finite floats"),
    ({"W_y_hLangEnc": 10**9, "W_yRev_hLangEncRev": 10**9}, "its arrays are too large")])
def test_weights_that_are_none(tmp_path, change, words):
    path = tmp_path / "aligndraw.h5"
    write_weights(path, {name: array for name, array in golden_arrays().items() if name not in change})
    with h5py.File(path, "a") as h5:
        for name, array in change.items():
            if isinstance(array, np.ndarray):
                h5[name] = array
            elif array == "group":
                h5.create_group(name)
            elif array:
                h5.create_dataset(name, (array, 24), "f4")  # of which nothing is stored
    with pytest.raises(UserError) as error:
        released.model_of(released_arrays.read(path))
    assert words in str(error.value)


def test_weights_that_are_not_there_or_not_asked_for(parameters, tmp_path):
    (tmp_path / "mirror" / WEIGHTS).rename(tmp_path / "elsewhere.h5")
    with pytest.raises(UserError, match=r"cannot fetch ~emansim/cap2im-weights/aligndraw\.h5"):
        fetch.fetch(parameters, RUN, "toronto")
    assert len(list(Path(f"state/fetch-{RUN}").glob("*.*"))) == 13, "the rest is kept"
    parameters["datasets"][RUN]["fetch"]["weights"] = "aligndraw.hdf5"
    with pytest.raises(UserError, match=r"'datasets\.coco_released\.fetch\.weights' is 'aligndraw\.hdf5'; it must be"):
        fetch.fetch(parameters, RUN, "toronto")
    parameters["datasets"][RUN]["fetch"]["weights"] = ""
    prepare(parameters)
    with pytest.raises(UserError, match=r"train\.init' is released_weights, but .* name the weights in datasets\.coco_released\.fetch"):
        train.train(parameters, RUN, RUN, "align_draw")
    parameters["runs"][RUN]["train"] |= {"init": "random", "epochs": 0}
    train.train(parameters, RUN, RUN, "align_draw")
    assert result("train")["steps"] == 0, "a model that was never trained, to compare with"


def test_images_of_56x56_have_no_test_split(parameters, tmp_path):
    write(tmp_path / "larger" / toronto.FOLDER, side=56, words=WORDS)
    for path in (tmp_path / "larger" / toronto.FOLDER).glob("*-images-56x56.npy"):
        path.rename(tmp_path / "mirror" / toronto.FOLDER / path.name)
    parameters["datasets"][RUN]["fetch"] |= {"side": 56, "weights": ""}
    parameters["runs"][RUN]["model"] |= {"height": 56, "width": 56}
    parameters["runs"][RUN]["train"] |= {"init": "random", "epochs": 1}
    prepare(parameters)
    train.train(parameters, RUN, RUN, "align_draw")
    measure.measure(parameters, "bounds", RUN, RUN)
    evaluate.evaluate({}, RUN)
    assert {path.name for path in Path(f"data/fetched/{RUN}").iterdir()} == {
        "dictionary.pkl", *(name for split in ("train", "dev") for name in toronto.names(split, 56))}
    assert datasets.load(Path(f"data/prepared/{RUN}/train.h5")).shape == (3, 56, 56)
    assert {split: numbers["captions"] for split, numbers in result("bounds").items() if split != "headline"} == {
        split: IMAGES[split] * CAPTIONS for split in ("train", "dev")}
