"""`words`: which of the frequent content words stand in the captions of an image, whatever the captions are.

As a judge it is weak; its features place images near each other that are captioned alike, which retrieval uses.
"""

import re
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from text2image.classifiers.labels import Views, whole
from text2image.config import frozen, parameter
from text2image.data.datasets import CaptionedImages, Dataset
from text2image.data.vocabulary import PADDING, UNKNOWN, Vocabulary
from text2image.errors import UserError

# English words that name nothing that is seen.
FUNCTION_WORDS = frozenset(re.findall(r"\S+", """
    a an the this that these those some another other each every all both any and or but nor as if while than then
    of in on at by to from with without into onto over under up down out off through across along around near next for
    after before behind between above below inside outside against toward towards during about like
    is are am was were be been being has have had having do does did doing can could will would may
    it its it's he his him she her they their them there here who which what where when how 's not no very so"""))
LEAST_IMAGES = 2  # that a word occurs in, else there is nothing to learn


@frozen
class Settings:
    """How many words."""

    words: int = parameter(ge=1, le=10**5)  # the most frequent, by the images of training in whose captions they occur


def make(data: Dataset, vocabulary: Vocabulary, settings: Settings) -> tuple["Words", Views]:
    """The most frequent content words, and one view of all the image.

    Raises UserError where the captions have no such words, or are composed with their images.
    """
    if not isinstance(data, CaptionedImages):
        raise UserError("labels 'words' are of images with captions of their own: take 'digit_places' for MNIST with captions")
    content = [i for i, word in enumerate(vocabulary.words) if word not in FUNCTION_WORDS | {PADDING, UNKNOWN}
               and any(map(str.isalpha, word))]
    there = _occurs(data.word_ids(), torch.tensor(content, dtype=torch.long))
    images = torch.zeros(len(data.images), len(content), dtype=torch.bool)
    image_of_caption = torch.from_numpy(data.image_of_caption).long()
    images[image_of_caption[there[0]], there[1]] = True
    counts = images.sum(0)
    order = counts.argsort(descending=True, stable=True)[:settings.words]
    chosen = tuple(vocabulary.words[content[i]] for i in order.tolist() if counts[i] >= LEAST_IMAGES)
    if not chosen:
        raise UserError(f"no content word occurs in the captions of {LEAST_IMAGES} images of training: labels 'words' need "
                        "some")
    return Words(chosen), whole(data)


def _occurs(captions: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Captions (M, L) and word ids (W,): the rows of captions and the columns of `ids` that occur in them, pairwise."""
    column = torch.full((int(torch.cat([captions.flatten(), ids]).max()) + 1,), -1)
    column[ids] = torch.arange(len(ids))
    found = column[captions]
    row = torch.arange(len(captions))[:, None].expand_as(found)
    return row[found >= 0], found[found >= 0]


def load(outputs: Sequence[str]) -> "Words":
    """The words of a classifier."""
    return Words(tuple(outputs))


class Words:
    """Labels (text2image.classifiers.labels): a question a word, 1 where it stands in a caption and 0 where it does not."""

    def __init__(self, words: tuple[str, ...]):
        self.questions = self.outputs = words

    def named(self, words: Tensor, vocabulary: Vocabulary) -> Tensor:
        """As Labels.named; every word is answered."""
        ids = {word: i for i, word in enumerate(vocabulary.words)}
        missing = next((word for word in self.outputs if word not in ids), None)
        if missing is not None:
            raise UserError(f"the classifier knows the word '{missing}', which the vocabulary lacks: it was trained on other "
                            "data; `dvc repro` trains it again")
        found = torch.zeros(len(words), len(self.outputs), dtype=torch.long)
        found[_occurs(words.cpu(), torch.tensor([ids[word] for word in self.outputs]))] = 1
        return found

    def targets(self, named: Tensor) -> Tensor:
        """As Labels.targets."""
        return named

    def cost(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Binary cross entropy, summed over words, the mean over images."""
        return F.binary_cross_entropy_with_logits(logits[:, 0], targets.to(logits), reduction="sum") / len(targets)

    def answers(self, logits: Tensor) -> Tensor:
        """1 where a word is likelier than not."""
        return (logits[:, 0] > 0).long()

    def accuracy(self, logits: Tensor, targets: Tensor) -> dict[str, float]:
        """`accuracy`: the average precision of ranking the images by a word, the mean over words; `chance`: that of any order;
        `area`: the share of pairs of an image with the word and one without it that are ranked right, likewise."""
        scores, there = logits[:, 0].double(), targets.bool()
        usable = there.any(0) & ~there.all(0)
        if not usable.any():
            return {"accuracy": 0.0, "chance": 0.0, "area": 0.5}
        scores, there = scores[:, usable], there[:, usable]
        ranked = there.gather(0, scores.argsort(dim=0, descending=True, stable=True)).double()
        places, positives = torch.arange(1, len(ranked) + 1)[:, None], ranked.sum(0)
        precision = (ranked.cumsum(0) / places * ranked).sum(0) / positives
        above = ((1 - ranked).flip(0).cumsum(0).flip(0) * ranked).sum(0) / (positives * (len(ranked) - positives))
        return {"accuracy": round(precision.mean().item(), 6), "chance": round((positives / len(ranked)).mean().item(), 6),
                "area": round(above.mean().item(), 6)}
