"""Texture features are scikit-image's, and the gray levels are where they are said to be."""

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.feature import graycomatrix, graycoprops

from stan_ct.features import glcm as module
from stan_ct.features.glcm import ALL_FEATURES, ANGLES, FEATURES, IBSI, Discretization, features, neighbours, patch_features
from stan_ct.features.glcm_region import pair_counts

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
SKIMAGE_NAMES = {**dict(zip(FEATURES, FEATURES, strict=True)), "asm": "ASM", "joint_entropy": "entropy"}


def by_skimage(levels, n_levels):
    """Feature -> mean over four angles, of scikit-image; its entropy is in nats."""
    matrices = graycomatrix(levels.astype(np.uint16), [1], RADIANS, n_levels, symmetric=True, normed=True)
    found = {ours: graycoprops(matrices, theirs).mean() for ours, theirs in SKIMAGE_NAMES.items()}
    return {**found, "joint_entropy": found["joint_entropy"] / np.log(2)}


def matrices(levels, n_levels):
    """The four matrices that the definitions take, one per angle."""
    counts = [pair_counts(*neighbours(levels, offset), n_levels) for offset in ANGLES.values()]
    return [matrix / matrix.sum() for matrix in counts]


@pytest.mark.parametrize(
    "discretization",
    [Discretization.fixed_number(256), Discretization.fixed_size(25), Discretization.fixed_number(700)],
    ids=["256", "25HU", "700"],
)
@pytest.mark.parametrize("name", PATCHES)
def test_features_equal_scikit_image(name, discretization):
    """Matrices and features are scikit-image's to 1e-9, for flat, tiny and non-square patches too."""
    levels, n = discretization.to_levels(PATCHES[name]), discretization.levels
    theirs = graycomatrix(levels.astype(np.uint16), [1], RADIANS, n, symmetric=True, normed=True)
    np.testing.assert_allclose(matrices(levels, n), np.moveaxis(theirs[:, :, 0], -1, 0), rtol=0, atol=1e-12)
    expected = by_skimage(levels, n)
    np.testing.assert_allclose(features(PATCHES[name], discretization), [expected[f] for f in FEATURES], rtol=1e-9, atol=1e-9)


def test_2048_levels_are_scikit_image_s():
    """The largest number of levels, all of which are used, in one example: scikit-image takes seconds and half a gigabyte."""
    levels = np.random.default_rng(1).permutation(2048).reshape(32, 64)
    found = patch_features(levels[None], Discretization(2048, 1.0, 0.0))[0]
    for name, expected in by_skimage(levels, 2048).items():
        assert found[ALL_FEATURES.index(name)] == pytest.approx(expected, rel=1e-9, abs=1e-9), name


