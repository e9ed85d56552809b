"""preprocess: raw data as the prepared format (text2image.datasets), into data/prepared/<dataset>."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pipeline import stage
from text2image import archives, datasets, mnist_captions, sharpener, skip_thoughts, toronto
from text2image.archives import Digits
from text2image.captions import Vocabulary, pad, tokenize
from text2image.config import parameter
from text2image.errors import UserError
from text2image.mnist_captions import Canvas, Grammar


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
    side: int = parameter(least=1)


@dataclass(frozen=True)
class Sharpening:
    """The authors' sharpening network and its skip-thoughts, as plain arrays."""

    kind: Literal["sharpening"]


KINDS = {"mnist_captions": MnistCaptions, "captioned_images": CaptionedImages, "toronto": Toronto,
         "sharpening": Sharpening}


def preprocess(parameters: dict[str, Any], name: str) -> None:
    config = stage.variant(parameters, ("datasets", name, "preprocess"), "kind", KINDS)
    raw = Path("data/raw") / name
    with stage.output_folder(Path("data/prepared") / name) as out:
        if isinstance(config, MnistCaptions):
            compose(raw, out, config, stage.seed(parameters), f"datasets.{name}.preprocess")
        elif isinstance(config, Toronto):
            take_over(raw, out, config.side)
        elif isinstance(config, Sharpening):
            sharpener.save(out / sharpener.FILE, sharpener.read_gan(raw / sharpener.GAN))
            skip_thoughts.convert(raw, out)
        else:
            number_words(raw, out, config)


def compose(raw: Path, out: Path, config: MnistCaptions, seed: int, where: str) -> None:
    banks = bank_of(raw, config.digits)
    canvas, grammar = config.canvas, Grammar.draw(seed)
    canvas.check(banks["train"].images.shape[-1], f"{where}.canvas")
    datasets.write_digits(out / "train.h5", *banks["train"], grammar, canvas)
    for split, bank, count, held_out in (("dev", "dev", config.pictures.dev, False),
                                         ("test", "test", config.pictures.test, False),
                                         ("test_held_out", "test", config.pictures.test, True)):
        digits = datasets.CaptionedDigits(*banks[bank], grammar, canvas)
        pictures, words = digits.compose(count, held_out, seed, split)
        datasets.write_images(out / f"{split}.h5", pictures, words, np.full(count, words.shape[1]), np.arange(count))
    mnist_captions.VOCABULARY.save(out / "vocabulary.json")


def bank_of(raw: Path, sizes: Sizes) -> dict[str, Digits]:
    if (raw / archives.DIGITS_FILE).exists():
        bank = archives.read_digits(raw / archives.DIGITS_FILE)
    elif (raw / archives.MNIST_H5).exists():
        bank = archives.read_mnist_h5(raw / archives.MNIST_H5)
    else:
        bank = archives.read_mnist_archive(raw)
    return archives.cut(bank, asdict(sizes))


def number_words(raw: Path, out: Path, config: CaptionedImages) -> None:
    scenes = archives.read_scenes(raw)
    captions = {split: [(row, tokenize(text)) for row, text in pairs] for split, (_, pairs) in scenes.items()}
    vocabulary = Vocabulary.count((words for _, words in captions["train"]), config.minimum_count)
    for split, (pictures, _) in scenes.items():
        empty = [n for n, (_, words) in enumerate(captions[split]) if not words]
        if empty:
            raise UserError(f"{raw}: caption {empty[0] + 1} of {split} is empty: give it at least one word, or leave it out")
        ids, lengths = pad([vocabulary.known(words) for _, words in captions[split]])
        planar = np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))
        datasets.write_images(out / f"{split}.h5", planar, ids, lengths, np.array([row for row, _ in captions[split]]))
    vocabulary.save(out / "vocabulary.json")


def take_over(raw: Path, out: Path, side: int) -> None:
    vocabulary = toronto.read_dictionary(raw / toronto.DICTIONARY)
    for split in toronto.SPLITS:
        datasets.write_images(out / f"{split}.h5", *toronto.read_split(raw, split, side, vocabulary))
    vocabulary.save(out / "vocabulary.json")


if __name__ == "__main__":
    stage.main("preprocess", preprocess)
