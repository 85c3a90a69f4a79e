"""The map between HU and the network's range, and the soft-tissue mask."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from stan_ct.ct.hounsfield import AIR, SOFT_TISSUE, HUWindow, soft_tissue_mask

HU = st.floats(-1024, 1500, width=32)


def test_window_by_hand():
    """-1024 HU is -1, 1500 HU is 1, their middle 238 HU is 0, 869 HU is half way up; all exactly."""
    hu = np.array([-1024, 238, 869, 1500], np.float32)
    assert HUWindow().to_network(hu).tolist() == [-1.0, 0.0, 0.5, 1.0]
    assert HUWindow().to_hu(np.array([-1.0, 0.0, 0.5, 1.0])).tolist() == hu.tolist()


@given(arrays(np.float32, array_shapes(max_dims=4, max_side=5), elements=HU))
def test_window_there_and_back(hu):
    """Inside the window HU come back to 1e-3 HU, in float32 and in the same shape."""
    gray = HUWindow().to_network(hu)
    back = HUWindow().to_hu(gray)
    assert gray.dtype == back.dtype == np.float32
    assert back.shape == hu.shape
    assert np.abs(gray).max() <= 1
    np.testing.assert_allclose(back, hu, rtol=0, atol=1e-3)


@given(st.integers(-1024, 1500))
def test_whole_hu_come_back_exactly_when_rounded(hu):
    """Every whole HU survives the network's range, given as an integer too."""
    assert round(float(HUWindow().to_hu(HUWindow().to_network(np.array(hu))))) == hu


@pytest.mark.parametrize("library", ["numpy", "tensorflow", "keras"])
def test_one_formula_for_arrays_and_tensors(library):
    """Arrays and tensors of each library keep their type and get the same float32 bits, beyond the window too."""
    hu = np.linspace(-2000, 3000, 101, dtype=np.float32)
    values = {"numpy": np.asarray, "tensorflow": tf.constant, "keras": keras.ops.convert_to_tensor}[library](hu)
    gray = HUWindow().normalize(values)
    back = HUWindow().denormalize(gray)
    assert type(gray) is type(back) is type(values)
    assert np.array_equal(np.clip(np.asarray(gray), -1, 1), HUWindow().to_network(hu))
    assert np.asarray(back).dtype == np.float32
    np.testing.assert_allclose(np.asarray(back), hu, rtol=0, atol=1e-3)


def test_values_outside_the_window_are_clipped():
    """-3024 HU (padding) becomes -1 and metal 1; a network beyond tanh's range stays in the window."""
    assert HUWindow().to_network(np.array([-3024.0, 3071.0])).tolist() == [-1.0, 1.0]
    assert HUWindow().to_hu(np.array([-1.5, 7.0])).tolist() == [-1024.0, 1500.0]


def test_another_window_maps_by_its_own_ends():
    """[-1000, 3000] HU: 0 HU is a quarter of the way, -0.5."""
    window = HUWindow(-1000, 3000)
    assert window.to_network(np.zeros(1)).tolist() == [-0.5]
    assert window.to_hu(np.array([-0.5])).tolist() == [0.0]


@pytest.mark.parametrize(("low", "high"), [(-999, 1500), (-1024, 899), (1500, -1024), (float("nan"), 1500)])
def test_window_must_cover_soft_tissue(low, high):
    """A window that cuts soft tissue is refused, with both ranges in the message."""
    expected = re.escape(f"HU window [{low:g}, {high:g}] must cover the soft-tissue range [-1000, 900] HU")
    with pytest.raises(ValueError, match=expected):
        HUWindow(low, high)


def test_soft_tissue_mask_by_hand():
    """Both ends belong to soft tissue; air below, bone above, padding and missing values do not."""
    hu = np.array([[-1001.0, -1000.0, 0.0], [900.0, 900.5, np.nan]], np.float32)
    assert soft_tissue_mask(hu).tolist() == [[False, True, True], [True, False, False]]
    padding = np.array([[False, False, True], [False, False, False]])
    assert soft_tissue_mask(hu, padding).tolist() == [[False, True, False], [True, False, False]]


def test_air_is_no_soft_tissue_and_inside_the_window():
    """What stands for "nothing here" is seen by the network, and never counted as tissue."""
    assert SOFT_TISSUE == (-1000.0, 900.0)
    assert not soft_tissue_mask(np.array(AIR))
    assert HUWindow().low <= AIR
