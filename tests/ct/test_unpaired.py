"""A filter between two kernels, found on texture and edges of different patients."""

import numpy as np
import pytest
from bodies import PITCH, body, reconstruct

from stan_ct.ct.slice_spectra import FREQUENCY, mean_spectra, slice_spectra
from stan_ct.ct.spectra import radial_frequency
from stan_ct.ct.unpaired import between, fit_gain, take_apart

SPACING = (PITCH, PITCH)
NYQUIST, CORNER = 5 / PITCH, 5 * np.sqrt(2) / PITCH


def parts(mtf, seeds, dose=1.0):
    """Noise and structure of some patients in a kernel, three slices each."""
    found = []
    for seed in seeds:
        slices = [reconstruct(*body(10 * seed + z, dose), mtf) for z in range(3)]
        found.append(take_apart(mean_spectra([slice_spectra(hu, np.zeros(hu.shape, bool), SPACING) for hu in slices])))
    return found


def soft(f):
    return np.exp(-((f / 4.0) ** 2))


def sharp(f):
    return np.exp(-((f / 6.5) ** 2)) * (1 + 0.4 * (f / 4) ** 2 * np.exp(1 - (f / 4) ** 2))


@pytest.fixture(scope="module")
def patients():
    """Kernel and dose -> patients; those of the sharp kernel are others than those of the soft one."""
    return {
        ("soft", 1.0): parts(soft, range(3)),
        ("sharp", 1.0): parts(sharp, range(3, 6)),
        ("sharp", 1.6): parts(sharp, range(3, 6), 1.6),
    }


@pytest.mark.parametrize("dose", [1.0, 1.6])
def test_the_gain_is_that_of_the_kernels_whatever_the_dose(patients, dose):
    """Ratio of the curves to 7 % up to 5 lp/cm, and the dose to 8 %: other anatomy, other noise, other dose."""
    found = fit_gain(patients["soft", 1.0], patients["sharp", dose], NYQUIST, CORNER)
    used = between(0.5, 5.0)
    error = found.log_gain - np.log(sharp(FREQUENCY) / soft(FREQUENCY))
    assert np.abs(error[used]).max() < 0.07
    assert found.dose == pytest.approx(np.log(dose), abs=0.08)
    assert found.log_gain[0] == 0


def test_a_filter_that_smooths_is_the_inverse(patients):
    """From sharp to soft: the same curve with the other sign, to rounding."""
    there = fit_gain(patients["soft", 1.0], patients["sharp", 1.6], NYQUIST, CORNER)
    back = fit_gain(patients["sharp", 1.6], patients["soft", 1.0], NYQUIST, CORNER)
    np.testing.assert_allclose(back.log_gain, -there.log_gain, atol=1e-9)
    assert back.dose == pytest.approx(-there.dose)


def test_the_same_kernel_needs_no_filter(patients):
    """Patients of one kernel on both sides, at other doses: gain 1 to 7 %."""
    found = fit_gain(patients["sharp", 1.0], patients["sharp", 1.6], NYQUIST, CORNER)
    assert np.abs(found.log_gain[between(0.5, 5.0)]).max() < 0.07


def test_noise_of_tissue_is_measured_as_it_is():
    """White noise of 20 HU has the power 400 HU^2 times the area of a pixel, at every frequency from 2 lp/cm."""
    hu, _ = body(1, 0.0)
    hu = hu + np.random.default_rng(0).normal(0, 20, hu.shape)
    found = slice_spectra(hu, np.zeros(hu.shape, bool), SPACING)
    used = between(2.0, NYQUIST)
    np.testing.assert_allclose(found.noise[used].mean(), 400 * PITCH**2, rtol=0.06)
    assert np.isnan(found.noise[FREQUENCY > CORNER]).all()


@pytest.mark.parametrize(("side", "hu"), [(64, -1000.0), (16, 40.0)])
def test_nothing_is_measured_where_there_is_no_tissue(side, hu):
    """A slice of air, and one that does not hold four square centimetres, have no spectra."""
    image = np.full((side, side), hu)
    assert slice_spectra(image, np.zeros(image.shape, bool), SPACING) is None


def test_a_small_crop_is_measured():
    """160 x 160 pixels of tissue, which fill the image and are less than a patch, are enough."""
    image = 40 + np.random.default_rng(0).normal(0, 20, (160, 160))
    found = slice_spectra(image, np.zeros(image.shape, bool), SPACING)
    np.testing.assert_allclose(found.noise[between(2.0, NYQUIST)].mean(), 400 * PITCH**2, rtol=0.15)


def test_frequencies_are_those_of_the_pixels():
    """A wave of 3 lp/cm stands out at 3 lp/cm in pixels of 0.5 x 0.8 mm."""
    spacing = (0.5, 0.8)
    x = np.arange(120.0)
    hu = np.full((192, 120), 40.0) + np.random.default_rng(0).normal(0, 1, (192, 120))
    hu += 10 * np.sin(2 * np.pi * 3 * x * spacing[1] / 10)
    found = slice_spectra(hu, np.zeros(hu.shape, bool), spacing)
    assert FREQUENCY[np.nanargmax(found.noise)] == pytest.approx(3.0)
    assert radial_frequency((192, 120), spacing).max() == pytest.approx(np.hypot(10, 6.25))
