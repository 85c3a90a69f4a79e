"""`texture_features`: one call, the numbers of the definitions."""

import doctest

import numpy as np
import pytest
from skimage.feature import graycomatrix, graycoprops

from stan_ct.features import texture
from stan_ct.features.glcm import ALL_FEATURES, FEATURES, Discretization, patch_features
from stan_ct.features.texture import texture_features

RNG = np.random.default_rng(0)
SLICE = RNG.normal(50, 100, (24, 30))


def test_a_slice_has_the_features_of_scikit_image():
    """The five, over 256 levels of the soft-tissue range, means over four angles; and the three more of `patch_features`."""
    found = texture_features(SLICE)
    levels = np.floor((SLICE + 1000) / 1900 * 256).astype(np.uint8)
    glcm = graycomatrix(levels, [1], [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4], 256, symmetric=True, normed=True)
    assert list(found) == list(ALL_FEATURES)
    for feature in FEATURES:
        assert found[feature] == pytest.approx(graycoprops(glcm, feature).mean(), rel=1e-9)
    expected = patch_features(SLICE[None], Discretization.fixed_number())[0]
    np.testing.assert_allclose(list(found.values()), expected, rtol=1e-9)
    assert all(type(value) is float for value in found.values())


def test_a_volume_has_the_mean_of_its_slices():
    """By default, a matrix per slice; merged in space the features are others."""
    volume = RNG.normal(50, 100, (3, 16, 16))
    slices = [texture_features(hu) for hu in volume]
    found = texture_features(volume)
    for feature in ALL_FEATURES:
        assert found[feature] == pytest.approx(np.mean([values[feature] for values in slices]), rel=1e-12)
    assert texture_features(volume, aggregation="3D merged")["contrast"] != pytest.approx(found["contrast"], rel=1e-3)


def test_a_mask_cuts_the_region_out():
    """A rectangle has the features of the rectangle; what lies outside, even NaN, does not matter."""
    mask = np.zeros(SLICE.shape, bool)
    mask[3:15, 4:20] = True
    assert texture_features(np.where(mask, SLICE, np.nan), mask=mask) == texture_features(SLICE[3:15, 4:20])
    with pytest.raises(ValueError, match="got NaN"):
        texture_features(np.where(mask, np.nan, SLICE))


def test_what_is_undefined_is_nan():
    """The correlation of one gray level, and everything of a region without neighbours."""
    flat = texture_features(np.zeros((4, 4)))
    assert (flat["contrast"], flat["homogeneity"], flat["energy"]) == (0, 1, 1)
    assert np.isnan(flat["correlation"])
    mask = np.zeros((4, 4), bool)
    mask[1, 1] = True
    assert np.isnan(list(texture_features(np.zeros((4, 4)), mask=mask).values())).all()


def test_resampling_to_the_same_pixels_changes_nothing():
    """Nor does a spacing alone, of square pixels."""
    expected = texture_features(SLICE)
    assert texture_features(SLICE, pixel_spacing=(0.7, 0.7)) == expected
    again = texture_features(SLICE, pixel_spacing=(0.7, 0.7), resample_to=0.7)
    np.testing.assert_allclose(list(again.values()), list(expected.values()), rtol=1e-9)


def test_resampling_makes_pixels_square():
    """A ramp along the columns, of 2 mm pixels, sampled each mm: twice as many columns, of half the step."""
    levels = Discretization(64, 10, low=0)
    ramp = np.tile(np.arange(10) * 20.0 + 5, (6, 1))
    found = texture_features(ramp, pixel_spacing=(1, 2), resample_to=1, discretization=levels)
    columns = np.interp(np.arange(20) / 2 - 0.25, np.arange(10), ramp[0])  # pixel centres, the border ones held
    expected = texture_features(np.tile(columns, (6, 1)), discretization=levels)
    assert found == pytest.approx(expected)


def test_a_resampled_region_holds_the_pixels_that_are_at_least_half_in_it():
    """Of 4 x 4 pixels of 1 mm whose left half is marked, two of four columns remain, sampled at 2 mm one of two."""
    mask = np.zeros((4, 4), bool)
    mask[:, :2] = True
    hu = np.where(mask, np.arange(4)[:, None] * 100.0, 5000)
    found = texture_features(hu, mask=mask, pixel_spacing=(1, 1), resample_to=2, discretization=Discretization(64, 100, 0))
    assert found["dissimilarity"] == pytest.approx(2)  # rows 0.5 and 2.5: levels 0 and 2, one column


@pytest.mark.parametrize(("factor", "square"), [(1.00099, True), (1.00102, False)])
def test_pixels_must_be_square(factor, square):
    """Up to a thousandth; otherwise the error says what to do."""
    spacing = (0.7, 0.7 * factor)
    if square:
        assert texture_features(SLICE, pixel_spacing=spacing) == texture_features(SLICE)
    else:
        with pytest.raises(ValueError, match=r"expected square pixels, got 0\.7 x .*: give resample_to=1\.0"):
            texture_features(SLICE, pixel_spacing=spacing)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"resample_to": 1.0}, r"needs pixel_spacing=\(row, column\)"),
        ({"pixel_spacing": (0.0, 1.0)}, "expected a pixel spacing above 0 mm"),
        ({"pixel_spacing": (1.0, 1.0), "resample_to": 0.0}, "resampled to 0.0 mm"),
        ({"mask": np.ones((2, 2), bool)}, "a mask"),
        ({"mask": np.ones(SLICE.shape)}, "a mask of float64"),
        ({"aggregation": "4D"}, "expected an aggregation of"),
    ],
)
def test_what_does_not_fit_is_refused(options, words):
    """With what was expected."""
    with pytest.raises(ValueError, match=words):
        texture_features(SLICE, **options)
    with pytest.raises(ValueError, match="expected a slice"):
        texture_features(SLICE[0])


def test_examples_in_the_docstrings():
    """They are true."""
    assert doctest.testmod(texture).attempted > 0
    assert doctest.testmod(texture).failed == 0
