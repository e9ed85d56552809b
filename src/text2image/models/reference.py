"""alignDRAW's equations, and those of the models without align, written out plainly, with gradients by autograd.

The readable twin of text2image.models.recurrence: tests hold each to the other, and benchmarks compare their speed. It takes
its weights and its switches from a model, computes with nothing else of the package, and hoists, fuses and gathers nothing.

Letter code: B batch, L words, T glimpses, C channels, H W image, N window, D latent, M units of each direction of the caption
encoder, U units of LSTM^gen, V of LSTM^infer, A of align.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from text2image.models.base import ImageModel


class Latent(NamedTuple):
    """One glimpse's z (B, D), drawn from the posterior where there is an image; means and log sigmas of both, (B, D) each."""

    z: Tensor
    mean: Tensor
    log_sigma: Tensor
    prior_mean: Tensor
    prior_log_sigma: Tensor


class ReferenceBound(NamedTuple):
    """As text2image.models.base.Bound; each (B,), in nats."""

    reconstruction: Float[Tensor, " B"]
    kl: Float[Tensor, " B"]
    latents: list[Latent]

    @property
    def negative_elbo(self) -> Float[Tensor, " B"]:
        """-L of the paper, with one draw of Z."""
        return self.reconstruction + self.kl

    @property
    def log_importance_weight(self) -> Float[Tensor, " B"]:
        """log p(x, Z | y) - log Q(Z | x, y)."""
        log_weight = -self.reconstruction
        for z, mean, log_sigma, prior_mean, prior_log_sigma in self.latents:
            log_ratio = log_normal(z, prior_mean, prior_log_sigma) - log_normal(z, mean, log_sigma)
            log_weight = log_weight + log_ratio.sum(dim=1)
        return log_weight


