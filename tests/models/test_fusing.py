"""Small operations fused by a compiler give what they give as they are written."""

import json
import os
import subprocess
import sys
import warnings
from dataclasses import replace

import pytest
import torch

from tests.conftest import ROOT
from tests.small import ALONE, CONFIG, make
from text2image.errors import UserWarningLine
from text2image.models import fusing
from text2image.models.lstm import lstm
from text2image.training.step import EagerStep

GATES, CELL = torch.linspace(-2, 2, 40, dtype=torch.float64).view(2, 20), torch.linspace(-1, 1, 10, dtype=torch.float64).view(2, 5)


@pytest.fixture(autouse=True)
def _as_written():
    yield
    fusing.allow(False)


@pytest.mark.parametrize("arguments", [("aot_eager",), pytest.param(("inductor", "cuda"), marks=pytest.mark.skipif(
    not torch.cuda.is_available(), reason="PyTorch finds no GPU here"))], ids=" ".join)
def test_bound_and_gradients_move_by_rounding_alone(arguments):
    """PyTorch's compiler reads every function whole, and runs what it read, or on a GPU makes kernels of it."""
    done = subprocess.run((sys.executable, "-m", "tests.models.fused", *arguments), cwd=ROOT, capture_output=True,
                          text=True, timeout=600, env=os.environ | {"PYTHONPATH": "src", "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    found = json.loads(done.stdout)
    assert found["functions"] == 10, "LSTMs, filter banks, align, read and write, forward and back"
    assert max(found["differences"]) < 1e-11
    assert found["training"] < 1e-4


@pytest.mark.parametrize("out", [None, torch.empty(2, 5, dtype=torch.float64)])
def test_what_is_fused_is_asked_for_once(monkeypatch, out):
    asked = []
    monkeypatch.setattr(torch, "compile", lambda function, dynamic: asked.append(dynamic) or function)
    fused = fusing.fusible(lstm.__wrapped__)
    as_written = fused(GATES, CELL)[0]
    fusing.allow(True)
    for _ in range(2):
        h = fused(GATES, CELL, out)[0]
        assert torch.equal(h, as_written)
        assert out is None or h is out
    assert asked == [False]


def test_where_nothing_can_be_compiled_one_line_says_so(monkeypatch):
    def broken(function, dynamic):
        raise torch._dynamo.exc.TorchDynamoException("no compiler here")

    monkeypatch.setattr(torch, "compile", broken)
    fused = fusing.fusible(lstm.__wrapped__)
    fusing.allow(True)
    with pytest.warns(UserWarningLine, match="could not be compiled, .*: no compiler here; train.compile: off does so"):
        h = fused(GATES, CELL)[0]
    assert torch.equal(h, lstm(GATES, CELL)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fused(GATES, CELL)


@pytest.mark.parametrize(("wanted", "allowed"), [("auto", False), ("always", True), ("off", False)])
def test_on_a_cpu_it_is_asked_for(monkeypatch, wanted, allowed):
    said = []
    monkeypatch.setattr(fusing, "allow", said.append)
    EagerStep(make(), replace(CONFIG, compile=wanted), ALONE)
    assert said == [allowed]
