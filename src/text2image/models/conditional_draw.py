"""DRAW conditioned on a caption: the recurrence that alignDRAW and the models it is compared with share.

Letter code: B batch, L words, S numbers of a caption's vector, T glimpses, C channels, H W image, N window, D latent.

| here                | paper                      | released code (coco/alignDraw.py)     |
|---------------------|----------------------------|---------------------------------------|
| h_infer             | h^infer_t                  | h_t_enc                               |
| h_gen               | h^gen_t                    | h_t_dec                               |
| z (B, D)            | z_t                        | z_t                                   |
| canvas (B, H, C, W) | c_t, before the sigmoid    | c_t                                   |
| r                   | r_t                        | r_t                                   |

A kind says what it reads of a caption, `encode`, and where its parameters for that lie. With one vector a caption and no
align, s_t of equation 3 is that vector at every glimpse: align over one word, whose alpha is 1 whatever its score.

The equations stand in text2image.models.recurrence, with a backward pass by hand, and in text2image.models.reference, written
out plainly.
"""

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from text2image.config import MAX_SIDE, frozen, parameter
from text2image.models import filter_banks, recurrence
from text2image.models.base import Bound, Encoding, Glimpse, ImageModel, OnStep
from text2image.models.gaussian import divergence, divergence_of_glimpses
from text2image.models.lstm import LSTM
from text2image.models.recurrence import Caption, RecurrenceSizes, State, Weights

Source = Literal["paper", "released"]
Switch = Literal["preset", "paper", "released"]


@dataclass(frozen=True)
class Switches:
    """The differences between the paper and the released code (docs/fidelity.md), each by itself.

    A switch says 'paper', 'released', or 'preset': what `DRAWConfig.preset` says.
    """

    backward_words: Switch = "preset"   # paper: the caption read from its end; released: the batch reversed, read forward
    filter_grid: Switch = "preset"      # paper: filters evenly around the window's centre; released: shifted
    window_centre: Switch = "preset"    # paper: 0 is the image's centre; released: one pixel off
    filter_sum: Switch = "preset"       # paper: filters sum to 1; released: 1e-4 is added before dividing
    posterior_scale: Switch = "preset"  # paper: the linear map gives log sigma; released: log sigma^2
    prior_bias: Switch = "preset"       # paper: the prior's linear map has no bias; released: it has one


@frozen
class DRAWConfig:
    """Sizes, initial values, and on which side the model stands: the paper's or the released code's."""

    channels: int = parameter(ge=1, le=64)
    height: int = parameter(ge=1, le=MAX_SIDE)
    width: int = parameter(ge=1, le=MAX_SIDE)
    glimpses: int = parameter(ge=1, le=10**4)    # T; no weight's shape tells it, so that a damaged file could ask for any
    infer_units: int = parameter(ge=1, le=10**5)      # of LSTM^infer
    generate_units: int = parameter(ge=1, le=10**5)   # of LSTM^gen
    latent: int = parameter(ge=1, le=10**5)           # D
    read_window: int = parameter(ge=1, le=1024)       # N of read
    write_window: int = parameter(ge=1, le=1024)      # p of write
    init_std: float = parameter(ge=1e-12, le=100)     # of every weight; biases start at 0
    canvas_init: float = parameter(ge=-100, le=100)   # c_0 before the sigmoid
    preset: Source
    switches: Switches = field(default=Switches(), kw_only=True)

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


