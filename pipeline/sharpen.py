"""sharpen: images that a run has drawn, sharpened, into sharpened/<run>; images of dev, to compare with real ones; and the
bounds of every split, before and after.

The arrays go into data/sharpened/<run>.npz. The sharpener is one trained for the run, or the authors' own, converted.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline import stage
from text2image import devices
from text2image.files import atomic
from text2image.files.npz import write_npz
from text2image.lookup import lookup
from text2image.models import checkpoints
from text2image.results import figures, sampling
from text2image.results.scores import Scores
from text2image.results.subject import Subject
from text2image.sharpening import comparison, generator
from text2image.sharpening.comparison import SharpenConfig
from text2image.sharpening.generator import energy, make_coarse

DEV_IN_GRID = 8  # images


def sharpen(parameters: dict[str, Any], run: str, dataset: str, folder: str, conditioning: str) -> None:
    """Sharpen what the run drew and images of dev by the sharpener of `folder`, conditioned as `conditioning` says."""
    config = stage.config(SharpenConfig, parameters, "runs", run, "sharpen")
    device = devices.choose(config.device)
    sharpener = generator.load(Path(folder)).to(device)
    checkpoint = checkpoints.load(Path("models") / run / "model.safetensors")
    checkpoint.model.to(device)
    splits = Subject(checkpoint, Path("data/prepared") / dataset).splits(config.device)
    dev = splits["dev"]
    before, captions = sampling.load_samples(Path("data/samples") / f"{run}.npz")
    for shape in (before.shape[2:], dev.shape):
        sharpener.check(tuple(shape), f"{folder}/{generator.FILE}")
    module = lookup("sharpening", conditioning, "conditioning", f"parameter 'pipeline.sharpened.{run}.conditioning'")
    encode = module.conditioning(Path(folder), sharpener, checkpoint, device)
    before = before.to(device)
    after = torch.stack([sharpener.sharpen(images, vector.expand(len(images), -1))
                         for images, vector in zip(before, encode([text.split() for text in captions]), strict=True)])

    def vectors(words: Tensor) -> Tensor:
        return encode([checkpoint.vocabulary.decode(ids) for ids in words.tolist()])

    scores, factor = Scores(), sharpener.config.factor
    scores.add(torch.arange(before.shape[0] * before.shape[1]), energy=energy(before.flatten(0, 1), factor),
               sharpened_energy=energy(after.flatten(0, 1), factor))
    examples = []
    batches = dev.sequential(config.batch_size, DEV_IN_GRID)
    for real, words, *_ in (batches[i] for i in range(len(batches))):
        coarse = make_coarse(real, factor)
        examples.append(torch.stack([real, coarse, sharpener.sharpen(coarse, vectors(words))]))
    pairs = torch.stack([before, after], 1).flatten(0, 1)                      # a caption's images, then those sharpened
    with stage.output_folder(Path("sharpened") / run) as out:
        figures.grid(out / "grid.png", pairs.cpu().numpy(), [title for text in captions for title in (text, "sharpened")])
        figures.grid(out / "dev.png", torch.cat(examples, 1).cpu().numpy(), ["of dev", "made coarse", "sharpened"])
        with atomic.atomic_write(Path("data/sharpened") / f"{run}.npz") as partial:
            write_npz(partial, {"captions": np.array(captions), "before": before.cpu().numpy(), "after": after.cpu().numpy()})
    stage.write_result(run, "sharpen", {
        "samples": scores.summary(),
        "dev": comparison.compare(sharpener, vectors, dev.sequential(config.batch_size, config.dev_size)),
        "bounds": {split: comparison.bound(checkpoint.model, sharpener, vectors,
                                           data.sequential(config.batch_size, config.bound_captions), config.seed, split,
                                           "sharpened bound") for split, data in splits.items()}})


if __name__ == "__main__":
    stage.main("sharpen", sharpen)
