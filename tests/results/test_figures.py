"""Figures and animations of what was drawn."""

import numpy as np
import pytest
from PIL import Image

from text2image.results import figures


@pytest.mark.parametrize("channels", [1, 3])
def test_figures(tmp_path, channels):
    rng = np.random.default_rng(0)
    images = rng.random((2, 3, channels, 8, 12))
    figures.grid(tmp_path / "grid.png", images, ["one", "two"])
    canvases, corners = rng.random((4, 2, channels, 8, 12)), np.tile([1.0, 2.0, 9.0, 6.0], (4, 2, 1))
    figures.animation(tmp_path / "animation.gif", canvases, corners, 5)
    figures.attention_plot(tmp_path / "attention.png", canvases, rng.random((4, 2, 5)), [["a", "red", "dog"], ["a", "cat"]])
    with Image.open(tmp_path / "animation.gif") as animation:
        assert (animation.n_frames, animation.size) == (5, (2 * (12 * 5 + 4), 8 * 5 + 4))
        animation.seek(1)
        frame = np.asarray(animation.convert("RGB")).astype(int)
        assert np.abs(frame[2 + 2 * 5, 2 + 5] - figures.INK).max() < 40, "the window's corner is drawn"
    for name in ("grid.png", "attention.png"):
        first = (tmp_path / name).read_bytes()
        with Image.open(tmp_path / name) as image:
            assert min(image.size) > 60
        assert len(np.unique(np.asarray(Image.open(tmp_path / name).convert("L")))) > 10
        if name == "grid.png":
            figures.grid(tmp_path / name, images, ["one", "two"])
            assert (tmp_path / name).read_bytes() == first, "equal images are equal files"