class ConditionalDRAW(ImageModel):
    """What a caption does not change: reading, inference, latents, generation, writing."""

    config: DRAWConfig
    attends = False  # whether `Glimpse.alpha` says something

    def __init__(self, config: DRAWConfig, vocabulary_size: int):
        super().__init__(config, vocabulary_size)
        c = config
        states = self.add_caption_modules()
        self.read = nn.Linear(c.generate_units, 5)
        self.infer = LSTM(2 * c.channels * c.read_window**2 + c.generate_units, c.infer_units)
        self.posterior = nn.Linear(c.infer_units, 2 * c.latent)
        self.prior = nn.Linear(c.generate_units, 2 * c.latent, bias=c.released("prior_bias"))
        # LSTM^gen is called `generate` in checkpoints; as an attribute that is the method.
        self._modules["generate"] = LSTM(c.latent + states, c.generate_units)
        self.write = nn.Linear(c.generate_units, 5)
        self.patch = nn.Linear(c.generate_units, c.write_window**2 * c.channels)
        self.h0_infer = nn.Parameter(torch.empty(1, c.infer_units))
        self.h0_generate = nn.Parameter(torch.empty(1, c.generate_units))
        self.c0 = nn.Parameter(torch.empty(1, c.height, c.channels, c.width))
        self.reset()

    @abstractmethod
    def add_caption_modules(self) -> int:
        """Make the modules that read captions, before all others; returns S."""

    def query(self) -> tuple[Float[Tensor, "A U"], Float[Tensor, " A"]]:
        """W and b of align, which take h_gen; of no units where a kind does not align."""
        return self.write.weight[:0], self.write.bias[:0]

    def as_caption(self, encoding: Encoding) -> Caption:
        """What the recurrence takes of a caption; without align, no keys."""
        states = encoding.states
        return Caption(states, states.new_zeros(*states.shape[:2], 0), states.new_zeros(0))

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.config.channels, self.config.height, self.config.width

    def noise_shape(self, batch: int) -> tuple[int, int, int]:
        """(T, B, D)."""
        return self.config.glimpses, batch, self.config.latent

    @torch.no_grad()
    def reset(self, generator: torch.Generator | None = None) -> None:
        """Draw the weights anew from N(0, init_std); zero the biases and first states; c_0 = canvas_init. What is not trained
        stays."""
        for name, value in self.named_parameters():
            if value.is_meta or not value.requires_grad:  # of a meta tensor PyTorch would load its compiler to draw nothing
                continue
            if name == "c0":
                value.fill_(self.config.canvas_init)
            elif name.endswith("bias") or "h0" in name:
                value.zero_()
            else:
                value.normal_(0, self.config.init_std, generator=generator)

    def score(self, images: Float[Tensor, "B C H W"], encoding: Encoding, noise: Float[Tensor, "T B D"],
              on_step: OnStep | None = None) -> Bound:
        """As `ImageModel.score`."""
        rows = images.transpose(1, 2).contiguous()                              # (B, H, C, W)
        with torch.set_grad_enabled(torch.is_grad_enabled() and on_step is None):
            state, posteriors, priors = self._run(encoding, noise, rows, on_step)
            kl, log_weight = divergence(posteriors, priors, noise)
            reconstruction = F.binary_cross_entropy_with_logits(state.canvas, rows, reduction="none").flatten(1).sum(1)
            of_glimpses = None if torch.is_grad_enabled() else divergence_of_glimpses(posteriors, priors)
            return Bound(reconstruction, kl, log_weight - reconstruction, of_glimpses)

    @torch.no_grad()
    def draw(self, encoding: Encoding, noise: Float[Tensor, "T B D"],
             on_step: OnStep | None = None) -> Float[Tensor, "B C H W"]:
        """As `ImageModel.draw`: the mean sigma(c_T) (paper, section 3; no pixel is sampled)."""
        state, _, _ = self._run(encoding, noise, None, on_step)
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

    def _run(self, encoding: Encoding, noise: Tensor, rows: Tensor | None,
             on_step: OnStep | None) -> tuple[State, Tensor, Tensor]:
        """The state after the last glimpse, posteriors and priors (T, B, 2D)."""
        c, states = self.config, encoding.states
        batch = len(states)
        caption = self.as_caption(encoding)
        state = State(h=self.h0_generate.expand(batch, -1), cell=states.new_zeros(batch, c.generate_units),
                      canvas=self.c0.expand(batch, -1, -1, -1),
                      infer_h=self.h0_infer.expand(batch, -1), infer_cell=states.new_zeros(batch, c.infer_units))
        return recurrence.run(self._sizes(caption), self._weights(), caption, state, rows, encoding.mask, noise,
                              self.checkpoint_every, self._told(on_step))

    def _told(self, on_step: OnStep | None) -> OnStep | None:
        """`on_step` as it is, or without the alpha of a kind that does not attend."""
        if on_step is None or self.attends:
            return on_step

        def without_alpha(t: int, glimpse: Glimpse) -> None:
            on_step(t, glimpse._replace(alpha=None))

        return without_alpha

    def _sizes(self, caption: Caption) -> RecurrenceSizes:
        c = self.config
        return RecurrenceSizes(c.channels, c.height, c.width, c.latent, len(caption.v), c.read_window, c.write_window,
                               c.geometry, c.released("posterior_scale"), self.precision)

    def _weights(self) -> Weights:
        """The linear maps of the recurrence, those of h_gen as one."""
        prior_bias = self.prior.weight.new_zeros(2 * self.config.latent) if self.prior.bias is None else self.prior.bias
        query_weight, query_bias = self.query()
        generate = cast(LSTM, self._modules["generate"])
        return Weights(
            torch.cat([self.write.weight, self.read.weight, self.patch.weight, query_weight, self.prior.weight]),
            torch.cat([self.write.bias, self.read.bias, self.patch.bias, query_bias, prior_bias]),
            torch.cat([self.infer.weight_input, self.infer.weight_hidden], 1), self.infer.bias,
            self.posterior.weight, self.posterior.bias,
            torch.cat([generate.weight_input, generate.weight_hidden], 1), generate.bias)
