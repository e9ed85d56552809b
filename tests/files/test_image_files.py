"""Image files become bytes of one shape, whatever they are; what cannot be decoded is said to be so."""

import io
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from text2image.errors import UserWarningLine
from text2image.files import image_files
from text2image.files.image_files import ImageFormat, UnreadableImage, decode_image

FORMAT = ImageFormat(channels=3, height=5, width=7, crop="none", filter="box")
RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (5, 7, 3), np.uint8)  # of the format's own size: nothing is resized


def file(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def decoded(content: bytes, **changes) -> np.ndarray:
    """(H, W, C)."""
    return decode_image(content, replace(FORMAT, **changes)).transpose(1, 2, 0)


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True})])
def test_a_lossless_file_of_the_right_size_comes_back(kind, options):
    for chosen in image_files.FILTERS:
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
def test_exif_that_makes_no_sense_costs_no_image(tmp_path, exif, turned):
    """The last has an orientation, beside a width that is a text."""
    content = file(Image.fromarray(COLOURS), exif=b"Exif\0\0" + exif)
    image_format = replace(FORMAT, height=7, width=5) if turned else FORMAT
    assert image_files.write(tmp_path / "a.npy", ["one"], lambda _: content, image_format, flat=False) == (["one"], [])
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
def test_the_centre_is_cropped_to_the_formats_proportions(upright):
    """The format's own image between two bars, which the crop leaves out and the squeeze does not."""
    bars = np.zeros((3, 7, 3), np.uint8) if upright else np.zeros((5, 4, 3), np.uint8)
    content = file(Image.fromarray(np.concatenate([bars, COLOURS, bars], 0 if upright else 1)))
    assert np.array_equal(decoded(content, crop="centre"), COLOURS)
    assert decoded(content, crop="none")[(0 if upright else slice(None)), (slice(None) if upright else 0)].max() == 0


