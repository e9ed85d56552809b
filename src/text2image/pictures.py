"""Pictures from image files: decoded, cropped, resized, and stored as bytes one after another.

JPEG, PNG and WebP are read, by what a file holds and not by its name. Of an animation the first frame counts. Pictures are
turned as their EXIF orientation says; what is transparent shows white; 16-bit grey becomes 8-bit; colour profiles are
ignored. Both filters average over all the pixels that one of the result covers.
"""

import io
import math
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from PIL.Image import Resampling, Transpose
from tqdm import tqdm

from text2image.config import parameter
from text2image.disk import require_room
from text2image.skipped import Skipped

FORMATS = ("JPEG", "PNG", "WEBP")
FILTERS = {"lanczos": Resampling.LANCZOS, "box": Resampling.BOX}
ORIENTATION = 0x0112  # the EXIF tag, and what each of its values asks for
TURNS = {2: Transpose.FLIP_LEFT_RIGHT, 3: Transpose.ROTATE_180, 4: Transpose.FLIP_TOP_BOTTOM, 5: Transpose.TRANSPOSE,
         6: Transpose.ROTATE_270, 7: Transpose.TRANSVERSE, 8: Transpose.ROTATE_90}
BACKGROUND = (255, 255, 255, 255)
LARGEST_FILE = 1 << 26  # bytes
THREADS = min(4, os.cpu_count() or 1)
BLOCK_ROWS = 256

Read = Callable[[str], bytes]  # the content of a picture's file, by its name; raises Unusable


class Unusable(Exception):
    """Why a picture cannot be used."""


@dataclass(frozen=True)
class Frame:
    """What a picture becomes."""

    channels: Literal[1, 3]
    height: int = parameter(least=1)
    width: int = parameter(least=1)
    crop: Literal["centre", "none"]       # centre: the largest part of the frame's proportions; none: the whole, squeezed
    filter: Literal["lanczos", "box"]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.channels, self.height, self.width


def decode(content: bytes, frame: Frame) -> np.ndarray:
    """A picture (C, H, W) uint8 from the bytes of its file. Raises Unusable, whatever is wrong with them."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as file:
            file.load()
            picture = _rgb_or_rgba(_upright(file))
            picture = picture.resize((frame.width, frame.height), FILTERS[frame.filter], _box(picture.size, frame))
        if picture.mode == "RGBA":
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, BACKGROUND), picture)
        values = np.asarray(picture.convert("L" if frame.channels == 1 else "RGB"))
    except Image.UnidentifiedImageError as error:
        raise Unusable("it is no JPEG, PNG or WebP picture") from error
    except Exception as error:  # a damaged file can fail at any step of its decoder, each with an error of its own
        raise Unusable(f"it cannot be decoded ({' '.join(str(error).split()) or type(error).__name__})") from error
    return values.reshape(frame.height, frame.width, frame.channels).transpose(2, 0, 1)


def _upright(picture: Image.Image) -> Image.Image:
    try:
        turn = TURNS.get(picture.getexif().get(ORIENTATION))
    except Exception:  # the picture itself is whole: EXIF that makes no sense turns nothing
        turn = None
    return picture if turn is None else picture.transpose(turn)


def _rgb_or_rgba(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):  # 16-bit grey
        return Image.fromarray(np.rint(np.asarray(picture).clip(0, 65535) / 257).astype(np.uint8)).convert("RGB")
    transparent = picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info
    return picture.convert("RGBA" if transparent else "RGB")


def _box(size: tuple[int, int], frame: Frame) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the part of a picture of `size` (W, H) that is kept, in pixels."""
    width, height = size
    if frame.crop == "none":
        return 0, 0, width, height
    left = max(0, width - height * frame.width / frame.height) / 2
    top = max(0, height - width * frame.height / frame.width) / 2
    return left, top, width - left, height - top


def read_file(path: Path, largest: int = LARGEST_FILE) -> bytes:
    """The content of a file of at most `largest` bytes. Raises Unusable."""
    try:
        if not path.is_file():
            raise Unusable("it is not there")
        if path.stat().st_size > largest:
            raise Unusable(f"it has {path.stat().st_size:,} bytes, more than {largest:,}")
        return path.read_bytes()
    except OSError as error:
        raise Unusable(f"it cannot be read ({error.strerror})") from error


def write(path: Path, names: Sequence[str], read: Read, frame: Frame, flat: bool) -> tuple[list[str], list[Skipped]]:
    """Decode pictures into the .npy `path`, in the order of their names, a few in memory at a time.

    (N, C, H, W) uint8, or `flat` (N, C * H * W). Returns the names of the rows, and the pictures that could not be used.
    """
    def picture_of(name: str) -> np.ndarray | Unusable:
        try:
            return decode(read(name), frame)
        except Unusable as error:
            return error

    kept: list[str] = []
    skipped: list[Skipped] = []
    shape = (math.prod(frame.shape),) if flat else frame.shape
    require_room(path.parent, len(names) * math.prod(shape))
    # Pillow warns of files that are odd but readable; a size that it takes for an attack is an error here.
    with (path.open("wb") as file, ThreadPoolExecutor(THREADS) as pool, warnings.catch_warnings(),
          tqdm(total=len(names), desc=path.name, unit="picture", disable=None) as bar):
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        _write_header(file, (0, *shape))
        for first in range(0, len(names), BLOCK_ROWS):
            block = names[first:first + BLOCK_ROWS]
            for name, found in zip(block, pool.map(picture_of, block), strict=True):
                if isinstance(found, Unusable):
                    skipped.append(Skipped("picture", name, str(found)))
                else:
                    file.write(found.tobytes())
                    kept.append(name)
            bar.update(len(block))
        file.seek(0)
        _write_header(file, (len(kept), *shape))  # of the same length: NumPy leaves room for the first axis to grow
    return kept, skipped


def _write_header(file: io.BufferedWriter, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


class Stored:
    """Pictures (N, C, H, W) that `write` stored. Iterate for blocks (n, C, H, W)."""

    dtype = np.dtype(np.uint8)

    def __init__(self, path: Path):
        self.path = path
        self.shape: tuple[int, ...] = np.load(path, mmap_mode="r").shape

    def __iter__(self) -> Iterator[np.ndarray]:
        stored = np.load(self.path, mmap_mode="r")
        for first in range(0, len(stored), BLOCK_ROWS):
            yield np.array(stored[first:first + BLOCK_ROWS])
