"""The glimpses of alignDRAW, equations 1 to 4 of the paper, with a backward pass by hand.

Autograd would record some two thousand operations a step, add up T small products for each weight's gradient, and
keep or copy most of what it meets. Here each part of a glimpse has its gradient written below it, in this file or in
text2image.models.attention, filter_banks and lstm; the inputs of the linear maps and the gradients of their outputs lie in
buffers (T, B, .), so that a weight's gradient is one product over all glimpses and images. The numbers are autograd's up to the
order of summation: tests hold them to text2image.models.reference and to the released code's own answers.

Letter code as in text2image.models.align_draw; U units of LSTM^gen, V of LSTM^infer, A of align, M of each direction of the
caption encoder. `rows` are images as (B, H, C, W): rows first, so that one product reads or writes all channels.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from text2image.models import filter_banks
from text2image.models.attention import (
    AlignCache,
    GradBank,
    ReadCache,
    WriteCache,
    align,
    align_backward,
    read,
    read_backward,
    write_,
    write_backward,
)
from text2image.models.base import Glimpse, OnStep
from text2image.models.filter_banks import FilterBank, FilterBankCache, Geometry
from text2image.models.gaussian import mean_and_log_sigma
from text2image.models.lstm import LSTMCache, lstm, lstm_backward


@dataclass(frozen=True)
class RecurrenceSizes:
    """What is known before any tensor is."""

    channels: int
    height: int
    width: int
    latent: int
    align_units: int
    read_window: int
    write_window: int
    geometry: Geometry
    log_variance: bool              # the posterior's linear map gives log sigma^2, not log sigma
    precision: torch.dtype | None   # of the large products; None: that of their inputs

    @property
    def read_size(self) -> int:
        """Values of r_t: of the image, and of its error."""
        return 2 * self.read_window**2 * self.channels

    @property
    def projection_sizes(self) -> tuple[int, ...]:
        """Outputs of the linear maps of h_gen: write window, read window, patch, query of align, prior."""
        return 5, 5, self.write_window**2 * self.channels, self.align_units, 2 * self.latent


class Weights(NamedTuple):
    """Linear maps, weights (outputs, inputs) and biases (outputs,)."""

    projection: Tensor       # of h_gen: see RecurrenceSizes.projection_sizes
    projection_bias: Tensor
    infer: Tensor            # of [r, h_gen, h_infer]
    infer_bias: Tensor
    posterior: Tensor        # of h_infer
    posterior_bias: Tensor
    generate: Tensor         # of [z, s, h_gen]
    generate_bias: Tensor


class Caption(NamedTuple):
    """The caption encoder's answer, as align takes it."""

    h_lang: Tensor  # (B, L, 2M)
    keys: Tensor    # (B, L, A): U h_lang
    v: Tensor       # (A,)


class State(NamedTuple):
    """What one glimpse hands to the next."""

    h: Tensor           # h_gen (B, U)
    cell: Tensor        # (B, U)
    canvas: Tensor      # (B, H, C, W), before the sigmoid
    infer_h: Tensor     # h_infer (B, V)
    infer_cell: Tensor  # (B, V)


class StepCache(NamedTuple):
    """What a glimpse keeps for its gradient."""

    banks: tuple[FilterBankCache, ...]  # of the windows that it read and that the glimpse before wrote through
    read_bank: FilterBank
    write_bank: FilterBank
    align: AlignCache
    read: ReadCache
    infer: LSTMCache
    generate: LSTMCache
    write: WriteCache


def linear(x: Float[Tensor, "B inputs"], weight: Float[Tensor, "outputs inputs"], bias: Float[Tensor, " outputs"] | None = None,
           ) -> Float[Tensor, "B outputs"]:
    """x W^T + b; the product in the precision of W, the rest in that of x."""
    if weight.dtype == x.dtype:
        return F.linear(x, weight, bias)
    y = F.linear(x.to(weight.dtype), weight).to(x.dtype)
    return y if bias is None else y.add_(bias)


