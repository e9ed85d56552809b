"""Figures of what a model draws: grids, animations of the canvas, plots of the words attended to."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

NO_METADATA = {"Software": None}  # so that equal figures are equal files
DPI = 110
ENLARGED = 6
FRAME_MILLISECONDS = 120
LAST_FRAME_MILLISECONDS = 1500
INK = (255, 80, 60)
STRIP_WIDTH = 7.0  # inches


def as_bytes(images: np.ndarray) -> np.ndarray:
    """(..., C, H, W) in [0, 1] as (..., H, W, 3) uint8; grey becomes RGB."""
    last = np.moveaxis(images, -3, -1)
    rgb = np.repeat(last, 3, -1) if last.shape[-1] == 1 else last
    return (rgb.clip(0, 1) * 255).round().astype(np.uint8)


def enlarge(image: np.ndarray, scale: int) -> np.ndarray:
    """(H, W, 3) with every pixel a square of `scale`."""
    return image.repeat(scale, 0).repeat(scale, 1)


def _tile(row: np.ndarray) -> np.ndarray:
    """(n, H, W, 3) side by side on grey, each smoothly enlarged: a few pixels are easier to read so."""
    row = np.stack([np.asarray(Image.fromarray(image).resize((image.shape[1] * ENLARGED, image.shape[0] * ENLARGED),
                                                               Image.Resampling.BICUBIC)) for image in row])
    n, h, w, _ = row.shape
    gap = ENLARGED
    tiled = np.full((h, n * (w + gap) - gap, 3), 96, np.uint8)
    for i, image in enumerate(row):
        tiled[:, i * (w + gap):i * (w + gap) + w] = image
    return tiled


def _save(figure: Figure, path: Path) -> None:
    with matplotlib.rc_context({"savefig.bbox": "tight"}):
        figure.savefig(path, dpi=DPI, metadata=NO_METADATA, facecolor="white")


def grid(path: Path, images: np.ndarray, titles: Sequence[str]) -> None:
    """images (captions, n, C, H, W) in [0, 1]: a row a caption, titled with it."""
    shown = as_bytes(images)
    figure = Figure(figsize=(1.0 * images.shape[1] * images.shape[-1] / images.shape[-2], 1.3 * len(titles)))
    axes = figure.subplots(len(titles), 1, squeeze=False)[:, 0]
    for axis, row, title in zip(axes, shown, titles, strict=True):
        axis.imshow(_tile(row), interpolation="nearest")
        axis.set_title(title, fontsize=9, loc="left", pad=3)
        axis.axis("off")
    _save(figure, path)


def animation(path: Path, canvases: np.ndarray, boxes: np.ndarray | None, scale: int) -> None:
    """A GIF of the canvas glimpse by glimpse, with the write window drawn.

    canvases (T, captions, C, H, W) in [0, 1]; boxes (T, captions, 4): left, top, right, bottom in pixels, or None.
    """
    shown = as_bytes(canvases)
    t, n, h, w, _ = shown.shape
    columns = min(n, 4)
    rows = -(-n // columns)
    cell_h, cell_w = h * scale + 4, w * scale + 4
    frames = []
    for step in range(t + 1):
        sheet = Image.new("RGB", (columns * cell_w, rows * cell_h), (96, 96, 96))
        for i in range(n):
            image = Image.fromarray(enlarge(shown[min(step, t - 1), i], scale))
            if step < t and boxes is not None:  # the last frame is the image alone
                left, top, right, bottom = (boxes[step, i] * scale).tolist()
                ImageDraw.Draw(image).rectangle((left, top, max(right, left + 1), max(bottom, top + 1)), outline=INK, width=2)
            sheet.paste(image, (i % columns * cell_w + 2, i // columns * cell_h + 2))
        frames.append(sheet.quantize(128, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE))
    frames[0].save(path, save_all=True, append_images=frames[1:], loop=0, optimize=False,
                   duration=[FRAME_MILLISECONDS] * t + [LAST_FRAME_MILLISECONDS])


def attention_plot(path: Path, canvases: np.ndarray, alphas: np.ndarray, captions: Sequence[Sequence[str]]) -> None:
    """For each caption the canvas over the glimpses, and below it how much each word was attended to.

    canvases (T, captions, C, H, W) in [0, 1]; alphas (T, captions, L), each caption's words first.
    """
    shown = as_bytes(canvases)
    glimpses = np.unique(np.linspace(0, len(shown) - 1, min(len(shown), 12)).round().astype(int))
    strip_height = STRIP_WIDTH / len(glimpses) * shown.shape[2] / shown.shape[3]
    heights = [inches for words in captions for inches in (strip_height, 0.2 * len(words) + 0.2)]
    figure = Figure(figsize=(STRIP_WIDTH, sum(heights)), layout="constrained")
    axes = figure.subplots(len(heights), 1, gridspec_kw={"height_ratios": heights})
    for strip, heat, words, i in zip(axes[::2], axes[1::2], captions, range(len(captions)), strict=True):
        strip.imshow(_tile(shown[glimpses, i]), interpolation="nearest")
        strip.axis("off")
        heat.imshow(alphas[:, i, :len(words)].T, aspect="auto", cmap="magma", vmin=0, interpolation="nearest")
        heat.set_yticks(range(len(words)), words, fontsize=8)
        heat.set_xticks(glimpses, [str(g + 1) for g in glimpses], fontsize=7)
    axes[-1].set_xlabel("glimpse", fontsize=8)
    _save(figure, path)


def exchange_plot(path: Path, groups: Sequence[tuple[Sequence[str], np.ndarray]]) -> None:
    """Captions in which a word is exchanged, and what was drawn of them with the same noise: in a column nothing else differs.

    groups: captions and their images (captions, n, C, H, W) in [0, 1]. The words that a group's captions do not share stand
    in brackets.
    """
    titles = [title for captions, _ in groups for title in mark_exchanged(captions)]
    grid(path, np.concatenate([images for _, images in groups]), titles)


def mark_exchanged(captions: Sequence[str]) -> list[str]:
    """Captions of equally many words with brackets around those words that differ between them; others as they are."""
    rows = [caption.split() for caption in captions]
    if len({len(row) for row in rows}) != 1:
        return list(captions)
    differs = [len(set(column)) > 1 for column in zip(*rows, strict=True)]
    return [" ".join(f"[{word}]" if changed else word for word, changed in zip(row, differs, strict=True)) for row in rows]


class AttendedWord(NamedTuple):
    """A word of a caption, and where the model wrote while it attended to it."""

    caption: str
    word: str
    canvases: np.ndarray  # (T, C, H, W) in [0, 1]
    windows: np.ndarray   # (T, 4): left, top, right, bottom in pixels
    share: np.ndarray     # (T,): of the word's attention
    where: np.ndarray     # (H, W) in [0, 1]


def words_plot(path: Path, words: Sequence[AttendedWord]) -> None:
    """A row a word: the glimpses, brighter the more the word was attended to, with their write windows; last the final image
    with the places that were written to meanwhile in colour."""
    shown = as_bytes(np.stack([word.canvases for word in words]))  # (words, T, H, W, 3)
    glimpses = np.unique(np.linspace(0, shown.shape[1] - 1, min(shown.shape[1], 10)).round().astype(int))
    width = STRIP_WIDTH / (len(glimpses) + 1.2)
    row_height = max(width * shown.shape[2] / shown.shape[3], 0.25)
    first = [number == 0 or words[number - 1].caption != word.caption for number, word in enumerate(words)]
    figure = Figure(figsize=(STRIP_WIDTH + 0.8, row_height * len(words) + 0.3 * sum(first)), layout="constrained")
    axes = figure.subplots(len(words), 2, squeeze=False, gridspec_kw={"width_ratios": (len(glimpses), 1)})
    for (strip, overlay), word, images, starts in zip(axes, words, shown, first, strict=True):
        strip.imshow(_tile(_lit(images[glimpses], word.share[glimpses], word.windows[glimpses])), interpolation="nearest")
        overlay.imshow(_tile(_coloured(images[-1], word.where)[None]), interpolation="nearest")
        strip.text(-0.01, 0.5, word.word, transform=strip.transAxes, ha="right", va="center", fontsize=8)
        if starts:
            strip.set_title(word.caption, fontsize=9, loc="left", pad=3)
        strip.axis("off")
        overlay.axis("off")
    _save(figure, path)


def _lit(images: np.ndarray, share: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """(n, H, W, 3): images as bright as their shares (n,), the largest of them whole, with the edges of their windows."""
    light = np.sqrt(share / max(share.max(), 1e-12))  # of the root: half the attention is still seen
    lit = (images * (0.15 + 0.85 * light)[:, None, None, None]).astype(np.uint8)
    for image, box, weight in zip(lit, windows, light, strict=True):
        picture = Image.fromarray(image)
        left, top, right, bottom = box.round().astype(int).tolist()
        colour = tuple(int(part * (0.15 + 0.85 * weight)) for part in INK)
        ImageDraw.Draw(picture).rectangle((left, top, max(right, left + 1), max(bottom, top + 1)), outline=colour)
        image[:] = np.asarray(picture)
    return lit


def _coloured(image: np.ndarray, where: np.ndarray) -> np.ndarray:
    """(H, W, 3): an image in grey, with INK as strong as `where` (H, W), whose largest value is as strong as it gets."""
    strength = 0.7 * (where / max(where.max(), 1e-12))[..., None]
    grey = image.mean(-1, keepdims=True)
    return (grey * (1 - strength) + np.array(INK) * strength).round().astype(np.uint8)
