"""The folder that `make site` writes, and its server."""

import json
import re
import shutil
import socket
import threading
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from pipeline import site as site_stage
from tests.conftest import ROOT
from tests.web import golden
from text2image.errors import UserError
from text2image.models import checkpoints
from text2image.results import slim


def test_the_folder_has_all_that_it_names_and_nothing_outside_it(site):
    listing = json.loads((site / "models.json").read_text(encoding="utf-8"))
    assert [model["name"] for model in listing["models"]] == ["mnist"] and listing["report"] is None
    assert (site / listing["models"][0]["file"]).stat().st_size < 4_000_000
    named = [*re.findall(r'(?:href|src)="([^"#]+)"', (site / "index.html").read_text(encoding="utf-8")),
             *(str(path.parent.relative_to(site) / name) for path in site.glob("*/*.js")
               for name in re.findall(r'(?:from |import |URL\()"(\.?[^"]+\.js)"', path.read_text(encoding="utf-8")))]
    assert len(named) > 15
    for name in named:
        assert name.startswith("data:") or (site / name).resolve().is_file(), name
    for path in site.rglob("*"):
        assert path.stat().st_mode & 0o004, f"{path} cannot be read by a web server"
        if path.suffix in (".js", ".html", ".css"):
            assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", path.read_text(encoding="utf-8")), path


def test_a_model_of_another_run_is_one_line_away(tmp_path, monkeypatch, capsys):
    shutil.copytree(ROOT / "web", tmp_path / "web")
    (tmp_path / "models/mine").mkdir(parents=True)
    (tmp_path / "captions").mkdir()
    (tmp_path / "captions/mine.yaml").write_text("- a dog .\n")
    (tmp_path / "report").mkdir()
    (tmp_path / "report/index.html").write_text("<!doctype html><title>report</title>")
    with (tmp_path / "web/models.yaml").open("a") as lines:
        lines.write("- {name: mine, title: Mine, checkpoint: models/mine, captions: captions/mine.yaml}\n")
    checkpoints.save(tmp_path / "models/mine/model.safetensors",
                     checkpoints.Checkpoint(golden.build(*golden.MODELS["colour"]), golden.WORDS, None))
    monkeypatch.chdir(tmp_path)
    site_stage.build(Path("site"))
    listing = json.loads((tmp_path / "site/models.json").read_text())
    assert listing == {"models": [{"name": "mine", "title": "Mine", "file": "models/mine.safetensors", "captions": ["a dog ."]}],
                       "report": "report/index.html"}
    assert "made smaller" in capsys.readouterr().err
    before = (tmp_path / "site/models/mine.safetensors").read_bytes()
    site_stage.build(Path("site"))
    assert "made smaller" not in capsys.readouterr().err, "it is taken from the site of before"
    assert (tmp_path / "site/models/mine.safetensors").read_bytes() == before


def test_weights_of_16_bits_move_no_pixel_by_more_than_half_a_shade(tmp_path, monkeypatch):
    monkeypatch.setattr(slim, "SMALLEST", 500)
    source, path = tmp_path / "model.safetensors", tmp_path / "slim.safetensors"
    model = golden.build(*golden.MODELS["align_draw"])
    checkpoints.save(source, checkpoints.Checkpoint(model, golden.WORDS, None))
    captions = ["a dog .", "b c d e f"]
    slim.write(path, source, captions)
    with safe_open(path, "pt") as file:
        metadata = json.loads(file.metadata()["text2image"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    stored = metadata["stored"]
    assert stored["largest_difference_in_shades"] <= 0.5
    assert stored["float16"] and {name for name, value in tensors.items() if value.dtype == torch.float16} == set(stored["float16"])
    assert not any(name.startswith(("read.", "infer.", "posterior.")) for name in tensors) and "h0_infer" not in tensors
    ids = [golden.WORDS.encode(caption) for caption in captions]
    exact = slim._images(model, ids)
    model.load_state_dict({**model.state_dict(), **{name: value.float() for name, value in tensors.items()}})
    assert 255 * np.abs(slim._images(model, ids) - exact).max() == pytest.approx(stored["largest_difference_in_shades"], abs=1e-3)
    with pytest.raises(UserError, match="is of type F16; a checkpoint holds float32"):
        checkpoints.load(path)


def test_only_a_site_is_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/photograph.png").touch()
    with pytest.raises(UserError, match="mine holds something else than a site: name another folder by --into"):
        site_stage.build(Path("mine"))
    assert (tmp_path / "mine/photograph.png").exists()


@pytest.mark.parametrize(("text", "said"), [("- {name: a}", "missing parameter"), ("{", "not readable"), ("- 3", "must be a block")])
def test_a_list_that_is_none(tmp_path, text, said):
    (tmp_path / "models.yaml").write_text(text)
    with pytest.raises(UserError, match=said):
        site_stage.read_list(tmp_path / "models.yaml")


def test_a_name_stands_once(tmp_path):
    line = "- {name: a, title: A, checkpoint: models/a, captions: captions/a.yaml}\n"
    (tmp_path / "models.yaml").write_text(2 * line)
    with pytest.raises(UserError, match="a name stands twice"):
        site_stage.read_list(tmp_path / "models.yaml")


def test_the_server_takes_another_port_and_says_what_files_are(tmp_path):
    (tmp_path / "a.js").write_text("1")
    with socket.create_server(("127.0.0.1", 0)) as taken, site_stage.server(tmp_path, taken.getsockname()[1]) as running:
        assert running.server_port != taken.getsockname()[1]
        threading.Thread(target=running.serve_forever, daemon=True).start()
        with urllib.request.urlopen(f"http://127.0.0.1:{running.server_port}/a.js", timeout=10) as answer:
            assert answer.headers["Content-Type"] == "text/javascript" and answer.headers["Cache-Control"] == "no-cache"
        running.shutdown()
