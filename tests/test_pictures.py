"""Image files become bytes of one shape, whatever they are; what cannot be decoded is said to be so."""

import io
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from text2image import pictures
from text2image.pictures import Frame, Unusable, decode

FRAME = Frame(channels=3, height=5, width=7, crop="none", filter="box")
RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (5, 7, 3), np.uint8)  # of the frame's own size: nothing is resized


def file(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def decoded(content: bytes, **changes) -> np.ndarray:
    """(H, W, C)."""
    return decode(content, replace(FRAME, **changes)).transpose(1, 2, 0)


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True})])
def test_a_lossless_file_of_the_right_size_comes_back(kind, options):
    for chosen in pictures.FILTERS:
        assert np.array_equal(decoded(file(Image.fromarray(COLOURS), kind, **options), filter=chosen), COLOURS)


def test_jpeg():
    smooth = np.add.outer(20 * np.arange(5), 20 * np.arange(7)).astype(np.uint8)[..., None].repeat(3, 2)
    assert np.abs(decoded(file(Image.fromarray(smooth), "JPEG", quality=95)).astype(int) - smooth).max() <= 4


def test_grey_palette_bilevel_and_one_channel():
    grey = COLOURS[..., 0]
    as_rgb = grey[..., None].repeat(3, 2)
    assert np.array_equal(decoded(file(Image.fromarray(grey))), as_rgb)
    assert np.array_equal(decoded(file(Image.fromarray(grey)), channels=1), grey[..., None])
    assert np.array_equal(decoded(file(Image.fromarray(as_rgb)), channels=1), grey[..., None])
    palette = Image.fromarray(COLOURS).quantize(35)
    assert palette.mode == "P"
    assert np.array_equal(decoded(file(palette)), np.asarray(palette.convert("RGB")))
    bilevel = Image.fromarray(grey).convert("1")
    assert np.array_equal(decoded(file(bilevel)), 255 * np.asarray(bilevel)[..., None].repeat(3, 2))


def test_sixteen_bits():
    wide = RNG.integers(0, 65536, (5, 7)).astype(np.uint16)
    wide[0, :3] = 0, 65535, 257 * 100
    content = file(Image.fromarray(wide))
    with Image.open(io.BytesIO(content)) as image:
        assert image.mode.startswith("I")
    assert np.array_equal(decoded(content, channels=1)[..., 0], np.rint(wide / 257))


def test_cmyk():
    cmyk = Image.fromarray(np.full((5, 7, 3), (200, 100, 50), np.uint8)).convert("CMYK")
    assert np.abs(decoded(file(cmyk, "JPEG", quality=95)).astype(int) - (200, 100, 50)).max() <= 4


def test_what_is_transparent_shows_white():
    alpha = np.full((5, 7), 255, np.uint8)
    alpha[1], alpha[2] = 0, 128
    expected = COLOURS.copy()
    expected[1] = 255
    expected[2] = np.rint(COLOURS[2] * (128 / 255) + 255 * (127 / 255))
    rgba = Image.fromarray(np.dstack([COLOURS, alpha]))
    for content in (file(rgba), file(rgba, "WEBP", lossless=True, exact=True)):
        assert np.abs(decoded(content).astype(int) - expected).max() <= 1
    grey = Image.merge("LA", (Image.fromarray(COLOURS[..., 0]), Image.fromarray(alpha)))
    assert np.abs(decoded(file(grey), channels=1)[..., 0].astype(int) - expected[..., 0]).max() <= 1


def test_a_palette_with_transparent_colours():
    indices = (np.arange(35) % 3).reshape(5, 7).astype(np.uint8)
    image = Image.fromarray(indices)
    image = Image.frombytes("P", image.size, image.tobytes())
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    expected = np.array([[10, 20, 30], [255, 255, 255], [70, 80, 90]], np.uint8)[indices]
    for transparency in (1, bytes([255, 0, 255])):
        assert np.array_equal(decoded(file(image, transparency=transparency)), expected)


