"""Figures as they stand inside a page: made smaller and written as data URIs."""

import base64
import io
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageSequence, UnidentifiedImageError

from text2image.errors import UserError

WIDEST = 900          # pixels: more than a page shows
TALLEST = 6000
WIDEST_FILM = 640
MOST_FRAMES = 200
QUALITY = 80          # of a picture, of 100
FILM_QUALITY = 50
SUFFIXES = (".png", ".gif", ".webp")


class Picture(NamedTuple):
    """An image of a page."""

    uri: str
    width: int    # pixels, as it is shown
    height: int
    moves: bool   # it is an animation
    size: int     # bytes


def read(path: Path) -> Picture:
    """A figure as WebP, no wider than WIDEST. Raises UserError where the file is no image."""
    content = small(path)
    with Image.open(io.BytesIO(content)) as image:
        moves = getattr(image, "n_frames", 1) > 1
        width, height = fitting(*image.size, moves)
    return Picture(f"data:image/webp;base64,{base64.b64encode(content).decode()}", width, height, moves, len(content))


def small(path: Path) -> bytes:
    """A figure as a small file of WebP; one that is WebP as it is."""
    try:
        with Image.open(path) as image:
            image.load()
            return path.read_bytes() if image.format == "WEBP" else encode(image)
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: not readable as an image ({error}); `dvc repro` makes it again") from error


def fitting(width: int, height: int, moves: bool) -> tuple[int, int]:
    """The size at which an image is shown: WIDEST or TALLEST at most, and WIDEST_FILM where it moves."""
    scale = min(1.0, (WIDEST_FILM if moves else WIDEST) / width, TALLEST / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def encode(image: Image.Image) -> bytes:
    """An image, or all frames of an animation, as WebP: made smaller where it is larger than shown."""
    size = fitting(*image.size, getattr(image, "n_frames", 1) > 1)
    frames: list[Image.Image] = []
    durations: list[int] = []
    for frame in ImageSequence.Iterator(image):
        if len(frames) == MOST_FRAMES:
            break
        durations.append(int(frame.info.get("duration", 0)) or 100)
        frames.append(frame.convert("RGB") if frame.size == size else frame.convert("RGB").resize(size))
    out = io.BytesIO()
    if len(frames) == 1:
        frames[0].save(out, "WEBP", quality=QUALITY, method=4)
    else:
        frames[0].save(out, "WEBP", save_all=True, append_images=frames[1:], duration=durations, loop=0, quality=FILM_QUALITY,
                       method=2, allow_mixed=True)
    return out.getvalue()
