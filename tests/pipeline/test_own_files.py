"""Nobody's own files are lost: where DVC and the stages write, and what lies there that is not theirs."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from dvc.utils.serialize import load_yaml
from PIL import Image

from pipeline import outputs
from tests.conftest import ROOT, Repository
from text2image.errors import UserError

FILES = 41


def photographs(folder: Path) -> dict[str, str]:
    """40 images and their captions.csv, in `folder`; the digests of all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    rows = ["image,caption"]
    for n in range(FILES - 1):
        Image.fromarray(rng.integers(0, 256, (3, 5, 3), np.uint8)).save(folder / f"photograph{n}.png")
        rows.append(f"photograph{n}.png,a cat and a dog number{n % 3} .")
    (folder / "captions.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return digests(folder)


def digests(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in sorted(folder.rglob("*")) if file.is_file()}


@pytest.fixture
def copy(checkout, tmp_path) -> Repository:
    """A clone in which the dataset `folder` is switched on, committed."""
    copy = checkout.copy(tmp_path / "text2image")
    copy.replace("params.yaml", "    # folder: {", "    folder: {")
    copy.set_parameters({"datasets.folder.preprocess.images.height": 8, "datasets.folder.preprocess.images.width": 8,
                         "datasets.shapes.fetch.images.train": 40, "datasets.shapes.fetch.images.dev": 4,
                         "datasets.shapes.fetch.images.test": 4})
    copy.commit()
    return copy


def kept(path: Path, own: dict[str, str]) -> None:
    found = digests(path)
    assert {name: found.get(name) for name in own} == own, "something of the user's is lost"


def test_photographs_in_data_raw_are_where_they_may_be(copy):
    """The likeliest place. It is no output: `dvc repro` and `dvc exp run` leave it alone, and a preparation works."""
    own = photographs(copy.path / "data/raw/folder")
    copy.set_parameters({"datasets.folder.fetch.folder": "data/raw/folder"})
    copy.dvc("exp", "run", "fetch@folder")
    kept(copy.path / "data/raw/folder", own)
    copy.dvc("repro", "-f", "-s", "fetch@folder")
    kept(copy.path / "data/raw/folder", own)
    assert len(digests(copy.path / "data/fetched/folder/images")) == FILES - 1


@pytest.mark.parametrize("place", ["data/fetched/folder", "data/fetched/shapes", "models/shapes"])
def test_a_folder_where_stages_write_is_refused_and_nothing_in_it_is_lost(copy, place):
    own = photographs(copy.path / place)
    copy.set_parameters({"datasets.folder.fetch.folder": place})
    said = copy.dvc("repro", "fetch@folder", code=None)
    assert f"error: parameter 'datasets.folder.fetch.folder' is {place}, which lies in " in said
    assert "Traceback" not in said
    kept(copy.path / place, own)


def test_where_stages_write_is_no_place_for_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("models")

    def check(folder: object) -> None:
        outputs.require_elsewhere({"datasets": {"mine": {"fetch": {"folder": folder}}}}, Path("state"))

    for place in (*outputs.WRITTEN, "data/fetched/mine/deep", "models/mine", "state/fetch-mine", "link/mine", str(tmp_path / "samples/x"),
                  "data/../data/fetched", "./drawn/"):
        with pytest.raises(UserError, match="where stages write and DVC deletes: move the folder to another place"):
            check(place)
    for place in ("data/raw/mine", "../mine", "mine", "data", "data/fetched2", "~/mine", "~nobody/mine", "a\0b", 3, None):
        check(place)


def test_what_stages_write_is_known_and_dvc_deletes_nothing_before_a_fetch():
    for name, stage in load_yaml(str(ROOT / "dvc.yaml"))["stages"].items():
        for out in stage.get("do", stage).get("outs", ()):
            ((path, options),) = ({out: {}} if isinstance(out, str) else out).items()
            assert any(Path(path).is_relative_to(top) for top in outputs.WRITTEN), (name, path)
            # Without it DVC finds again what it made before, by other parameters; that is worth more where training is long.
            assert (options.get("persist") is True) == (name == "fetch"), (name, path)


def test_a_folder_beside_an_output_keeps_its_name(tmp_path, monkeypatch):
    """What is half-written has a name of its own, that nobody gives."""
    monkeypatch.chdir(tmp_path)
    own = photographs(tmp_path / "drawn.partial")
    with outputs.replaced(Path("drawn")) as folder:
        (folder / "grid.png").touch()
    kept(tmp_path / "drawn.partial", own)
