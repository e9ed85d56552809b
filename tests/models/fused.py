"""Steps of small models with the small operations fused, beside steps as they are written.

    python -m tests.models.fused aot_eager         # PyTorch runs what its compiler read
    python -m tests.models.fused inductor          # it makes kernels of that
    python -m tests.models.fused inductor cuda     # on a GPU, where training also captures its steps

A process of its own: the checks of shapes that tests put around the model's functions are nothing that a compiler reads.
"""

import json
import sys
from dataclasses import replace

import torch
from torch import Tensor

from tests.small import CONFIG, TRAIN
from text2image import seeds
from text2image.models import fusing
from text2image.models.align_draw import AlignDRAW, AlignDRAWConfig
from text2image.training.distributed import DistributedContext
from text2image.training.step import make_step

SMALL = AlignDRAWConfig(channels=2, height=10, width=10, glimpses=3, language_units=4, align_units=5, infer_units=6,
                        generate_units=7, latent=3, read_window=3, write_window=3, init_std=0.1, canvas_init=-1.0, preset="paper")
CONFIGURATIONS = (SMALL, replace(SMALL, width=12, read_window=4))  # windows of one size, or of two
STEPS = 6


def step(config: AlignDRAWConfig, device: torch.device, captions: int = 4, words: int = 5) -> list[Tensor]:
    """Bound and gradients of a batch."""
    generator = seeds.torch_generator("step")
    model = AlignDRAW(config, 9).double()
    model.reset(seeds.torch_generator("weights"))
    images = torch.rand(captions, config.channels, config.height, config.width, generator=generator, dtype=torch.float64)
    caption = torch.randint(1, 9, (captions, words), generator=generator)
    noise = torch.randn(config.glimpses, captions, config.latent, generator=generator, dtype=torch.float64)
    bound = model.to(device).elbo(images.to(device), caption.to(device), noise.to(device))
    bound.negative_elbo.sum().backward()
    return [bound.negative_elbo.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]


def training(compiled: bool, device: torch.device) -> list[Tensor]:
    """The sums of training's first steps in float32: on a GPU eager as they are written, or captured and fused."""
    config = replace(CONFIG, device=device.type, capture="auto" if compiled else "off", compile="always" if compiled else "off")
    model = AlignDRAW(replace(SMALL, channels=1, height=18, width=18), 23)
    model.reset(seeds.torch_generator("weights"))
    train_step = make_step(model.to(device), config, DistributedContext(0, 1, device))
    batches, sums = TRAIN.shuffled(config.batch_size, STEPS * config.batch_size, "fused"), []
    for i in range(STEPS):
        batch = batches[i]
        noise = seeds.noise(model.noise_shape(len(batch.words)), "fused", i, device=device)
        batch = batch._replace(images=batch.images.to(device), words=batch.words.to(device))
        sums.append(train_step(batch, noise, 0.003))
    return sums


def largest_difference(ours: list[Tensor], others: list[Tensor]) -> float:
    """Of two lists of tensors, as a share of the largest number of each tensor."""
    return max(float((a - b).abs().max() / a.abs().max()) for a, b in zip(ours, others, strict=True))


def main() -> None:
    """Print the largest differences of a step, in float64, and of training, in float32; and how many functions were compiled."""
    backend, device = sys.argv[1], torch.device((*sys.argv, "cpu")[2])
    compilations: list[int] = []
    compile_it = torch.compile

    def whole(function, dynamic):
        compilations.append(1)
        return compile_it(function, backend=backend, fullgraph=True, dynamic=dynamic)

    torch.compile = whole
    found = []
    for config in CONFIGURATIONS:
        fusing.allow(False)
        written = step(config, device)
        fusing.allow(True)
        found.append(largest_difference(written, step(config, device)))
    trained = largest_difference(training(False, device), training(True, device))
    print(json.dumps({"differences": found, "training": trained, "functions": len(compilations)}))


if __name__ == "__main__":
    main()
