"""preprocess: raw data as the prepared format (text2image.datasets), into data/prepared/<dataset>.

What there is of it is counted in metrics/preprocess/<dataset>.json.
"""

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pipeline import stage
from text2image import (
    archives,
    datasets,
    folders,
    mnist_captions,
    released_arrays,
    sharpener,
    skip_thoughts,
    skipped,
    toronto,
)
from text2image.archives import Digits
from text2image.captions import UNKNOWN, Vocabulary, pad, tokenize
from text2image.config import parameter
from text2image.datasets import Blocks
from text2image.errors import UserError
from text2image.folders import Captions, Shares
from text2image.mnist_captions import Canvas, Grammar
from text2image.pictures import Frame

Counts = dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    train: int = parameter(least=1)
    dev: int = parameter(least=1)
    test: int = parameter(least=1)


@dataclass(frozen=True)
class Pictures:
    dev: int = parameter(least=1)
    test: int = parameter(least=1)  # of captions seen in training, and as many of captions held out


@dataclass(frozen=True)
class MnistCaptions:
    """Digits on a canvas with captions from a grammar; pictures of dev and test are composed here, once."""

    kind: Literal["mnist_captions"]
    digits: Sizes          # of the bank, in the order it is published
    pictures: Pictures
    canvas: Canvas


@dataclass(frozen=True)
class CaptionedImages:
    """Pictures with captions of their own."""

    kind: Literal["captioned_images"]
    minimum_count: int = parameter(least=1)  # times a word must occur in training to be in the vocabulary


@dataclass(frozen=True)
class Toronto:
    """The dataset host's pictures and captions, with ids and splits as they are published."""

    kind: Literal["toronto"]


@dataclass(frozen=True)
class Folder:
    """A folder's pictures and its captions.csv."""

    kind: Literal["folder"]
    pictures: Frame
    splits: Shares
    minimum_count: int = parameter(least=1)


@dataclass(frozen=True)
class Sharpening:
    """The authors' sharpening network and its skip-thoughts, as plain arrays."""

    kind: Literal["sharpening"]


KINDS = {"mnist_captions": MnistCaptions, "captioned_images": CaptionedImages, "toronto": Toronto, "folder": Folder,
         "sharpening": Sharpening}


def preprocess(parameters: dict[str, Any], name: str) -> None:
    config = stage.variant(parameters, ("datasets", name, "preprocess"), "kind", KINDS)
    raw, prepared = Path("data/raw") / name, Path("data/prepared") / name
    with stage.output_folder(prepared) as out:
        if isinstance(config, MnistCaptions):
            counts = compose(raw, out, config, stage.seed(parameters), f"datasets.{name}.preprocess")
        elif isinstance(config, Toronto):
            counts = take_over(raw, out)
        elif isinstance(config, Folder):
            counts = decode(raw, out, config)
        elif isinstance(config, Sharpening):
            sharpener.save(out / sharpener.FILE, sharpener.read_gan(raw / sharpener.GAN))
            counts = {"vocabulary": skip_thoughts.convert(raw, out)}
        else:
            counts = number_words(raw, out, config)
        left_out = skipped.read(out)
        counts["skipped"] = skipped.count(skipped.read(raw) + left_out)
        stage.write_metrics(Path("metrics/preprocess") / f"{name}.json", counts)
    skipped.tell(left_out, prepared / skipped.FILE)


def write(path: Path, vocabulary: Vocabulary, images: np.ndarray | Blocks, captions: np.ndarray, lengths: np.ndarray,
          image_of_caption: np.ndarray) -> Counts:
    """One split, as `datasets.write_images` takes it; returns what there is of it."""
    datasets.write_images(path, images, captions, lengths, image_of_caption)
    unknown = (captions == vocabulary.words.index(UNKNOWN)).sum() / lengths.sum() if UNKNOWN in vocabulary.words else 0
    return {"pictures": images.shape[0], "captions": len(captions), "unknown_words": round(float(unknown), 6)}


