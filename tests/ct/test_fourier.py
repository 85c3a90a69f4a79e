"""Fourier transforms: those of SciPy, for any size and both precisions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import fft

from stan_ct.ct.fourier import fast_length, multiplied, rfft2

SIZES = st.tuples(st.integers(2, 40), st.integers(2, 40))


@settings(max_examples=40, deadline=None)
@given(size=SIZES, seed=st.integers(0, 99), kind=st.sampled_from([np.float32, np.float64]))
def test_half_spectrum(size, seed, kind):
    image = np.random.default_rng(seed).normal(size=size).astype(kind)
    half = rfft2(image)
    assert half.dtype == fft.rfft2(image).dtype
    np.testing.assert_allclose(half, fft.rfft2(image), atol=1e-4 if kind == np.float32 else 1e-10)


@settings(max_examples=40, deadline=None)
@given(size=SIZES, seed=st.integers(0, 99))
def test_multiplied(size, seed):
    """Gains are even, as those of a radial filter with other spacings of rows and of columns."""
    image = np.random.default_rng(seed).normal(size=size)
    gain = np.cos(np.hypot(3 * fft.fftfreq(size[0])[:, None], 2 * fft.rfftfreq(size[1])))
    np.testing.assert_allclose(multiplied(image, gain), fft.irfft2(fft.rfft2(image) * gain, s=size), atol=1e-10)


def test_multiplied_keeps_type_and_image():
    image = np.ones((8, 8), np.float32)
    assert multiplied(image, np.full((8, 5), 2, np.float32)).dtype == np.float32
    np.testing.assert_array_equal(image, 1)


def test_part_of_a_larger_image():
    image = np.random.default_rng(0).normal(size=(30, 40))
    np.testing.assert_allclose(rfft2(image[2:20:2, ::-1]), fft.rfft2(image[2:20:2, ::-1]), atol=1e-10)


@pytest.mark.parametrize("number", [1, 7, 13, 512, 513, 577, 1025])
def test_fast_length(number):
    assert fast_length(number) == fft.next_fast_len(number)