ORIENTATIONS = {1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: lambda a: a.transpose(1, 0, 2),
                6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).transpose(1, 0, 2), 8: np.rot90}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_exif_orientation(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    expected = ORIENTATIONS[orientation](COLOURS)
    height, width = expected.shape[:2]
    for content in (file(Image.fromarray(COLOURS), exif=exif), file(Image.fromarray(COLOURS), "WEBP", lossless=True, exif=exif)):
        assert np.array_equal(decoded(content, height=height, width=width), expected)


@pytest.mark.parametrize(("exif", "turned"), [
    (b"MM\0\0\0\0\0\x08", False),    # no TIFF header: Pillow raises SyntaxError
    (b"MM\0*\0\0\0\x08\0\x02", False),   # cut short: it warns
    (b"MM\0*\0\0\0\x08\0\x02" b"\x01\x00\0\x02\0\0\0\x06\0\0\0&" b"\x01\x12\0\x03\0\0\0\x01\0\x06\0\0" b"\0\0\0\0hello\0", True)])
def test_exif_that_makes_no_sense_costs_no_picture(tmp_path, exif, turned):
    """The last has an orientation, beside a width that is a text."""
    content = file(Image.fromarray(COLOURS), exif=b"Exif\0\0" + exif)
    frame = replace(FRAME, height=7, width=5) if turned else FRAME
    assert pictures.write(tmp_path / "a.npy", ["one"], lambda _: content, frame, flat=False) == (["one"], [])
    expected = np.rot90(COLOURS, -1) if turned else COLOURS
    assert np.array_equal(np.load(tmp_path / "a.npy")[0].transpose(1, 2, 0), expected)


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True})])
def test_an_animation_is_its_first_frame(kind, options):
    others = [Image.fromarray(255 - COLOURS), Image.fromarray(COLOURS // 2)]
    content = file(Image.fromarray(COLOURS), kind, save_all=True, append_images=others, duration=50, **options)
    with Image.open(io.BytesIO(content)) as image:
        assert image.n_frames == 3
    assert np.array_equal(decoded(content), COLOURS)


def test_pixels_are_averaged_not_picked():
    fine = RNG.integers(0, 256, (5, 4, 7, 4, 3), np.uint8)
    content = file(Image.fromarray(fine.reshape(20, 28, 3)))
    assert np.abs(decoded(content).astype(float) - fine.mean((1, 3))).max() <= 1
    stripes = np.tile(np.array([0, 255], np.uint8), (50, 70))
    smooth = decoded(file(Image.fromarray(stripes)), channels=1, filter="lanczos")
    assert np.abs(smooth.astype(int) - 127).max() <= 8


@pytest.mark.parametrize("upright", [False, True])
def test_the_centre_is_cropped_to_the_frames_proportions(upright):
    """The frame's own picture between two bars, which the crop leaves out and the squeeze does not."""
    bars = np.zeros((3, 7, 3), np.uint8) if upright else np.zeros((5, 4, 3), np.uint8)
    content = file(Image.fromarray(np.concatenate([bars, COLOURS, bars], 0 if upright else 1)))
    assert np.array_equal(decoded(content, crop="centre"), COLOURS)
    assert decoded(content, crop="none")[(0 if upright else slice(None)), (slice(None) if upright else 0)].max() == 0


def test_a_file_cut_anywhere_is_a_picture_or_unusable():
    for kind in pictures.FORMATS:
        whole = file(Image.fromarray(np.tile(COLOURS, (6, 6, 1))), kind)
        refused = 0
        for size in range(0, len(whole), max(1, len(whole) // 60)):
            try:
                assert decode(whole[:size], FRAME).shape == (3, 5, 7)
            except Unusable as error:
                refused += 1
                assert "\n" not in str(error)
                assert "0x" not in str(error), "the same words at every run"
        assert refused > 45


def png_that_says(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0")), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks)


def test_what_is_no_picture_is_skipped_and_listed(tmp_path):
    files = {"text.png": b"not a picture", "empty.jpg": b"", "animated.gif": file(Image.fromarray(COLOURS), "GIF"),
             "bomb.png": png_that_says(60_000, 60_000), "large.png": png_that_says(10_000, 10_000),
             "good.png": file(Image.fromarray(COLOURS)), "again.webp": file(Image.fromarray(COLOURS), "WEBP", lossless=True)}

    def read(name: str) -> bytes:
        if name not in files:
            raise Unusable("it is not there")
        return files[name]

    kept, skipped = pictures.write(tmp_path / "a.npy", [*files, "absent.png"], read, FRAME, flat=True)
    assert kept == ["good.png", "again.webp"]
    assert np.array_equal(np.load(tmp_path / "a.npy"), np.stack([COLOURS.transpose(2, 0, 1).ravel()] * 2))
    why = {name: reason for _, name, reason in skipped}
    assert list(why) == ["text.png", "empty.jpg", "animated.gif", "bomb.png", "large.png", "absent.png"]
    assert why["absent.png"] == "it is not there"
    assert {why[name] for name in ("text.png", "empty.jpg", "animated.gif")} == {"it is no JPEG, PNG or WebP picture"}
    assert "exceeds limit" in why["bomb.png"]
    assert "exceeds limit" in why["large.png"], "what Pillow only warns of"


def test_many_pictures_come_in_order_and_in_blocks(tmp_path):
    count = 2 * pictures.BLOCK_ROWS + 11
    contents = {f"{n}.png": file(Image.fromarray(np.full((5, 7, 3), n % 256, np.uint8))) for n in range(count)}
    kept, skipped = pictures.write(tmp_path / "a.npy", list(contents), contents.__getitem__, FRAME, flat=False)
    assert (kept, skipped) == (list(contents), [])
    stored = pictures.Stored(tmp_path / "a.npy")
    assert (stored.shape, stored.dtype) == ((count, 3, 5, 7), np.uint8)
    assert np.concatenate(list(stored))[:, 0, 0, 0].tolist() == [n % 256 for n in range(count)]


def test_a_file_too_large_or_absent(tmp_path):
    (tmp_path / "a.png").write_bytes(b"1234")
    assert pictures.read_file(tmp_path / "a.png") == b"1234"
    with pytest.raises(Unusable, match="it has 4 bytes, more than 3"):
        pictures.read_file(tmp_path / "a.png", 3)
    with pytest.raises(Unusable, match="it is not there"):
        pictures.read_file(tmp_path / "b.png")
