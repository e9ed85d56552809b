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
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from text2image import attention, recurrence
from text2image.config import parameter
from text2image.errors import UserError
from text2image.recurrence import Caption, LSTMStep, Sizes, State, Weights

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
    read_windows: Tensor    # (T, B, 5), likewise; when generating, where a read would look
    alphas: Tensor          # (T, B, L)


class LSTM(nn.Module):
    """An LSTM's parameters: gates in the order i, f, g, o, one bias, no peepholes (as torch.nn.LSTM's order)."""

    def __init__(self, inputs: int, units: int):
        super().__init__()
        self.weight_input = nn.Parameter(torch.empty(4 * units, inputs))
        self.weight_hidden = nn.Parameter(torch.empty(4 * units, units))
        self.bias = nn.Parameter(torch.empty(4 * units))


class WordLSTM(nn.Module):
    """As `LSTM`; a word's input weights are a row of `table` (K, 4M): looked up, never multiplied."""

    def __init__(self, words: int, units: int):
        super().__init__()
        self.table = nn.Parameter(torch.empty(words, 4 * units))
        self.weight_hidden = nn.Parameter(torch.empty(4 * units, units))
        self.bias = nn.Parameter(torch.empty(4 * units))


class CaptionEncoder(nn.Module):
    """Bidirectional LSTM over the words; section 3.1."""

    def __init__(self, words: int, units: int, batch_reversed: bool):
        super().__init__()
        self.batch_reversed = batch_reversed
        self.sparse = False  # gradients of the tables: of the rows that were looked up alone
        self.forward_lstm = WordLSTM(words, units)
        self.backward_lstm = WordLSTM(words, units)
        self.h0 = nn.Parameter(torch.empty(1, units))  # of both directions

    def forward(self, words: Tensor, lengths: Tensor | None = None) -> Tensor:
        """words (B, L), and lengths (B,) where captions are padded, give h_lang (B, L, 2M), of no meaning at padding."""
        # The released code reverses the batch where it means the words (coco/alignDraw.py:94).
        backward = words.flip(0) if self.batch_reversed else self._from_end(words, lengths)
        directions = (self.forward_lstm, self.backward_lstm)
        gates = torch.stack([F.embedding(y, d.table, sparse=self.sparse) + d.bias
                             for y, d in zip((words, backward), directions, strict=True)])  # (2, B, L, 4M)
        recurrent = torch.stack([d.weight_hidden.mT for d in directions])      # (2, M, 4M)
        h = self.h0.expand(2, len(words), -1)                                  # (2, B, M)
        cell = torch.zeros_like(h)
        states = []
        for heard in gates.unbind(2):
            h, cell = LSTMStep.apply(torch.baddbmm(heard, h, recurrent), cell)
            states.append(h)
        onward, back = torch.stack(states, 2)                                  # 2 x (B, L, M)
        if not self.batch_reversed:
            back = self._from_end(back, lengths)  # so that both halves of h_lang_i have read word i
        return torch.cat([onward, back], -1)

    @staticmethod
    def _from_end(sequence: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, L, ...) read from each caption's end; padding stays where it is."""
        if lengths is None:
            return sequence.flip(1)
        places = torch.arange(sequence.shape[1], device=sequence.device).expand(sequence.shape[:2])
        places = torch.where(places < lengths.unsqueeze(1), lengths.unsqueeze(1) - 1 - places, places)
        return sequence.gather(1, places.view(*places.shape, *[1] * (sequence.dim() - 2)).expand_as(sequence))


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
        self.recomputed = 0  # glimpses whose inner values are computed again for the gradient, at a time; 0: none
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

    def bound(self, images: Tensor, words: Tensor, noise: Tensor, lengths: Tensor | None = None) -> Bound:
        """images (B, C, H, W) in [0, 1], words (B, L), noise (T, B, D) from N(0, I): the bound's parts.

        lengths (B,), where captions are padded to L: the bounds are those of the captions without padding.
        """
        return self._run(words, noise, images, lengths)[0]

    forward = bound  # what DistributedDataParallel calls

    def infer_trace(self, images: Tensor, words: Tensor, noise: Tensor) -> tuple[Bound, Trace]:
        """As `bound`, without gradients, and what each glimpse did."""
        return self._run(words, noise, images, None, trace=True)

    def generate_trace(self, words: Tensor, noise: Tensor, lengths: Tensor | None = None) -> Trace:
        """words (B, L), noise (T, B, D): pictures from the prior, without gradients, with every glimpse."""
        with torch.no_grad():
            return self._run(words, noise, None, lengths, trace=True)[1]

    def _run(self, words: Tensor, noise: Tensor, images: Tensor | None, lengths: Tensor | None, trace: bool = False):
        c, size = self.config, len(words)
        self._check(words, noise, images, lengths)
        h_lang = self.caption_encoder(words, lengths)                          # (B, L, 2M)
        mask = None
        if lengths is not None:
            padding = torch.arange(words.shape[1], device=words.device) >= lengths.unsqueeze(1)
            mask = torch.zeros_like(padding, dtype=h_lang.dtype).masked_fill_(padding, -torch.inf)  # (B, L)
        caption = Caption(h_lang, h_lang @ self.align.language.mT, self.align.v)
        state = State(h=self.h0_generate.expand(size, -1), cell=h_lang.new_zeros(size, c.generate_units),
                      canvas=self.c0.expand(size, -1, -1, -1),
                      infer_h=self.h0_infer.expand(size, -1), infer_cell=h_lang.new_zeros(size, c.infer_units))
        rows = None if images is None else images.transpose(1, 2).contiguous()  # (B, H, C, W)
        steps: list[tuple[Tensor, ...]] | None = [] if trace else None
        state, posteriors, priors = recurrence.run(self._sizes(), self._weights(), caption, state, rows, mask, noise,
                                                   self.recomputed, steps)
        bound = None
        if rows is not None:
            kl, log_ratio = divergence(posteriors, priors, noise)
            cost = F.binary_cross_entropy_with_logits(state.canvas, rows, reduction="none").flatten(1).sum(1)
            bound = Bound(cost, kl, log_ratio - cost)
        if steps is None:
            return bound, None
        canvases, writes, reads, alphas = (torch.stack(parts) for parts in zip(*steps, strict=True))
        return bound, Trace(canvases.transpose(2, 3), writes, reads, alphas)

    def _sizes(self) -> Sizes:
        c = self.config
        return Sizes(c.channels, c.height, c.width, c.latent, c.align_units, c.read_window, c.write_window, c.geometry,
                     c.released("posterior_scale"), self.precision)

    def _weights(self) -> Weights:
        """The maps of the recurrence, those of h_gen as one."""
        prior_bias = self.prior.weight.new_zeros(2 * self.config.latent) if self.prior.bias is None else self.prior.bias
        heads = (self.write, self.read, self.patch, self.align.generate, self.prior)
        return Weights(
            torch.cat([map.weight for map in heads]),
            torch.cat([*(map.bias for map in heads[:-1]), prior_bias]),
            torch.cat([self.infer.weight_input, self.infer.weight_hidden], 1), self.infer.bias,
            self.posterior.weight, self.posterior.bias,
            torch.cat([self.generate.weight_input, self.generate.weight_hidden], 1), self.generate.bias)

    def _check(self, words: Tensor, noise: Tensor, images: Tensor | None, lengths: Tensor | None) -> None:
        c = self.config
        if images is not None and tuple(images.shape[1:]) != (c.channels, c.height, c.width):
            raise UserError(f"the model draws pictures of (C, H, W) = {(c.channels, c.height, c.width)}, "
                            f"the data holds {tuple(images.shape[1:])}: set channels, height and width alike")
        if lengths is not None and c.released("backward_words"):
            raise UserError("captions of several lengths in a batch need the model's backward_words: paper; "
                            "set it so, or train.bucket to 1")
        if tuple(noise.shape[1:]) != (len(words), c.latent):
            raise ValueError(f"noise must be (T, {len(words)}, {c.latent}), not {tuple(noise.shape)}")


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
