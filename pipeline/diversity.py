"""diversity: how a run's images of one caption vary, and which training images those drawn lie nearest to.

Numbers go into results/<run>/diversity.json; each sample above its nearest training image into nearest/<run>.png.
"""

from pathlib import Path
from typing import Any

import torch

from pipeline import stage
from text2image import devices
from text2image.files import atomic
from text2image.results import diversity as metric
from text2image.results import figures, sampling
from text2image.results.diversity import Config
from text2image.results.subject import Subject


def diversity(parameters: dict[str, Any], run: str, dataset: str) -> None:
    """Measure, and show the samples beside their nearest training images."""
    config = stage.config(Config, parameters, "runs", run, "diversity")
    devices.keep_freed_memory()
    subject = Subject.load(Path("models") / run / "model.safetensors", Path("data/prepared") / dataset)
    samples, captions = sampling.load_samples(Path("data/samples") / f"{run}.npz")
    distances, nearest = metric.compare_nearest(config, subject, samples, captions)
    result = metric.measure(config, subject) | {"nearest": distances}
    pairs = torch.stack([samples, nearest.images.cpu().view_as(samples)], 1).flatten(0, 1)  # a row, then its nearest
    far = nearest.distance.view(samples.shape[:2])
    titles = [title for caption, row in zip(captions, far.tolist(), strict=True) for title in
              (caption, f"the nearest training images, at distances from {min(row):.2f} to {max(row):.2f}")]
    with atomic.atomic_write(Path("nearest") / f"{run}.png") as partial:
        figures.grid(partial, pairs.numpy(), titles)
    stage.write_result(run, "diversity", result)


if __name__ == "__main__":
    stage.main("diversity", diversity)
