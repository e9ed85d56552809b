"""The kinds of labels: what captions say, against what images show; and how answers are counted."""

import numpy as np
import pytest
import torch

from tests.small import DEV, TRAIN
from text2image import classifiers
from text2image.classifiers import digit_places, shapes, words
from text2image.classifiers.labels import UNSAID
from text2image.data import mnist_captions
from text2image.data.datasets import CaptionedImages
from text2image.data.mnist_captions import VOCABULARY, Grammar
from text2image.data.vocabulary import Vocabulary, pad
from text2image.errors import UserError
from text2image.lookup import names
from text2image.sources import shapes as source

PLACES = digit_places.QUESTIONS


def ids(vocabulary: Vocabulary, *texts: str) -> torch.Tensor:
    return torch.from_numpy(pad([vocabulary.known(text.split()) for text in texts])[0]).long()


def test_the_kinds_that_there_are():
    assert classifiers.__doc__ and names("classifiers", "Settings") == ["digit_places", "shapes", "words"]


def test_where_a_caption_says_that_digits_stand():
    labels = digit_places.load(digit_places.OUTPUTS)
    for text, expected in (("the digit 3 is on the left of the digit 7 .", {"left": 3, "right": 7}),
                           ("the digit 3 is on the right of the digit 7 .", {"left": 7, "right": 3}),
                           ("the digit 1 is at the top of the digit 0 .", {"top": 1, "bottom": 0}),
                           ("the digit 1 is at the bottom of the digit 0 .", {"top": 0, "bottom": 1}),
                           *((f"the digit 9 is at the {corner} of the image .", {corner: 9}) for corner in PLACES[4:])):
        named = labels.named(ids(VOCABULARY, text), VOCABULARY)
        assert named.tolist() == [[expected.get(place, UNSAID) for place in PLACES]], text
        assert labels.targets(named).tolist() == [[expected.get(place, 10) for place in PLACES]]


def test_digits_stand_where_their_captions_say():
    """The centre of an image's light is on the side that the place's name says."""
    labels, batch = digit_places.DigitPlaces(), DEV.sequential(500, 500)[0]
    named = labels.named(batch.words, VOCABULARY)
    light = batch.images[:, 0]
    steps = torch.arange(18.0) - 8.5
    down, right = (light.sum(axis) @ steps / light.sum((1, 2)) for axis in (2, 1))
    for n, place in enumerate(PLACES[4:], 4):
        rows = named[:, n] != UNSAID
        assert rows.any()
        assert ((down[rows] < 0) == ("top" in place)).all() and ((right[rows] < 0) == ("left" in place)).all()


def test_what_is_drawn_in_place_of_a_held_out_digit():
    grammar, labels = Grammar.from_seed(1), digit_places.DigitPlaces()
    scenes = grammar.combinations(held_out=True)
    words_ = torch.cat([ids(VOCABULARY, mnist_captions.caption(*scene)) for scene in scenes.tolist()])
    named = labels.named(words_, VOCABULARY)
    rows = labels.confusion(grammar, scenes, labels.targets(named))
    assert [row["digit"] for row in rows] == list(grammar.held_out)
    assert [row["place"] for row in rows] == ["left", "right", "left", "right", "top", "bottom", "top", "bottom", *PLACES[4:]]
    assert [row["images"] for row in rows] == [10] * 8 + [1] * 4
    assert all(row["drawn"] == {str(row["digit"]): 1.0} for row in rows), "all are right"
    nothing = labels.confusion(grammar, scenes, torch.full_like(named, 10))
    assert all(row["drawn"] == {"nothing": 1.0} for row in nothing)


def test_shares_of_digits_and_places():
    labels = digit_places.DigitPlaces()
    targets = torch.tensor([[3, 7, 10, 10, 10, 10, 10, 10], [10, 10, 10, 10, 5, 10, 10, 10]])
    logits = torch.nn.functional.one_hot(targets, 11).float()
    assert labels.answers(logits).tolist() == targets.tolist()
    assert labels.accuracy(logits, targets) == {"accuracy": 1.0, "empty_places": 1.0, "images": 1.0}
    logits[0, 1], logits[0, 2] = logits[0, 2].clone(), logits[0, 0].clone()
    assert labels.accuracy(logits, targets) == {"accuracy": 0.666667, "empty_places": 0.923077, "images": 0.5}
    hits, asked = labels.parts(labels.answers(logits), targets.masked_fill(targets == 10, UNSAID))["empty_elsewhere"]
    assert hits.tolist() == [False, True] and asked.all()
    assert labels.cost(torch.zeros(2, 8, 11), targets).item() == pytest.approx(np.log(11), rel=1e-5)


def of_thing(thing: source.Thing, which: str) -> dict[str, str]:
    return {f"{which} colour": thing.colour, f"{which} shape": thing.shape}


def test_every_phrasing_of_a_scene_is_read_as_the_scene():
    """Against the source itself, which knows what it paints."""
    rng, kinds = np.random.default_rng(0), set()
    for _ in range(400):
        things, phrasings = source._scene(rng)
        first = things[0]
        if len(things) == 2:
            upright = abs(things[1].y - first.y) > abs(things[1].x - first.x)
            shown = of_thing(first, "first") | of_thing(things[1], "second") | {"arrangement": "above" if upright else "beside"}
        else:
            vertical, horizontal = "top" if first.y < 0.4 else "bottom", "left" if first.x < 0.4 else "right"
            place = "middle" if abs(first.x - 0.5) < 0.1 else f"{vertical} {horizontal}"
            shown = of_thing(first, "first") | {"arrangement": "alone", "size": first.size, "place": place}
        for phrasing in phrasings:
            said = shapes.parse(phrasing.split())
            assert said.items() <= shown.items(), phrasing
            assert len(said) in (len(shown), 3), phrasing
            kinds.add((*said, said["arrangement"], said.get("place")))
    assert len(kinds) == 1 + 5 + 2


