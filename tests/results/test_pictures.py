"""Figures made small."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from text2image.errors import UserError
from text2image.results import pictures


def decoded(picture: pictures.Picture) -> Image.Image:
    head, _, content = picture.uri.partition(",")
    assert head == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


def test_a_figure_is_made_smaller_and_keeps_its_colours(tmp_path):
    Image.new("RGB", (2 * pictures.WIDEST, 500), (200, 60, 20)).save(tmp_path / "wide.png")
    found = pictures.read(tmp_path / "wide.png")
    assert (found.width, found.height, found.moves) == (pictures.WIDEST, 250, False)
    image = decoded(found)
    assert image.size == (found.width, found.height)
    assert np.abs(np.asarray(image.convert("RGB")).astype(int) - [200, 60, 20]).max() < 8
    assert found.size < 5000


def test_an_animation_keeps_its_frames_and_their_durations(tmp_path):
    frames = [Image.new("RGB", (40, 30), (0, 80 * number, 0)) for number in range(3)]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:], duration=[120, 120, 1500])
    found = pictures.read(tmp_path / "film.gif")
    image = decoded(found)
    assert (found.moves, image.n_frames, found.width) == (True, 3, 40)
    durations = []
    for number in range(3):
        image.seek(number)
        image.load()
        durations.append(image.info["duration"])
        assert abs(image.convert("RGB").getpixel((20, 15))[1] - 80 * number) < 12
    assert durations == [120, 120, 1500]


def test_what_is_small_already_is_taken_as_it_is(tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "kept.webp", lossless=True)
    assert pictures.small(tmp_path / "kept.webp") == (tmp_path / "kept.webp").read_bytes()


def test_what_is_no_image_is_named(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 60, 3), np.uint8)).save(tmp_path / "whole.png")
    for content in (b"", b"no image", (tmp_path / "whole.png").read_bytes()[:3000]):
        (tmp_path / "x.png").write_bytes(content)
        with pytest.raises(UserError, match=r"x\.png: not readable as an image .*makes it again"):
            pictures.read(tmp_path / "x.png")
