"""Images from files: decoded, cropped, resized, and stored as bytes one after another.

JPEG, PNG and WebP are read, by what a file holds and not by its name. Of an animation the first frame counts. Images are
turned as their EXIF orientation says; what is transparent shows white; 16 bits become 8; colour profiles and texts are
ignored. Both filters average over all the pixels that one of the result covers. A JPEG of more than LARGEST_IMAGE pixels is
decoded at half its size; of other kinds, which cannot be, such an image is not read.
"""

import io
import itertools
import math
import os
import struct
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from PIL.Image import Resampling, Transpose
from PIL.JpegImagePlugin import JpegImageFile
from tqdm import tqdm

from text2image.config import MAX_SIDE, frozen, parameter
from text2image.errors import UserWarningLine
from text2image.files.atomic import require_room
from text2image.files.skipped import Skipped

FORMATS = ("JPEG", "PNG", "WEBP")
FILTERS = {"lanczos": Resampling.LANCZOS, "box": Resampling.BOX}
ORIENTATION = 0x0112  # the EXIF tag, and what each of its values asks for
TURNS = {2: Transpose.FLIP_LEFT_RIGHT, 3: Transpose.ROTATE_180, 4: Transpose.FLIP_TOP_BOTTOM, 5: Transpose.TRANSPOSE,
         6: Transpose.ROTATE_270, 7: Transpose.TRANSVERSE, 8: Transpose.ROTATE_90}
BACKGROUND = (255, 255, 255, 255)
LARGEST_FILE = 1 << 26  # bytes
LARGEST_IMAGE = (1 << 28) // 3  # pixels, 89 million, at which Pillow warns; above twice as many it opens no file
LARGEST_JPEG = 150_000_000  # pixels; a progressive one takes 7 bytes for each
LARGE_IMAGE = 1 << 24  # pixels; of larger ones one is decoded at a time, for the memory's sake
ONE_LARGE = threading.Lock()
PNG = b"\x89PNG\r\n\x1a\n"
NEEDED_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"acTL", b"fcTL", b"fdAT", b"eXIf", b"IDAT", b"IEND")  # of PNG
GREY, RGB = 0, 2  # PNG's colour types for which one value, or one colour, may be transparent
BYTE_OF_16_BITS = np.rint(np.arange(65536) / 257).astype(np.uint8)
THREADS = min(4, os.cpu_count() or 1)
BLOCK_ROWS = 256

Read = Callable[[str], bytes]  # the content of an image's file, by its name; raises UnreadableImage


class UnreadableImage(Exception):
    """The reason why an image cannot be used."""


@frozen
class ImageFormat:
    """What an image becomes: channels, size in pixels, and how it gets there."""

    channels: Literal[1, 3]
    height: int = parameter(ge=1, le=MAX_SIDE)
    width: int = parameter(ge=1, le=MAX_SIDE)
    crop: Literal["centre", "none"]       # centre: the largest part of these proportions; none: all of it, squeezed
    filter: Literal["lanczos", "box"]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.channels, self.height, self.width


def decode_image(content: bytes, image_format: ImageFormat) -> np.ndarray:
    """An image (C, H, W) uint8 from the bytes of its file. Raises UnreadableImage, whatever is wrong with them."""
    try:
        image = _decoded(content, image_format)
    except UnreadableImage:
        raise
    except Image.DecompressionBombError as error:
        raise UnreadableImage(f"it has more than {2 * LARGEST_IMAGE:,} pixels: make it smaller") from error
    except Image.UnidentifiedImageError as error:
        raise UnreadableImage("it is no JPEG, PNG or WebP image") from error
    except Exception as error:  # a damaged file can fail at any step of its decoder, each with an error of its own
        raise UnreadableImage(f"it cannot be decoded ({' '.join(str(error).split()) or type(error).__name__})") from error
    values = np.asarray(image.convert("L" if image_format.channels == 1 else "RGB"))
    return values.reshape(image_format.height, image_format.width, image_format.channels).transpose(2, 0, 1)


def _decoded(content: bytes, image_format: ImageFormat) -> Image.Image:
    """An image of the format's size, without transparency."""
    try:
        return _resized(content, image_format)
    except UnreadableImage:
        raise
    except Exception:
        plain = _needed_chunks(content)  # a text or a profile that is damaged, or too large for Pillow, is not the image
        if plain == content:
            raise
        return _resized(plain, image_format)


