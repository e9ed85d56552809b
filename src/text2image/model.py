"""alignDRAW, from top to bottom in the order of the paper (section 3).

Letter code: B batch, L words, T glimpses, C channels, H W image, N window, D latent, K vocabulary.

| here                | paper                      | released code (coco/alignDraw.py)     |
|---------------------|----------------------------|---------------------------------------|
| words               | y                          | y                                     |
| h_lang (B, L, 2M)   | h^lang                     | h_t_lang                              |
| sentence (B, 2M)    | s_t                        | s_t                                   |
| alpha (B, L)        | alpha^t                    | alpha                                 |
| h_infer             | h^infer_t                  | h_t_enc                               |
| h_gen               | h^gen_t                    | h_t_dec                               |
| z (B, D)            | z_t                        | z_t                                   |
| canvas (B, H, C, W) | c_t, before the sigmoid    | c_t                                   |
| seen                | r_t                        | r_t                                   |

Inside the recurrence pictures lie as (B, H, C, W): rows first, so that one product reads or writes all channels.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from text2image import attention
from text2image.attention import Lens
from text2image.config import parameter
from text2image.errors import UserError
from text2image.gathered import GatheredLinear, GatheredScores

Source = Literal["paper", "released"]
Switch = Literal["preset", "paper", "released"]


@dataclass(frozen=True)
class ModelConfig:
    """Sizes, initial values, and the switches between the paper and the released code (docs/fidelity.md).

    A switch says 'paper', 'released', or 'preset': whatever `preset` says.
    """

    channels: int = parameter(least=1)
    height: int = parameter(least=1)
    width: int = parameter(least=1)
    glimpses: int = parameter(least=1)           # T
    language_units: int = parameter(least=1)     # m / 2, of each direction
    align_units: int = parameter(least=1)        # l
    infer_units: int = parameter(least=1)        # of LSTM^infer
    generate_units: int = parameter(least=1)     # of LSTM^gen
    latent: int = parameter(least=1)             # D
    read_window: int = parameter(least=1)        # N of read
    write_window: int = parameter(least=1)       # p of write
    init_std: float = parameter(above=0)         # of every weight; biases start at 0
    canvas_init: float = parameter()             # c_0 before the sigmoid
    preset: Source
    backward_words: Switch       # paper: the caption read from its end; released: the batch reversed, read forward
    filter_grid: Switch          # paper: filters evenly around the window's centre; released: shifted
    window_centre: Switch        # paper: 0 is the image's centre; released: one pixel off
    filter_sum: Switch           # paper: filters sum to 1; released: 1e-4 is added before dividing
    posterior_scale: Switch      # paper: the linear map gives log sigma; released: log sigma^2
    prior_bias: Switch           # paper: the prior's linear map has no bias; released: it has one

    def released(self, switch: str) -> bool:
        """Whether a switch stands at the released code's side."""
        value = getattr(self, switch)
        return (self.preset if value == "preset" else value) == "released"

    @property
    def geometry(self) -> attention.Geometry:
        return attention.Geometry(
            centred_grid=not self.released("filter_grid"),
            centred_origin=not self.released("window_centre"),
            epsilon=(attention.RELEASED if self.released("filter_sum") else attention.PAPER).epsilon)


SWITCHES = ("backward_words", "filter_grid", "window_centre", "filter_sum", "posterior_scale", "prior_bias")


class Bound(NamedTuple):
    """The parts of the bound L on log p(x | y) as costs in nats, one value an image (B,)."""

    reconstruction: Tensor  # -log p(x | y, Z)
    kl: Tensor              # sum over glimpses of KL(Q || P)
    log_weight: Tensor      # log p(x, Z | y) - log Q(Z | x, y) of the drawn Z, for the importance-weighted bound

    @property
    def cost(self) -> Tensor:
        """-L: what training makes small."""
        return self.reconstruction + self.kl


