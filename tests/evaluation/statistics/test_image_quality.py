"""Image quality on images whose noise, blur and anatomy are known."""

import doctest

import numpy as np
import pytest

from stan_ct.ct.tissues import TISSUES
from stan_ct.evaluation.statistics import image_quality
from stan_ct.evaluation.statistics.image_quality import (
    hu_error_by_tissue,
    laa950,
    lung_mask,
)
from stan_ct.features.errors import hu_error

RNG = np.random.default_rng

# HU errors by tissue

BLOCKS = {"lung": -850.0, "fat": -100.0, "soft tissue": 20.0, "bone": 600.0}
QUARTERS = np.repeat(np.repeat(np.reshape(list(BLOCKS.values()), (2, 2)), 60, axis=0), 60, axis=1)  # (120, 120) HU


def test_zero_mean_noise_has_no_bias():
    """Independent noise of 60 HU in image and target: bias 0 in every tissue, though the target's noise crosses its ends."""
    image, target = (QUARTERS + RNG(seed).normal(0, 60, (4, 120, 120)) for seed in (1, 2))
    found = hu_error_by_tissue(image, target)
    assert list(found) == list(TISSUES)
    for tissue, error in found.items():
        assert abs(error.bias) < 1.5, tissue  # 60 sqrt(2) / sqrt(12000) = 0.8 HU is one standard error
        assert error.rmse == pytest.approx(60 * np.sqrt(2), rel=0.02)
        assert error.pixels > 4 * 50 * 50
    soft = (target >= 0) & (target <= 150)
    assert hu_error(image, target, soft).bias < -20  # what smoothing is for


def test_each_tissue_has_its_own_error():
    """HU added in one tissue are the bias there, and nowhere else; a mask counts as well."""
    inner = np.tile(np.pad(np.ones((40, 40), bool), 10), (2, 2))
    for tissue, hu in BLOCKS.items():
        image = QUARTERS + 7.0 * (hu == QUARTERS)
        found = hu_error_by_tissue(image, QUARTERS, inner)
        assert {t: (e.bias, e.pixels) for t, e in found.items()} == {t: (7.0 * (t == tissue), 1600) for t in BLOCKS}


def test_the_target_decides_the_tissue():
    """A lung shown as bone is an error of lung; tissues that the target does not have are empty."""
    found = hu_error_by_tissue(np.full((8, 8), 600.0), np.full((8, 8), -850.0))
    assert (found["lung"].bias, found["lung"].pixels) == (1450.0, 64)
    assert [found[tissue].pixels for tissue in ("fat", "soft tissue", "bone")] == [0, 0, 0]


def test_slices_are_smoothed_apart():
    """Lung above soft tissue stays lung: nothing is smoothed across slices of any thickness."""
    target = np.stack([np.full((8, 8), -850.0), np.full((8, 8), 50.0)])
    assert {t: e.pixels for t, e in hu_error_by_tissue(target, target).items() if e.pixels} == {"lung": 64, "soft tissue": 64}


# Emphysema

SPACING = (2.5, 2.5)  # mm: 10 cm^2 are 160 pixels


def disc(row: float, column: float, radius: float, flat: float = 1.0, n: int = 128) -> np.ndarray:
    """A disc, or an ellipse whose half height is `flat` times its half width, (n, n) bool."""
    y, x = np.indices((n, n))
    return np.hypot((y - row) / flat, x - column) <= radius


LUNGS = disc(64, 40, 16, 1.5) | disc(64, 88, 16, 1.5)
BULLA = disc(60, 40, 5)


def thorax() -> np.ndarray:
    """Four slices: air, a body, two lungs with a bulla in one, a trachea, and in one slice 16 cm^2 of air in the stomach."""
    hu = np.full((4, 128, 128), -1000.0)
    for inside, value in ((disc(64, 64, 55, 0.8), 40), (LUNGS, -850), (BULLA, -980), (disc(40, 64, 4), -1000)):
        hu[:, inside] = value
    hu[0, disc(92, 64, 9)] = -1000
    return hu


def test_lung_is_the_large_air_in_the_body():
    """Neither the air around the body nor trachea and stomach; the same, but for the stomach, of a single slice."""
    np.testing.assert_array_equal(lung_mask(thorax(), SPACING), np.broadcast_to(LUNGS, (4, 128, 128)))
    np.testing.assert_array_equal(lung_mask(thorax()[1], SPACING), LUNGS)


def test_a_part_counts_by_its_area_in_cm2():
    """With pixels of 1 mm the lungs, 12 cm^2 each, still count, with those of 0.8 mm, 8 cm^2, they do not."""
    slice_ = thorax()[1]
    np.testing.assert_array_equal(lung_mask(slice_, (1.0, 1.0)), LUNGS)
    assert not lung_mask(slice_, (0.8, 0.8)).any()


def test_no_lung():
    """A body without air has no lung, and no emphysema index."""
    body = np.full((2, 32, 32), 40.0)
    mask = lung_mask(body, SPACING)
    assert not mask.any()
    assert np.isnan(laa950(body, mask))


def test_laa950_is_the_bullas_share():
    """Pixels of the bulla over those of the lung; noise, as of a sharp kernel, lifts the index."""
    hu = thorax()
    lung = lung_mask(hu, SPACING)
    assert laa950(hu, lung) == pytest.approx(BULLA.sum() / LUNGS.sum(), rel=1e-12)
    noisy = laa950(hu + RNG(0).normal(0, 100, hu.shape), lung)  # P(N < -1) = 0.1587 of -850 HU, P(N < 0.3) = 0.6179 of -980
    share = BULLA.sum() / LUNGS.sum()
    assert noisy == pytest.approx(0.1587 * (1 - share) + 0.6179 * share, abs=0.015)


def test_exactly_950_is_not_below():
    """The index counts what is below -950 HU."""
    assert laa950(np.array([-951.0, -950.0, -949.0, -2000.0]), np.array([True, True, True, False])) == pytest.approx(1 / 3)


@pytest.mark.parametrize(("hu", "found"), [(-501.0, True), (-500.0, False)])
def test_lung_is_air_below_a_limit(hu, found):
    """-501 HU is lung, -500 HU is not."""
    slice_ = np.full((64, 64), 40.0)
    slice_[10:50, 10:50] = hu
    assert lung_mask(slice_, (1.0, 1.0)).any() == found


@pytest.mark.parametrize(("pixels", "found"), [(1001, True), (1000, True), (999, False)])
def test_lung_has_an_area(pixels, found):
    """10 cm^2 in a slice, 1000 pixels of 1 mm, are enough."""
    slice_ = np.full((64, 64), 40.0)
    index = np.arange(pixels)
    slice_[2 + index // 60, 2 + index % 60] = -900
    assert lung_mask(slice_, (1.0, 1.0)).any() == found


@pytest.mark.parametrize(("slices", "found"), [(9, True), (11, False)])
def test_a_lung_has_a_part_of_the_largest_volume(slices, found):
    """A tenth of the largest lung's volume is enough: 1600 pixels in one slice beside 1600 in each of 9, not of 11, slices."""
    volume = np.full((slices + 2, 64, 64), 40.0)
    volume[:slices, 10:50, 10:50] = -900
    volume[-1, 10:50, 10:50] = -900
    assert lung_mask(volume, (1.0, 1.0))[-1].any() == found


def test_examples_in_the_docstrings():
    """The examples of the docstrings are true."""
    result = doctest.testmod(image_quality)
    assert result.attempted >= 1
    assert result.failed == 0
