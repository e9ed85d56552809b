"""The protocol of a model: what training, bounds, sampling, retrieval and the page know of it, and no class.

A model kind is one module of this room. It defines `Config`, a frozen dataclass, and `Model`, an `ImageModel` that is built as
`Model(config, vocabulary_size)`.

Letter code: B batch, L words, T glimpses (steps of latents), C channels, H W image, D latent.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from text2image.config import require_memory
from text2image.errors import UserError

FLOAT = 4  # bytes


class Bound(NamedTuple):
    """The parts of the ELBO, a lower bound on log p(x | y), with one draw of the latents Z: each (B,), in nats."""

    reconstruction: Float[Tensor, " B"]         # -log p(x | y, Z)
    kl: Float[Tensor, " B"]                     # sum over glimpses of KL(Q || P)
    log_importance_weight: Float[Tensor, " B"]  # log p(x, Z | y) - log Q(Z | x, y), for the IWAE bound
    kl_of_glimpses: Float[Tensor, "T B"] | None = None  # what `kl` sums up; None where gradients are recorded

    @property
    def negative_elbo(self) -> Float[Tensor, " B"]:
        """What training makes small."""
        return self.reconstruction + self.kl

    @property
    def elbo(self) -> Float[Tensor, " B"]:
        """L of the paper."""
        return -self.negative_elbo

    def cpu(self) -> "Bound":
        """The same numbers, on the CPU."""
        of_glimpses = None if self.kl_of_glimpses is None else self.kl_of_glimpses.cpu()
        return Bound(self.reconstruction.cpu(), self.kl.cpu(), self.log_importance_weight.cpu(), of_glimpses)

    @classmethod
    def joined(cls, parts: Sequence["Bound"]) -> "Bound":
        """Bounds of several batches as those of one; of every glimpse where all have that."""
        of_glimpses = [part.kl_of_glimpses for part in parts if part.kl_of_glimpses is not None]
        return cls(torch.cat([part.reconstruction for part in parts]), torch.cat([part.kl for part in parts]),
                   torch.cat([part.log_importance_weight for part in parts]),
                   torch.cat(of_glimpses, 1) if len(of_glimpses) == len(parts) else None)


class Glimpse(NamedTuple):
    """What a model did at one glimpse; None where its kind has no such thing."""

    canvas: Float[Tensor, "B C H W"]                 # before the sigmoid
    write_window: Float[Tensor, "B 5"] | None = None  # g_x, g_y, log delta, log sigma^2, log gamma
    read_window: Float[Tensor, "B 5"] | None = None   # likewise; when generating, where a read would look
    alpha: Float[Tensor, "B L"] | None = None         # attention over the words, sums to 1


OnStep = Callable[[int, Glimpse], None]


class Encoding(NamedTuple):
    """What a model reads of captions, S numbers a vector: one vector a word, or one a caption (L = 1; S = 0: nothing)."""

    states: Float[Tensor, "B L S"]
    mask: Float[Tensor, "B L"] | None = None  # minus infinity at padding, else 0; None: there is no padding

    def expand(self, images: int) -> "Encoding":
        """That of one caption, for so many images."""
        mask = None if self.mask is None else self.mask.expand(images, -1)
        return Encoding(self.states.expand(images, -1, -1), mask)


class ImageModel(nn.Module, ABC):
    """A model of images given captions: p(x | y) with latents Z. `vocabulary_size` counts word 0, the padding.

    Its constructor makes parameters and nothing else: a checkpoint builds it without memory first, to compare shapes.
    """

    precision: torch.dtype | None = None  # of the large products; None: that of the parameters
    checkpoint_every: int = 0             # gradient checkpointing: so many glimpses at a time are computed again; 0: none
    sparse_gradients: bool = False        # of word tables: of the rows that were looked up alone

    def __init__(self, config: Any, vocabulary_size: int):
        super().__init__()
        self.config = config
        self.vocabulary_size = vocabulary_size

    @property
    def kind(self) -> str:
        """The name of the module that defines the model."""
        return type(self).__module__.rpartition(".")[2]

    @property
    @abstractmethod
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""

    @property
    def supports_padding(self) -> bool:
        """Whether a batch may have captions of several lengths, padded with word 0."""
        return False

    @property
    def mixes_batch(self) -> bool:
        """Whether an image's result depends on the rest of its batch."""
        return False

    @abstractmethod
    def reset(self, generator: torch.Generator | None = None) -> None:
        """Draw the weights anew."""

    @abstractmethod
    def noise_shape(self, batch: int) -> tuple[int, int, int]:
        """(T, B, D): the shape of the N(0, I) noise that `elbo` and `generate` take."""

    @abstractmethod
    def encode(self, captions: Int[Tensor, "B L"], lengths: Int[Tensor, " B"] | None = None) -> Encoding:
        """What the model reads of captions, once for any number of images.

        lengths: words of each caption, where captions are padded; the bounds are those of the captions without padding.
        """

    @abstractmethod
    def score(self, images: Float[Tensor, "B C H W"], encoding: Encoding, noise: Float[Tensor, "T B D"],
              on_step: OnStep | None = None) -> Bound:
        """As `elbo`, of captions that are encoded."""

    @abstractmethod
    def draw(self, encoding: Encoding, noise: Float[Tensor, "T B D"],
             on_step: OnStep | None = None) -> Float[Tensor, "B C H W"]:
        """As `generate`, of captions that are encoded."""

    def elbo(self, images: Float[Tensor, "B C H W"], captions: Int[Tensor, "B L"], noise: Float[Tensor, "T B D"],
             lengths: Int[Tensor, " B"] | None = None, on_step: OnStep | None = None) -> Bound:
        """The ELBO's parts for images in [0, 1], with gradients unless `on_step` is given; lengths as for `encode`.

        on_step(t, glimpse) is called after each glimpse t = 0, 1, ...
        """
        self.check_shapes(images, captions, noise)
        with torch.set_grad_enabled(torch.is_grad_enabled() and on_step is None):
            return self.score(images, self.encode(captions, lengths), noise, on_step)

    @torch.no_grad()
    def generate(self, captions: Int[Tensor, "B L"], noise: Float[Tensor, "T B D"], lengths: Int[Tensor, " B"] | None = None,
                 on_step: OnStep | None = None) -> Float[Tensor, "B C H W"]:
        """Images in [0, 1] with latents from the prior, without gradients; arguments as for `elbo`."""
        self.check_shapes(None, captions, noise)
        return self.draw(self.encode(captions, lengths), noise, on_step)

    def load_frozen(self, folder: Path) -> None:
        """Read what the model takes from its prepared data and does not train; most kinds take nothing."""

    def write_box(self, windows: Float[Tensor, "*batch 5"]) -> Float[Tensor, "*batch 4"]:
        """Left, top, right, bottom in pixels of the outermost filters of `Glimpse.write_window`."""
        raise NotImplementedError(f"a model of kind {self.kind} has no write windows")

    def forward(self, *arguments: Any, **named: Any) -> Bound:
        """As `elbo`: what DistributedDataParallel calls."""
        return self.elbo(*arguments, **named)

    def check_shapes(self, images: Float[Tensor, "B _ _ _"] | None, captions: Int[Tensor, "B L"],
                     noise: Float[Tensor, "T _ _"]) -> None:
        """Raise UserError unless the images are of the model's shape, ValueError unless the noise is."""
        if images is not None and tuple(images.shape[1:]) != self.image_shape:
            raise UserError(f"the model draws images of (C, H, W) = {self.image_shape}, "
                            f"the data holds {tuple(images.shape[1:])}: set channels, height and width alike")
        wanted = self.noise_shape(len(captions))[1:]
        if tuple(noise.shape[1:]) != wanted:
            raise ValueError(f"noise must be (T, {wanted[0]}, {wanted[1]}), not {tuple(noise.shape)}")


def count_parameters(model: nn.Module) -> int:
    """How many numbers a model learns."""
    return sum(value.numel() for value in model.parameters() if value.requires_grad)


def require_memory_to_train(model: type[ImageModel], config: Any, vocabulary_size: int, batch_size: int, run: str) -> None:
    """Raise UserError where the parameters of a run ask for more than the machine's memory, before any of it is taken: for its
    weights, their gradients and the best so far, or for the noise and images of a batch."""
    with torch.device("meta"):  # takes no memory
        built = model(config, vocabulary_size)
    weights = 3 * count_parameters(built)
    require_memory(FLOAT * weights, f"the {count_parameters(built):,} weights that 'runs.{run}.model' asks for")
    numbers = math.prod(built.noise_shape(batch_size)) + batch_size * math.prod(built.image_shape)
    require_memory(FLOAT * (weights + numbers), f"the noise and images of a batch, by 'runs.{run}.train.batch_size',")
