"""The metric `similarity`: structural similarity (SSI) of images drawn from a caption with the image that it is of.

The paper's table 1 has the mean and the spread over 50 images a caption. SSI (Wang et al., 2004) is 1 for equal images and
about 0 for unrelated ones. It is scikit-image's, by SETTINGS: the mean over windows of 7x7 pixels, all of one weight, and over
channels, each by itself, of values in [0, 1]. The paper says of its own neither window nor channels.
"""

import math
from typing import Any

import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from text2image import devices, seeds
from text2image.config import MAX_COUNT, MAX_SEED, frozen, parameter, require_memory
from text2image.devices import Device
from text2image.errors import UserError
from text2image.models.base import ImageModel
from text2image.results import captioned
from text2image.results.scores import Scores
from text2image.results.subject import Subject

WINDOW = 7  # pixels
# Of scikit-image's structural_similarity: its defaults for images in [0, 1], (C, H, W).
SETTINGS = {"win_size": WINDOW, "data_range": 1.0, "channel_axis": 0, "gaussian_weights": False}


@frozen
class Config:
    """How many captions, and how many images of each."""

    captions: int = parameter(ge=0, le=MAX_COUNT)  # of the test split, drawn from the seed; 0: all
    samples: int = parameter(ge=1, le=10**6)       # of each caption
    batch_size: int = parameter(ge=1, le=10**6)    # images that are drawn at once
    seed: int = parameter(ge=0, le=MAX_SEED)
    device: Device


@torch.no_grad()
def measure(config: Config, subject: Subject) -> dict[str, Any]:
    """SSI over captions of the test split: mean, its standard error over images, and the spread over all that was drawn.

    It has no headline: a table of runs has room for few numbers, and this one hardly tells models apart.
    """
    model = subject.checkpoint.model.to(devices.choose(config.device))
    check(model, config)
    chosen = captioned.choose(subject, config.device, config.captions, config.seed, "similarity", "captions")
    scores, every = Scores(), []
    for row in chosen.rows.tolist():
        image = chosen.images(torch.tensor([chosen.image_of(row)]))[0]
        drawn = draw(model, chosen.words(row), config, row)
        found = torch.tensor([similarity(image, one) for one in drawn], dtype=torch.double)
        every.append(found)
        scores.add(torch.tensor([chosen.image_of(row)]), ssi=found.mean()[None])
    summary = scores.summary()
    ssi = summary.pop("ssi") | {"std": round(torch.cat(every).std(correction=0).item(), 4)}
    return {"headline": {}, "split": chosen.split} | summary | {"samples": config.samples, "ssi": ssi, "settings": SETTINGS}


def check(model: ImageModel, config: Config) -> None:
    """Raise UserError for images below the window's size, and for more of a caption than memory holds."""
    _, height, width = model.image_shape
    if min(height, width) < WINDOW:
        raise UserError(f"images of {height}x{width} are smaller than the {WINDOW}x{WINDOW} pixels that SSI compares: "
                        "switch the stage off in pipeline.similarity")
    require_memory(4 * config.samples * (math.prod(model.noise_shape(1)) + math.prod(model.image_shape)),
                   f"{config.samples:,} images of a caption with their noise, by samples,")


def similarity(one: Tensor, other: Tensor) -> float:
    """SSI of two images (C, H, W) in [0, 1]."""
    return float(structural_similarity(one.cpu().numpy(), other.cpu().numpy(), **SETTINGS))


def draw(model: ImageModel, words: Tensor, config: Config, row: int) -> Tensor:
    """`samples` images (n, C, H, W) of a caption, (1, L), which is encoded once; `row` names their noise."""
    encoding = model.encode(words)
    noise = seeds.noise(model.noise_shape(config.samples), config.seed, "similarity", row, device="cpu").to(words.device)
    return torch.cat([model.draw(encoding.expand(part.shape[1]), part) for part in noise.split(config.batch_size, 1)])