def weight_grad(grad_y: Float[Tensor, "T B outputs"], x: Float[Tensor, "T B inputs"], precision: torch.dtype,
                ) -> tuple[Float[Tensor, "outputs inputs"], Float[Tensor, " outputs"]]:
    """The gradients of y = x W^T + b by W and b, over all glimpses at once; the product in `precision`."""
    flat = grad_y.flatten(0, 1)
    return (flat.to(precision).mT @ x.flatten(0, 1).to(precision)).to(x.dtype), flat.sum(0)


class Recurrence:
    """T glimpses in sequence. `forward` runs once; with `keep` it caches what `backward` takes.

    rows (B, H, C, W), or None: then z comes from the prior. mask (B, L), or None: what is added to the scores of the words,
    minus infinity for padding. noise (T, B, D). `first`: the first of these glimpses is the model's first.
    """

    def __init__(self, sizes: RecurrenceSizes, weights: Weights, caption: Caption, rows: Float[Tensor, "B H C W"] | None,
                 mask: Float[Tensor, "B L"] | None, noise: Float[Tensor, "T B D"], first: bool, keep: bool):
        self.sizes, self.weights, self.caption, self.rows, self.mask = sizes, weights, caption, rows, mask
        self.noise, self.first, self.keep = noise, first, keep
        self.cast_weights = Weights(*(w.to(sizes.precision or noise.dtype) for w in weights))
        self.keys, self.v = 2 * caption.keys, 2 * caption.v  # as align takes them
        # The products' inputs: kept for the weights' gradients, else overwritten by the next glimpse.
        kept, batch = (len(noise) if keep else 1), noise.shape[1]
        self.h = noise.new_empty(kept + keep, batch, weights.projection.shape[1])
        self.infer_h = noise.new_empty(kept, batch, weights.posterior.shape[1])
        self.infer_inputs = noise.new_empty(kept, batch, weights.infer.shape[1])
        self.generate_inputs = noise.new_empty(kept, batch, weights.generate.shape[1])
        self.places = {n: filter_banks.Places.of(sizes.height, sizes.width, n, sizes.geometry, noise)
                       for n in (sizes.read_window, sizes.write_window)}
        self.caches: list[StepCache] = []
        self.last_banks: tuple[FilterBankCache, ...] = ()

    def forward(self, state: State, on_step: OnStep | None = None,
                ) -> tuple[State, Float[Tensor, "T B two_D"], Float[Tensor, "T B two_D"]]:
        """The state after the last glimpse; posterior and prior of all z, mean and log sigma: (T, B, 2D) each.

        Without images the posterior is the prior.
        """
        s, w, cast = self.sizes, self.weights, self.cast_weights
        h, cell, canvas, infer_h, infer_cell = state
        canvas = canvas.contiguous().clone()
        priors = self.noise.new_empty(len(self.noise), len(h), 2 * s.latent)
        posteriors = priors if self.rows is None else torch.empty_like(priors)
        self.h[0] = h
        write_window, read_window, _, query, prior = self.project_hidden(h)
        banks, _, read_bank = self._filter_banks(write_window, read_window)
        for t, epsilon in enumerate(self.noise):
            at = t if self.keep else 0
            sentence, align_cache = align(query, self.keys, self.v, self.caption.h_lang, self.mask)  # equation 2
            if t == 0 and self.first:
                priors[0] = 0                                                   # P(Z_1) = N(0, I)
            else:
                torch.tanh(prior, out=priors[t])
            read_through, read_cache, infer_cache = read_bank, None, None
            if self.rows is not None and read_through is not None:
                read_cache = read(self.rows, canvas, read_through)
                x = torch.cat([read_cache.r, h, infer_h], 1, out=self.infer_inputs[at])
                gates = linear(x, cast.infer, w.infer_bias)
                infer_h, infer_cell, infer_cache = lstm(gates, infer_cell, out=self.infer_h[at])
                posteriors[t] = linear(infer_h, cast.posterior, w.posterior_bias)
                if s.log_variance:
                    posteriors[t, :, s.latent:] *= 0.5
            mean, log_sigma = mean_and_log_sigma(posteriors[t])                 # z_t ~ Q(Z_t), or P(Z_t): equation 1
            z = torch.addcmul(mean, log_sigma.exp(), epsilon)
            x = torch.cat([z, sentence, h], 1, out=self.generate_inputs[at])
            gates = linear(x, cast.generate, w.generate_bias)
            h, cell, generate_cache = lstm(gates, cell, out=self.h[at + self.keep])  # equation 3
            read_before, banks_before = read_window, banks
            write_window, read_window, patch, query, prior = self.project_hidden(h)
            banks, write_bank, read_bank = self._filter_banks(write_window, read_window)
            write_cache = write_(canvas, patch, write_bank)                     # equation 4
            if self.keep and read_through is not None and read_cache is not None and infer_cache is not None:
                self.caches.append(StepCache(banks_before, read_through, write_bank, align_cache, read_cache, infer_cache,
                                             generate_cache, write_cache))
            if on_step is not None:
                on_step(t, Glimpse(canvas.clone().transpose(1, 2), write_window, read_before, align_cache.alpha))
        self.last_banks = banks
        return State(h, cell, canvas, infer_h, infer_cell), posteriors, priors

    def backward(self, grad_state: State, grad_posteriors: Float[Tensor, "T B two_D"], grad_priors: Float[Tensor, "T B two_D"],
                 posteriors: Float[Tensor, "T B two_D"], priors: Float[Tensor, "T B two_D"]) -> tuple[State, Weights, Caption]:
        """The gradients by the first state, the weights and the caption, from those by what `forward` returned."""
        s, cast = self.sizes, self.cast_weights
        grad_h, grad_cell, grad_canvas, grad_infer_h, grad_infer_cell = grad_state
        grad_canvas = grad_canvas.contiguous().clone()
        grad_posteriors = grad_posteriors.clone()
        sentence, units = self.caption.h_lang.shape[2], self.h.shape[2]
        grad_projection = self.h.new_zeros(*self.h.shape[:2], sum(s.projection_sizes))
        grad_windows, grad_patches, grad_query, grad_prior = grad_projection.split((10, *s.projection_sizes[2:]), 2)
        torch.addcmul(grad_priors, grad_priors, priors.square(), value=-1, out=grad_prior[:-1])
        grad_prior[0] *= not self.first
        grad_infer = self.noise.new_empty(*self.noise.shape[:2], cast.infer.shape[0])
        grad_generate = self.noise.new_empty(*self.noise.shape[:2], cast.generate.shape[0])
        grad_sentences = self.noise.new_empty(*self.noise.shape[:2], sentence)
        grad_keys, grad_v = torch.zeros_like(self.keys), torch.zeros_like(self.v)
        one, grad_read = self.noise.new_ones(()), None  # nothing reads the last canvas
        assert self.rows is not None
        for t in reversed(range(len(self.noise))):
            cache = self.caches[t]
            banks = self.caches[t + 1].banks if t + 1 < len(self.caches) else self.last_banks
            grad_patches[t + 1], grad_write = write_backward(grad_canvas, cache.write, cache.write_bank)
            grad_windows[t + 1] = self._filter_banks_backward(banks, grad_write, grad_read)
            grad_h = grad_h + linear(grad_projection[t + 1], cast.projection.mT)
            grad_gates, grad_cell = lstm_backward(grad_h, grad_cell, cache.generate, grad_generate[t], one)
            grad_z, grad_sentence, grad_h = linear(grad_gates, cast.generate.mT).split((s.latent, sentence, units), 1)
            grad_mean, grad_log_sigma = mean_and_log_sigma(grad_posteriors[t])
            grad_mean += grad_z
            grad_log_sigma.addcmul_(grad_z, posteriors[t, :, s.latent:].exp().mul_(self.noise[t]))
            if s.log_variance:
                grad_log_sigma *= 0.5
            grad_infer_h = grad_infer_h + linear(grad_posteriors[t], cast.posterior.mT)
            grad_gates, grad_infer_cell = lstm_backward(grad_infer_h, grad_infer_cell, cache.infer, grad_infer[t], one)
            grad_r, grad_h_of_infer, grad_infer_h = linear(grad_gates, cast.infer.mT).split(
                (s.read_size, units, grad_infer_h.shape[1]), 1)
            grad_h = grad_h + grad_h_of_infer
            grad_read = read_backward(grad_r, grad_canvas, cache.read, self.rows, cache.read_bank)
            grad_sentences[t] = grad_sentence
            grad_query[t] = align_backward(grad_sentence, cache.align, self.v, self.caption.h_lang, grad_keys, grad_v)
        grad_windows[0] = self._filter_banks_backward(self.caches[0].banks, None, grad_read)
        grad_h = grad_h + linear(grad_projection[0], cast.projection.mT)
        alphas = torch.stack([cache.align.alpha for cache in self.caches], 2)   # (B, L, T)
        grad_h_lang = torch.bmm(alphas, grad_sentences.transpose(0, 1))
        grad_weights = [grad for grad_y, x in ((grad_projection, self.h), (grad_infer, self.infer_inputs),
                                               (grad_posteriors, self.infer_h), (grad_generate, self.generate_inputs))
                        for grad in weight_grad(grad_y, x, cast.projection.dtype)]
        return (State(grad_h, grad_cell, grad_canvas, grad_infer_h.contiguous(), grad_infer_cell), Weights(*grad_weights),
                Caption(grad_h_lang, grad_keys * (2 * self.v), 2 * grad_v))

    def project_hidden(self, h: Float[Tensor, "B U"]) -> tuple[Float[Tensor, "B _"], ...]:
        """All linear maps of h_gen in one product: see RecurrenceSizes.projection_sizes."""
        return linear(h, self.cast_weights.projection, self.weights.projection_bias).split(self.sizes.projection_sizes, 1)

    def _filter_banks(self, write_window: Float[Tensor, "B 5"], read_window: Float[Tensor, "B 5"],
                      ) -> tuple[tuple[FilterBankCache, ...], FilterBank, FilterBank | None]:
        """The filter banks of write and of the read after it: computed together where they are of one size."""
        s, batch = self.sizes, len(write_window)
        if self.rows is None:
            alone = filter_banks.filter_banks(write_window, s.height, s.width, s.write_window, s.geometry,
                                              self.places[s.write_window])
            return (alone,), alone.bank(0, batch, s.height), None
        if s.read_window == s.write_window:
            windows = torch.cat([write_window, read_window])
            both = filter_banks.filter_banks(windows, s.height, s.width, s.read_window, s.geometry,
                                             self.places[s.read_window])
            return (both,), both.bank(0, batch, s.height), both.bank(batch, 2 * batch, s.height)
        apart = tuple(filter_banks.filter_banks(window, s.height, s.width, n, s.geometry, self.places[n])
                      for window, n in ((write_window, s.write_window), (read_window, s.read_window)))
        return apart, apart[0].bank(0, batch, s.height), apart[1].bank(0, batch, s.height)

    def _filter_banks_backward(self, banks: tuple[FilterBankCache, ...], *grad_banks: GradBank | None) -> Float[Tensor, "B 10"]:
        """The gradient by the windows of write and of read, from those of the write's and the read's bank, or None."""
        s, batch = self.sizes, self.noise.shape[1]
        grad_filters, grad_log_gamma = [], []
        for grad_bank, n in zip(grad_banks, (s.write_window, s.read_window), strict=True):
            if grad_bank is None:
                grad_filters.append(self.noise.new_zeros(batch, n, s.height + s.width))
                grad_log_gamma.append(self.noise.new_zeros(batch))
            else:
                grad_filters.append(torch.cat(grad_bank[:2], 2))
                grad_log_gamma.append(grad_bank[2])
        if len(banks) == 1:
            grad_filters, grad_log_gamma = [torch.cat(grad_filters)], [torch.cat(grad_log_gamma)]
        grad_windows = [filter_banks.filter_banks_backward(bank, of_filters, of_log_gamma, s.height)
                        for bank, of_filters, of_log_gamma in zip(banks, grad_filters, grad_log_gamma, strict=True)]
        return torch.cat(grad_windows[0].chunk(2) if len(banks) == 1 else grad_windows, 1)


