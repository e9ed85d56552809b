"""How many parameters every configuration of params.yaml has, exactly."""

from dataclasses import replace

import pytest
import torch

from tests.models.configurations import COCO, MNIST, runs
from text2image.config import from_mapping
from text2image.lookup import lookup
from text2image.models.align_draw import AlignDRAW
from text2image.models.base import count_parameters

# Of each run: its kind of model, the words of its vocabulary with the padding, its parameters.
COUNTS = {
    "digits": ("align_draw", 23, 389_230),
    "shapes": ("align_draw", 33, 729_066),
    "mnist": ("align_draw", 23, 2_371_446),
    "coco": ("align_draw", 25_323, 33_097_597),
    "coco_released": ("align_draw", 25_323, 33_098_147),
    "flickr8k": ("align_draw", 7_538, 8_143_033),
}
PUBLISHED = [(MNIST, 23, 2_371_746), (COCO, 25_323, 33_098_147)]


def test_no_configuration_is_missing():
    assert COUNTS.keys() == runs().keys()


@pytest.mark.parametrize("run", runs())
def test_the_parameters_of_each_configuration(run):
    kind, words, parameters = COUNTS[run]
    module = lookup("models", kind, "Model", run)
    with torch.device("meta"):
        model = module.Model(from_mapping(module.Config, runs()[run], f"runs.{run}.model"), words)
    assert count_parameters(model) == parameters
    assert model.kind == kind


@pytest.mark.parametrize(("config", "words", "parameters"), PUBLISHED)
def test_published_configurations_have_the_published_number_of_parameters(config, words, parameters):
    with torch.device("meta"):
        released = AlignDRAW(replace(config, preset="released"), words)
        paper = AlignDRAW(replace(config, preset="paper"), words)
    assert count_parameters(released) == parameters
    assert count_parameters(paper) == parameters - 2 * config.latent  # the paper's prior has no bias