class Trace(NamedTuple):
    """What happened at each glimpse."""

    canvases: Tensor        # (T, B, C, H, W), before the sigmoid
    write_windows: Tensor   # (T, B, 5): g_x, g_y, log delta, log sigma^2, log gamma
    read_windows: Tensor    # (T, B, 5); zeros when generating
    alphas: Tensor          # (T, B, L)


class LSTM(nn.Module):
    """An LSTM's parameters: gates in the order i, f, g, o, one bias, no peepholes (as torch.nn.LSTM's order)."""

    def __init__(self, inputs: int, units: int):
        super().__init__()
        self.weight_input = nn.Parameter(torch.empty(4 * units, inputs))
        self.weight_hidden = nn.Parameter(torch.empty(4 * units, units))
        self.bias = nn.Parameter(torch.empty(4 * units))


def lstm_step(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """h and cell (..., U) from the gates' inputs (..., 4U) and the cell before."""
    return _LSTMStep.apply(gates, cell)


class _LSTMStep(Function):
    """h = o tanh(cell'), cell' = f cell + i g; the backward pass by hand takes half the passes of autograd's."""

    @staticmethod
    def forward(ctx, gates, cell):
        i, f, g, o = gates.chunk(4, -1)
        squashed = gates.sigmoid()
        torch.tanh(g, out=squashed.chunk(4, -1)[2])
        i, f, g, o = squashed.chunk(4, -1)
        new_cell = torch.addcmul(f * cell, i, g)
        tanh_cell = new_cell.tanh()
        ctx.save_for_backward(squashed, cell, tanh_cell)
        return o * tanh_cell, new_cell

    @staticmethod
    @once_differentiable
    def backward(ctx, h_gradient, cell_gradient):
        squashed, cell, tanh_cell = ctx.saved_tensors
        i, f, g, o = squashed.chunk(4, -1)
        through_h = h_gradient * o
        total = torch.addcmul(cell_gradient + through_h, through_h, tanh_cell.square(), value=-1)  # by cell'
        gradient = squashed * (1 - squashed)                                   # of sigmoid, right for i, f and o
        d_i, d_f, d_g, d_o = gradient.chunk(4, -1)
        torch.addcmul(torch.ones((), dtype=g.dtype, device=g.device), g, g, value=-1, out=d_g)
        d_i.mul_(g).mul_(total)
        d_f.mul_(cell).mul_(total)
        d_g.mul_(i).mul_(total)
        d_o.mul_(tanh_cell).mul_(h_gradient)
        return gradient, total * f


class CaptionEncoder(nn.Module):
    """Bidirectional LSTM over the words; section 3.1. The words' input weights are looked up, never multiplied."""

    def __init__(self, words: int, units: int, batch_reversed: bool):
        super().__init__()
        self.batch_reversed = batch_reversed
        self.forward_lstm = LSTM(words, units)
        self.backward_lstm = LSTM(words, units)
        self.h0 = nn.Parameter(torch.empty(1, units))  # of both directions

    def forward(self, words: Tensor) -> Tensor:                                # (B, L)
        # The released code reverses the batch where it means the words (coco/alignDraw.py:94).
        backward = words.flip(0) if self.batch_reversed else words.flip(1)
        directions = (self.forward_lstm, self.backward_lstm)
        gates = torch.stack([F.embedding(y, d.weight_input.mT) + d.bias
                             for y, d in zip((words, backward), directions, strict=True)])  # (2, B, L, 4M)
        recurrent = torch.stack([d.weight_hidden.mT for d in directions])      # (2, M, 4M)
        h = self.h0.expand(2, len(words), -1)                                  # (2, B, M)
        cell = torch.zeros_like(h)
        states = []
        for heard in gates.unbind(2):
            h, cell = lstm_step(torch.baddbmm(heard, h, recurrent), cell)
            states.append(h)
        onward, back = torch.stack(states, 2)                                  # 2 x (B, L, M)
        if not self.batch_reversed:
            back = back.flip(1)  # so that both halves of h_lang_i have read word i
        return torch.cat([onward, back], -1)                                   # (B, L, 2M)


class Align(nn.Module):
    """alpha_k = softmax_k(v^T tanh(U h_lang_k + W h_gen + b)), s = sum_k alpha_k h_lang_k; section 3.2."""

    def __init__(self, language: int, generate: int, units: int):
        super().__init__()
        self.language = nn.Parameter(torch.empty(units, language))             # U
        self.generate = nn.Linear(generate, units)                             # W and b
        self.v = nn.Parameter(torch.empty(units))


class AlignDRAW(nn.Module):
    """The model. `vocabulary_size` counts word 0, the padding."""

    def __init__(self, config: ModelConfig, vocabulary_size: int):
        super().__init__()
        c = self.config = config
        self.vocabulary_size = vocabulary_size
        self.precision: torch.dtype | None = None  # of the large products; None: that of the parameters
        language = 2 * c.language_units
        self.caption_encoder = CaptionEncoder(vocabulary_size, c.language_units, c.released("backward_words"))
        self.align = Align(language, c.generate_units, c.align_units)
        self.read = nn.Linear(c.generate_units, 5)
        self.infer = LSTM(2 * c.channels * c.read_window**2 + c.generate_units, c.infer_units)
        self.posterior = nn.Linear(c.infer_units, 2 * c.latent)
        self.prior = nn.Linear(c.generate_units, 2 * c.latent, bias=c.released("prior_bias"))
        self.generate = LSTM(c.latent + language, c.generate_units)
        self.write = nn.Linear(c.generate_units, 5)
        self.patch = nn.Linear(c.generate_units, c.write_window**2 * c.channels)
        self.h0_infer = nn.Parameter(torch.empty(1, c.infer_units))
        self.h0_generate = nn.Parameter(torch.empty(1, c.generate_units))
        self.c0 = nn.Parameter(torch.empty(1, c.height, c.channels, c.width))
        self.reset()

    @torch.no_grad()
    def reset(self, generator: torch.Generator | None = None) -> None:
        """Draw the weights anew from N(0, init_std); zero the biases and first states; c_0 = canvas_init."""
        for name, value in self.named_parameters():
            if name == "c0":
                value.fill_(self.config.canvas_init)
            elif name.endswith("bias") or "h0" in name:
                value.zero_()
            else:
                value.normal_(0, self.config.init_std, generator=generator)

    def bound(self, images: Tensor, words: Tensor, noise: Tensor) -> Bound:
        """images (B, C, H, W) in [0, 1], words (B, L), noise (T, B, D) from N(0, I): the bound's parts."""
        return self._run(words, noise, images)[0]

    def infer_trace(self, images: Tensor, words: Tensor, noise: Tensor) -> tuple[Bound, Trace]:
        """As `bound`, and what each glimpse did."""
        return self._run(words, noise, images, trace=True)

    def generate_trace(self, words: Tensor, noise: Tensor) -> Trace:
        """words (B, L), noise (T, B, D): pictures from the prior, with every glimpse."""
        return self._run(words, noise, None, trace=True)[1]

    def _run(self, words: Tensor, noise: Tensor, images: Tensor | None, trace: bool = False):
        c, size = self.config, len(words)
        self._check(words, noise, images)
        h_lang = self.caption_encoder(words)                                   # (B, L, 2M)
        glimpse = Glimpse(self, h_lang, images)
        state = State(h=self.h0_generate.expand(size, -1), cell=h_lang.new_zeros(size, c.generate_units),
                      canvas=self.c0.expand(size, -1, -1, -1),
                      infer_h=self.h0_infer.expand(size, -1), infer_cell=h_lang.new_zeros(size, c.infer_units))
        spoken = glimpse.speak(state.h)
        spoken["prior"] = h_lang.new_zeros(size, 2 * c.latent)                 # P(Z_1) = N(0, I)
        gaussians, steps = [], []
        for epsilon in noise:
            state, spoken, gaussian, step = glimpse(state, spoken, epsilon)
            gaussians.append(gaussian)
            if trace:
                steps.append(step)
        bound = None
        if images is not None:
            posterior, prior = (torch.stack(parts) for parts in zip(*gaussians, strict=True))  # (T, B, 2D)
            kl, log_ratio = divergence(posterior, prior, noise)
            cost = F.binary_cross_entropy_with_logits(state.canvas, glimpse.rows, reduction="none").flatten(1).sum(1)
            bound = Bound(cost, kl, log_ratio - cost)
        if not trace:
            return bound, None
        canvases, writes, reads, alphas = (torch.stack(parts) for parts in zip(*steps, strict=True))
        return bound, Trace(canvases.transpose(2, 3), writes, reads, alphas)

    def _check(self, words: Tensor, noise: Tensor, images: Tensor | None) -> None:
        c = self.config
        if images is not None and tuple(images.shape[1:]) != (c.channels, c.height, c.width):
            raise UserError(f"the model draws pictures of (C, H, W) = {(c.channels, c.height, c.width)}, "
                            f"the data holds {tuple(images.shape[1:])}: set channels, height and width alike")
        if tuple(noise.shape[1:]) != (len(words), c.latent):
            raise ValueError(f"noise must be (T, {len(words)}, {c.latent}), not {tuple(noise.shape)}")


class State(NamedTuple):
    """What one glimpse hands to the next."""

    h: Tensor           # h_gen (B, U)
    cell: Tensor        # (B, U)
    canvas: Tensor      # (B, H, C, W)
    infer_h: Tensor     # h_infer (B, V)
    infer_cell: Tensor  # (B, V)


class Glimpse:
    """One glimpse of the recurrence, equations 1 to 5 of the paper, with all that stays the same over the glimpses.

    Everything that h_gen speaks to (write and patch of this glimpse; align, read, prior and both LSTMs of the next)
    is a linear map of it: one product a glimpse, whose outputs `speak` names.
    """

    def __init__(self, model: AlignDRAW, h_lang: Tensor, images: Tensor | None):
        c = self.config = model.config
        self.h_lang = h_lang
        self.scores = GatheredScores(h_lang @ model.align.language.mT, model.align.v)  # of U h_lang, (B, L, A)
        self.rows = None if images is None else images.transpose(1, 2).contiguous()  # (B, H, C, W)
        self.released_scale = c.released("posterior_scale")

        def product(weight: Tensor, bias: Tensor | None = None) -> GatheredLinear:
            return GatheredLinear(weight, bias, model.precision)

        no_bias = h_lang.new_zeros(2 * c.latent)
        heads = {"write": (model.write.weight, model.write.bias),
                 "patch": (model.patch.weight, model.patch.bias),
                 "align": (model.align.generate.weight, model.align.generate.bias),
                 "prior": (model.prior.weight, no_bias if model.prior.bias is None else model.prior.bias),
                 "generate": (model.generate.weight_hidden, model.generate.bias)}
        if images is not None:
            seen, heard = model.infer.weight_input.split((2 * c.channels * c.read_window**2, c.generate_units), 1)
            heads |= {"read": (model.read.weight, model.read.bias), "infer": (heard, model.infer.bias)}
            self.infer = product(torch.cat([seen, model.infer.weight_hidden], 1))
            self.posterior = product(model.posterior.weight, model.posterior.bias)
        self.generate = product(model.generate.weight_input)
        self.names = tuple(heads)
        self.sizes = [len(weight) for weight, _ in heads.values()]
        weights, biases = zip(*heads.values(), strict=True)
        self.heads = product(torch.cat(weights), torch.cat(biases))

    def speak(self, h: Tensor) -> dict[str, Any]:
        """All linear maps of h_gen (B, U), by the name of what hears them, and the windows that two of them open."""
        spoken: dict[str, Any] = dict(zip(self.names, self.heads(h).split(self.sizes, 1), strict=True))
        spoken["write_lens"], spoken["read_lens"] = self._lenses(spoken["write"], spoken.get("read"))
        return spoken

    def _lenses(self, write: Tensor, read: Tensor | None) -> tuple[Lens, Lens | None]:
        c = self.config
        look = partial(attention.look, height=c.height, width=c.width, geometry=c.geometry)
        if read is None:
            return look(write, size=c.write_window), None
        if c.read_window != c.write_window:
            return look(write, size=c.write_window), look(read, size=c.read_window)
        both = look(torch.stack([write, read]).flatten(0, 1), size=c.read_window)
        return Lens(*(part[:len(write)] for part in both)), Lens(*(part[len(write):] for part in both))

    def __call__(self, state: State, spoken: dict[str, Any], epsilon: Tensor):
        """state and spoken of the glimpse before, noise (B, D).

        Gives the new ones; posterior and prior of z_t, (B, 2D) each, see `gaussian`; and what was done, for `Trace`.
        """
        sentence, alpha = self._align(spoken["align"])
        infer_h, infer_cell, posterior = state.infer_h, state.infer_cell, None
        prior = gaussian(spoken["prior"].tanh())
        if self.rows is None:
            mean, log_sigma = prior                                            # z_t ~ P(Z_t), equation 1
        else:
            seen = self._read(spoken["read_lens"], state.canvas)
            infer_h, infer_cell = lstm_step(self.infer(torch.cat([seen, infer_h], 1)) + spoken["infer"], infer_cell)
            posterior = self.posterior(infer_h)
            mean, log_sigma = gaussian(posterior)                              # z_t ~ Q(Z_t)
            if self.released_scale:
                log_sigma = 0.5 * log_sigma
                posterior = torch.cat([mean, log_sigma], 1)
        z = torch.addcmul(mean, log_sigma.exp(), epsilon)
        gates = self.generate(torch.cat([z, sentence], 1)) + spoken["generate"]
        h, cell = lstm_step(gates, state.cell)                                 # equation 3
        after = self.speak(h)
        canvas = state.canvas + self._write(after["write_lens"], after["patch"])  # equation 4
        read = spoken["read"] if "read" in spoken else torch.zeros_like(after["write"])
        done = (canvas, after["write"], read, alpha)
        return State(h, cell, canvas, infer_h, infer_cell), after, (posterior, torch.cat(prior, 1)), done

    def _align(self, query: Tensor) -> tuple[Tensor, Tensor]:
        alpha = self.scores(query).softmax(1)                                  # (B, L)
        return torch.bmm(alpha.unsqueeze(1), self.h_lang).squeeze(1), alpha    # equation 2

    def _read(self, lens: Lens, canvas: Tensor) -> Tensor:
        """[x, x - sigma(c)] seen through the lens, (B, 2*N*C*N); the second is a difference of two readings."""
        picture = attention.read(self.rows, lens).flatten(1)
        drawn = attention.read(canvas.sigmoid(), lens).flatten(1)
        return lens.gamma * torch.cat([picture, picture - drawn], 1)

    def _write(self, lens: Lens, patch: Tensor) -> Tensor:
        n = self.config.write_window
        return attention.write((patch / lens.gamma).view(-1, n, self.config.channels, n), lens)


def gaussian(parameters: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log sigma, (..., D) each, of (..., 2D) parameters."""
    mean, log_sigma = parameters.chunk(2, -1)
    return mean, log_sigma


def divergence(posterior: Tensor, prior: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Over all glimpses, for diagonal Gaussians (T, B, 2D) each and the noise (T, B, D) that z was drawn with:
    sum of KL(Q || P), and of log P(z) - log Q(z); each (B,), in nats."""
    mean, log_sigma = gaussian(posterior)
    prior_mean, prior_log_sigma = gaussian(prior)
    log_ratio = log_sigma - prior_log_sigma                                    # log sigma_Q / sigma_P
    ratio = log_ratio.exp()
    distance = (mean - prior_mean) * (-prior_log_sigma).exp()                  # in sigma_P
    kl = 0.5 * (ratio.square() + distance.square() - 1) - log_ratio
    drawn = torch.addcmul(distance, ratio, noise)                              # z - mu_P, in sigma_P
    weight = 0.5 * (noise.square() - drawn.square()) + log_ratio
    return kl.sum((0, 2)), weight.sum((0, 2))


def count_parameters(model: nn.Module) -> int:
    return sum(value.numel() for value in model.parameters())