def _resized(content: bytes, image_format: ImageFormat) -> Image.Image:
    with (Image.open(io.BytesIO(content), formats=FORMATS) as file,
          ONE_LARGE if math.prod(file.size) > LARGE_IMAGE else nullcontext()):
        _reduce(file)
        file.load()
        image = _upright(_rgb_or_rgba(file, content), file)
        size = image_format.width, image_format.height
        image = image.resize(size, FILTERS[image_format.filter], _box(image.size, image_format))
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, BACKGROUND), image)
    return image


def _reduce(file: Image.Image) -> None:
    """Have an image decoded at half its size, where it is too large and can be. Raises UnreadableImage otherwise."""
    (width, height), jpeg = file.size, isinstance(file, JpegImageFile)
    largest = LARGEST_JPEG if jpeg else LARGEST_IMAGE
    if width * height > largest:
        raise UnreadableImage(f"it has {width:,} x {height:,} pixels, more than {largest:,}: make it smaller"
                              f"{'' if jpeg else ', or a JPEG'}")
    if width * height > LARGEST_IMAGE:
        file.draft(None, (width // 2, height // 2))


def _upright(image: Image.Image, file: Image.Image) -> Image.Image:
    try:
        turn = TURNS.get(file.getexif().get(ORIENTATION, 1))
    except Exception:  # the image itself is whole: EXIF that makes no sense turns nothing
        turn = None
    return image if turn is None else image.transpose(turn)


def _rgb_or_rgba(file: Image.Image, content: bytes) -> Image.Image:
    """RGB, or RGBA where anything may be transparent."""
    transparent = _transparent(file, content)
    if transparent is None and "transparency" not in file.info and file.mode not in ("RGBA", "LA", "PA"):
        return file if file.mode == "RGB" else _grey(file).convert("RGB")
    if transparent is None:
        return file.convert("RGBA")
    file.info.pop("transparency", None)
    image = _grey(file).convert("RGB")
    image.putalpha(Image.fromarray(np.where(transparent, np.uint8(0), np.uint8(255))))
    return image


def _grey(file: Image.Image) -> Image.Image:
    """Grey of 16 bits as grey of 8; another image as it is."""
    if not file.mode.startswith("I"):
        return file
    values = np.asarray(file)
    return Image.fromarray(BYTE_OF_16_BITS[values if values.dtype == np.uint16 else values.clip(0, 65535)])


def _transparent(file: Image.Image, content: bytes) -> np.ndarray | None:
    """Where a PNG has the one value or colour that it says is transparent: (H, W) bool, None where it says none.

    Pillow compares that of 2, 4 and 16 bits with values that it has scaled to 8.
    """
    if b"tRNS" not in content:
        return None
    chunks = dict(itertools.takewhile(lambda chunk: chunk[0] != b"IDAT", _chunks(content)))
    if not {b"IHDR", b"tRNS"} <= chunks.keys():
        return None
    depth, kind = chunks[b"IHDR"][8:10]
    channels = {GREY: 1, RGB: 3}.get(kind)
    if channels is None:
        return None
    colour = [value & (1 << depth) - 1 for value in struct.unpack(f">{channels}H", chunks[b"tRNS"][:2 * channels])]
    if depth < 16:
        colour = [value * 255 // ((1 << depth) - 1) for value in colour]
        return _has_colour(file.convert("L") if kind == GREY else file, colour)
    if kind == GREY:
        return np.asarray(file) == colour[0]
    with Image.open(io.BytesIO(content), formats=FORMATS) as low:
        low.tile = [low.tile[0]._replace(args="RGB;16L")]  # the second byte of each two, not the first
        return _has_colour(file, [value >> 8 for value in colour]) & _has_colour(low, [value & 255 for value in colour])


def _has_colour(image: Image.Image, colour: Sequence[int]) -> np.ndarray:
    """Where an image of 8 bits has a colour: (H, W) bool. One channel at a time, for the memory's sake."""
    same = np.ones(image.size[::-1], bool)
    for channel, value in enumerate(colour):
        same &= np.asarray(image.getchannel(channel)) == value
    return same


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The chunks of a PNG whose size is right: names and content, in order. Nothing where it is no PNG."""
    start = len(PNG) if content.startswith(PNG) else len(content)
    while start + 12 <= len(content):
        size, name = struct.unpack_from(">I4s", content, start)
        yield name, content[start + 8:start + 8 + size]
        start += 12 + size


def _needed_chunks(content: bytes) -> bytes:
    """A PNG without what says nothing of its pixels; another file as it is."""
    start, kept = len(PNG), [PNG]
    for name, data in _chunks(content):
        if name in NEEDED_CHUNKS:
            kept.append(content[start:start + 12 + len(data)])
        start += 12 + len(data)
    return b"".join(kept) if content.startswith(PNG) else content


def _box(size: tuple[int, int], image_format: ImageFormat) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the part of an image of `size` (W, H) that is kept, in pixels."""
    width, height = size
    if image_format.crop == "none":
        return 0, 0, width, height
    left = max(0, width - height * image_format.width / image_format.height) / 2
    top = max(0, height - width * image_format.height / image_format.width) / 2
    return left, top, width - left, height - top


def read_file(path: Path, largest: int = LARGEST_FILE) -> bytes:
    """The content of a file of at most `largest` bytes. Raises UnreadableImage."""
    try:
        if not path.is_file():
            raise UnreadableImage("it is not there")
        if path.stat().st_size > largest:
            raise UnreadableImage(f"it has {path.stat().st_size:,} bytes, more than {largest:,}")
        return path.read_bytes()
    except OSError as error:
        raise UnreadableImage(f"it cannot be read ({error.strerror})") from error


def write(path: Path, names: Sequence[str], read: Read, image_format: ImageFormat,
          flat: bool) -> tuple[list[str], list[Skipped]]:
    """Decode images into the .npy `path`, in the order of their names, a few in memory at a time.

    (N, C, H, W) uint8, or `flat` (N, C * H * W). Returns the names of the rows, and the images that could not be used.
    """
    def image_of(name: str) -> np.ndarray | UnreadableImage:
        try:
            return decode_image(read(name), image_format)
        except UnreadableImage as error:
            return error

    kept: list[str] = []
    skipped: list[Skipped] = []
    shape = (math.prod(image_format.shape),) if flat else image_format.shape
    require_room(path.parent, len(names) * math.prod(shape))
    largest = 0
    # Pillow warns of files that are odd but readable.
    with (path.open("wb") as file, ThreadPoolExecutor(THREADS) as pool, warnings.catch_warnings(),
          tqdm(total=len(names), desc=path.name, unit="image", disable=None) as bar):
        warnings.simplefilter("ignore")
        _write_header(file, (0, *shape))
        for first in range(0, len(names), BLOCK_ROWS):
            block = names[first:first + BLOCK_ROWS]
            for name, found in zip(block, pool.map(image_of, block), strict=True):
                if isinstance(found, UnreadableImage):
                    skipped.append(Skipped("image", name, str(found)))
                else:
                    file.write(found.tobytes())
                    largest = max(largest, int(found.max()))
                    kept.append(name)
            bar.update(len(block))
        file.seek(0)
        _write_header(file, (len(kept), *shape))  # of the same length: NumPy leaves room for the first axis to grow
    if kept and largest <= 1:
        warnings.warn(f"{path.stem}: no value of its {len(kept):,} images is above {largest}, of 255, so that all are black: "
                      "are they masks, or of values from 0 to 1?", UserWarningLine, stacklevel=2)
    return kept, skipped


def _write_header(file: io.BufferedWriter, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


class StoredImages:
    """Images (N, C, H, W) that `write` stored. Iterate for blocks (n, C, H, W) of them: ImageBlocks."""

    dtype = np.dtype(np.uint8)

    def __init__(self, path: Path):
        self.path = path
        self.shape: tuple[int, ...] = np.load(path, mmap_mode="r").shape

    def __iter__(self) -> Iterator[np.ndarray]:
        stored = np.load(self.path, mmap_mode="r")
        for first in range(0, len(stored), BLOCK_ROWS):
            yield np.array(stored[first:first + BLOCK_ROWS])
