"""The door of a source: what each module of sources/ defines, and the datasets of params.yaml."""

import dataclasses
import inspect

import pytest
from dvc.utils.serialize import load_yaml

from tests.conftest import ROOT
from text2image.config import from_mapping
from text2image.errors import UserError
from text2image.lookup import lookup, names

PARAMETERS = load_yaml(str(ROOT / "params.yaml"))
SOURCE_OF = {"digits": "digits", "shapes": "shapes", "mnist": "mnist", "binarized_mnist": "binarized_mnist", "coco": "toronto", "coco_released": "toronto", "coco_images": "coco",
             "flickr8k": "toronto", "folder": "folder", "sharpening": "sharpening"}


def test_every_module_is_a_source():
    assert names("sources", "FetchConfig") == names("sources", "PrepareConfig") == sorted({*SOURCE_OF.values()})
    assert {path.stem for path in (ROOT / "src/text2image/sources").glob("*.py")} == {"__init__", *SOURCE_OF.values()}


@pytest.mark.parametrize("name", sorted({*SOURCE_OF.values()}))
def test_all_have_one_signature(name):
    source = lookup("sources", name, "FetchConfig", "here")
    assert list(inspect.signature(source.fetch).parameters) == ["config", "out", "kept", "where"]
    assert list(inspect.signature(source.prepare).parameters) == ["config", "raw", "out", "seed", "where"]
    for config in (source.FetchConfig, source.PrepareConfig):
        assert dataclasses.is_dataclass(config)
        assert config.__dataclass_params__.frozen


@pytest.mark.parametrize("dataset", PARAMETERS["datasets"])
def test_every_dataset_of_the_parameters_is_one_of_its_source(dataset):
    source = lookup("sources", SOURCE_OF[dataset], "FetchConfig", "here")
    block = PARAMETERS["datasets"][dataset]
    assert block.keys() - {"train_classifier"} == {"fetch", "preprocess"}
    from_mapping(source.FetchConfig, block["fetch"], f"datasets.{dataset}.fetch")
    from_mapping(source.PrepareConfig, block["preprocess"], f"datasets.{dataset}.preprocess")
    switched = PARAMETERS["pipeline"]["datasets"].get(dataset)
    assert switched is None or switched["source"] == SOURCE_OF[dataset]
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    assert f"    {'' if switched else '# '}{dataset}: {{source: {SOURCE_OF[dataset]}, remote: " in text


def test_a_source_that_there_is_not():
    with pytest.raises(UserError, match=r"'pipeline\.datasets\.x\.source' is 'shape'; it takes one of binarized_mnist, coco, .*: did you mean 'shapes'\?"):
        lookup("sources", "shape", "FetchConfig", "parameter 'pipeline.datasets.x.source'")


@pytest.mark.parametrize(("source", "half", "block", "words"), [
    ("shapes", "PrepareConfig", {"minimum_count": 2}, "unknown parameter 'here.minimum_count': it is called 'min_count' now"),
    ("shapes", "FetchConfig", {"scenes": {}}, "unknown parameter 'here.scenes': it is called 'images' now"),
    ("digits", "PrepareConfig", {"pictures": {}}, "unknown parameter 'here.pictures': it is called 'images' now"),
    ("digits", "PrepareConfig", {"canvas": {}}, "unknown parameter 'here.canvas': it is called 'layout' now"),
    ("folder", "PrepareConfig", {"pictures": {}}, "unknown parameter 'here.pictures': it is called 'images' now")])
def test_keys_of_older_parameters_are_named_anew(source, half, block, words):
    with pytest.raises(UserError) as error:
        from_mapping(getattr(lookup("sources", source, half, "here"), half), block, "here")
    assert str(error.value) == words
