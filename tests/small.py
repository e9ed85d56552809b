"""A small model, its training and its data, for tests of what is done with a model."""

import numpy as np
import torch
from sklearn.datasets import load_digits

from text2image import seeds
from text2image.data.datasets import CaptionedDigits
from text2image.data.mnist_captions import Grammar, Layout, Span
from text2image.models.align_draw import AlignDRAW, AlignDRAWConfig
from text2image.training.distributed import DistributedContext
from text2image.training.optimizers import AdamWConfig, RMSpropConfig
from text2image.training.schedules import DropSchedule
from text2image.training.train_config import TrainConfig

SMALL = AlignDRAWConfig(channels=1, height=18, width=18, glimpses=4, language_units=16, align_units=16, infer_units=32,
                        generate_units=32, latent=8, read_window=4, write_window=5, init_std=0.1, canvas_init=-3.0,
                        preset="paper")
RMSPROP = RMSpropConfig(kind="rmsprop", decay=0.9, eps=1e-6)
ADAMW = AdamWConfig(kind="adamw", beta1=0.9, beta2=0.99, eps=1e-6, weight_decay=0.0)
CONFIG = TrainConfig(init="random", epochs=3, epoch_size=250, min_words=1, max_words=100, batch_size=50, bucket=1,
                     optimizer=RMSPROP, learning_rate=0.003, schedule=DropSchedule("drop", 2, 0.0003), clip="global",
                     clip_norm=10.0, dev_size=50, checkpoint_every=0, device="cpu", precision="float32")
ALONE = DistributedContext(0, 1, torch.device("cpu"))
LAYOUT = Layout(18, top=Span(0, 1), bottom=Span(9, 10), left=Span(0, 1), right=Span(9, 10), middle=Span(4, 6))


def digits(part: slice) -> CaptionedDigits:
    """Some of scikit-learn's digits, composed as they are needed."""
    real = load_digits()
    return CaptionedDigits((real.images[part] * 255 / 16).round().astype(np.uint8), real.target[part], Grammar.from_seed(1), LAYOUT)


TRAIN, DEV = digits(slice(0, 1397)), digits(slice(1397, 1597))
MEAN = torch.full((1, 18, 18), 0.3)  # a training image's mean, for what does not test it


def make() -> AlignDRAW:
    """The small model with weights from a seed."""
    model = AlignDRAW(SMALL, 23)
    model.reset(seeds.torch_generator(1, "weights"))
    return model
