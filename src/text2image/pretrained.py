"""A trained model to use from Python: captions in, images out. `text2image.load` gives one."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from text2image import devices, seeds
from text2image.data.vocabulary import pad
from text2image.devices import Device
from text2image.errors import UserError
from text2image.models import checkpoints
from text2image.models.base import Bound
from text2image.results import sampling

WEIGHTS = "model.safetensors"


class PretrainedModel:
    """A checkpoint on a device. `checkpoint` has the model itself, its vocabulary, and its grammar where it has one."""

    def __init__(self, checkpoint: checkpoints.Checkpoint, device: torch.device):
        self.checkpoint, self.device = checkpoint, device
        self.model = checkpoint.model.to(device)

    def generate(self, captions: str | Sequence[str], images: int = 1, seed: int = 0) -> Tensor:
        """Draw `images` images of each caption: (captions, images, C, H, W) float32 in [0, 1], on the CPU.

        Image n of a caption comes from seed + n. A word that the vocabulary does not have is read as UNK, with a warning, or
        raises UserError where the vocabulary has no UNK.
        """
        ids = [self.checkpoint.vocabulary.encode(caption) for caption in _listed(captions)]
        return torch.from_numpy(sampling.draw(self.model, ids, images, seed, self.device).images)

    @torch.no_grad()
    def elbo(self, images: Tensor, captions: str | Sequence[str], seed: int = 0) -> Bound:
        """Score images (N, C, H, W) in [0, 1], each with its own caption: the ELBO and its parts, (N,) each, in nats, on
        the CPU. Image n is scored with one draw of its latents, which `seed` and n decide.

        Raises UserError where images are not of the model's shape, or not as many as captions.
        """
        listed = _listed(captions)
        if len(listed) != len(images):
            raise UserError(f"{len(images)} images and {len(listed)} captions: give each image its own caption")
        ids, lengths = (torch.from_numpy(part).to(self.device).long()
                        for part in pad([self.checkpoint.vocabulary.encode(caption) for caption in listed]))
        steps, _, *latent = self.model.noise_shape(1)
        noise = torch.stack([seeds.noise((steps, *latent), seed, "elbo", n, device="cpu") for n in range(len(listed))], 1)
        noise = noise.to(self.device)                                          # (T, N, D)
        images = images.to(self.device)
        if self.model.supports_padding:
            bound = self.model.elbo(images, ids, noise, lengths)
        else:  # one caption at a time
            parts = [self.model.elbo(images[n:n + 1], ids[n:n + 1, :length], noise[:, n:n + 1])
                     for n, length in enumerate(lengths.tolist())]
            bound = Bound.joined(parts)
        return bound.cpu()


def _listed(captions: str | Sequence[str]) -> list[str]:
    listed = [captions] if isinstance(captions, str) else list(captions)
    if not listed:
        raise UserError("there is no caption: give at least one")
    return listed


def load(path: str | Path, device: Device = "auto") -> PretrainedModel:
    """Read a trained model: a folder with model.safetensors (`pretrained/mnist`, `models/digits`), or the file itself.

    Raises UserError when it is missing, damaged, altered, or of a newer version.
    """
    found = Path(path)
    file = found / WEIGHTS if found.is_dir() or not found.suffix else found
    return PretrainedModel(checkpoints.load(file), devices.choose(device))
