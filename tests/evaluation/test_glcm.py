"""Texture features are scikit-image's, and the gray levels are where they are said to be."""

import doctest

import numpy as np
import pytest
from skimage.feature import graycomatrix, graycoprops

from stan_ct.evaluation import glcm as module
from stan_ct.evaluation.glcm import FEATURES, Discretization, features, glcm

RADIANS = [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4]
RNG = np.random.default_rng(7)
TEXTURE = np.cumsum(RNG.normal(0, 60, (64, 48)), axis=1).clip(-1400, 1600)  # HU, rows and columns differ, both ends clipped
PATCHES = {
    "texture": TEXTURE,
    "its transpose": TEXTURE.T,
    "white noise": RNG.uniform(-1100, 1000, (40, 40)),
    "two values": np.where(np.eye(9, dtype=bool), 40.0, -900.0),
    "2 x 2": np.array([[-1000.0, 0.0], [300.0, 900.0]]),
    "constant": np.full((16, 16), 37.0),
}


def skimage_matrices(levels, n_levels):
    return graycomatrix(levels.astype(np.uint16), [1], RADIANS, n_levels, symmetric=True, normed=True)


@pytest.mark.parametrize(
    "discretization", [Discretization.fixed_number(256), Discretization.fixed_size(25)], ids=["256", "25HU"]
)
@pytest.mark.parametrize("name", PATCHES)
def test_features_equal_scikit_image(name, discretization):
    """Matrices and the five features are scikit-image's to 1e-9, for flat, tiny and non-square patches too."""
    levels = discretization.to_levels(PATCHES[name])
    expected = skimage_matrices(levels, discretization.levels)
    np.testing.assert_allclose(glcm(levels, discretization.levels), np.moveaxis(expected[:, :, 0], -1, 0), rtol=0, atol=1e-12)
    values = [graycoprops(expected, feature).mean() for feature in FEATURES]
    np.testing.assert_allclose(features(PATCHES[name], discretization), values, rtol=1e-9, atol=1e-9)


def test_flat_patch():
    """A constant patch has no differences and is entirely homogeneous and, by scikit-image's convention, correlated."""
    assert features(np.full((8, 8), 50.0), Discretization.fixed_number()).tolist() == [0, 0, 1, 1, 1]


def test_columns_of_two_levels_by_hand():
    """Columns 0 1 0 1: along the columns all pairs are equal, in the three other directions all differ by one level."""
    stripes = np.tile([0, 1, 0, 1], (3, 1))
    across, along = [[0, 0.5], [0.5, 0]], [[0.5, 0], [0, 0.5]]
    np.testing.assert_allclose(glcm(stripes, 2), [across, across, along, across])
    hu = np.where(stripes, 10.0, -10.0)  # levels 39 and 40 of 25 HU
    expected = [3 / 4, 3 / 4, (3 * 0.5 + 1) / 4, np.sqrt(0.5), (-3 + 1) / 4]
    np.testing.assert_allclose(features(hu, Discretization.fixed_size(25)), expected, rtol=1e-12)


def test_features_of_a_matrix_that_is_not_symmetric():
    """The functions of a matrix hold for any co-occurrence matrix, as scikit-image's do."""
    p = np.random.default_rng(3).random((6, 6))
    p /= p.sum()
    for name in FEATURES:
        assert getattr(module, name)(p) == pytest.approx(graycoprops(p[:, :, None, None], name).item(), rel=1e-12)


def test_examples_in_the_docstrings():
    """The examples of the docstrings are true."""
    result = doctest.testmod(module)
    assert result.attempted >= 7
    assert result.failed == 0


def test_256_levels_cover_the_soft_tissue_range():
    """256 equal levels over [-1000, 900] HU: the ends, an inner edge, and HU outside in the end levels."""
    discretization = Discretization.fixed_number(256)
    hu = [-3000, -1000, -1000 + 7.421875 - 1e-3, -1000 + 7.421875, -50, 899.9, 900, 3000]
    assert discretization.to_levels(np.array(hu)).tolist() == [0, 0, 0, 1, 128, 255, 255, 255]


def test_fixed_size_bins_of_25_hu():
    """76 bins of 25 HU from -1000 HU on; the upper bound belongs to the last one."""
    discretization = Discretization.fixed_size(25)
    assert discretization.levels == 76
    assert discretization.to_levels(np.array([-1001, -976, -975, 0, 24, 25, 874, 875, 900, 901])).tolist() == [
        *(0, 0, 1, 40, 40, 41, 74, 75, 75, 75)
    ]


@pytest.mark.parametrize("levels", [3, 7, 49, 100, 1000])
def test_fixed_number_gives_that_number(levels):
    """No rounding of the bin width adds a level or leaves one empty."""
    hu = np.linspace(-1000, 900, 20_000)
    assert np.unique(Discretization.fixed_number(levels).to_levels(hu)).tolist() == list(range(levels))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Discretization.fixed_number(1),
        lambda: Discretization.fixed_number(5000),
        lambda: Discretization.fixed_size(0),
        lambda: Discretization.fixed_size(-25),
        lambda: Discretization.fixed_size(float("nan")),
        lambda: Discretization.fixed_size(1900),
    ],
)
def test_senseless_gray_levels_are_refused(make):
    """Too few, too many or backward gray levels are refused with what was expected."""
    with pytest.raises(ValueError, match="expected 2 to 2048 gray levels"):
        make()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((3, 3)), "integers"),
        (np.zeros((1, 9), int), "2 x 2"),
        (np.zeros(9, int), "shape"),
        (np.full((3, 3), 4), "got 4..4"),
        (np.full((3, 3), -1), "got -1..-1"),
    ],
)
def test_no_gray_levels_are_refused(image, message):
    """What is no image of gray levels is refused, not miscounted."""
    with pytest.raises(ValueError, match=message):
        glcm(image, 4)
