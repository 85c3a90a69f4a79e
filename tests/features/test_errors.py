"""Eq. 8 and its summary, HU errors, PSNR and SSIM: by hand and against scikit-image."""

import doctest

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from stan_ct.features import errors
from stan_ct.features import errors as metrics
from stan_ct.features.errors import hu_error, psnr, relative_error, ssim, summarize, texture_errors


def test_eq_8_by_hand():
    """|phi(syn) - phi(target)| / |phi(target)|: relative, of the target, of either sign, unbounded above."""
    synthesized, target = [3.0, 1.0, 5.0, -0.1, 0.0], [4.0, 1.0, 1.0, 0.2, 2.0]
    np.testing.assert_allclose(relative_error(synthesized, target), [0.25, 0.0, 4.0, 1.5, 1.0], rtol=1e-15)
    np.testing.assert_allclose(relative_error([-0.3], [-0.2]), [0.5], rtol=1e-15)


def test_zero_target_is_undefined():
    """Where the target's feature is 0 the error is undefined, even if the synthesized one is 0 too; others are untouched."""
    np.testing.assert_array_equal(relative_error([0.0, 7.0, 3.0], [0.0, 0.0, 2.0]), [np.nan, np.nan, 0.5])


def test_summary_counts_the_undefined():
    """Mean and sample standard deviation are those of the defined errors; the others are counted, not dropped silently."""
    summary = summarize(np.array([0.1, np.nan, 0.4, 0.4, np.nan]))
    assert (summary.n, summary.undefined) == (3, 2)
    assert summary.mean == pytest.approx(0.3)
    assert summary.sd == pytest.approx(np.sqrt((0.04 + 0.01 + 0.01) / 2))


def test_summary_of_few():
    """One error has no standard deviation, none has no mean: NaN, without a warning."""
    one, none = summarize(np.array([0.2, np.nan])), summarize(np.array([np.nan]))
    assert (one.mean, one.n, one.undefined) == (0.2, 1, 1)
    assert np.isnan(one.sd)
    assert (none.n, none.undefined) == (0, 1)
    assert np.isnan([none.mean, none.sd]).all()


def stripes(levels: int) -> np.ndarray:
    """Columns of two HU, so many of 256 gray levels over [-1000, 900] HU apart."""
    return np.tile(np.array([100.5, 100.5 + levels]) * 1900 / 256 - 1000, (8, 4))


def test_texture_errors_by_hand():
    """Stripes d levels apart: dissimilarity 3/4 d, contrast 3/4 d^2, homogeneity 1/4 + 3/4 / (1 + d^2) over the angles."""
    errors = texture_errors(np.stack([stripes(10), stripes(10)]))
    found = errors(np.stack([stripes(20), stripes(10)]))
    homogeneity = [0.25 + 0.75 / (1 + d**2) for d in (10, 20)]
    assert found == {
        "dissimilarity": pytest.approx(0.5),  # of two patches one is off by 1
        "contrast": pytest.approx(1.5),
        "homogeneity": pytest.approx((1 - homogeneity[1] / homogeneity[0]) / 2),
        "energy": pytest.approx(0, abs=1e-12),
        "correlation": pytest.approx(0, abs=1e-12),
    }


def test_a_flat_target_patch_does_not_spoil_the_mean():
    """Its errors of dissimilarity and contrast are undefined, and the mean is that of the other patch, never NaN."""
    found = texture_errors(np.stack([stripes(10), stripes(0)]))(np.stack([stripes(20), stripes(0)]))
    assert (found["dissimilarity"], found["contrast"]) == (pytest.approx(1), pytest.approx(3))
    assert np.isfinite(list(found.values())).all()


def test_hu_error_by_hand():
    """Differences 3, -1, 4, -6 have a mean of 0, a mean magnitude of 3.5 and a mean square of 15.5."""
    target = np.array([[10.0, 20.0], [-1000.0, 0.0]])
    found = hu_error(target + np.array([[3, -1], [4, -6]]), target)
    assert (found.mae, found.rmse, found.bias, found.pixels) == (3.5, pytest.approx(np.sqrt(15.5)), 0, 4)


def test_hu_error_within_a_mask():
    """Only the masked pixels count, in any type of HU; without any there is no error to tell."""
    image, target = np.array([[[1, 1000]]], np.uint16), np.array([[[3, 0]]], np.uint16)
    found = hu_error(image, target, np.array([[[True, False]]]))
    assert (found.mae, found.rmse, found.bias, found.pixels) == (2, 2, -2, 1)
    none = hu_error(image, target, np.zeros((1, 1, 2), bool))
    assert np.isnan([none.mae, none.rmse, none.bias]).all()
    assert none.pixels == 0