def run(sizes: RecurrenceSizes, weights: Weights, caption: Caption, state: State, rows: Float[Tensor, "B H C W"] | None,
        mask: Float[Tensor, "B L"] | None, noise: Float[Tensor, "T B D"], checkpoint_every: int = 0,
        on_step: OnStep | None = None) -> tuple[State, Float[Tensor, "T B two_D"], Float[Tensor, "T B two_D"]]:
    """The state after T glimpses, posterior and prior of all z (T, B, 2D); with gradients where they are wanted.

    checkpoint_every: where it is not 0, so many glimpses keep nothing but their first state, and are run again for their
    gradient (gradient checkpointing). With `on_step` there are no gradients.
    """
    if rows is None or on_step is not None or not torch.is_grad_enabled():
        with torch.no_grad():
            return Recurrence(sizes, weights, caption, rows, mask, noise, first=True, keep=False).forward(state, on_step)
    gaussians, length = [], checkpoint_every or len(noise)
    for start in range(0, len(noise), length):
        settings = sizes, rows, mask, noise[start:start + length], start == 0
        *after, posterior, prior = RecurrenceFunction.apply(settings, checkpoint_every > 0, *state, *weights, *caption)
        state = State(*after)
        gaussians.append((posterior, prior))
    posteriors, priors = (torch.cat(parts) for parts in zip(*gaussians, strict=True))
    return state, posteriors, priors


