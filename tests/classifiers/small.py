"""A small classifier of scikit-learn's digits, trained in seconds, and its parameters."""

import functools
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.small import DEV, TRAIN
from text2image import seeds
from text2image.classifiers import digit_places, training
from text2image.classifiers.network import Classifier, ClassifierConfig
from text2image.classifiers.training import AugmentConfig, Examples, TrainClassifierConfig
from text2image.data.mnist_captions import VOCABULARY
from text2image.training.optimizers import AdamWConfig
from text2image.training.resume import ResumableState
from text2image.training.schedules import CosineSchedule

NO_CHANGE = AugmentConfig(noise=0.0, blur=0.0, brightness=0.0, rotate=0.0, resize=0.0, shear=0.0)
SOME = AugmentConfig(noise=0.05, blur=0.3, brightness=0.2, rotate=10.0, resize=0.1, shear=0.1)
CONFIG = TrainClassifierConfig(labels={}, filters=(5, 7), pools=1, features=11, dropout=0.2, augment=SOME, epochs=2, epoch_size=60,
                               batch_size=13, optimizer=AdamWConfig("adamw", 0.9, 0.99, 1e-8, 0.1), learning_rate=0.01,
                               schedule=CosineSchedule("cosine", 0.0001), dev_size=40, device="cpu")


def make(config: TrainClassifierConfig = CONFIG) -> Classifier:
    """An untrained classifier of the digits of tests.small."""
    labels, views = digit_places.make(TRAIN, VOCABULARY, digit_places.Settings())
    sizes = ClassifierConfig("digit_places", *TRAIN.shape, config.filters, config.pools, config.features, views.corners, views.height,
                             views.width, labels.outputs)
    return seeds.network(lambda: Classifier(sizes), 1, "classifier", "weights")


def examples() -> tuple[Examples, Examples]:
    """The digits of tests.small, to train on and to score."""
    return tuple(Examples(data, digit_places.DigitPlaces(), VOCABULARY) for data in (TRAIN, DEV))


@functools.cache
def trained() -> Classifier:
    """One that reads more than eight digits of ten."""
    config = replace(CONFIG, filters=(12, 24), features=32, dropout=0.0, augment=replace(NO_CHANGE, rotate=10.0), epochs=4, epoch_size=2000, batch_size=25)
    classifier = make(config)
    with TemporaryDirectory() as folder, ResumableState(Path(folder), "run", "f" * 64) as state:
        training.train(classifier, *examples(), config, 1, state, lambda report: None)
    return classifier.eval()