@st.composite
def images(draw, max_levels):
    """(levels of an image, number of levels): any shape from 2 x 2 on, from flat to white noise."""
    n_levels = draw(st.one_of(st.sampled_from([2, 255, 256, 257, max_levels]), st.integers(2, max_levels)))
    shape = draw(st.tuples(st.integers(2, 40), st.integers(2, 40)))
    low = draw(st.integers(0, n_levels - 1))
    high = draw(st.one_of(st.just(low), st.just(n_levels - 1), st.integers(low, n_levels - 1)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return rng.integers(low, high, shape, endpoint=True), n_levels


@settings(deadline=None, max_examples=30)
@given(images(max_levels=300))
def test_any_image_has_scikit_image_s_features(image):
    """The sums over pairs are scikit-image's features of a matrix, whatever the shape and the number of levels."""
    levels, n_levels = image
    found = patch_features(levels[None], Discretization(n_levels, 1.0, 0.0))[0]
    for name, expected in by_skimage(levels, n_levels).items():
        assert found[ALL_FEATURES.index(name)] == pytest.approx(expected, rel=1e-9, abs=1e-9), name


@settings(deadline=None, max_examples=30)
@given(images(max_levels=600))
def test_any_image_has_the_features_of_the_definitions(image):
    """The sums over pairs are the means of the definitions over the four matrices, for all eight features."""
    levels, n_levels = image
    of_angles = matrices(levels, n_levels)
    expected = [np.mean([getattr(module, name)(p) for p in of_angles]) for name in ALL_FEATURES]
    found = patch_features(levels[None], Discretization(n_levels, 1.0, 0.0))
    np.testing.assert_allclose(found, [expected], rtol=1e-9, atol=1e-9)


def test_a_large_patch_is_counted_exactly():
    """4100 x 4100 equal pixels but the first: the odd number of equal pairs, above 2^24, is none that float32 can hold."""
    hu = np.full((4100, 4100), 255.0, np.float32)
    hu[0, 0] = 254.0
    straight, diagonal = 1 / (4100 * 4099), 1 / 4099**2  # part of unequal pairs; none at 135 degrees
    unequal = np.mean([straight, diagonal, straight, 0])
    found = features(hu, Discretization(256, 1.0, 0.0))
    np.testing.assert_allclose(found[:3], [unequal, unequal, 1 - unequal / 2], rtol=1e-12)


def test_many_patches_are_each_measured_alone():
    """A batch has the rows of its patches, in their order; the five features are those of `features`; no patches, no rows."""
    patches = RNG.normal(0, 300, (3, 20, 30))
    discretization = Discretization.fixed_size(25)
    found = patch_features(patches, discretization)
    assert found.shape == (3, 8)
    assert len({*found[:, 1]}) == 3
    for patch, row in zip(patches, found, strict=True):
        np.testing.assert_array_equal(patch_features(patch[None], discretization)[0], row)
        np.testing.assert_array_equal(features(patch, discretization), row[:5])
    assert patch_features(np.empty((0, 20, 30)), discretization).shape == (0, 8)


def test_every_feature_has_its_name_and_code_of_ibsi():
    """The five of the paper come first, in its order; homogeneity is IBSI's inverse difference moment."""
    assert ALL_FEATURES[:5] == FEATURES
    assert ALL_FEATURES[5:] == ("asm", "inverse_difference", "joint_entropy")
    assert FEATURES == ("dissimilarity", "contrast", "homogeneity", "energy", "correlation")
    assert IBSI["homogeneity"] == ("inverse difference moment", "WF0Z")
    assert [code for _, code in IBSI.values()] == ["8S9J", "ACUI", "WF0Z", "8ZQL", "NI2N", "8ZQL", "IB1Z", "TU9B"]


def test_flat_patch():
    """A constant patch has no differences and is entirely homogeneous and, by scikit-image's convention, correlated."""
    assert features(np.full((8, 8), 50.0), Discretization.fixed_number()).tolist() == [0, 0, 1, 1, 1]
    for n_levels in (256, 2000):
        found = patch_features(np.full((1, 7, 9), 50.3), Discretization.fixed_number(n_levels))
        assert found.tolist() == [[0, 0, 1, 1, 1, 1, 1, 0]]  # exactly: an entropy of 1e-16 would be a divisor in Eq. 8


def test_columns_of_two_levels_by_hand():
    """Columns 0 1 0 1: along the columns all pairs are equal, in the three other directions all differ by one level."""
    stripes = np.tile([0, 1, 0, 1], (3, 1))
    across, along = [[0, 0.5], [0.5, 0]], [[0.5, 0], [0, 0.5]]
    np.testing.assert_allclose(matrices(stripes, 2), [across, across, along, across])
    hu = np.where(stripes, 10.0, -10.0)  # levels 39 and 40 of 25 HU
    expected = [3 / 4, 3 / 4, (3 * 0.5 + 1) / 4, np.sqrt(0.5), (-3 + 1) / 4, 0.5, (3 * 0.5 + 1) / 4, 1.0]
    np.testing.assert_allclose(patch_features(hu[None], Discretization.fixed_size(25))[0], expected, rtol=1e-12)


def test_features_of_a_matrix_that_is_not_symmetric():
    """The functions of a matrix hold for any co-occurrence matrix, as scikit-image's do."""
    p = np.random.default_rng(3).random((6, 6))
    p /= p.sum()
    for name in FEATURES:
        assert getattr(module, name)(p) == pytest.approx(graycoprops(p[:, :, None, None], name).item(), rel=1e-12)
    entropy = graycoprops(p[:, :, None, None], "entropy").item() / np.log(2)
    assert module.joint_entropy(p) == pytest.approx(entropy, rel=1e-12)


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
    ("hu", "message"),
    [
        (np.zeros((1, 9)), r"2 x 2 pixels or more, got shape \(1, 9\)"),
        (np.zeros(9), r"got shape \(9,\)"),
        (np.zeros((2, 4, 4)), r"got shape \(2, 4, 4\)"),
        (np.array([[0.0, np.nan], [1.0, 2.0]]), "got NaN"),
    ],
)
def test_no_patches_are_refused(hu, message):
    """What is no patch of HU is refused, not miscounted."""
    with pytest.raises(ValueError, match=message):
        features(hu, Discretization.fixed_number())


def test_a_batch_has_three_dimensions():
    """One patch is not taken for a batch of rows."""
    with pytest.raises(ValueError, match=r"patches \(N, H, W\), got shape \(8, 8\)"):
        patch_features(np.zeros((8, 8)), Discretization.fixed_number())


def test_infinite_hu_are_in_the_end_levels():
    """Infinities are HU outside of the range, like any other; 256 levels fit in uint8, 257 do not."""
    ends = np.array([-np.inf, np.inf])
    assert Discretization.fixed_number(256).to_levels(ends).tolist() == [0, 255]
    assert Discretization.fixed_number(257).to_levels(ends).tolist() == [0, 256]
