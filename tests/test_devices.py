"""Where and how precisely the arithmetic is done."""

import pytest
import torch

from text2image import devices


@pytest.fixture(autouse=True)
def _as_it_was():
    yield
    devices.allow_tf32(False)


def allowed() -> tuple[bool, bool]:
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


def test_one_switch_of_tf32_covers_products_and_convolutions():
    """PyTorch has two, of which that of convolutions is on."""
    for precision, dtype, expected in (("tf32", None, True), ("float32", None, False), ("bfloat16", torch.bfloat16, False)):
        assert devices.product_type(precision) is dtype
        assert allowed() == (expected, expected)


def test_threads_are_as_many_as_are_asked_for():
    for asked, expected in ((2, 2), (0, 2), (1, 1)):
        devices.use_threads(asked)
        assert torch.get_num_threads() == expected


def test_a_device_that_is_chosen_computes_in_float32():
    devices.allow_tf32(True)
    assert devices.choose("cpu") == torch.device("cpu")
    assert allowed() == (False, False)
