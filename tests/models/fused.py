"""Steps of small models with the small operations fused, beside steps as they are written: `python -m tests.models.fused BACKEND`.

A process of its own: the checks of shapes that tests put around the model's functions are nothing that a compiler reads.
"""

import json
import sys
from dataclasses import replace

import torch
from torch import Tensor

from text2image import seeds
from text2image.models import fusing
from text2image.models.align_draw import AlignDRAW, AlignDRAWConfig

SMALL = AlignDRAWConfig(channels=2, height=10, width=10, glimpses=3, language_units=4, align_units=5, infer_units=6,
                        generate_units=7, latent=3, read_window=3, write_window=3, init_std=0.1, canvas_init=-1.0, preset="paper")
CONFIGURATIONS = (SMALL, replace(SMALL, width=12, read_window=4))  # windows of one size, or of two


def step(config: AlignDRAWConfig, captions: int = 4, words: int = 5) -> list[Tensor]:
    """Bound and gradients of a batch."""
    generator = seeds.torch_generator("step")
    model = AlignDRAW(config, 9).double()
    model.reset(seeds.torch_generator("weights"))
    images = torch.rand(captions, config.channels, config.height, config.width, generator=generator, dtype=torch.float64)
    caption = torch.randint(1, 9, (captions, words), generator=generator)
    noise = torch.randn(config.glimpses, captions, config.latent, generator=generator, dtype=torch.float64)
    bound = model.elbo(images, caption, noise)
    bound.negative_elbo.sum().backward()
    return [bound.negative_elbo.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]


def main() -> None:
    """Print the largest difference of each step, as shares of the largest number there, and how much was compiled."""
    compilations: list[int] = []
    compile_it = torch.compile

    def whole(function, dynamic):
        compilations.append(1)
        return compile_it(function, backend=sys.argv[1], fullgraph=True, dynamic=dynamic)

    torch.compile = whole
    found = []
    for config in CONFIGURATIONS:
        fusing.allow(False)
        written = step(config)
        fusing.allow(True)
        found.append(max(float((a - b).abs().max() / a.abs().max()) for a, b in zip(written, step(config), strict=True)))
    print(json.dumps({"differences": found, "functions": len(compilations)}))


if __name__ == "__main__":
    main()