def log_normal(z: Float[Tensor, "B D"], mean: Float[Tensor, "B D"], log_sigma: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
    """log N(z; mean, sigma^2)."""
    return -0.5 * (math.log(2 * math.pi) + ((z - mean) / torch.exp(log_sigma)) ** 2) - log_sigma


def lstm(gates: Float[Tensor, "B four_U"], cell: Float[Tensor, "B U"]) -> tuple[Float[Tensor, "B U"], Float[Tensor, "B U"]]:
    """One step of an LSTM from its gates before sigmoid and tanh; h and the cell after."""
    i, f, g, o = gates.chunk(4, dim=1)
    cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(cell), cell


def encode(w: Mapping[str, Tensor], direction: str, words: Int[Tensor, "B L"]) -> list[Float[Tensor, "B M"]]:
    """The states of one direction after each word; section 3.1."""
    table, hidden, bias = (w[f"caption_encoder.{direction}.{part}"] for part in ("table", "weight_hidden", "bias"))
    h = w["caption_encoder.h0"].expand(len(words), -1)
    cell = torch.zeros_like(h)
    states = []
    for y in words.T:
        h, cell = lstm(F.embedding(y, table) + h @ hidden.T + bias, cell)
        states.append(h)
    return states


def caption_states(w: Mapping[str, Tensor], captions: Int[Tensor, "B L"], batch_reversed: bool) -> Float[Tensor, "B L two_M"]:
    """h^lang, both directions at each word; section 3.1."""
    forward_states = encode(w, "forward_lstm", captions)
    if batch_reversed:
        backward_states = encode(w, "backward_lstm", captions.flip(0))
    else:
        backward_states = encode(w, "backward_lstm", captions.flip(1))[::-1]
    return torch.stack([torch.cat(both, dim=1) for both in zip(forward_states, backward_states, strict=True)], dim=1)


def align(w: Mapping[str, Tensor], h_gen: Float[Tensor, "B U"], h_lang: Float[Tensor, "B L two_M"]) -> Float[Tensor, "B two_M"]:
    """Equation 2: s_t, the sum of h^lang weighted by alpha^t; section 3.2."""
    query = h_gen @ w["align.generate.weight"].T + w["align.generate.bias"]             # (B, A)
    scores = torch.tanh(h_lang @ w["align.language"].T + query[:, None]) @ w["align.v"]  # (B, L)
    alpha = torch.softmax(scores, dim=1)
    return (alpha[:, :, None] * h_lang).sum(dim=1)


def sentence_of(model: ImageModel, w: Mapping[str, Tensor], captions: Int[Tensor, "B L"],
                ) -> Callable[[Float[Tensor, "B U"]], Float[Tensor, "B S"]]:
    """What gives s_t (B, S) from h_gen (B, U): align over h^lang, or one vector of the caption at every glimpse."""
    batch_reversed = model.config.released("backward_words")
    if "align.v" in w:
        h_lang = caption_states(w, captions, batch_reversed)                            # (B, L, 2M)
        return lambda h_gen: align(w, h_gen, h_lang)
    if model.kind == "noalign":  # the forward state at the last word, the backward state at the first
        units = w["caption_encoder.h0"].shape[1]
        h_lang = caption_states(w, captions, batch_reversed)
        vector = torch.cat([h_lang[:, -1, :units], h_lang[:, -1 if batch_reversed else 0, units:]], dim=1)  # (B, 2M)
    elif "sentence_encoder.caption_encoder.h0" in w:  # the mean over the words of another model's h^lang
        frozen = {name.removeprefix("sentence_encoder."): value for name, value in w.items()}
        vector = caption_states(frozen, captions, batch_reversed=False).mean(dim=1)     # (B, 2M)
    else:
        vector = model.encode(captions).states[:, 0]                                    # (B, S)
    return lambda h_gen: vector


def filter_banks(config: Any, parameters: Float[Tensor, "B 5"], n: int,
                 ) -> tuple[Float[Tensor, "B N H"], Float[Tensor, "B N W"], Float[Tensor, " B"]]:
    """F_y, F_x and gamma; DRAW, equations 19 to 26, pixels and filters counted from 1."""
    height, width = config.height, config.width
    g_x = (width + 1) / 2 * (parameters[:, 0] + 1)
    g_y = (height + 1) / 2 * (parameters[:, 1] + 1)
    delta = (max(height, width) - 1) / max(n - 1, 1) * torch.exp(parameters[:, 2])
    variance = torch.exp(parameters[:, 3])
    gamma = torch.exp(parameters[:, 4])
    i = torch.arange(1, n + 1, dtype=parameters.dtype, device=parameters.device)
    centre = n // 2 + 1.5 if config.released("filter_grid") else n / 2 + 0.5            # of the filters' numbers
    offset = (i - centre) * delta[:, None]                                              # (B, N)
    first_pixel = 0 if config.released("window_centre") else 1
    epsilon = 1e-4 if config.released("filter_sum") else 1e-8

    def bank(g: Tensor, extent: int) -> Tensor:
        a = torch.arange(first_pixel, first_pixel + extent, dtype=parameters.dtype, device=parameters.device)
        f = torch.exp(-(a - (g[:, None] + offset)[:, :, None]) ** 2 / (2 * variance[:, None, None]))
        return f / (f.sum(dim=2, keepdim=True) + epsilon)

    return bank(g_y, height), bank(g_x, width), gamma


def read(model: ImageModel, w: Mapping[str, Tensor], images: Float[Tensor, "B C H W"], canvas: Float[Tensor, "B C H W"],
         h_gen: Float[Tensor, "B U"]) -> Float[Tensor, "B read_size"]:
    """r_t = read(x, x - sigma(c), h_gen); DRAW, equation 27."""
    f_y, f_x, gamma = filter_banks(model.config, h_gen @ w["read.weight"].T + w["read.bias"], model.config.read_window)
    error = images - torch.sigmoid(canvas)
    seen = [gamma[:, None] * (f_y[:, None] @ image @ f_x[:, None].mT).transpose(1, 2).flatten(1) for image in (images, error)]
    return torch.cat(seen, dim=1)


def write(model: ImageModel, w: Mapping[str, Tensor], h_gen: Float[Tensor, "B U"]) -> Float[Tensor, "B C H W"]:
    """What equation 4 adds to the canvas; DRAW, equation 29."""
    c, p = model.config, model.config.write_window
    f_y, f_x, gamma = filter_banks(c, h_gen @ w["write.weight"].T + w["write.bias"], p)
    patch = (h_gen @ w["patch.weight"].T + w["patch.bias"]).view(len(h_gen), p, c.channels, p).transpose(1, 2)
    return (f_y.mT[:, None] @ patch @ f_x[:, None]) / gamma[:, None, None, None]


def prior_of(w: Mapping[str, Tensor], h_gen: Float[Tensor, "B U"], first: bool,
             ) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D"]]:
    """Mean and log sigma of P(Z_t): N(0, I) at the first glimpse, then tanh of a linear map of h_gen."""
    parameters = h_gen @ w["prior.weight"].T
    if "prior.bias" in w:
        parameters = parameters + w["prior.bias"]
    mean, log_sigma = torch.tanh(parameters).chunk(2, dim=1)
    return (torch.zeros_like(mean), torch.zeros_like(log_sigma)) if first else (mean, log_sigma)


def run(model: ImageModel, images: Float[Tensor, "B C H W"] | None, captions: Int[Tensor, "B L"],
        noise: Float[Tensor, "T B D"]) -> tuple[Float[Tensor, "B C H W"], list[Latent]]:
    """The canvas c_T before the sigmoid, and every glimpse's latent; without images z comes from the prior."""
    w, batch = dict(model.named_parameters()), len(captions)
    sentence = sentence_of(model, w, captions)
    h_gen, h_infer = w["h0_generate"].expand(batch, -1), w["h0_infer"].expand(batch, -1)  # (B, U), (B, V)
    cell_gen, cell_infer = torch.zeros_like(h_gen), torch.zeros_like(h_infer)
    canvas = w["c0"].transpose(1, 2).expand(batch, -1, -1, -1)                          # (B, C, H, W)
    latents = []
    for t in range(len(noise)):
        s = sentence(h_gen)                                                             # (B, S), equation 2
        mean, log_sigma = prior_mean, prior_log_sigma = prior_of(w, h_gen, first=t == 0)
        if images is not None:
            r = read(model, w, images, canvas, h_gen)
            gates = torch.cat([r, h_gen], dim=1) @ w["infer.weight_input"].T + h_infer @ w["infer.weight_hidden"].T
            h_infer, cell_infer = lstm(gates + w["infer.bias"], cell_infer)
            mean, log_sigma = (h_infer @ w["posterior.weight"].T + w["posterior.bias"]).chunk(2, dim=1)
            if model.config.released("posterior_scale"):
                log_sigma = 0.5 * log_sigma
        z = mean + torch.exp(log_sigma) * noise[t]                                      # (B, D), equation 1
        latents.append(Latent(z, mean, log_sigma, prior_mean, prior_log_sigma))
        gates = torch.cat([z, s], dim=1) @ w["generate.weight_input"].T + h_gen @ w["generate.weight_hidden"].T
        h_gen, cell_gen = lstm(gates + w["generate.bias"], cell_gen)                    # equation 3
        canvas = canvas + write(model, w, h_gen)                                        # equation 4
    return canvas, latents


def elbo(model: ImageModel, images: Float[Tensor, "B C H W"], captions: Int[Tensor, "B L"],
         noise: Float[Tensor, "T B D"]) -> ReferenceBound:
    """As `ImageModel.elbo`, for captions without padding."""
    canvas, latents = run(model, images, captions, noise)
    kl = torch.zeros_like(canvas[:, 0, 0, 0])                                           # (B,)
    for _, mean, log_sigma, prior_mean, prior_log_sigma in latents:                     # KL(Q(Z_t) || P(Z_t))
        distance = torch.exp(2 * log_sigma) + (mean - prior_mean) ** 2
        kl = kl + (prior_log_sigma - log_sigma - 0.5 + distance / (2 * torch.exp(2 * prior_log_sigma))).sum(dim=1)
    reconstruction = F.binary_cross_entropy_with_logits(canvas, images, reduction="none").flatten(1).sum(dim=1)  # equation 5
    return ReferenceBound(reconstruction, kl, latents)


def generate(model: ImageModel, captions: Int[Tensor, "B L"], noise: Float[Tensor, "T B D"]) -> Float[Tensor, "B C H W"]:
    """As `ImageModel.generate`, for captions without padding: the mean sigma(c_T)."""
    with torch.no_grad():
        return torch.sigmoid(run(model, None, captions, noise)[0])
