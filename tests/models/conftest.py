"""Shapes are checked here: see test_shapes.py."""

import jaxtyping
import pytest


@pytest.fixture(autouse=True)
def _shapes_are_checked():
    jaxtyping.config.update("jaxtyping_disable", False)
    yield
    jaxtyping.config.update("jaxtyping_disable", True)
