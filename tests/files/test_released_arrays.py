"""The released code's checkpoints as arrays: read, and refused where their shapes contradict each other."""

import h5py
import numpy as np
import pytest

from tests.models.test_golden import golden_arrays, write_weights
from text2image.errors import UserError
from text2image.files import released_arrays


def test_all_of_them_come_back(tmp_path):
    arrays = golden_arrays()
    write_weights(tmp_path / released_arrays.FILE, arrays)
    again = released_arrays.read(tmp_path / released_arrays.FILE)
    assert again.keys() == set(released_arrays.NAMES) == arrays.keys()
    assert len(released_arrays.NAMES) == 33
    assert all(np.array_equal(array, arrays[name]) for name, array in again.items())
    sizes = released_arrays.sizes(again)
    assert (sizes.language, sizes.image) == (arrays["W_hLangEnc_hLangEnc"].shape[0], arrays["c0"].shape[1])


@pytest.mark.parametrize(("change", "words"), [
    ({"b_align": None}, "it lacks 1 of its 33 arrays, b_align among them"),
    ({"b_align": h5py.SoftLink("/b_mu")}, "it lacks 1 of its 33 arrays"),
    ({"b_align": np.zeros(3, "f4")}, "the arrays contradict each other: 'W_lang_align' is"),
    ({"b_align": np.float32(0)}, "array 'b_align' is (): it has no axis 0"),
    ({"v_align": np.full(golden_arrays()["v_align"].shape, np.nan)}, "'v_align' holds something else than finite floats"),
    ({"v_align": np.zeros(golden_arrays()["v_align"].shape, int)}, "'v_align' holds something else than finite floats")])
def test_arrays_that_are_none(tmp_path, change, words):
    write_weights(tmp_path / released_arrays.FILE, {name: array for name, array in (golden_arrays() | change).items() if array is not None})
    with pytest.raises(UserError) as error:
        released_arrays.read(tmp_path / released_arrays.FILE)
    assert words in str(error.value)
    assert str(error.value).startswith("aligndraw.h5: ")
    assert str(error.value).endswith("fetch it again")
