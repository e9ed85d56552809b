"""Results come with a clone: the remote inside this repository, and an S3 one."""

import json
from pathlib import Path

import pytest
import torch
from dvc.utils.serialize import load_yaml

from tests.conftest import ROOT, Repository, shared
from text2image.models import checkpoints
from text2image.results import sampling

LARGEST_REMOTE = 30 * 2**20  # bytes


@pytest.fixture(scope="module")
def clone(checkout, tmp_path_factory) -> Repository:
    """What is committed: results that were made since, on this machine, lie in its own cache alone."""
    def build(path: Path) -> None:
        checkout.run("git", "clone", "-q", str(ROOT), str(path))
        Repository(path).dvc("pull")

    return shared(tmp_path_factory, "clone", build)


def test_a_clone_is_up_to_date_after_a_pull_and_repro_runs_nothing(clone):
    assert "up to date" in clone.dvc("status")
    said = clone.dvc("repro")
    assert "Running stage" not in said
    assert "up to date" in said
    assert clone.run("git", "status", "--porcelain") == ""


@pytest.mark.parametrize("run", ["digits", "shapes"])
def test_the_metrics_in_git_are_those_of_the_checkpoints(clone, run, tmp_path):
    """Scored anew from what was pulled; another processor may round otherwise."""
    clone = clone.copy(tmp_path / "text2image")
    recorded = json.loads(clone.read(f"results/{run}/bounds.json"))
    row = json.loads(clone.read(f"metrics/{run}.json"))
    clone.set_parameters({f"runs.{run}.bounds.iwae_captions": 10})
    clone.stage("measure", "bounds", run, run)
    again = json.loads(clone.read(f"results/{run}/bounds.json"))
    for split in set(recorded) - {"headline"}:
        assert again[split]["captions"] == recorded[split]["captions"]
        for name in ("elbo", "reconstruction", "kl"):
            assert again[split][name] == pytest.approx(recorded[split][name], rel=1e-3), (split, name)
        if split != "train":
            assert row[f"elbo_{split.removeprefix('test_')}"] == round(recorded[split]["elbo"]["mean"], 2)


def test_the_pretrained_model_is_what_training_made_by_the_lock(clone):
    (tracked,) = load_yaml(str(clone.path / "pretrained/mnist.dvc"))["outs"]
    made = load_yaml(str(clone.path / "dvc.lock"))["stages"]["train@mnist"]
    assert {out["path"]: out["md5"] for out in made["outs"]}["models/mnist"] == tracked["md5"]
    parameters = load_yaml(str(clone.path / "params.yaml"))
    recorded = made["params"]["params.yaml"]
    assert recorded["seed"] == parameters["seed"]
    for block in ("model", "train"):
        assert recorded[f"runs.mnist.{block}"] == parameters["runs"]["mnist"][block]


@pytest.mark.parametrize("place", ["top left", "top right", "bottom left", "bottom right"])
def test_the_pretrained_model_draws_where_the_caption_says(clone, place):
    """Of what it paints, most lies in that quarter."""
    checkpoint = checkpoints.load(clone.path / "pretrained/mnist/model.safetensors")
    captions = [checkpoint.vocabulary.encode(f"the digit {digit} is at the {place} of the image .") for digit in range(10)]
    images = sampling.draw(checkpoint.model, captions, 2, 0, torch.device("cpu")).images.mean((1, 2))  # (10, 60, 60)
    quarters = {f"{row} {column}": images[:, rows, columns].sum()
                for row, rows in (("top", slice(0, 30)), ("bottom", slice(30, 60)))
                for column, columns in (("left", slice(0, 30)), ("right", slice(30, 60)))}
    assert quarters[place] > 0.7 * sum(quarters.values()), quarters
    assert images.sum((1, 2)).min() > 20, "pixels of white in each"


def test_the_pretrained_model_by_its_name(clone, tmp_path):
    """`dvc artifacts get` finds the version that has a Git tag."""
    copy = clone.copy(tmp_path / "text2image")
    copy.run("git", "tag", "-a", "mnist@v1.0.0", "-m", "the first")
    copy.dvc("artifacts", "get", ".", "mnist", "-o", str(tmp_path / "by name"))
    for name in ("model.safetensors", "last.safetensors", "card.yaml"):
        assert (tmp_path / "by name" / name).read_bytes() == (clone.path / "pretrained/mnist" / name).read_bytes()


def test_the_remote_in_this_repository_stays_small():
    sizes = [path.stat().st_size for path in (ROOT / "dvc-remote").rglob("*") if path.is_file()]
    assert len(sizes) > 10
    assert sum(sizes) < LARGEST_REMOTE


def test_push_and_pull_with_s3(short, tmp_path, monkeypatch):
    """A real S3 API, moto's server; the commands are README's."""
    import boto3
    from moto.server import ThreadedMotoServer

    for name, value in (("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test"), ("AWS_DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(name, value)
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        boto3.client("s3", endpoint_url=f"http://{host}:{port}").create_bucket(Bucket="results")
        copy = short.copy(tmp_path / "text2image")
        copy.environment |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
        copy.dvc("remote", "add", "s3", "s3://results/text2image")
        copy.dvc("remote", "modify", "s3", "endpointurl", f"http://{host}:{port}")
        assert "files pushed" in copy.dvc("push", "-r", "s3")
        copy.commit()
        clone = tmp_path / "clone"
        copy.run("git", "clone", "-q", str(copy.path), str(clone))
        other = Repository(clone)
        other.environment = copy.environment
        other.dvc("pull", "-r", "s3")
        assert "up to date" in other.dvc("status")
    finally:
        server.stop()
