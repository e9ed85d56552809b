"""The metric `caption_accuracy`: does an image show what its caption says? A classifier reads images that the model draws.

The classifier is trained on the same dataset, by stage `train_classifier`, and on all captions. What it reads of real images
of the same captions is the ceiling: a model that drew real images would get no more. An image is right where every question
that its caption answers is answered so.

Each caption counts alike, drawn and real. Several images of a caption are not independent: a model that cannot draw a caption
fails at all of them. So the intervals are Wilson's for the effective number of images, by the variance from one caption to
another (text2image.results.proportions).
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from text2image import devices, seeds
from text2image.classifiers import network
from text2image.classifiers.labels import Judge, right
from text2image.classifiers.network import Classifier
from text2image.config import MAX_COUNT, MAX_SEED, frozen, parameter
from text2image.data import mnist_captions
from text2image.data.mnist_captions import VOCABULARY, Grammar
from text2image.data.vocabulary import Vocabulary, pad
from text2image.devices import Device
from text2image.errors import UserError
from text2image.lookup import lookup
from text2image.models.base import ImageModel
from text2image.results.proportions import proportion
from text2image.results.subject import Subject, test_splits

# Of a grammar's captions: those trained on; those held out; of these, those whose scene was trained on in other words, and
# those whose scene was not.
GROUPS = ("seen", "held_out", "other_wording", "never_seen")


@frozen
class Config:
    """Which captions are drawn, and how often."""

    captions: int = parameter(ge=0, le=MAX_COUNT)    # of each group, spread over it; of test the first; 0: all
    images: int = parameter(ge=1, le=10**6)          # drawn of each
    real_images: int = parameter(ge=0, le=MAX_COUNT)  # of test, read for the ceiling; 0: all
    batch_size: int = parameter(ge=1, le=10**6)
    seed: int = parameter(ge=0, le=MAX_SEED)
    device: Device


class Read(NamedTuple):
    """What was read of n images, and of which captions they are."""

    captions: Tensor  # (n, L) int64, zero padded
    named: Tensor     # (n, Q): what the caption says (text2image.classifiers.labels)
    answers: Tensor   # (n, Q): what the classifier reads

    def rows(self, chosen: Tensor) -> "Read":
        """Some of them."""
        return Read(*(part[chosen] for part in self))


def measure(config: Config, subject: Subject) -> dict[str, Any]:
    """The share of right images, drawn and real, of each group of captions; of held-out digits what is drawn instead."""
    device = devices.choose(config.device)
    classifier = network.load(subject.classifier_folder).to(device)
    classifier.check(subject.checkpoint.model.image_shape, str(subject.classifier_folder))
    module = lookup("classifiers", classifier.config.labels, "Settings", f"{subject.classifier_folder}: labels")
    labels = module.load(classifier.config.outputs)
    if not hasattr(labels, "parts"):
        raise UserError(f"caption_accuracy reads what each caption says, and labels '{classifier.config.labels}' do not tell "
                        "it: train a classifier of digit_places or shapes, or switch caption_accuracy off for this run")
    model, vocabulary = subject.checkpoint.model.to(device), subject.checkpoint.vocabulary
    grammar = subject.checkpoint.grammar
    captions = captions_of(subject, config)
    drawn = read_drawn(model, classifier, labels, vocabulary, captions, config, device)
    real = read_real(subject, classifier, labels, config)
    result: dict[str, Any] = {
        "drawn": {name: summary(drawn.rows(rows), labels) for name, rows in groups(grammar, drawn.captions).items()},
        "ceiling": {name: summary(real.rows(rows), labels) for name, rows in groups(grammar, real.captions).items()},
        "labels": classifier.config.labels, "images_of_a_caption": config.images}
    if grammar is not None:
        result["held_out_digits"] = labels.confusion(grammar, mnist_captions.scenes_of(drawn.captions), drawn.answers)
    return {"headline": headline(result["drawn"])} | result


def headline(drawn: dict[str, Any]) -> dict[str, float]:
    """The share of images that are right, of captions that were trained on (of a grammar) or of test, and of those held out."""
    columns = {"seen": "right", "test": "right", "held_out": "right_held_out"}
    return {column: drawn[name]["right"]["mean"] for name, column in columns.items() if name in drawn}


def groups(grammar: Grammar | None, captions: Tensor) -> dict[str, Tensor]:
    """The rows (n,) bool of each group of captions (n, L) that has any; without a grammar all are of test."""
    if grammar is None:
        return {"test": torch.ones(len(captions), dtype=torch.bool)}
    held_out, other = grammar.standing(captions)
    found = zip(GROUPS, (~held_out, held_out, held_out & other, held_out & ~other), strict=True)
    return {name: rows for name, rows in found if rows.any()}


def captions_of(subject: Subject, config: Config) -> Tensor:
    """(n, L) the captions to draw: of a grammar every one there is, of other data the different ones of test."""
    grammar = subject.checkpoint.grammar
    if grammar is None:
        data, *_ = test_splits(subject, "cpu").values()
        different = list(dict.fromkeys(map(tuple, data.word_ids().tolist())))  # in their order
        return torch.tensor(different[:config.captions or None])
    chosen = []
    for held_out in (False, True):
        scenes = grammar.combinations(held_out)
        count = min(config.captions or len(scenes), len(scenes))
        chosen += [scenes[i] for i in np.linspace(0, len(scenes) - 1, count).round().astype(int)]
    ids, _ = pad([VOCABULARY.known(mnist_captions.caption(*map(int, scene)).split()) for scene in chosen])
    return torch.from_numpy(ids).long()


def read_drawn(model: ImageModel, classifier: Classifier, labels: Judge, vocabulary: Vocabulary, captions: Tensor,
               config: Config, device: torch.device) -> Read:
    """Draw images of captions (n, L), and read them. A batch has captions of one length, for models that cannot pad."""
    words = captions.repeat_interleave(config.images, 0)
    lengths = (words > 0).sum(1)
    order = torch.cat([torch.nonzero(lengths == length)[:, 0] for length in lengths.unique()])
    answers = []
    for i, rows in enumerate(batches(order, lengths, config.batch_size)):
        batch = words[rows, :int(lengths[rows[0]])].to(device)
        noise = seeds.noise(model.noise_shape(len(batch)), config.seed, "caption accuracy", i, device="cpu").to(device)
        answers.append(read(classifier, labels, model.generate(batch, noise)))
    found = torch.cat(answers)[order.argsort()]
    return Read(words, labels.named(captions, vocabulary).repeat_interleave(config.images, 0), found)


def batches(order: Tensor, lengths: Tensor, size: int) -> list[Tensor]:
    """`order` (n,), sorted by length, in parts of at most `size` and of one length each."""
    parts = order.split(torch.unique_consecutive(lengths[order], return_counts=True)[1].tolist())
    return [rows for part in parts for rows in part.split(size)]


@torch.no_grad()
def read(classifier: Classifier, labels: Judge, images: Tensor) -> Tensor:
    """What a classifier reads of images (B, C, H, W): (B, Q), on the CPU."""
    return labels.answers(classifier(images).cpu())


def read_real(subject: Subject, classifier: Classifier, labels: Judge, config: Config) -> Read:
    """Read real images of the splits of test, or of dev where there is none: one caption after the other, all of them."""
    words, answers = [], []
    for data in test_splits(subject, config.device).values():
        passed = data.sequential(config.batch_size, config.real_images)
        for batch in (passed[i] for i in range(len(passed))):
            words += [row[row > 0].tolist() for row in batch.words]
            answers.append(read(classifier, labels, batch.images))
    captions = torch.from_numpy(pad(words)[0]).long()
    return Read(captions, labels.named(captions, subject.checkpoint.vocabulary), torch.cat(answers))


def summary(found: Read, labels: Judge) -> dict[str, Any]:
    """The share of images that are right in all, and in each part of what captions say, among those whose captions say it."""
    _, caption = found.captions.unique(dim=0, return_inverse=True)
    result = {"right": proportion(right(found.answers, found.named), caption)}
    for name, (hits, asked) in labels.parts(found.answers, found.named).items():
        result[name] = proportion(hits[asked], caption[asked])
    return result
