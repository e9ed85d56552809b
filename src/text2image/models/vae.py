"""Variational autoencoders of images given a caption, which the paper compares with: one latent vector z, and no glimpses.

    L = E_Q[log p(x | y, z)] - KL(Q(z | x, y) || N(0, I))

Posterior Q and likelihood p(x | y, z) are both conditioned on one fixed vector of the caption, as skipthoughtDRAW is. A kind
says what its layers are: text2image.models.fc_vae and text2image.models.conv_vae.

Letter code: B batch, S numbers of a caption's vector, C channels, H W image, D latent, F units before the posterior.
"""

import math
from abc import abstractmethod
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from text2image.config import MAX_SIDE, frozen, parameter
from text2image.models.base import Bound, Encoding, Glimpse, OnStep
from text2image.models.gaussian import divergence, mean_and_log_sigma
from text2image.models.sentence_encoders import ReadsSentence, SentenceEncoderConfig

MOST_LAYERS = 16


@frozen
class BernoulliConfig:
    """Cross entropy, as every DRAW here has it: bounds of both can be compared."""

    kind: Literal["bernoulli"]

    def cost(self, canvas: Float[Tensor, "B C H W"], images: Float[Tensor, "B C H W"]) -> Float[Tensor, " B"]:
        """-log p(x | y, z) with the mean sigma(canvas), in nats."""
        return F.binary_cross_entropy_with_logits(canvas, images, reduction="none").flatten(1).sum(1)


@frozen
class GaussianConfig:
    """Least squares, as the paper's two autoencoders have it: a Gaussian of one fixed sigma, so that the bound is one.

    Its bound is on a density of pixels in [0, 1]. It can be above 0, and is not comparable with that of `bernoulli`.
    """

    kind: Literal["gaussian"]
    sigma: float = parameter(ge=1e-4, le=100)         # of a pixel in [0, 1]

    def cost(self, canvas: Float[Tensor, "B C H W"], images: Float[Tensor, "B C H W"]) -> Float[Tensor, " B"]:
        """-log p(x | y, z) with the mean sigma(canvas), constants included, in nats."""
        squares = (images - canvas.sigmoid()).square().flatten(1).sum(1) / (2 * self.sigma**2)
        return squares + images[0].numel() * (math.log(self.sigma) + 0.5 * math.log(2 * math.pi))


LikelihoodConfig = BernoulliConfig | GaussianConfig


@frozen
class VAEConfig:
    """What both kinds have."""

    channels: int = parameter(ge=1, le=64)
    height: int = parameter(ge=1, le=MAX_SIDE)
    width: int = parameter(ge=1, le=MAX_SIDE)
    latent: int = parameter(ge=1, le=10**5)           # D
    likelihood: LikelihoodConfig
    encoder: SentenceEncoderConfig


class ConditionalVAE(ReadsSentence):
    """What the layers do not change: the latent vector, the bound, drawing."""

    config: VAEConfig

    def __init__(self, config: VAEConfig, vocabulary_size: int):
        super().__init__(config, vocabulary_size)
        features = self.add_layers(self.add_sentence_encoder(config.encoder))
        self.posterior = nn.Linear(features, 2 * config.latent)
        self.reset()

    @abstractmethod
    def add_layers(self, sentence: int) -> int:
        """Make all layers but the posterior's, for captions of `sentence` numbers; returns F."""

    @abstractmethod
    def infer(self, images: Float[Tensor, "B C H W"], sentence: Float[Tensor, "B S"]) -> Float[Tensor, "B F"]:
        """What the posterior is a linear map of."""

    @abstractmethod
    def decode(self, z: Float[Tensor, "B D"], sentence: Float[Tensor, "B S"]) -> Float[Tensor, "B C H W"]:
        """The image's mean, before the sigmoid."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.config.channels, self.config.height, self.config.width

    def noise_shape(self, batch: int) -> tuple[int, int, int]:
        """(1, B, D)."""
        return 1, batch, self.config.latent

    @torch.no_grad()
    def reset(self, generator: torch.Generator | None = None) -> None:
        """Draw the weights anew: those of a layer from N(0, 1 / its inputs), before a rectifier twice that variance (He et
        al., 2015); zero the biases. What is not trained stays."""
        for name, layer in self.named_modules():
            if not isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                continue
            if layer.weight.is_meta or not layer.weight.requires_grad:
                continue
            variance = (1 if name in self.outputs else 2) / inputs_of(layer)
            layer.weight.normal_(0, math.sqrt(variance), generator=generator)
            if layer.bias is not None:
                layer.bias.zero_()

    @property
    @abstractmethod
    def outputs(self) -> tuple[str, ...]:
        """The names of the layers that no rectifier follows."""

    def score(self, images: Float[Tensor, "B C H W"], encoding: Encoding, noise: Float[Tensor, "1 B D"],
              on_step: OnStep | None = None) -> Bound:
        """As `ImageModel.score`."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and on_step is None):
            sentence = encoding.states[:, 0]
            with self._products(noise):
                posterior = self.posterior(self.infer(images, sentence))
            posterior = posterior.to(noise.dtype).unsqueeze(0)                  # (1, B, 2D)
            kl, log_weight = divergence(posterior, torch.zeros_like(posterior), noise)
            mean, log_sigma = mean_and_log_sigma(posterior)
            z = torch.addcmul(mean, log_sigma.exp(), noise)[0]                  # (B, D)
            cost = self.config.likelihood.cost(self._canvas(z, sentence, on_step), images)
            of_glimpses = None if torch.is_grad_enabled() else kl.unsqueeze(0)
            return Bound(cost, kl, log_weight - cost, of_glimpses)

    @torch.no_grad()
    def draw(self, encoding: Encoding, noise: Float[Tensor, "1 B D"],
             on_step: OnStep | None = None) -> Float[Tensor, "B C H W"]:
        """As `ImageModel.draw`: the mean of p(x | y, z); no pixel is sampled."""
        return self._canvas(noise[0], encoding.states[:, 0], on_step).sigmoid()

    def _canvas(self, z: Tensor, sentence: Tensor, on_step: OnStep | None) -> Tensor:
        with self._products(z):
            canvas = self.decode(z, sentence)
        canvas = canvas.to(z.dtype)
        if on_step is not None:
            on_step(0, Glimpse(canvas))
        return canvas

    def _products(self, like: Tensor) -> torch.autocast:
        """Large products in `precision`, where the run sets one."""
        return torch.autocast(like.device.type, self.precision, enabled=self.precision is not None)


def inputs_of(layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d) -> float:
    """How many numbers one output of a layer sums up; of a deconvolution on average over its outputs."""
    if isinstance(layer, nn.Linear):
        return float(layer.in_features)
    summed = layer.in_channels * math.prod(layer.kernel_size)
    return summed / (math.prod(layer.stride) if isinstance(layer, nn.ConvTranspose2d) else 1)


def rectified(layers: nn.ModuleList, values: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Values through layers, each followed by a rectifier."""
    for layer in layers:
        values = layer(values).relu()
    return values

