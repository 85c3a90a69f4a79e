"""A slice between two has their mean, and as much noise as they have."""

import numpy as np
import pytest
from scipy import ndimage

from stan_ct.ct.interpolation import slice_between


def noisy(seed):
    """A bright disk, 10 px to the right for each seed, in smooth noise of 30 HU."""
    rows, columns = np.ogrid[:128, :128]
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(0, 1, (128, 128)), 1)
    disk = (rows - 64) ** 2 + (columns - 40 - 10 * seed) ** 2 < 100
    return (40.0 + 30 * noise / noise.std() + 100.0 * disk).astype(np.float32)


@pytest.mark.parametrize("fraction", [1 / 3, 0.5])
def test_noise_is_kept(fraction):
    """The weighted mean of two slices has less noise than either; the slice between has as much, in every band."""
    below, above = noisy(0), noisy(3)
    made = slice_between(below, above, fraction, (0.7, 0.7))
    mean = (1 - fraction) * below + fraction * above
    corner = np.s_[:44]  # noise alone
    assert mean[corner].std() < 0.8 * below[corner].std()
    assert made[corner].std() == pytest.approx((below[corner].std() + above[corner].std()) / 2, rel=0.1)
    assert made.mean() == pytest.approx(mean.mean(), abs=1.0)
    assert np.corrcoef(made.ravel(), mean.ravel())[0, 1] > 0.95


def test_between_equal_slices():
    """Nothing comes, and nothing goes."""
    image = noisy(1)
    np.testing.assert_allclose(slice_between(image, image, 0.5, (0.7, 0.7)), image, atol=0.1)
