"""Images drawn from captions."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.small import SMALL
from text2image import seeds
from text2image.data import mnist_captions
from text2image.data.mnist_captions import VOCABULARY, Grammar
from text2image.models.align_draw import AlignDRAW
from text2image.models.checkpoints import Checkpoint
from text2image.results import sampling


def make_checkpoint() -> Checkpoint:
    model = AlignDRAW(SMALL, len(VOCABULARY))
    model.reset(seeds.torch_generator(3, "weights"))
    return Checkpoint(model, VOCABULARY, Grammar.from_seed(5))


def test_an_image_depends_on_its_caption_and_its_seed_alone():
    checkpoint = make_checkpoint()
    captions = [checkpoint.vocabulary.encode(text) for text in ("the digit 1 is at the top left of the image .",
                                                                "the digit 3 is on the left of the digit 7 .")]
    device = torch.device("cpu")
    both = sampling.draw(checkpoint.model, captions, 3, 0, device)
    alone = sampling.draw(checkpoint.model, captions[1:], 2, 1, device)
    np.testing.assert_allclose(alone.images[0], both.images[1, 1:], rtol=1e-5, atol=1e-6)
    assert both.images.shape == (2, 3, 1, 18, 18)
    np.testing.assert_allclose(both.alphas.sum(-1), 1, rtol=1e-5)
    np.testing.assert_allclose(both.canvases[-1], both.images[:, 0], rtol=1e-5)


def test_held_out_captions_are_held_out():
    checkpoint = make_checkpoint()
    captions = sampling.held_out_captions(checkpoint, 6)
    assert len(set(captions)) == 6
    assert set(captions) <= {mnist_captions.caption(*row) for row in checkpoint.grammar.combinations(held_out=True)}
    assert sampling.held_out_captions(replace(checkpoint, grammar=None), 6) == []


def test_the_box_of_a_window_is_where_its_filters_are():
    checkpoint = make_checkpoint()
    parameters = torch.zeros(1, 5)  # the whole image
    left, top, right, bottom = checkpoint.model.write_box(parameters)[0].tolist()
    assert (left, top, right, bottom) == pytest.approx((0.5, 0.5, 17.5, 17.5))
