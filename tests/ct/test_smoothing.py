"""OpenCV's filters give what those of scipy.ndimage give, to the border and for every size of slice."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from stan_ct.ct.smoothing import all_around, any_around, box_mean, close_and_open, fill_holes, gaussian

shapes = st.tuples(st.integers(1, 60), st.integers(1, 60))
masks = st.tuples(shapes, st.floats(0.02, 0.98), st.integers(0, 99))


def mask_of(drawn) -> np.ndarray:
    shape, share, seed = drawn
    return np.random.default_rng(seed).random(shape) < share


@settings(max_examples=60)
@given(shapes, st.tuples(st.floats(0.3, 6.0), st.floats(0.3, 6.0)), st.integers(0, 99))
def test_gaussian(shape, sigma, seed):
    """To rounding in float64, and to .01 HU in float32, also where the Gaussian is wider than the slice."""
    image = np.random.default_rng(seed).uniform(-1024, 3071, shape)
    expected = ndimage.gaussian_filter(image, sigma)
    np.testing.assert_allclose(gaussian(image, sigma), expected, atol=1e-8)
    single = gaussian(image.astype(np.float32), sigma)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, expected, atol=0.01)
    np.testing.assert_array_equal(gaussian(image, sigma[0]), gaussian(image, (sigma[0], sigma[0])))


@settings(max_examples=60)
@given(shapes, st.integers(1, 17), st.integers(0, 99))
def test_box_mean(shape, size, seed):
    """To rounding, for even sides too, whose middle lies beside the pixel."""
    image = np.random.default_rng(seed).uniform(-1024, 3071, shape)
    np.testing.assert_allclose(box_mean(image, size), ndimage.uniform_filter(image, size), atol=1e-8)


@settings(max_examples=60)
@given(masks, st.tuples(st.integers(0, 6), st.integers(0, 6)))
def test_minimum_and_maximum(drawn, reach):
    """Bit for bit."""
    mask, size = mask_of(drawn), [2 * r + 1 for r in reach]
    np.testing.assert_array_equal(all_around(mask, size), ndimage.minimum_filter(mask, size))
    np.testing.assert_array_equal(any_around(mask, size), ndimage.maximum_filter(mask, size))


@settings(max_examples=60)
@given(masks, st.integers(1, 4))
def test_closing_and_opening(drawn, radius):
    """Bit for bit."""
    mask = mask_of(drawn)
    disk = ndimage.iterate_structure(ndimage.generate_binary_structure(2, 1), radius)
    expected = ndimage.binary_opening(ndimage.binary_closing(mask, disk), disk)
    np.testing.assert_array_equal(close_and_open(mask, radius), expected)


@settings(max_examples=60)
@given(masks)
def test_holes_are_filled(drawn):
    """Bit for bit; the mask itself stays."""
    mask = mask_of(drawn)
    before = mask.copy()
    np.testing.assert_array_equal(fill_holes(mask), ndimage.binary_fill_holes(mask))
    np.testing.assert_array_equal(mask, before)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_constant_stays(dtype):
    """Nothing is taken from beyond the border."""
    image = np.full((30, 20), -1024, dtype)
    np.testing.assert_allclose(gaussian(image, 2.0), image, rtol=1e-6)
    np.testing.assert_allclose(box_mean(image, 16), image, rtol=1e-6)
