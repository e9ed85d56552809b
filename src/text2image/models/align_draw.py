"""alignDRAW, from top to bottom in the order of the paper (section 3).

Letter code: B batch, L words, T glimpses, C channels, H W image, N window, D latent, K vocabulary, M units of each
direction of the caption encoder.

| here                | paper                      | released code (coco/alignDraw.py)     |
|---------------------|----------------------------|---------------------------------------|
| captions            | y                          | y                                     |
| h_lang (B, L, 2M)   | h^lang                     | h_t_lang                              |
| sentence (B, 2M)    | s_t                        | s_t                                   |
| alpha (B, L)        | alpha^t                    | alpha                                 |
| h_infer             | h^infer_t                  | h_t_enc                               |
| h_gen               | h^gen_t                    | h_t_dec                               |
| z (B, D)            | z_t                        | z_t                                   |
| canvas (B, H, C, W) | c_t, before the sigmoid    | c_t                                   |
| r                   | r_t                        | r_t                                   |

The equations stand in text2image.models.recurrence, with a backward pass by hand, and in text2image.models.reference, written
out plainly.
"""

from dataclasses import dataclass
from typing import Literal, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from text2image.config import MAX_SIDE, frozen, parameter
from text2image.errors import UserError
from text2image.models import filter_banks, recurrence
from text2image.models.base import Bound, ImageModel, OnStep
from text2image.models.caption_encoder import CaptionEncoder
from text2image.models.gaussian import divergence
from text2image.models.lstm import LSTM
from text2image.models.recurrence import Caption, RecurrenceSizes, State, Weights

Source = Literal["paper", "released"]
Switch = Literal["preset", "paper", "released"]


@dataclass(frozen=True)
class Switches:
    """The differences between the paper and the released code (docs/fidelity.md), each by itself.

    A switch says 'paper', 'released', or 'preset': what `AlignDRAWConfig.preset` says.
    """

    backward_words: Switch = "preset"   # paper: the caption read from its end; released: the batch reversed, read forward
    filter_grid: Switch = "preset"      # paper: filters evenly around the window's centre; released: shifted
    window_centre: Switch = "preset"    # paper: 0 is the image's centre; released: one pixel off
    filter_sum: Switch = "preset"       # paper: filters sum to 1; released: 1e-4 is added before dividing
    posterior_scale: Switch = "preset"  # paper: the linear map gives log sigma; released: log sigma^2
    prior_bias: Switch = "preset"       # paper: the prior's linear map has no bias; released: it has one


@frozen
class AlignDRAWConfig:
    """Sizes, initial values, and on which side the model stands: the paper's or the released code's."""

    channels: int = parameter(ge=1, le=64)
    height: int = parameter(ge=1, le=MAX_SIDE)
    width: int = parameter(ge=1, le=MAX_SIDE)
    glimpses: int = parameter(ge=1, le=10**4)    # T; no weight's shape tells it, so that a damaged file could ask for any
    language_units: int = parameter(ge=1, le=10**5)   # m / 2, of each direction
    align_units: int = parameter(ge=1, le=10**5)      # l
    infer_units: int = parameter(ge=1, le=10**5)      # of LSTM^infer
    generate_units: int = parameter(ge=1, le=10**5)   # of LSTM^gen
    latent: int = parameter(ge=1, le=10**5)           # D
    read_window: int = parameter(ge=1, le=1024)       # N of read
    write_window: int = parameter(ge=1, le=1024)      # p of write
    init_std: float = parameter(ge=1e-12, le=100)     # of every weight; biases start at 0
    canvas_init: float = parameter(ge=-100, le=100)   # c_0 before the sigmoid
    preset: Source
    switches: Switches = Switches()

    def released(self, switch: str) -> bool:
        """Whether a switch stands at the released code's side."""
        value = getattr(self.switches, switch)
        return (self.preset if value == "preset" else value) == "released"

    @property
    def geometry(self) -> filter_banks.Geometry:
        """Where the filters lie."""
        return filter_banks.Geometry(
            centred_grid=not self.released("filter_grid"),
            centred_origin=not self.released("window_centre"),
            epsilon=(filter_banks.RELEASED if self.released("filter_sum") else filter_banks.PAPER).epsilon)


