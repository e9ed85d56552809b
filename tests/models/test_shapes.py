"""Shapes: every public function of models/ names those of its tensors, and in tests they are checked at every call.

tests/conftest.py puts the check into the modules when they are imported; tests/models/conftest.py switches it on.
"""

import inspect
import typing
from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules

import pytest
import torch
from jaxtyping import TypeCheckError

from tests.models.small import BATCH, inputs, make
from text2image import models
from text2image.models import filter_banks, gaussian, lstm, reference

PROTOCOL = {"forward"}  # of ImageModel: what `elbo` takes
AUTOGRAD = {"RecurrenceFunction", "LSTMCellFunction"}  # whose arguments torch prescribes


def public_functions() -> list:
    found = []
    for module in (import_module(f"text2image.models.{module.name}") for module in iter_modules(models.__path__)):
        for name, value in vars(module).items():
            if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
                continue
            if inspect.isfunction(value):
                found.append(value)
            elif inspect.isclass(value) and value.__name__ not in AUTOGRAD:
                parts = ((name, part.fget if isinstance(part, property) else part) for name, part in vars(value).items())
                found += [part for name, part in parts if inspect.isfunction(part) and not name.startswith("_")]
    return found


def bare(annotation: object) -> bool:
    """Whether a tensor is promised without a shape."""
    return annotation is torch.Tensor or (not isinstance(annotation, type) and any(map(bare, typing.get_args(annotation))))


def test_every_public_function_names_its_shapes():
    functions = public_functions()
    assert len(functions) > 40
    without = [f.__qualname__ for f in functions for name, annotation in f.__annotations__.items()
               if bare(annotation) and typing.get_origin(annotation) not in (dict, Mapping)]
    assert not without


def test_every_public_function_has_a_docstring():
    assert not [f.__qualname__ for f in public_functions() if not f.__doc__]


def wrong_calls() -> dict:
    model, (images, captions, noise) = make(), inputs()
    h_lang = torch.zeros(3, 5, 38, dtype=torch.double)
    rows, bank = torch.zeros(3, 29, 2, 31), filter_banks.filter_banks(torch.zeros(3, 5), 29, 31, 5, filter_banks.PAPER).bank(0, 3, 29)
    weights = dict(model.named_parameters())
    return {
        "elbo: another batch of captions": lambda: model.elbo(images, captions[1:], noise),
        "elbo: another batch of noise": lambda: model.elbo(images, captions, noise.transpose(0, 1)),
        "elbo: words that are no integers": lambda: model.elbo(images, captions.double(), noise),
        "elbo: an axis too few": lambda: model.elbo(images[:, 0], captions, noise),
        "elbo: lengths of another batch": lambda: model.elbo(images, captions, noise, torch.ones(BATCH - 1, dtype=torch.long)),
        "generate: captions transposed": lambda: model.generate(captions.T, noise),
        "write_box: four numbers": lambda: model.write_box(torch.zeros(2, 3, 4)),
        "caption encoder": lambda: model.caption_encoder(captions, captions),
        "filter banks": lambda: filter_banks.filter_banks(torch.zeros(2, 6), 29, 31, 5, filter_banks.PAPER),
        "read": lambda: filter_banks.read(rows[:, 0], bank),
        "write": lambda: filter_banks.write_(rows, torch.zeros(2, 10, 5), bank),
        "lstm": lambda: lstm.lstm(torch.zeros(2, 28), torch.zeros(3, 7)),
        "divergence": lambda: gaussian.divergence(torch.zeros(2, 3, 10), torch.zeros(3, 2, 10), torch.zeros(2, 3, 5)),
        "align": lambda: reference.align(weights, torch.zeros(2, 41, dtype=torch.double), h_lang),
    }


@pytest.mark.parametrize("what", wrong_calls())
def test_a_wrong_shape_is_caught(what):
    with pytest.raises(TypeCheckError):
        wrong_calls()[what]()


def test_a_wrong_result_is_caught(monkeypatch):
    """Were h_lang given back with batch and words exchanged."""
    model, captions = make(), inputs()[1]
    cat = torch.cat
    monkeypatch.setattr(torch, "cat", lambda parts, dim: cat(parts, dim).transpose(0, 1))
    with pytest.raises(TypeCheckError, match="return"):
        model.caption_encoder(captions)
