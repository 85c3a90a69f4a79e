"""Image quality on images whose noise, blur and anatomy are known."""

import doctest

import numpy as np
import pytest
from scipy import fft, ndimage

from stan_ct.ct.kernels import KERNELS
from stan_ct.ct.tissues import TISSUES
from stan_ct.evaluation.statistics import image_quality
from stan_ct.evaluation.statistics.image_quality import (
    disc_mtf,
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


# MTF


def blurred_disc(mtf, radius: float = 20.0, pitch: float = 0.5, n: int = 96, finer: int = 8) -> np.ndarray:
    """A disc of radius `radius` px, 0 in 1, off the pixels' centres, blurred by a radial response, (n, n)."""
    y, x = np.indices((n * finer, n * finer)) / finer - n / 2
    fine = (np.hypot(y - 0.31, x + 0.17) <= radius).astype(float)
    frequency = np.hypot(fft.fftfreq(n * finer, pitch / finer / 10)[:, None], fft.rfftfreq(n * finer, pitch / finer / 10))
    return fft.irfft2(fft.rfft2(fine) * mtf(frequency))[::finer, ::finer]


def gaussian(sigma: float):
    """The MTF exp(-2 (pi f sigma)^2) of a Gaussian of `sigma` mm, f in lp/cm."""
    return lambda frequency: np.exp(-2 * (np.pi * frequency / 10 * sigma) ** 2)


FREQUENCY = np.linspace(0, 12, 25)  # lp/cm; the Nyquist frequency of 0.5 mm is 10


@pytest.mark.parametrize(("sigma", "radius"), [(0.4, 20), (0.5, 14), (0.5, 30), (1.0, 20)])
@pytest.mark.parametrize("contrast", [1000.0, -300.0])
def test_a_gaussian_disc_gives_the_gaussians_mtf(sigma, radius, contrast):
    """Analytic, for bright discs and dark ones, to 0.015, and 1 at frequency 0."""
    image = 40 + contrast * blurred_disc(gaussian(sigma), radius)
    found = disc_mtf(image, (0.5, 0.5), FREQUENCY)
    assert found[0] == pytest.approx(1, rel=1e-12)
    np.testing.assert_allclose(found, gaussian(sigma)(FREQUENCY), atol=0.015)


@pytest.mark.parametrize(("name", "pitch"), [("BR40", 0.7), ("B70f", 0.5), ("BL64", 0.4)])
def test_a_kernels_disc_gives_the_kernel(name, pitch):
    """Curves of CT kernels, those with an overshoot too, to 0.03 up to twice their f50."""
    kernel = KERNELS[name]
    frequency = np.linspace(0, 2 * kernel.f50, 30)
    found = disc_mtf(1000 * blurred_disc(kernel.mtf, 24, pitch), (pitch, pitch), frequency)
    np.testing.assert_allclose(found, kernel.mtf(frequency), atol=0.03)


def test_noise_leaves_the_mtf():
    """10 HU of noise on a disc of 1000 HU move the curve by less than 0.05."""
    image = 1000 * blurred_disc(gaussian(0.5)) + RNG(0).normal(0, 10, (96, 96))
    np.testing.assert_allclose(disc_mtf(image, (0.5, 0.5), FREQUENCY), gaussian(0.5)(FREQUENCY), atol=0.05)


def test_no_disc_is_refused():
    """Flat images, squares, discs elsewhere or without room, and pixels that are not square."""
    image = 1000 * blurred_disc(gaussian(0.5))
    square = ndimage.gaussian_filter(np.pad(np.full((30, 30), 500.0), 30), 1)
    for wrong in (np.full((64, 64), 40.0), square, np.roll(image, 40, axis=1), image[26:70, 26:70]):
        with pytest.raises(ValueError, match="expected a disc"):
            disc_mtf(wrong, (0.5, 0.5), FREQUENCY)
    with pytest.raises(ValueError, match=r"square pixels, not on 0.5 x 0.6 mm"):
        disc_mtf(image, (0.5, 0.6), FREQUENCY)


def test_examples_in_the_docstrings():
    """The examples of the docstrings are true."""
    result = doctest.testmod(image_quality)
    assert result.attempted >= 1
    assert result.failed == 0
