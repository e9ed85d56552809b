"""A source, a model and a metric are added as docs/extending.md says, and nothing else is edited."""

import json

import pytest

from tests import documents
from tests.conftest import ROOT, Repository, shared
from text2image import load
from text2image.errors import UserError

DOCUMENT = ROOT / "docs/extending.md"


@pytest.fixture(scope="module")
def extended(checkout, tmp_path_factory) -> Repository:
    """A copy with what the document adds, reproduced. Read only."""
    def build(path) -> None:
        repository = checkout.copy(path)
        documents.apply(documents.blocks(DOCUMENT), repository.path)
        (path / "dvc.lock").unlink()  # DVC writes all of it anew after each stage
        repository.dvc("repro", "evaluate@stripes", "sample@stripes")
        repository.commit()

    return shared(tmp_path_factory, "extended", build)


def test_the_document_edits_parameters_and_the_pipeline_alone():
    found = documents.blocks(DOCUMENT)
    assert {block.path for block in found if block.how == "merge"} == {"params.yaml", "dvc.yaml"}
    assert {block.path.rpartition("/")[0] for block in found if block.how == "file"} == {
        "src/text2image/sources", "src/text2image/models", "src/text2image/results", "captions"}


def test_they_go_through_the_pipeline(extended):
    row = json.loads(extended.read("metrics/stripes.json"))
    assert {"diversity", "elbo_dev", "elbo_test", "squared_error_test", "steps"} == set(row)
    assert row["elbo_test"] < 0 < row["squared_error_test"] < 0.5
    assert row["steps"] == 2 * 400 / 20
    assert json.loads(extended.read("results/datasets/stripes.json"))["train"]["images"] == 400
    assert {path.name for path in (extended.path / "samples/stripes").iterdir()} == {"grid.png", "animation.gif"}
    assert json.loads(extended.dvc("status", "--json")).keys().isdisjoint(
        {f"{stage}@stripes" for stage in ("fetch", "preprocess", "train", "sample", "bounds", "diversity", "squared_error", "evaluate")})


def test_the_checkpoint_names_its_kind(extended, monkeypatch):
    """It is rebuilt from itself alone, where the module of its kind is there."""
    said = extended.run("python", "-c", "import text2image; m = text2image.load('models/stripes', device='cpu'); "
                        "print(m.model.kind, tuple(m.generate('thin vertical stripes .').shape))", PYTHONPATH="src")
    assert said.strip() == "bag_of_words (1, 1, 1, 12, 12)"
    with pytest.raises(UserError, match="'bag_of_words'; it takes one of align_draw"):
        load(extended.path / "models/stripes")


def test_an_edit_of_what_was_added_runs_again_its_own_runs_alone(extended, tmp_path):
    copy = extended.copy(tmp_path / "text2image")
    before = set(json.loads(copy.dvc("status", "--json")))
    for file, stages in (("src/text2image/sources/stripes.py", {"fetch@stripes", "preprocess@stripes"}),
                         ("src/text2image/models/bag_of_words.py", {f"{stage}@stripes" for stage in (
                             "train", "sample", "bounds", "diversity", "squared_error")}),
                         ("src/text2image/results/squared_error.py", {"squared_error@stripes"})):
        (copy.path / file).write_text(copy.read(file) + "\n# edited\n", encoding="utf-8")
        assert set(json.loads(copy.dvc("status", "--json"))) - before == stages, file
        copy.run("git", "checkout", "-q", file)


