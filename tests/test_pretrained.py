"""The public face: a trained model from Python."""

from dataclasses import replace

import pytest
import torch

import text2image
from tests.small import SMALL, make
from text2image.data.mnist_captions import VOCABULARY, Grammar
from text2image.errors import UserError
from text2image.models import checkpoints
from text2image.models.checkpoints import Checkpoint
from text2image.results import sampling

ONE, TWO = "the digit 3 is at the top left of the image .", "the digit 4 is on the left of the digit 7 ."
SHORT = "the digit 3 ."


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("models")
    checkpoints.save(path / "model.safetensors", Checkpoint(make(), VOCABULARY, Grammar.from_seed(1)))
    return path


def test_a_folder_and_its_file_are_the_same_model(folder):
    for path in (folder, str(folder), folder / "model.safetensors"):
        model = text2image.load(path, device="cpu")
        assert isinstance(model, text2image.PretrainedModel)
        assert model.checkpoint.vocabulary.words == VOCABULARY.words
    with pytest.raises(UserError, match="no such checkpoint"):
        text2image.load(folder / "none")


def test_images_are_those_that_sampling_draws(folder):
    model = text2image.load(folder, device="cpu")
    images = model.generate([ONE, SHORT], images=3, seed=5)
    assert images.shape == (2, 3, *model.model.image_shape) == (2, 3, 1, 18, 18)
    assert images.min() >= 0 and images.max() <= 1
    ids = [VOCABULARY.encode(caption) for caption in (ONE, SHORT)]
    assert torch.equal(images, torch.from_numpy(sampling.draw(make(), ids, 3, 5, torch.device("cpu")).images))
    assert torch.equal(model.generate(ONE, images=3, seed=5), model.generate([ONE], images=3, seed=5))
    assert not torch.equal(model.generate(ONE, seed=1), model.generate(ONE, seed=2))


def test_the_elbo_of_images_with_captions_of_several_lengths(folder):
    model = text2image.load(folder, device="cpu")
    images = model.generate([ONE, SHORT, TWO])[:, 0]
    bound = model.elbo(images, [ONE, SHORT, TWO])
    assert bound.elbo.shape == (3,)
    torch.testing.assert_close(bound.elbo, -(bound.reconstruction + bound.kl))
    assert not torch.equal(bound.elbo, model.elbo(images, [TWO, SHORT, ONE]).elbo), "captions count"
    assert torch.equal(bound.elbo, model.elbo(images, [ONE, SHORT, TWO]).elbo), "the same noise for the same seed"
    assert not torch.equal(bound.elbo, model.elbo(images, [ONE, SHORT, TWO], seed=1).elbo)
    assert not bound.elbo.requires_grad
    with pytest.raises(UserError, match="3 images and 1 captions: give each image its own caption"):
        model.elbo(images, ONE)
    with pytest.raises(UserError, match="there is no caption"):
        model.generate([])
    with pytest.raises(UserError, match=rf"\(C, H, W\) = \(1, {SMALL.height}, {SMALL.width}\), the data holds \(1, 17, 18\)"):
        model.elbo(images[:, :, 1:], [ONE, SHORT, TWO])
    with pytest.raises(UserError, match="the word 'twelve'"):
        model.generate("the digit twelve .")


def test_a_model_whose_encoder_mixes_captions_takes_one_at_a_time():
    released = type(make())(replace(SMALL, preset="released"), len(VOCABULARY))
    model = text2image.PretrainedModel(Checkpoint(released, VOCABULARY, None), torch.device("cpu"))
    images = model.generate([ONE, SHORT])[:, 0]
    both = model.elbo(images, [ONE, SHORT]).elbo
    assert both[:1] == pytest.approx(model.elbo(images[:1], [ONE]).elbo, rel=1e-5)


def test_nothing_else_is_offered():
    assert sorted(text2image.__all__) == ["PretrainedModel", "load"]
    with pytest.raises(AttributeError, match="has no attribute 'train'"):
        text2image.train  # noqa: B018
