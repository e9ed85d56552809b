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
    "mnist_noalign": ("noalign", 23, 2_085_750),
    "binarized_mnist": ("draw", 4, 960_763),
    "coco": ("align_draw", 25_323, 33_097_597),
    "coco_released": ("align_draw", 25_323, 33_098_147),
    "flickr8k": ("align_draw", 7_538, 8_143_033),
    "flickr8k_paper": ("align_draw", 7_538, 14_885_757),
    "flickr8k_paper_noalign": ("noalign", 7_538, 14_472_061),
    "digits_noalign": ("noalign", 23, 374_766),
    "digits_sentence": ("sentence", 23, 347_070),
    "digits_draw": ("draw", 23, 297_918),
    "digits_fc_vae": ("fc_vae", 23, 718_788),
    "digits_conv_vae": ("conv_vae", 23, 1_023_873),
    "shapes_noalign": ("noalign", 33, 712_554),
    "shapes_sentence": ("sentence", 33, 681_018),
    "shapes_draw": ("draw", 33, 619_578),
    "shapes_fc_vae": ("fc_vae", 33, 2_157_888),
    "shapes_conv_vae": ("conv_vae", 33, 1_388_227),
    "flickr8k_noalign": ("noalign", 7_538, 8_079_801),
    "flickr8k_sentence": ("sentence", 7_538, 2_216_025),
    "flickr8k_draw": ("draw", 7_538, 1_985_625),
    "flickr8k_fc_vae": ("fc_vae", 7_538, 7_588_272),
    "flickr8k_conv_vae": ("conv_vae", 7_538, 2_910_371),
    "coco_noalign": ("noalign", 25_323, 32_683_901),
    "coco_sentence": ("sentence", 25_323, 16_617_725),
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
