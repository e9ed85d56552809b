"""A site with the pretrained model, and golden files for the page's JavaScript."""

import json
import os
import shutil
from pathlib import Path

import pytest
import yaml

from pipeline import site as site_stage
from tests.conftest import ROOT
from tests.web import golden


def pretrained() -> Path:
    """The pretrained checkpoint, in the remote that comes with a clone."""
    def blob(md5: str) -> Path:
        return ROOT / "dvc-remote/files/md5" / md5[:2] / md5[2:]

    listed = blob(yaml.safe_load((ROOT / "pretrained/mnist.dvc").read_text(encoding="utf-8"))["outs"][0]["md5"])
    return blob(next(each["md5"] for each in json.loads(listed.read_text(encoding="utf-8")) if each["relpath"] == "model.safetensors"))


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    """The folder that `make site` writes where no model but the pretrained one is there."""
    folder = tmp_path_factory.mktemp("site")
    for name in ("web", "captions"):
        shutil.copytree(ROOT / name, folder / name)
    (folder / "pretrained/mnist").mkdir(parents=True)
    shutil.copyfile(pretrained(), folder / "pretrained/mnist/model.safetensors")
    before = Path.cwd()
    os.chdir(folder)
    try:
        site_stage.build(Path("site"))
    finally:
        os.chdir(before)
    return folder / "site"


@pytest.fixture(scope="session")
def golden_folder(tmp_path_factory) -> Path:
    """What tests.web.golden writes."""
    folder = tmp_path_factory.mktemp("golden")
    golden.write(folder)
    return folder
