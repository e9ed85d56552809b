"""Whether a GPU gives the bounds that the CPU gives: of the model that comes with a clone, on prepared MNIST, to 0.01 nats.

    python -m benchmarks.agreement data/prepared/mnist/test.h5
"""

import argparse
import sys
from pathlib import Path

import torch

from text2image import devices
from text2image.data import datasets
from text2image.models import checkpoints
from text2image.results import bounds

MODEL = Path(__file__).parent.parent / "pretrained/mnist/model.safetensors"
NATS = 0.01  # that they may differ by


def elbo(images: Path, captions: int, device: torch.device) -> float:
    """The ELBO of the first images, in nats."""
    model = checkpoints.load(MODEL).model.to(device)
    config = bounds.Config(captions=captions, iwae_captions=10, iwae_samples=5, batch_size=100, seed=0, device="auto")
    data = datasets.load(images, device)
    # What the ELBO is compared to matters nothing here.
    return bounds.of_split(model, data, torch.full(data.shape, 0.1, device=device), config, "test")["elbo"]["mean"]


def main() -> None:
    """Print the bounds of every device there is; exit with 1 where they differ."""
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("images", type=Path)
    cli.add_argument("--captions", type=int, default=1000)
    arguments = cli.parse_args()
    every = {devices.choose("cpu"), devices.choose("auto")}
    found = {device: elbo(arguments.images, arguments.captions, device) for device in every}
    print("\n".join(f"{device.type}: {bound:.4f} nats" for device, bound in found.items()))
    apart = max(found.values()) - min(found.values())
    if apart > NATS:
        sys.exit(f"the bounds differ by {apart:.4f} nats, more than {NATS}")


if __name__ == "__main__":
    main()
