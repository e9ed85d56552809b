"""The glimpses of alignDRAW, equations 1 to 5 of the paper, forward and back by hand.

Autograd would record some two thousand operations a step, add up T small products for each weight's gradient, and
keep or copy most of what it meets. Here each part of a glimpse has its gradient written below it; what the parts
hear and what their gradients are lies in buffers (T, B, .), so that a weight's gradient is one product over all
glimpses and pictures. The numbers are autograd's up to the order of summation: tests hold them to the equations
written out plainly, and the released code's own answers.

Letter code as in text2image.model; U units of LSTM^gen, V of LSTM^infer. Pictures lie as (B, H, C, W): rows first,
so that one product reads or writes all channels.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from text2image import attention
from text2image.attention import Banks, Geometry, Lens, Reading


@dataclass(frozen=True)
class Sizes:
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
    def seen(self) -> int:
        return 2 * self.read_window**2 * self.channels

    @property
    def heads(self) -> tuple[int, ...]:
        """Outputs of what h_gen speaks to: write window, read window, patch, query of align, prior."""
        return 5, 5, self.write_window**2 * self.channels, self.align_units, 2 * self.latent


class Weights(NamedTuple):
    """Linear maps, weights (outputs, inputs) and biases (outputs,)."""

    heads: Tensor           # of h_gen: see Sizes.heads
    heads_bias: Tensor
    infer: Tensor           # of [seen, h_gen, h_infer]
    infer_bias: Tensor
    posterior: Tensor       # of h_infer
    posterior_bias: Tensor
    generate: Tensor        # of [z, sentence, h_gen]
    generate_bias: Tensor


class Caption(NamedTuple):
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


class Cell(NamedTuple):
    """What a step of an LSTM leaves for its gradient."""

    gates: Tensor   # squashed: i, f, g, o (B, 4U)
    before: Tensor  # the cell before, (B, U)
    tanh: Tensor    # of the cell after, (B, U)


def lstm(gates: Tensor, cell: Tensor, out: Tensor | None = None) -> tuple[Tensor, Tensor, Cell]:
    """h = o tanh(cell'), cell' = f cell + i g, from the gates (..., 4U) before their squashing; h into `out`."""
    squashed = gates.sigmoid()
    torch.tanh(gates.chunk(4, -1)[2], out=squashed.chunk(4, -1)[2])
    i, f, g, o = squashed.chunk(4, -1)
    after = torch.addcmul(f * cell, i, g)
    tanh = after.tanh()
    return torch.mul(o, tanh, out=out), after, Cell(squashed, cell, tanh)


def lstm_back(by_h: Tensor, by_after: Tensor, saved: Cell, out: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The gradients by the gates (..., 4U), into `out`, and by the cell before, from those by h and by the cell after."""
    squashed, before, tanh = saved
    i, f, g, o = squashed.chunk(4, -1)
    through_h = by_h * o
    total = torch.addcmul(by_after + through_h, through_h, tanh.square(), value=-1)
    by_gates = torch.addcmul(squashed, squashed, squashed, value=-1, out=out)  # of the sigmoid: right for i, f and o
    by_i, by_f, by_g, by_o = by_gates.chunk(4, -1)
    torch.addcmul(g.new_ones(()), g, g, value=-1, out=by_g)
    by_i.mul_(g).mul_(total)
    by_f.mul_(before).mul_(total)
    by_g.mul_(i).mul_(total)
    by_o.mul_(tanh).mul_(by_h)
    return by_gates, total * f


class Aligned(NamedTuple):
    """What align leaves for its gradient."""

    sigma: Tensor  # sigma(2 (U h_lang + W h_gen + b)), (B, L, A)
    alpha: Tensor  # (B, L)


class Seen(NamedTuple):
    """What read leaves for its gradient."""

    lens: Lens
    drawn_rows: Tensor  # sigma(c), (B, H, C, W)
    picture: Reading
    drawn: Reading
    vector: Tensor      # (B, 2*N*C*N)


class Written(NamedTuple):
    """What write leaves for its gradient."""

    lens: Lens
    patch: Tensor    # w / gamma, (B, N*C, N)
    columns: Tensor  # w F_x / gamma, (B, N, C*W)


class Left(NamedTuple):
    """What a glimpse leaves for its gradient."""

    banks: tuple[Banks, ...]  # of the windows that it read and that the glimpse before wrote through
    aligned: Aligned
    seen: Seen
    infer: Cell
    generate: Cell
    written: Written


class Glimpses:
    """T glimpses in sequence. `forward` runs once; with `keep` it leaves behind what `backward` takes.

    images (B, H, C, W), or None: then pictures come from the prior. mask (B, L), or None: what is added to the scores
    of the words, minus infinity for padding. noise (T, B, D). `first`: the first of these is the model's first.
    """

    def __init__(self, sizes: Sizes, weights: Weights, caption: Caption, images: Tensor | None, mask: Tensor | None,
                 noise: Tensor, first: bool, keep: bool):
        self.sizes, self.weights, self.caption, self.images, self.mask = sizes, weights, caption, images, mask
        self.noise, self.first, self.keep = noise, first, keep
        self.narrow = Weights(*(w.to(sizes.precision or noise.dtype) for w in weights))
        # tanh(a) = 2 sigma(2a) - 1, and a sigmoid costs a fifth of a tanh on a CPU; the constant falls out of the softmax.
        self.keys, self.v = 2 * caption.keys, 2 * caption.v
        # What the products hear: kept for the weights' gradients, else written over by the next glimpse.
        kept, size = (len(noise) if keep else 1), noise.shape[1]
        self.h = noise.new_empty(kept + keep, size, weights.heads.shape[1])
        self.infer_h = noise.new_empty(kept, size, weights.posterior.shape[1])
        self.inferred = noise.new_empty(kept, size, weights.infer.shape[1])
        self.generated = noise.new_empty(kept, size, weights.generate.shape[1])
        self.left: list[Left] = []
        self.last_banks: tuple[Banks, ...] = ()

    def forward(self, state: State, trace: list[tuple[Tensor, ...]] | None = None) -> tuple[State, Tensor, Tensor]:
        """The state after the last glimpse; posterior and prior of all z, mean and log sigma: (T, B, 2D) each.

        Without images the posterior is the prior. `trace` takes of each glimpse its canvas, its windows of write and of
        read, and alpha.
        """
        s, w = self.sizes, self.weights
        h, cell, canvas, infer_h, infer_cell = state
        canvas = canvas.contiguous().clone()
        priors = self.noise.new_empty(len(self.noise), len(h), 2 * s.latent)
        posteriors = priors if self.images is None else torch.empty_like(priors)
        self.h[0] = h
        write_window, read_window, _, query, prior = self._speak(h)
        banks, _, read_lens = self._look(write_window, read_window)
        for t, epsilon in enumerate(self.noise):
            at = t if self.keep else 0
            sentence, aligned = self._align(query)
            if t == 0 and self.first:
                priors[0] = 0                                                  # P(Z_1) = N(0, I)
            else:
                torch.tanh(prior, out=priors[t])
            seen, inferred = None, None
            if self.images is not None:
                seen = self._read(canvas, read_lens)
                x = torch.cat([seen.vector, h, infer_h], 1, out=self.inferred[at])
                gates = self._map(x, self.narrow.infer, w.infer_bias)
                infer_h, infer_cell, inferred = lstm(gates, infer_cell, out=self.infer_h[at])
                posteriors[t] = self._map(infer_h, self.narrow.posterior, w.posterior_bias)
                if s.log_variance:
                    posteriors[t, :, s.latent:] *= 0.5
            mean, log_sigma = posteriors[t].chunk(2, 1)                        # z_t ~ Q(Z_t), or P(Z_t): equation 1
            z = torch.addcmul(mean, log_sigma.exp(), epsilon)
            x = torch.cat([z, sentence, h], 1, out=self.generated[at])
            gates = self._map(x, self.narrow.generate, w.generate_bias)
            h, cell, generated = lstm(gates, cell, out=self.h[at + self.keep])  # equation 3
            read_before, before = read_window, banks
            write_window, read_window, patch, query, prior = self._speak(h)
            banks, write_lens, read_lens = self._look(write_window, read_window)
            written = self._write(canvas, patch, write_lens)                   # equation 4
            if self.keep:
                self.left.append(Left(before, aligned, seen, inferred, generated, written))
            if trace is not None:
                trace.append((canvas.clone(), write_window, read_before, aligned.alpha))
        self.last_banks = banks
        return State(h, cell, canvas, infer_h, infer_cell), posteriors, priors

    def backward(self, by_state: State, by_posteriors: Tensor, by_priors: Tensor, posteriors: Tensor,
                 priors: Tensor) -> tuple[State, Weights, Caption]:
        """The gradients by the first state, the weights and the caption, from those by what `forward` gave."""
        s, narrow = self.sizes, self.narrow
        by_h, by_cell, by_canvas, by_infer_h, by_infer_cell = by_state
        by_canvas = by_canvas.contiguous().clone()
        by_posteriors = by_posteriors.clone()
        sentences, units = self.caption.h_lang.shape[2], self.h.shape[2]
        by_heads = self.h.new_zeros(*self.h.shape[:2], sum(s.heads))
        by_windows, by_patches, by_query, by_prior = by_heads.split((10, *s.heads[2:]), 2)
        torch.addcmul(by_priors, by_priors, priors.square(), value=-1, out=by_prior[:-1])
        by_prior[0] *= not self.first
        by_infer = self.noise.new_empty(*self.noise.shape[:2], narrow.infer.shape[0])
        by_generate = self.noise.new_empty(*self.noise.shape[:2], narrow.generate.shape[0])
        by_sentences = self.noise.new_empty(*self.noise.shape[:2], sentences)
        by_keys, by_v = torch.zeros_like(self.keys), torch.zeros_like(self.v)
        by_read = None  # nothing reads the last canvas
        for t in reversed(range(len(self.noise))):
            _, aligned, seen, inferred, generated, written = self.left[t]
            after = self.left[t + 1].banks if t + 1 < len(self.left) else self.last_banks
            by_patches[t + 1], by_written = self._write_back(by_canvas, written)
            by_windows[t + 1] = self._look_back(after, by_written, by_read)
            by_h = by_h + self._map(by_heads[t + 1], narrow.heads.mT)
            gates, by_cell = lstm_back(by_h, by_cell, generated, out=by_generate[t])
            by_z, by_sentence, by_h = self._map(gates, narrow.generate.mT).split((s.latent, sentences, units), 1)
            by_mean, by_log_sigma = by_posteriors[t].chunk(2, 1)
            by_mean += by_z
            by_log_sigma.addcmul_(by_z, posteriors[t, :, s.latent:].exp().mul_(self.noise[t]))
            if s.log_variance:
                by_log_sigma *= 0.5
            by_infer_h = by_infer_h + self._map(by_posteriors[t], narrow.posterior.mT)
            gates, by_infer_cell = lstm_back(by_infer_h, by_infer_cell, inferred, out=by_infer[t])
            by_seen, by_heard, by_infer_h = self._map(gates, narrow.infer.mT).split((s.seen, units, by_infer_h.shape[1]), 1)
            by_h = by_h + by_heard
            by_read = self._read_back(by_seen, by_canvas, seen)
            by_sentences[t] = by_sentence
            by_query[t] = self._align_back(by_sentence, aligned, by_keys, by_v)
        by_windows[0] = self._look_back(self.left[0].banks, None, by_read)
        by_h = by_h + self._map(by_heads[0], narrow.heads.mT)
        alphas = torch.stack([left.aligned.alpha for left in self.left], 2)    # (B, L, T)
        by_h_lang = torch.bmm(alphas, by_sentences.transpose(0, 1))
        return (State(by_h, by_cell, by_canvas, by_infer_h.contiguous(), by_infer_cell),
                Weights(*self._gather(by_heads, self.h), *self._gather(by_infer, self.inferred),
                        *self._gather(by_posteriors, self.infer_h), *self._gather(by_generate, self.generated)),
                Caption(by_h_lang, by_keys * (2 * self.v), 2 * by_v))

    def _map(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """x W^T + b; the product in the precision of W, the rest in that of x."""
        if weight.dtype == x.dtype:
            return F.linear(x, weight, bias)
        y = F.linear(x.to(weight.dtype), weight).to(x.dtype)
        return y if bias is None else y.add_(bias)

    def _gather(self, by_y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients by the weight and the bias of y = x W^T + b, of all glimpses at once."""
        narrow = self.narrow.heads.dtype
        rows = by_y.flatten(0, 1)
        return (rows.to(narrow).mT @ x.flatten(0, 1).to(narrow)).to(x.dtype), rows.sum(0)

    def _speak(self, h: Tensor) -> tuple[Tensor, ...]:
        """All that is a linear map of h_gen: see Sizes.heads."""
        return self._map(h, self.narrow.heads, self.weights.heads_bias).split(self.sizes.heads, 1)

    def _look(self, write_window: Tensor, read_window: Tensor) -> tuple[tuple[Banks, ...], Lens, Lens | None]:
        """The filter banks of write and of the read after it: opened together where they are of one size."""
        s, size = self.sizes, len(write_window)
        if self.images is None:
            write = attention.look(write_window, s.height, s.width, s.write_window, s.geometry)
            return (write,), write.lens(0, size, s.height), None
        if s.read_window == s.write_window:
            both = attention.look(torch.cat([write_window, read_window]), s.height, s.width, s.read_window, s.geometry)
            return (both,), both.lens(0, size, s.height), both.lens(size, 2 * size, s.height)
        write, read = (attention.look(window, s.height, s.width, n, s.geometry)
                       for window, n in ((write_window, s.write_window), (read_window, s.read_window)))
        return (write, read), write.lens(0, size, s.height), read.lens(0, size, s.height)

    def _look_back(self, banks: tuple[Banks, ...], *by_lenses: tuple[Tensor, Tensor, Tensor] | None) -> Tensor:
        """The gradient by the windows of write and of read, (B, 10); each lens's by f_y, f_x and log gamma, or None."""
        s, size = self.sizes, self.noise.shape[1]
        by_bells, by_log_gamma = [], []
        for by_lens, n in zip(by_lenses, (s.write_window, s.read_window), strict=True):
            if by_lens is None:
                by_bells.append(self.noise.new_zeros(size, n, s.height + s.width))
                by_log_gamma.append(self.noise.new_zeros(size))
            else:
                by_bells.append(torch.cat(by_lens[:2], 2))
                by_log_gamma.append(by_lens[2])
        if len(banks) == 1:
            by_bells, by_log_gamma = [torch.cat(by_bells)], [torch.cat(by_log_gamma)]
        by_windows = torch.cat([attention.look_back(bank, *by, s.height, s.geometry)
                                for bank, *by in zip(banks, by_bells, by_log_gamma, strict=True)])
        return torch.cat(by_windows.chunk(2), 1)

    def _align(self, query: Tensor) -> tuple[Tensor, Aligned]:
        """Equation 2: alpha = softmax(v^T tanh(keys + query)), and the sum of h_lang that it weighs, (B, 2M)."""
        sigma = torch.add(self.keys, query.unsqueeze(1), alpha=2).sigmoid_()
        scores = sigma @ self.v                                                # (B, L)
        alpha = (scores if self.mask is None else scores + self.mask).softmax(1)
        return torch.bmm(alpha.unsqueeze(1), self.caption.h_lang).squeeze(1), Aligned(sigma, alpha)

    def _align_back(self, by_sentence: Tensor, aligned: Aligned, by_keys: Tensor, by_v: Tensor) -> Tensor:
        """The gradient by the query (B, A); adds to those by twice the keys, without v, and by twice v."""
        sigma, alpha = aligned
        by_alpha = torch.bmm(by_sentence.unsqueeze(1), self.caption.h_lang.mT).squeeze(1)
        by_scores = alpha * (by_alpha - (alpha * by_alpha).sum(1, keepdim=True))
        by_v.add_((by_scores.reshape(1, -1) @ sigma.flatten(0, 1)).squeeze(0))
        through = torch.ops.aten.sigmoid_backward(by_scores.unsqueeze(2).expand_as(sigma), sigma)
        by_keys.add_(through)
        return through.sum(1).mul_(2 * self.v)

    def _read(self, canvas: Tensor, lens: Lens) -> Seen:
        """[x, x - sigma(c)] seen through the lens; the second is a difference of two readings."""
        drawn_rows = canvas.sigmoid()
        picture, drawn = (attention.read(rows, lens) for rows in (self.images, drawn_rows))
        vector = torch.cat([picture.patch, picture.patch - drawn.patch], 1).mul_(lens.gamma)
        return Seen(lens, drawn_rows, picture, drawn, vector.flatten(1))

    def _read_back(self, by_vector: Tensor, by_canvas: Tensor, seen: Seen) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients by f_y, f_x and log gamma; adds to that by the canvas."""
        lens, drawn_rows, picture, drawn, vector = seen
        by_log_gamma = (by_vector * vector).sum(1)
        n = self.sizes.read_window
        by_picture, by_error = (by_vector.view(len(vector), 2 * n * self.sizes.channels, n) * lens.gamma).chunk(2, 1)
        f_y, f_x, _ = attention.read_back(by_picture + by_error, picture, self.images, lens)
        drawn_f_y, drawn_f_x, by_columns = attention.read_back(by_error, drawn, drawn_rows, lens)
        by_drawn = attention.by_rows(by_columns, lens).view_as(drawn_rows)
        by_canvas.sub_(torch.ops.aten.sigmoid_backward(by_drawn, drawn_rows))
        return f_y.sub_(drawn_f_y), f_x.sub_(drawn_f_x), by_log_gamma

    def _write(self, canvas: Tensor, patch: Tensor, lens: Lens) -> Written:
        """Adds the patch to the canvas, in place."""
        n = self.sizes.write_window
        patch = patch.reshape(len(patch), n * self.sizes.channels, n) / lens.gamma
        return Written(lens, patch, attention.write_(canvas, patch, lens))

    def _write_back(self, by_canvas: Tensor, written: Written) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """The gradients by the patch before gamma (B, N*C*N), and by f_y, f_x and log gamma."""
        lens, patch, columns = written
        by_f_y, by_f_x, by_patch = attention.write_back(by_canvas, patch, columns, lens)
        by_log_gamma = -(by_patch * patch).sum((1, 2))
        return by_patch.div_(lens.gamma).flatten(1), (by_f_y, by_f_x, by_log_gamma)


def run(sizes: Sizes, weights: Weights, caption: Caption, state: State, images: Tensor | None, mask: Tensor | None,
        noise: Tensor, recomputed: int = 0, trace: list[tuple[Tensor, ...]] | None = None) -> tuple[State, Tensor, Tensor]:
    """The state after T glimpses, posterior and prior of all z (T, B, 2D); with gradients where they are wanted.

    `recomputed`, where it is not 0: so many glimpses keep nothing but their first state, and are run again for their
    gradient. `trace`: see `Glimpses.forward`; with it there are no gradients.
    """
    if images is None or trace is not None or not torch.is_grad_enabled():
        with torch.no_grad():
            return Glimpses(sizes, weights, caption, images, mask, noise, first=True, keep=False).forward(state, trace)
    gaussians, length = [], recomputed or len(noise)
    for start in range(0, len(noise), length):
        settings = sizes, images, mask, noise[start:start + length], start == 0
        *after, posterior, prior = _Run.apply(settings, recomputed > 0, *state, *weights, *caption)
        state = State(*after)
        gaussians.append((posterior, prior))
    posteriors, priors = (torch.cat(parts) for parts in zip(*gaussians, strict=True))
    return state, posteriors, priors


class _Run(Function):
    """Glimpses for autograd. `again`: nothing within is kept, and the backward pass goes forward first."""

    @staticmethod
    def forward(ctx, settings, again, *tensors):
        glimpses, state = _Run.glimpses(settings, tensors, keep=not again)
        state, posteriors, priors = glimpses.forward(state)
        ctx.settings, ctx.glimpses = settings, None if again else glimpses
        ctx.save_for_backward(posteriors, priors, *(tensors if again else ()))
        return *state, posteriors, priors

    @staticmethod
    @once_differentiable
    def backward(ctx, *by):
        posteriors, priors, *tensors = ctx.saved_tensors
        glimpses, ctx.glimpses = ctx.glimpses, None  # what it keeps goes when this returns
        if glimpses is None:
            glimpses, state = _Run.glimpses(ctx.settings, tensors, keep=True)
            glimpses.forward(state)
        by_state, by_weights, by_caption = glimpses.backward(State(*by[:-2]), *by[-2:], posteriors, priors)
        return None, None, *by_state, *by_weights, *by_caption

    @staticmethod
    def glimpses(settings, tensors, keep: bool) -> tuple[Glimpses, State]:
        sizes, images, mask, noise, first = settings
        states, weights = len(State._fields), len(Weights._fields)
        state = State(*tensors[:states])
        return Glimpses(sizes, Weights(*tensors[states:states + weights]), Caption(*tensors[states + weights:]), images, mask,
                        noise, first, keep), state


class LSTMStep(Function):
    """`lstm` for autograd: gates (..., 4U) and cell (..., U) give h and the cell after."""

    @staticmethod
    def forward(ctx, gates, cell):
        h, after, saved = lstm(gates, cell)
        ctx.save_for_backward(*saved)
        return h, after

    @staticmethod
    @once_differentiable
    def backward(ctx, by_h, by_after):
        return lstm_back(by_h, by_after, Cell(*ctx.saved_tensors))
