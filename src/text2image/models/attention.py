"""What a glimpse attends to: the words of the caption (align), a window of the image (read), a window of the canvas (write).

The gradient of each function stands below it, as in text2image.models.filter_banks: text2image.models.recurrence goes forward
and backward through them by hand. Letter code: B batch, L words, A units of align, M units of each direction of the caption
encoder; C channels, H W image, N window. `rows` are images as (B, H, C, W).
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from text2image.models import filter_banks
from text2image.models.filter_banks import FilterBank, Reading
from text2image.models.fusing import fusible


class AlignCache(NamedTuple):
    """What align keeps for its gradient."""

    sigma: Tensor  # sigma(2 (U h_lang + W h_gen + b)), (B, L, A)
    alpha: Tensor  # (B, L)


class ReadCache(NamedTuple):
    """What read keeps for its gradient."""

    canvas_rows: Tensor  # sigma(c), (B, H, C, W)
    of_image: Reading
    of_canvas: Reading
    r: Tensor            # (B, 2*N*C*N)


class WriteCache(NamedTuple):
    """What write keeps for its gradient."""

    patch: Tensor    # w / gamma, (B, N*C, N)
    columns: Tensor  # w F_x / gamma, (B, N, C*W)


# Gradients by f_y, f_x and log gamma.
GradBank = tuple[Float[Tensor, "B _ H"], Float[Tensor, "B _ W"], Float[Tensor, " B"]]


@fusible
def align(query: Float[Tensor, "B A"], keys: Float[Tensor, "B L A"], v: Float[Tensor, " A"], h_lang: Float[Tensor, "B L two_M"],
          mask: Float[Tensor, "B L"] | None) -> tuple[Float[Tensor, "B two_M"], AlignCache]:
    """s = sum_k alpha_k h_lang_k with alpha = softmax(v^T tanh(U h_lang + query)); section 3.2.

    mask: what is added to the scores of the words, minus infinity for padding.

    `keys` and `v` are twice U h_lang and v: tanh(a) = 2 sigma(2a) - 1, a sigmoid costs a fifth of a tanh on a CPU, and the
    constant falls out of the softmax.
    """
    sigma = torch.add(keys, query.unsqueeze(1), alpha=2).sigmoid_()
    scores = sigma @ v                                                          # (B, L)
    alpha = (scores if mask is None else scores + mask).softmax(1)
    return torch.bmm(alpha.unsqueeze(1), h_lang).squeeze(1), AlignCache(sigma, alpha)


@fusible
def align_backward(grad_sentence: Float[Tensor, "B two_M"], cache: AlignCache, v: Float[Tensor, " A"],
                   h_lang: Float[Tensor, "B L two_M"], grad_keys: Float[Tensor, "B L A"], grad_v: Float[Tensor, " A"],
                   ) -> Float[Tensor, "B A"]:
    """The gradient of `align` by the query; adds to those by `keys`, without v, and by `v`."""
    sigma, alpha = cache
    grad_alpha = torch.bmm(grad_sentence.unsqueeze(1), h_lang.mT).squeeze(1)
    grad_scores = alpha * (grad_alpha - (alpha * grad_alpha).sum(1, keepdim=True))
    grad_v.add_((grad_scores.reshape(1, -1) @ sigma.flatten(0, 1)).squeeze(0))
    through = torch.ops.aten.sigmoid_backward(grad_scores.unsqueeze(2).expand_as(sigma), sigma)
    grad_keys.add_(through)
    return through.sum(1).mul_(2 * v)


@fusible
def read(rows: Float[Tensor, "B H C W"], canvas: Float[Tensor, "B H C W"], bank: FilterBank) -> ReadCache:
    """r = read(x, x - sigma(c)); the second half is a difference of two readings. DRAW, equation 27."""
    canvas_rows = canvas.sigmoid()
    of_image, of_canvas = filter_banks.read(rows, bank), filter_banks.read(canvas_rows, bank)
    r = torch.cat([of_image.patch, of_image.patch - of_canvas.patch], 1).mul_(bank.gamma)
    return ReadCache(canvas_rows, of_image, of_canvas, r.flatten(1))


@fusible
def read_backward(grad_r: Float[Tensor, "B read_size"], grad_canvas: Float[Tensor, "B H C W"], cache: ReadCache,
                  rows: Float[Tensor, "B H C W"], bank: FilterBank) -> GradBank:
    """The gradient of `read` by the filter bank; adds to that by the canvas."""
    canvas_rows, of_image, of_canvas, r = cache
    grad_log_gamma = (grad_r * r).sum(1)
    _, rows_of_patch, n = of_image.patch.shape
    grad_image, grad_error = (grad_r.view(len(r), 2 * rows_of_patch, n) * bank.gamma).chunk(2, 1)
    f_y, f_x, _ = filter_banks.read_backward(grad_image + grad_error, of_image, rows, bank)
    canvas_f_y, canvas_f_x, grad_columns = filter_banks.read_backward(grad_error, of_canvas, canvas_rows, bank)
    grad_rows = filter_banks.read_backward_rows(grad_columns, bank).view_as(canvas_rows)
    grad_canvas.sub_(torch.ops.aten.sigmoid_backward(grad_rows, canvas_rows))
    return f_y.sub_(canvas_f_y), f_x.sub_(canvas_f_x), grad_log_gamma


@fusible
def write_(canvas: Float[Tensor, "B H C W"], patch: Float[Tensor, "B patch_size"], bank: FilterBank) -> WriteCache:
    """Add write(h_gen) to the canvas, in place. DRAW, equation 29."""
    n = bank.f_y.shape[1]
    patch = patch.reshape(len(patch), n * canvas.shape[2], n) / bank.gamma
    return WriteCache(patch, filter_banks.write_(canvas, patch, bank))


@fusible
def write_backward(grad_canvas: Float[Tensor, "B H C W"], cache: WriteCache, bank: FilterBank,
                   ) -> tuple[Float[Tensor, "B patch_size"], GradBank]:
    """The gradients of `write_` by the patch before gamma, and by the filter bank."""
    patch, columns = cache
    grad_f_y, grad_f_x, grad_patch = filter_banks.write_backward(grad_canvas, patch, columns, bank)
    grad_log_gamma = -(grad_patch * patch).sum((1, 2))
    return grad_patch.div_(bank.gamma).flatten(1), (grad_f_y, grad_f_x, grad_log_gamma)