def compose(raw: Path, out: Path, config: MnistCaptions, seed: int, where: str) -> Counts:
    banks = bank_of(raw, config.digits)
    canvas, grammar = config.canvas, Grammar.draw(seed)
    canvas.check(banks["train"].images.shape[-1], f"{where}.canvas")
    datasets.write_digits(out / "train.h5", *banks["train"], grammar, canvas)
    vocabulary = mnist_captions.VOCABULARY
    counts: Counts = {"train": {"digits": len(banks["train"].labels)}, "vocabulary": len(vocabulary)}
    for split, bank, count, held_out in (("dev", "dev", config.pictures.dev, False),
                                         ("test", "test", config.pictures.test, False),
                                         ("test_held_out", "test", config.pictures.test, True)):
        digits = datasets.CaptionedDigits(*banks[bank], grammar, canvas)
        composed, words = digits.compose(count, held_out, seed, split)
        lengths = np.full(count, words.shape[1])
        counts[split] = write(out / f"{split}.h5", vocabulary, composed, words, lengths, np.arange(count))
    vocabulary.save(out / "vocabulary.json")
    return counts


def bank_of(raw: Path, sizes: Sizes) -> dict[str, Digits]:
    if (raw / archives.DIGITS_FILE).exists():
        bank = archives.read_digits(raw / archives.DIGITS_FILE)
    elif (raw / archives.MNIST_H5).exists():
        bank = archives.read_mnist_h5(raw / archives.MNIST_H5)
    else:
        bank = archives.read_mnist_archive(raw)
    return archives.cut(bank, asdict(sizes))


def number_words(raw: Path, out: Path, config: CaptionedImages) -> Counts:
    scenes = archives.read_scenes(raw)
    captions = {split: [(row, tokenize(text)) for row, text in pairs] for split, (_, pairs) in scenes.items()}
    for split, said in captions.items():
        empty = [n for n, (_, words) in enumerate(said) if not words]
        if empty:
            raise UserError(f"{raw}: caption {empty[0] + 1} of {split} is empty: give it at least one word, or leave it out")
    planar = {split: np.ascontiguousarray(drawn.transpose(0, 3, 1, 2)) for split, (drawn, _) in scenes.items()}
    return write_words(out, planar, captions, config.minimum_count)


def write_words(out: Path, images: Mapping[str, np.ndarray | Blocks], captions: Mapping[str, Captions], least: int) -> Counts:
    """All splits, and a vocabulary of the words that occur at least `least` times in training."""
    vocabulary = Vocabulary.count((words for _, words in captions["train"]), least)
    counts: Counts = {"vocabulary": len(vocabulary)}
    for split, said in captions.items():
        ids, lengths = pad([vocabulary.known(words) for _, words in said])
        rows = np.array([row for row, _ in said])
        counts[split] = write(out / f"{split}.h5", vocabulary, images[split], ids, lengths, rows)
    vocabulary.save(out / "vocabulary.json")
    return counts


def take_over(raw: Path, out: Path) -> Counts:
    vocabulary = toronto.read_dictionary(raw / toronto.DICTIONARY)
    for weights in raw.glob("*.h5"):
        vocabulary = toronto.with_rows_of(weights, vocabulary)
        shutil.copyfile(weights, out / released_arrays.FILE)
    counts: Counts = {"vocabulary": len(vocabulary)}
    for split, side in toronto.found(raw).items():
        counts[split] = write(out / f"{split}.h5", vocabulary, *toronto.read_split(raw, split, side, vocabulary))
    vocabulary.save(out / "vocabulary.json")
    return counts


def decode(raw: Path, out: Path, config: Folder) -> Counts:
    images, captions, left_out = folders.decode(raw, out, config.pictures, config.splits)
    counts = write_words(out, images, captions, config.minimum_count)
    for stored in images.values():
        stored.path.unlink()
    skipped.write(out, left_out)
    return counts


if __name__ == "__main__":
    stage.main("preprocess", preprocess)