def test_a_file_cut_anywhere_is_an_image_or_unreadable():
    for kind in image_files.FORMATS:
        whole = file(Image.fromarray(np.tile(COLOURS, (6, 6, 1))), kind)
        refused = 0
        for size in range(0, len(whole), max(1, len(whole) // 60)):
            try:
                assert decode_image(whole[:size], FORMAT).shape == (3, 5, 7)
            except UnreadableImage as error:
                refused += 1
                assert "\n" not in str(error)
                assert "0x" not in str(error), "the same words at every run"
        assert refused > 45


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks)


def png_that_says(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return png((b"IHDR", header), (b"IDAT", zlib.compress(b"\0")), (b"IEND", b""))


def scanlines(samples: np.ndarray, depth: int) -> bytes:
    """Samples (H, W, channels) as PNG stores them: each line with its filter, in turn none and the difference to the left."""
    height, _, channels = samples.shape
    if not samples.size:
        return b""
    if depth == 16:
        lines = samples.astype(">u2").reshape(height, -1).view(np.uint8)
    else:
        bits = np.unpackbits(samples.astype(np.uint8).reshape(height, -1, 1), axis=2)[..., 8 - depth:]
        lines = np.packbits(bits.reshape(height, -1), axis=1)
    step = max(1, channels * depth // 8)  # bytes to the pixel on the left
    left = np.pad(lines, ((0, 0), (step, 0)))[:, :-step]
    return b"".join(bytes([n % 2]) + (line - before if n % 2 else line).tobytes() for n, (line, before) in enumerate(zip(lines, left, strict=True)))


# The first pixel and the steps of Adam7's passes: x, y, dx, dy.
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def png_of(samples: np.ndarray, depth: int, kind: int, interlaced: bool, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of a colour type, written out by hand; `chunks` come before the pixels."""
    height, width = samples.shape[:2]
    parts = [samples[y::dy, x::dx] for x, y, dx, dy in ADAM7] if interlaced else [samples]
    pixels = b"".join(scanlines(part, depth) for part in parts)
    return png((b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlaced)), *chunks,
               (b"IDAT", zlib.compress(pixels)), (b"IEND", b""))


EVERY_KIND = [(0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (2, 8), (2, 16), (3, 1), (3, 2), (3, 4), (3, 8), (4, 8), (4, 16), (6, 8), (6, 16)]


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("kind", "depth"), EVERY_KIND)
def test_what_is_transparent_shows_white_in_every_png(kind, depth, interlaced):
    """Every colour type at every depth, against values worked out from the samples."""
    rng = np.random.default_rng(kind + depth)
    full, height, width = (1 << depth) - 1, 11, 13
    samples = rng.integers(0, full + 1, (height, width, {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]))
    chunks: list[tuple[bytes, bytes]] = []
    if kind == 3:
        colours = rng.integers(0, 255, (full + 1, 3))
        alpha = np.where(np.arange(full + 1) % 2, 255, 0)
        chunks = [(b"PLTE", colours.astype(np.uint8).tobytes()), (b"tRNS", alpha.astype(np.uint8).tobytes()[:-1])]  # the rest is opaque
        shown, opacity = colours[samples[..., 0]], alpha[samples[..., 0]] / 255
    else:
        if kind in (0, 2):
            key = samples[3, 5].copy()
            samples[rng.random((height, width)) < 0.3] = key
            near = key.copy()
            near[-1] ^= 1  # differs in the last bit alone, which 8 of 16 bits do not show
            samples[0, :4] = near
            chunks = [(b"tRNS", struct.pack(f">{len(key)}H", *(key | (0xffff & ~full))))]  # what is above the depth does not count
            opacity = (samples != key).any(2).astype(float)
            assert 0 < opacity.mean() < 1
        else:
            samples[:2, :, -1], samples[2:4, :, -1] = 0, full
            opacity = samples[..., -1] / full
        values = samples if kind in (0, 2) else samples[..., :-1]
        shown = np.rint(values * 255 / full) if (kind, depth) != (2, 16) and depth < 16 else values >> 8
        if (kind, depth) == (0, 16):
            shown = np.rint(values / 257)
    expected = (shown * opacity[..., None] + 255 * (1 - opacity[..., None])) * np.ones(3)
    found = decoded(png_of(samples, depth, kind, interlaced, *chunks), height=height, width=width).astype(float)
    certain = (opacity == 0) | (opacity == 1)
    assert certain.mean() > 0.3
    assert np.array_equal(found[certain], expected[certain])
    assert np.abs(found - expected).max(initial=0) <= 2, "half transparent"
    opaque = decoded(png_of(samples, depth, kind, interlaced, *chunks[:-1]), height=height, width=width)
    assert np.array_equal(opaque[opacity == 1], found[opacity == 1])


def test_every_value_of_sixteen_bits():
    values = np.arange(65536).reshape(256, 256, 1)
    found = decoded(png_of(values, 16, 0, False), channels=1, height=256, width=256)
    assert np.array_equal(found, np.rint(values / 257))


LONG = bytes(3 << 20)


@pytest.mark.parametrize("chunk", [
    (b"iCCP", b"profile\0\0" + zlib.compress(LONG)), (b"zTXt", b"Comment\0\0" + zlib.compress(LONG)), (b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(LONG)),
    (b"tEXt", b"Comment\0" + LONG), (b"iCCP", b"profile\0\0no deflate"), (b"zTXt", b"cut"), (b"gAMA", b""), (b"pHYs", b"1")], ids=lambda chunk: chunk[0])
def test_what_a_png_holds_beside_its_pixels_costs_no_image(chunk):
    """More than a megabyte of profile or text, or one that makes no sense. The orientation is read all the same."""
    exif = Image.Exif()
    exif[0x0112] = 8
    content = png_of(COLOURS, 8, 2, False, chunk, (b"eXIf", exif.tobytes()[6:]), (b"tRNS", struct.pack(">3H", *COLOURS[1, 2])))
    expected = COLOURS.copy()
    expected[1, 2] = 255
    assert np.array_equal(decoded(content, height=7, width=5), np.rot90(expected))


def flat_jpeg(width: int, height: int) -> bytes:
    """A left half of one colour and a right half of another."""
    image = Image.new("RGB", (width, height), (200, 100, 50))
    image.paste((50, 100, 200), (width // 2, 0, width, height))
    return file(image, "JPEG", quality=90)


def test_a_large_jpeg_is_reduced_while_it_is_decoded(tmp_path, monkeypatch):
    """The limit is lowered, so that the test is short; of 108 megapixels it was tried as well."""
    monkeypatch.setattr(image_files, "LARGEST_IMAGE", 100_000)
    monkeypatch.setattr(image_files, "LARGEST_JPEG", 300_000)
    monkeypatch.setattr(image_files, "LARGE_IMAGE", 10_000)
    files = {"half.jpg": flat_jpeg(600, 300), "odd.jpg": flat_jpeg(601, 499), "beyond.jpg": flat_jpeg(600, 501), "large.png": file(Image.new("RGB", (400, 300))), "small.jpg": flat_jpeg(300, 300),
             "large.webp": file(Image.new("RGB", (400, 300)), "WEBP")}
    kept, skipped = image_files.write(tmp_path / "a.npy", list(files), files.__getitem__, ImageFormat(3, 4, 4, "none", "box"), flat=False)
    assert kept == ["half.jpg", "odd.jpg", "small.jpg"]
    halves = np.array([[200, 100, 50]] * 2 + [[50, 100, 200]] * 2).T[None, :, None]
    assert np.abs(np.load(tmp_path / "a.npy") - halves.astype(float)).max() <= 6
    assert {item.name: item.reason for item in skipped} == {
        "beyond.jpg": "it has 600 x 501 pixels, more than 300,000: make it smaller"} | dict.fromkeys(
        ("large.png", "large.webp"), "it has 400 x 300 pixels, more than 100,000: make it smaller, or a JPEG")


def test_images_that_are_all_black_are_warned_of(tmp_path):
    masks = {f"{n}.png": file(Image.fromarray(COLOURS[..., 0] % 2)) for n in range(3)}
    with pytest.warns(UserWarningLine, match=r"train: no value of its 3 images is above 1, of 255, .* are they masks, or of values from 0 to 1\?"):
        image_files.write(tmp_path / "train.npy", list(masks), masks.__getitem__, FORMAT, flat=False)


def test_what_is_no_image_is_skipped_and_listed(tmp_path):
    files = {"text.png": b"not a picture", "empty.jpg": b"", "animated.gif": file(Image.fromarray(COLOURS), "GIF"),
             "bomb.png": png_that_says(60_000, 60_000), "large.png": png_that_says(10_000, 10_000),
             "good.png": file(Image.fromarray(COLOURS)), "again.webp": file(Image.fromarray(COLOURS), "WEBP", lossless=True)}

    def read(name: str) -> bytes:
        if name not in files:
            raise UnreadableImage("it is not there")
        return files[name]

    kept, skipped = image_files.write(tmp_path / "a.npy", [*files, "absent.png"], read, FORMAT, flat=True)
    assert kept == ["good.png", "again.webp"]
    assert np.array_equal(np.load(tmp_path / "a.npy"), np.stack([COLOURS.transpose(2, 0, 1).ravel()] * 2))
    reasons = {name: reason for _, name, reason in skipped}
    assert list(reasons) == ["text.png", "empty.jpg", "animated.gif", "bomb.png", "large.png", "absent.png"]
    assert reasons["absent.png"] == "it is not there"
    assert {reasons[name] for name in ("text.png", "empty.jpg", "animated.gif")} == {"it is no JPEG, PNG or WebP image"}
    assert reasons["bomb.png"] == "it has more than 178,956,970 pixels: make it smaller"
    assert reasons["large.png"] == "it has 10,000 x 10,000 pixels, more than 89,478,485: make it smaller, or a JPEG"


def test_many_images_come_in_order_and_in_blocks(tmp_path):
    count = 2 * image_files.BLOCK_ROWS + 11
    contents = {f"{n}.png": file(Image.fromarray(np.full((5, 7, 3), n % 256, np.uint8))) for n in range(count)}
    kept, skipped = image_files.write(tmp_path / "a.npy", list(contents), contents.__getitem__, FORMAT, flat=False)
    assert (kept, skipped) == (list(contents), [])
    stored = image_files.StoredImages(tmp_path / "a.npy")
    assert (stored.shape, stored.dtype) == ((count, 3, 5, 7), np.uint8)
    assert np.concatenate(list(stored))[:, 0, 0, 0].tolist() == [n % 256 for n in range(count)]


def test_a_file_too_large_or_absent(tmp_path):
    (tmp_path / "a.png").write_bytes(b"1234")
    assert image_files.read_file(tmp_path / "a.png") == b"1234"
    with pytest.raises(UnreadableImage, match="it has 4 bytes, more than 3"):
        image_files.read_file(tmp_path / "a.png", 3)
    with pytest.raises(UnreadableImage, match="it is not there"):
        image_files.read_file(tmp_path / "b.png")