class RecurrenceFunction(Function):
    """Glimpses for autograd. `checkpointed`: nothing within is kept, and the backward pass goes forward first."""

    @staticmethod
    def forward(ctx, settings, checkpointed, *tensors):
        """State, posteriors and priors after the glimpses; `settings` and `tensors` are what `build` takes."""
        recurrence, state = RecurrenceFunction.build(settings, tensors, keep=not checkpointed)
        state, posteriors, priors = recurrence.forward(state)
        ctx.settings, ctx.recurrence = settings, None if checkpointed else recurrence
        ctx.save_for_backward(posteriors, priors, *(tensors if checkpointed else ()))
        return *state, posteriors, priors

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads):
        """The gradients by `tensors`; none by the settings."""
        posteriors, priors, *tensors = ctx.saved_tensors
        recurrence, ctx.recurrence = ctx.recurrence, None  # what it keeps goes when this returns
        if recurrence is None:
            recurrence, state = RecurrenceFunction.build(ctx.settings, tensors, keep=True)
            recurrence.forward(state)
        grad_state, grad_weights, grad_caption = recurrence.backward(State(*grads[:-2]), *grads[-2:], posteriors, priors)
        return None, None, *grad_state, *grad_weights, *grad_caption

    @staticmethod
    def build(settings, tensors, keep: bool) -> tuple[Recurrence, State]:
        """The recurrence and its first state, from what `run` hands over."""
        sizes, rows, mask, noise, first = settings
        states, weights = len(State._fields), len(Weights._fields)
        state = State(*tensors[:states])
        return Recurrence(sizes, Weights(*tensors[states:states + weights]), Caption(*tensors[states + weights:]), rows, mask,
                          noise, first, keep), state