class Align(nn.Module):
    """alpha_k = softmax_k(v^T tanh(U h_lang_k + W h_gen + b)), s = sum_k alpha_k h_lang_k; section 3.2."""

    def __init__(self, language: int, generate: int, units: int):
        super().__init__()
        self.language = nn.Parameter(torch.empty(units, language))              # U
        self.generate = nn.Linear(generate, units)                              # W and b
        self.v = nn.Parameter(torch.empty(units))


class AlignDRAW(ImageModel):
    """The model."""

    config: AlignDRAWConfig

    def __init__(self, config: AlignDRAWConfig, vocabulary_size: int):
        super().__init__(config, vocabulary_size)
        c = config
        language = 2 * c.language_units
        self.caption_encoder = CaptionEncoder(vocabulary_size, c.language_units, c.released("backward_words"))
        self.align = Align(language, c.generate_units, c.align_units)
        self.read = nn.Linear(c.generate_units, 5)
        self.infer = LSTM(2 * c.channels * c.read_window**2 + c.generate_units, c.infer_units)
        self.posterior = nn.Linear(c.infer_units, 2 * c.latent)
        self.prior = nn.Linear(c.generate_units, 2 * c.latent, bias=c.released("prior_bias"))
        # LSTM^gen is called `generate` in checkpoints; as an attribute that is the method.
        self._modules["generate"] = LSTM(c.latent + language, c.generate_units)
        self.write = nn.Linear(c.generate_units, 5)
        self.patch = nn.Linear(c.generate_units, c.write_window**2 * c.channels)
        self.h0_infer = nn.Parameter(torch.empty(1, c.infer_units))
        self.h0_generate = nn.Parameter(torch.empty(1, c.generate_units))
        self.c0 = nn.Parameter(torch.empty(1, c.height, c.channels, c.width))
        self.reset()

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.config.channels, self.config.height, self.config.width

    @property
    def mixes_batch(self) -> bool:
        """Whether a caption's encoding depends on the rest of its batch: in the released encoder it does."""
        return self.config.released("backward_words")

    @property
    def supports_padding(self) -> bool:
        """Whether captions may be padded: the released encoder reads another caption, whose padding is elsewhere."""
        return not self.config.released("backward_words")

    @property
    def sparse_gradients(self) -> bool:
        """Whether the gradients of the word tables are of the rows that were looked up alone."""
        return self.caption_encoder.sparse

    @sparse_gradients.setter
    def sparse_gradients(self, sparse: bool) -> None:
        self.caption_encoder.sparse = sparse

    def noise_shape(self, batch: int) -> tuple[int, int, int]:
        """(T, B, D)."""
        return self.config.glimpses, batch, self.config.latent

    @torch.no_grad()
    def reset(self, generator: torch.Generator | None = None) -> None:
        """Draw the weights anew from N(0, init_std); zero the biases and first states; c_0 = canvas_init."""
        for name, value in self.named_parameters():
            if value.is_meta:  # it has a shape alone, and PyTorch would load its compiler to draw nothing
                continue
            if name == "c0":
                value.fill_(self.config.canvas_init)
            elif name.endswith("bias") or "h0" in name:
                value.zero_()
            else:
                value.normal_(0, self.config.init_std, generator=generator)

    def elbo(self, images: Float[Tensor, "B C H W"], captions: Int[Tensor, "B L"], noise: Float[Tensor, "T B D"],
             lengths: Int[Tensor, " B"] | None = None, on_step: OnStep | None = None) -> Bound:
        """As `ImageModel.elbo`. Raises UserError where lengths are given and the model does not support padding."""
        self._check(captions, noise, images, lengths)
        rows = images.transpose(1, 2).contiguous()                              # (B, H, C, W)
        with torch.set_grad_enabled(torch.is_grad_enabled() and on_step is None):
            state, posteriors, priors = self._run(captions, noise, rows, lengths, on_step)
            kl, log_weight = divergence(posteriors, priors, noise)
            reconstruction = F.binary_cross_entropy_with_logits(state.canvas, rows, reduction="none").flatten(1).sum(1)
            return Bound(reconstruction, kl, log_weight - reconstruction)

    @torch.no_grad()
    def generate(self, captions: Int[Tensor, "B L"], noise: Float[Tensor, "T B D"], lengths: Int[Tensor, " B"] | None = None,
                 on_step: OnStep | None = None) -> Float[Tensor, "B C H W"]:
        """As `ImageModel.generate`: the mean sigma(c_T) (paper, section 3; no pixel is sampled)."""
        self._check(captions, noise, None, lengths)
        state, _, _ = self._run(captions, noise, None, lengths, on_step)
        return state.canvas.sigmoid().transpose(1, 2)

    def write_box(self, windows: Float[Tensor, "*batch 5"]) -> Float[Tensor, "*batch 4"]:
        """Left, top, right, bottom in pixels of the outermost filters of write windows."""
        c = self.config
        window = filter_banks.decode_window(windows.flatten(0, -2), c.height, c.width, c.write_window, c.geometry)
        steps = filter_banks.grid(c.write_window, c.geometry, window.delta)
        first, last = window.delta * steps[0], window.delta * steps[-1]
        half = 0.5  # a pixel's centre is at its number, its edges half a pixel away
        box = torch.cat([window.centre_x + first + half, window.centre_y + first + half,
                         window.centre_x + last + half, window.centre_y + last + half], 1)
        return box.view(*windows.shape[:-1], 4)

    def _run(self, captions: Tensor, noise: Tensor, rows: Tensor | None, lengths: Tensor | None,
             on_step: OnStep | None) -> tuple[State, Tensor, Tensor]:
        """The state after the last glimpse, posteriors and priors (T, B, 2D)."""
        c, batch = self.config, len(captions)
        h_lang = self.caption_encoder(captions, lengths)                        # (B, L, 2M)
        mask = None
        if lengths is not None:
            padding = torch.arange(captions.shape[1], device=captions.device) >= lengths.unsqueeze(1)
            mask = torch.zeros_like(padding, dtype=h_lang.dtype).masked_fill_(padding, -torch.inf)  # (B, L)
        caption = Caption(h_lang, h_lang @ self.align.language.mT, self.align.v)
        state = State(h=self.h0_generate.expand(batch, -1), cell=h_lang.new_zeros(batch, c.generate_units),
                      canvas=self.c0.expand(batch, -1, -1, -1),
                      infer_h=self.h0_infer.expand(batch, -1), infer_cell=h_lang.new_zeros(batch, c.infer_units))
        return recurrence.run(self._sizes(), self._weights(), caption, state, rows, mask, noise, self.checkpoint_every, on_step)

    def _sizes(self) -> RecurrenceSizes:
        c = self.config
        return RecurrenceSizes(c.channels, c.height, c.width, c.latent, c.align_units, c.read_window, c.write_window,
                               c.geometry, c.released("posterior_scale"), self.precision)

    def _weights(self) -> Weights:
        """The linear maps of the recurrence, those of h_gen as one."""
        prior_bias = self.prior.weight.new_zeros(2 * self.config.latent) if self.prior.bias is None else self.prior.bias
        projections = (self.write, self.read, self.patch, self.align.generate, self.prior)
        generate = cast(LSTM, self._modules["generate"])
        return Weights(
            torch.cat([map.weight for map in projections]),
            torch.cat([*(map.bias for map in projections[:-1]), prior_bias]),
            torch.cat([self.infer.weight_input, self.infer.weight_hidden], 1), self.infer.bias,
            self.posterior.weight, self.posterior.bias,
            torch.cat([generate.weight_input, generate.weight_hidden], 1), generate.bias)

    def _check(self, captions: Tensor, noise: Tensor, images: Tensor | None, lengths: Tensor | None) -> None:
        self.check_shapes(images, captions, noise)
        if lengths is not None and not self.supports_padding:
            raise UserError("captions of several lengths in a batch need the model's backward_words: paper; "
                            "set it so, or train.bucket to 1")


# How a model kind is looked up: text2image.models.base.
Config = AlignDRAWConfig
Model = AlignDRAW
