"""The page's JavaScript without a browser: node runs tests/web/*.test.mjs against Python's golden files."""

import os
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT


def test_the_pages_model_is_pythons(golden_folder, tmp_path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node is installed")
    version = subprocess.run((node, "--version"), capture_output=True, text=True).stdout
    if int(version.removeprefix("v").split(".")[0]) < 20:
        pytest.skip(f"node is {version.strip()}, the tests need 20")
    environment = os.environ | {"GOLDEN": str(golden_folder), "GIF": str(tmp_path / "film")}
    done = subprocess.run((node, "--test", "tests/web/"), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr
    assert "# fail 0" in done.stdout or "fail 0" in done.stdout
    for channels in (1, 3):  # as tests/web/page.test.mjs made them
        check_gif(tmp_path / f"film-{channels}.gif", channels)


def check_gif(path, channels: int) -> None:
    """Another reader finds the film of tests/web/page.test.mjs in the GIF."""
    glimpses, height, width = 3, 5, 7
    shades = (np.arange(glimpses * height * width * channels) * 37 % 256).reshape(glimpses, height, width, channels)
    with Image.open(path) as gif:
        assert gif.n_frames == glimpses + 1
        scale = gif.size[1] // height
        for t in range(gif.n_frames):
            gif.seek(t)
            frame = np.asarray(gif.convert("RGB"), int)
            for left in (0, gif.size[0] - width * scale):
                cells = frame[scale // 2::scale, left + scale // 2:left + width * scale:scale]
                assert np.abs(cells - shades[min(t, glimpses - 1)]).max() <= 2