def test_an_unknown_word_says_nothing_and_another_caption_is_refused():
    assert shapes.parse(["a", "UNK", "circle", "above", "a", "blue", "UNK", "."]) == {
        "arrangement": "above", "first shape": "circle", "second colour": "blue"}
    assert shapes.parse(["there", "is", "a", "UNK", "red", "UNK", "in", "the", "middle", "of", "the", "picture", "."]) == {
        "arrangement": "alone", "first colour": "red", "place": "middle"}
    for text in ("a dog .", "a red circle", "red circle .", "a red circle in the middle of the road .", "a red circle beside a blue square .",
                 "a red circle above a blue square at the bottom .", "a red circle above a .", "a a a .", "a .", "", ".", "there is a",
                 "a small large red circle .", "a red circle at the top and a blue square on the right ."):
        with pytest.raises(UserError, match=r"is no caption of the source shapes.*take 'words'"):
            shapes.parse(text.split())


def test_parts_of_a_scene_are_counted_where_they_are_said():
    vocabulary = Vocabulary.count([["a", "red", "blue", "circle", "square", "above", ".", "large"]], 1)
    labels = shapes.load(shapes.OUTPUTS)
    named = labels.named(ids(vocabulary, "a red circle above a blue square .", "a blue square .", "a large red circle ."), vocabulary)
    answers = named.clone()
    logits = torch.zeros(3, 1, len(shapes.OUTPUTS))
    starts = np.cumsum([0, *shapes.SIZES[:-1]])
    for row, said in enumerate(named.tolist()):
        for start, answer in zip(starts, said, strict=True):
            logits[row, 0, start + max(answer, 0)] = 9
    assert torch.equal(labels.answers(logits)[named != UNSAID], named[named != UNSAID])
    assert set(labels.accuracy(logits, named).values()) == {1.0}
    assert labels.cost(logits, named) < 0.01 < labels.cost(-logits, named)
    answers[0, shapes.QUESTIONS.index("second colour")] = 5
    answers[2, shapes.QUESTIONS.index("size")] = 0
    parts = {name: (hits.tolist(), asked.tolist()) for name, (hits, asked) in labels.parts(answers, named).items()}
    assert parts == {"colour": ([False, True, True], [True] * 3), "shape": ([True] * 3, [True] * 3), "relation": ([True] * 3, [True] * 3),
                     "size": ([True, True, False], [False, False, True])}


def captioned(*texts: str) -> tuple[CaptionedImages, Vocabulary]:
    vocabulary = Vocabulary.count([text.split() for text in texts], 1)
    captions, lengths = pad([vocabulary.known(text.split()) for text in texts])
    return CaptionedImages(np.zeros((len(texts), 3, 8, 8), np.uint8), captions, lengths, np.arange(len(texts))), vocabulary


def test_the_words_are_frequent_and_name_something():
    data, vocabulary = captioned("a dog runs on the grass .", "the dog is on a dog dog .", "grass , and a cat !", "the grass 's 9 dog")
    labels, views = words.make(data, vocabulary, words.Settings(5))
    assert labels.outputs == ("dog", "grass"), "in captions of three images each; the others in one, or no content"
    assert views == (((0, 0),), 8, 8)
    assert words.make(data, vocabulary, words.Settings(1))[0].outputs == ("dog",)
    named = labels.named(data.captions, vocabulary)
    assert named.tolist() == [[1, 1], [1, 0], [0, 1], [1, 1]]
    assert torch.equal(words.load(labels.outputs).named(data.captions, vocabulary), named)
    assert labels.answers(torch.tensor([[[2.0, -1.0]]])).tolist() == [[1, 0]]
    with pytest.raises(UserError, match="knows the word 'dog', which the vocabulary lacks"):
        labels.named(torch.ones(1, 2, dtype=torch.long), Vocabulary(["<pad>", "cat"]))
    with pytest.raises(UserError, match="no content word occurs in the captions of 2 images"):
        words.make(*captioned("a dog .", "a cat ."), words.Settings(5))
    with pytest.raises(UserError, match="'words' are of images with captions of their own"):
        words.make(TRAIN, VOCABULARY, words.Settings(5))


def test_how_well_words_are_ranked():
    labels = words.Words(("dog", "grass", "always"))
    targets = torch.tensor([[1, 0, 1], [0, 1, 1], [1, 0, 1], [0, 0, 1]])
    perfect = (targets * 2.0 - 1)[:, None]
    assert labels.accuracy(perfect, targets) == {"accuracy": 1.0, "chance": 0.375, "area": 1.0}
    found = labels.accuracy(torch.tensor([[4.0, 4, 0], [3, 3, 0], [2, 2, 0], [1, 1, 0]])[:, None], targets)
    # dog stands at ranks 1 and 3 of 4, grass at rank 2.
    assert found == {"accuracy": round(((1 + 2 / 3) / 2 + 1 / 2) / 2, 6), "chance": 0.375, "area": round((3 / 4 + 2 / 3) / 2, 6)}
    assert labels.cost(torch.zeros(4, 1, 3), targets).item() == pytest.approx(3 * np.log(2), rel=1e-5)


@pytest.mark.parametrize("kind", [digit_places, shapes])
def test_outputs_of_other_code_are_refused(kind):
    with pytest.raises(UserError, match="this one was made by other code"):
        kind.load(("dog", "grass"))
