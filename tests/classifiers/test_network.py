"""The network of a classifier: where it looks, its file, and files that are not what they should be."""

import json
from dataclasses import asdict, replace

import pytest
import torch

from tests.classifiers.small import make
from tests.small import DEV, LAYOUT
from text2image.classifiers import digit_places, network
from text2image.classifiers.network import Classifier, ClassifierConfig
from text2image.data import mnist_captions
from text2image.data.datasets import CaptionedDigits
from text2image.data.layout import Layout, Span
from text2image.errors import UserError
from text2image.files import safetensors_file

SIZES = ClassifierConfig("words", 3, 11, 13, filters=(5, 7), pools=1, features=17, views=((0, 0), (2, 3)), view_height=8, view_width=9,
                         outputs=("dog", "grass"))
MNIST = Layout(60, top=Span(0, 2), bottom=Span(30, 32), left=Span(0, 4), right=Span(28, 32), middle=Span(16, 18))


def test_shapes_and_what_the_file_keeps(tmp_path):
    classifier, images = Classifier(SIZES), torch.rand(19, 3, 11, 13)
    classifier(images)  # in training: the running means move
    network.save(tmp_path, classifier.eval())
    again = network.load(tmp_path)
    assert again.config == SIZES
    assert classifier(images).shape == (19, 2, 2)
    assert again.features(images).shape == (19, 2 * 17)
    assert torch.equal(again(images), classifier(images))
    assert torch.equal(again.output(again.features(images).view(19, 2, 17)), again(images)), "the last layer reads the features"
    assert (tmp_path / network.FILE).read_bytes() == (network.save(tmp_path, again), (tmp_path / network.FILE).read_bytes())[1]
    with pytest.raises(UserError, match=r"here reads images of \(C, H, W\) = \(3, 11, 13\), these are \(1, 18, 18\)"):
        again.check((1, 18, 18), "here")


@pytest.mark.parametrize(("layout", "side", "pools"), [(LAYOUT, 8, 1), (MNIST, 28, 2)])
def test_a_digit_lies_in_the_view_of_its_place(layout, side, pools):
    """At every offset that the layout allows, up to the pixels that halving the image moves a view by."""
    bank = torch.zeros(10, side, side, dtype=torch.uint8)
    data = CaptionedDigits(bank.numpy(), torch.arange(10).numpy(), mnist_captions.Grammar((10,) * 12), layout)
    labels, views = digit_places.make(data, mnist_captions.VOCABULARY, digit_places.Settings())
    sizes = ClassifierConfig("digit_places", *data.shape, (2,) * pools, pools, 3, views.corners, views.height, views.width, labels.outputs)
    classifier = Classifier(sizes)
    scenes = data.grammar.draw_scenes(2000, data.labels, layout, False, "views")
    for template, offsets in zip(scenes.template.tolist(), scenes.offset.tolist(), strict=True):
        places = [digit_places.FIRST[template], *digit_places.SECOND[template:template + 1]]
        for place, offset in zip(places, offsets, strict=False):
            for start, corner, size in zip(offset, classifier.corners[place], classifier.view_size, strict=True):
                corner, size = corner * 2**pools, size * 2**pools
                assert corner - 2 <= start and start + side <= corner + size + 2


def test_the_views_share_their_weights():
    """A view's features are those of the same pixels wherever they stand, away from the edges."""
    classifier = Classifier(replace(SIZES, height=24, width=24, views=((4, 4), (12, 10)), view_height=8, view_width=8)).eval()
    images = torch.zeros(2, 3, 24, 24)
    thing = torch.rand(3, 6, 6)
    images[0, :, 5:11, 5:11], images[1, :, 13:19, 11:17] = thing, thing
    found = classifier.look(images)
    assert torch.allclose(found[0, 0], found[1, 1], atol=1e-6) and not torch.allclose(found[0, 0], found[0, 1], atol=1e-3)


@pytest.mark.parametrize(("change", "words"), [
    (lambda b: b[:len(b) // 3], "not a readable classifier"), (lambda b: b"", "not a readable classifier"),
    (lambda b: b.replace(b"text2image classifier", b"text2image classifies"), "its metadata has no entry"),
    (lambda b: b.replace(b'\\"version\\": 1', b'\\"version\\": 9'), "of version 9, newer than this code reads"),
    (lambda b: b.replace(b'\\"features\\": 17', b'\\"features\\": 16'), "weights and configuration differ at 'hidden.bias'"),
    (lambda b: b.replace(b'\\"pools\\": 1', b'\\"pools\\": 9'), "cannot be halved"),
    (lambda b: b.replace(b'\\"config\\"', b'\\"konfig\\"'), "its metadata is damaged"),
    (lambda b: b[:-1] + bytes([b[-1] ^ 1]), "their digest differs")])
def test_a_classifier_that_is_damaged(tmp_path, change, words):
    path = tmp_path / network.FILE
    network.save(tmp_path, Classifier(SIZES))
    content = path.read_bytes()
    assert change(content) != content
    path.write_bytes(change(content))
    with pytest.raises(UserError) as error:
        network.load(tmp_path)
    assert words in str(error.value) and str(path) in str(error.value)
    with pytest.raises(UserError, match="no such classifier"):
        network.load(tmp_path / "nowhere")


@pytest.mark.parametrize("size", [10**6, 2**62, 10**30, 10**400, 1e300, [1] * 100_000, [[0, 0]] * 100_000, [[]], "9", None, -1])
@pytest.mark.parametrize("name", ["channels", "height", "filters", "pools", "features", "views", "view_width", "outputs"])
def test_no_metadata_asks_for_more_than_the_file_holds(tmp_path, monkeypatch, name, size):
    """Sizes are compared before a tensor is made."""
    path, classifier = tmp_path / network.FILE, Classifier(SIZES)
    safetensors_file.write(path, classifier.state_dict(), {"config": asdict(SIZES) | {name: size}}, network.FORMAT)
    monkeypatch.setattr(safetensors_file.DescribedFile, "tensors", lambda file: pytest.fail("read"))
    with pytest.raises(UserError) as error:
        network.load(tmp_path)
    assert str(path) in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 1000


def test_its_sizes_are_json_of_bounded_length():
    assert len(json.dumps(asdict(make().config))) < 2000
    assert DEV.shape == (make().config.channels, make().config.height, make().config.width)
