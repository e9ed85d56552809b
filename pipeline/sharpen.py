"""sharpen: pictures that a run has drawn, sharpened, into sharpened/<run>, and pictures of dev, to compare with real ones.

The arrays go into data/sharpened/<run>.npz. The sharpener is one trained for the run, or the authors' own, converted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline import stage
from text2image import checkpoints, datasets, devices, disk, figures, sharpener, sharpening
from text2image.archives import UNREADABLE
from text2image.bounds import Scores
from text2image.checkpoints import Checkpoint
from text2image.config import parameter
from text2image.devices import Device
from text2image.errors import UserError
from text2image.sharpener import Sharpener, energy, make_coarse
from text2image.skip_thoughts import SkipThoughts

DEV_IN_GRID = 8  # pictures

Hear = Callable[[Sequence[Sequence[str]]], Tensor]  # captions as words: their vectors (n, D)


@dataclass(frozen=True)
class SharpenConfig:
    """How much of dev is made coarse and sharpened, beside the run's samples."""

    dev_size: int = parameter(least=0)  # captions; 0: all
    batch_size: int = parameter(least=1)
    device: Device


def sharpen(parameters: dict[str, Any], run: str, dataset: str, folder: str) -> None:
    config = stage.config(SharpenConfig, parameters, "runs", run, "sharpen")
    device = devices.choose(config.device)
    network = sharpener.load(Path(folder)).to(device)
    checkpoint = checkpoints.load(Path("models") / run / "model.safetensors")
    checkpoint.model.to(device)
    dev = datasets.load(Path("data/prepared") / dataset / "dev.h5", device)
    before, captions = read_samples(Path("data/samples") / f"{run}.npz")
    for shape in (before.shape[2:], dev.shape):
        network.check(tuple(shape), f"{folder}/{sharpener.FILE}")
    hear = listener(Path(folder), network, checkpoint, device)
    before = before.to(device)
    after = torch.stack([network.sharpen(pictures, vector.expand(len(pictures), -1))
                         for pictures, vector in zip(before, hear([text.split() for text in captions]), strict=True)])

    def vectors(words: Tensor) -> Tensor:
        return hear([checkpoint.vocabulary.decode(ids) for ids in words.tolist()])

    scores, factor = Scores(), network.config.factor
    scores.add(torch.arange(before.shape[0] * before.shape[1]), energy=energy(before.flatten(0, 1), factor),
               sharpened_energy=energy(after.flatten(0, 1), factor))
    examples = []
    for real, words, *_ in dev.in_order(config.batch_size, DEV_IN_GRID):
        coarse = make_coarse(real, factor)
        examples.append(torch.stack([real, coarse, network.sharpen(coarse, vectors(words))]))
    before, after = before.cpu().numpy(), after.cpu().numpy()
    pairs = np.stack([before, after], 1).reshape(-1, *before.shape[1:])        # a caption's pictures, then those sharpened
    with stage.output_folder(Path("sharpened") / run) as out:
        figures.grid(out / "grid.png", pairs, [title for text in captions for title in (text, "sharpened")])
        figures.grid(out / "dev.png", torch.cat(examples, 1).cpu().numpy(), ["of dev", "made coarse", "sharpened"])
        with disk.whole(Path("data/sharpened") / f"{run}.npz") as partial:
            np.savez_compressed(partial, captions=np.array(captions), before=before, after=after)
    stage.write_metrics(Path("metrics/sharpen") / f"{run}.json", {
        "samples": scores.summary(),
        "dev": sharpening.compare(network, vectors, dev.in_order(config.batch_size, config.dev_size))})


def listener(folder: Path, network: Sharpener, checkpoint: Checkpoint, device: torch.device) -> Hear:
    """What turns captions into the vectors that the sharpener of a folder was trained with."""
    if network.config.hears == sharpener.SKIP_THOUGHTS:
        skip_thoughts = SkipThoughts(folder, device)
        if skip_thoughts.language != network.config.language:
            raise UserError(f"{folder}: its skip-thoughts have {skip_thoughts.language} numbers, its sharpener takes "
                            f"{network.config.language}; run `dvc repro` to convert them again")
        return skip_thoughts.encode
    encoder = checkpoint.model.caption_encoder
    if network.config.hears != sharpening.digest(encoder):
        raise UserError(f"{folder}: its sharpener was trained with the captions of another model; `dvc repro` trains it again")

    def hear(captions: Sequence[Sequence[str]]) -> Tensor:
        ids = (torch.tensor([checkpoint.vocabulary.encode(" ".join(words))], device=device) for words in captions)
        return torch.cat([sharpening.caption_vectors(encoder, words) for words in ids])

    return hear


def read_samples(path: Path) -> tuple[Tensor, list[str]]:
    """Pictures (M, n, C, H, W) in [0, 1] and M captions, as stage `sample` wrote them."""
    try:
        with path.open("rb") as opened, np.load(opened) as file:
            pictures, captions = file["pictures"], file["captions"]
    except (*UNREADABLE, AttributeError, IndexError) as error:
        raise UserError(f"{path}: not readable as samples ({error}); run `dvc repro` to draw them again") from error
    right = pictures.dtype == np.float32 and pictures.ndim == 5 and captions.dtype.kind == "U"
    right = right and captions.shape == pictures.shape[:1]
    if not right or not pictures.size or not (pictures.min() >= 0 and pictures.max() <= 1):
        raise UserError(f"{path}: {pictures.dtype} of shape {pictures.shape} for {captions.size} captions are no pictures in "
                        "[0, 1] for each; run `dvc repro` to draw them again")
    return torch.from_numpy(pictures), [str(caption) for caption in captions]


if __name__ == "__main__":
    stage.main("sharpen", sharpen)