@pytest.mark.parametrize("metric", [hu_error, psnr, ssim])
def test_different_shapes_are_refused(metric):
    """No broadcasting: a slice is not compared with a volume, nor under another's mask."""
    with pytest.raises(ValueError, match=r"one shape, got \(16, 16\), \(2, 16, 16\)"):
        metric(np.zeros((16, 16)), np.zeros((2, 16, 16)))
    with pytest.raises(ValueError, match="one shape"):
        metric(np.zeros((16, 16)), np.zeros((16, 16)), np.ones((16, 1), bool))


def test_psnr_by_hand():
    """An error of 19 of 1900 HU is 40 dB, of 5 of 50 is 20 dB; what lies outside the range is clipped; equal is infinite."""
    target = np.zeros((4, 4))
    assert psnr(target + 19, target) == pytest.approx(40)
    assert psnr(target + 5, target, hu_range=(-20.0, 30.0)) == pytest.approx(20)
    target[0, 0] = 3000
    image = np.where(target > 0, 1000, 19)
    assert psnr(image, target) == pytest.approx(40 + 10 * np.log10(16 / 15))
    assert psnr(image, target, target == 0) == pytest.approx(40)
    assert psnr(target, target) == np.inf
    assert np.isnan(psnr(target, target, target == 7))


def test_ssim_of_flat_images_by_hand():
    """Flat images at 100 and 200 above the low end: (2 * 100 * 200 + c) / (100^2 + 200^2 + c), c = (0.01 * 1900)^2 = 361."""
    found = ssim(np.full((16, 16), -900.0), np.full((16, 16), -800.0))
    assert found == pytest.approx(40361 / 50361, rel=1e-9)


def test_ssim_is_scikit_images():
    """Slice by slice, with the settings of Wang et al., on HU clipped to the range and counted from -1000."""
    target = np.random.default_rng(0).normal(-200, 400, (3, 24, 20))
    image = target + np.random.default_rng(1).normal(0, 150, target.shape)
    settings = {"data_range": 1900, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    pairs = zip(*(np.clip(x, -1000, 900) + 1000 for x in (image, target)), strict=True)
    expected = [structural_similarity(a, b, **settings) for a, b in pairs]
    assert ssim(image, target) == pytest.approx(np.mean(expected), rel=1e-9)
    assert ssim(image[1], target[1]) == pytest.approx(expected[1], rel=1e-9)
    assert ssim(target, target) == pytest.approx(1)


def test_ssim_of_equal_slices_is_not_computed(monkeypatch):
    """It is 1 in each of their pixels; that of the others counts beside it."""
    target = np.random.default_rng(0).normal(0, 100, (2, 32, 32))
    image, compared = target + np.array([0, 30])[:, None, None], []
    whole = ssim(image, target)
    monkeypatch.setattr(errors, "structural_similarity", lambda a, b, **_: compared.append(1) or (0, np.full(a.shape, 0.5)))
    assert ssim(image, target) == pytest.approx(0.75)
    assert len(compared) == 1
    assert 0.5 < whole < 1


def test_ssim_within_a_mask():
    """A change beyond the reach of the windows (5 px) of the masked pixels plays no part; no pixels, no index."""
    target = np.random.default_rng(0).normal(0, 100, (30, 30))
    image, mask = target.copy(), np.zeros((30, 30), bool)
    image[:, :10] += 500
    mask[:, 15:] = True
    assert ssim(image, target, mask) == pytest.approx(1)
    assert ssim(image, target, ~mask) < 0.7
    mask[:] = False
    mask[0] = True  # on the border
    assert np.isnan(ssim(image, target, mask))


@pytest.mark.parametrize(("side", "known"), [(10, False), (11, True)])
def test_ssim_of_small_images(side, known):
    """In a slice of 10 pixels none is 5 px from the border: there is no index. Of 11 pixels one is."""
    target = np.random.default_rng(0).normal(0, 100, (2, 20, side))
    assert ssim(target, target) == (pytest.approx(1) if known else pytest.approx(np.nan, nan_ok=True))


def test_examples_in_the_docstrings():
    """The examples of the docstrings are true."""
    result = doctest.testmod(metrics)
    assert result.attempted >= 3
    assert result.failed == 0
