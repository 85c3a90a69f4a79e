"""Every feature of a patch is that of its definition, and differences in HU are sums that add up."""

import numpy as np
import pytest
from scipy import stats
from skimage.feature import graycomatrix, graycoprops

from stan_ct.ct.tissues import TISSUES
from stan_ct.evaluation.measure.measurement import MEASURES, PLACES, measure_features, measure_hu
from stan_ct.features.glcm import FEATURES, Discretization

LEVELS = Discretization.fixed_number()
PATCHES = np.random.default_rng(0).normal(50, 200, (4, 16, 16)).round().astype(np.float32)


def column(found, name):
    return found[:, MEASURES.index(name)]


def test_names_are_unique_and_texture_comes_first():
    """28 columns: eight of texture, of which the paper's five are the first, then 20 first-order ones."""
    assert MEASURES[:5] == FEATURES
    assert len(set(MEASURES)) == len(MEASURES) == 28
    assert sum(name.startswith("first-order ") for name in MEASURES) == 20


def test_texture_is_scikit_image_s():
    """The five features of every patch, from its own matrices."""
    found = measure_features(PATCHES, LEVELS)
    assert found.shape == (4, 28)
    levels = np.floor((PATCHES.clip(-1000, 899.9) + 1000) / 1900 * 256).astype(np.uint8)
    angles = [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4]
    for feature in FEATURES:
        expected = [graycoprops(graycomatrix(p, [1], angles, 256, True, True), feature).mean() for p in levels]
        np.testing.assert_allclose(column(found, feature), expected, rtol=1e-9)


def test_first_order_features_are_those_of_hu_and_of_gray_levels():
    """Mean, variance, skewness and percentiles of HU by NumPy and SciPy; the entropy is that of the gray levels."""
    found, flat = measure_features(PATCHES, LEVELS), PATCHES.reshape(4, -1).astype(np.float64)
    np.testing.assert_allclose(column(found, "first-order mean"), flat.mean(axis=1))
    np.testing.assert_allclose(column(found, "first-order variance"), flat.var(axis=1))
    np.testing.assert_allclose(column(found, "first-order skewness"), stats.skew(flat, axis=1))
    np.testing.assert_allclose(column(found, "first-order p10"), np.percentile(flat, 10, axis=1))
    levels = np.floor((flat + 1000) / 1900 * 256).clip(0, 255)
    entropy = [stats.entropy(np.unique(row, return_counts=True)[1], base=2) for row in levels]
    np.testing.assert_allclose(column(found, "first-order entropy"), entropy)


def test_order_of_pixels_is_texture():
    """Shuffled pixels have the same first-order features and another contrast."""
    rng = np.random.default_rng(1)
    smooth = np.repeat(np.repeat(rng.normal(0, 200, (1, 4, 4)), 4, axis=1), 4, axis=2)
    found = measure_features(np.concatenate([smooth, rng.permuted(smooth.reshape(1, -1), axis=1).reshape(1, 16, 16)]), LEVELS)
    first_order = [name.startswith("first-order") for name in MEASURES]
    np.testing.assert_allclose(found[0, first_order], found[1, first_order], rtol=1e-9)
    assert column(found, "contrast")[1] > 2 * column(found, "contrast")[0]


def test_bias_by_tissue_by_hand():
    """Half of the slice is lung and half muscle, far from each other's blur: +20 HU in the one and -4 HU in the other."""
    target = np.full((40, 40), -800.0)
    target[:, 20:] = 60
    image = target + np.where(target < 0, 20.0, -4.0)
    mask = np.ones((40, 40), bool)
    mask[:, 8:32] = False  # the border, where the smoothed target is neither
    sums = dict(zip(PLACES, measure_hu(image, target, mask).tolist(), strict=True))
    assert list(PLACES) == ["soft-tissue range", *TISSUES]
    assert sums["lung"] == [320, pytest.approx(320 * 20), pytest.approx(320 * 20), pytest.approx(320 * 400)]
    assert sums["soft tissue"] == [320, pytest.approx(-320 * 4), pytest.approx(320 * 4), pytest.approx(320 * 16)]
    assert sums["bone"] == sums["fat"] == [0, 0, 0, 0]
    assert sums["soft-tissue range"] == [640, pytest.approx(320 * 16), pytest.approx(320 * 24), pytest.approx(320 * 416)]
