"""Noise of known spectra, and where uniform tissue is found."""

import numpy as np
import pytest
from scipy import fft

from stan_ct.ct.kernels import KERNELS
from stan_ct.ct.noise import BANDS, noise_power, noise_spectrum, uniform_regions

RNG = np.random.default_rng


def test_white_noise_has_a_flat_spectrum():
    """sigma^2 dx dy = 20^2 * 0.8 * 0.5 HU^2 mm^2 at every frequency; the integral is the variance less the trend's 6 of S^2."""
    regions = RNG(0).normal(50, 20, (600, 32, 32))
    found = noise_power(regions, (0.8, 0.5))
    np.testing.assert_allclose(found.power[3:], 400 * 0.4, rtol=0.05)
    assert found.variance == pytest.approx(400 * (1 - 6 / 1024), rel=0.01)
    assert found.area.sum() == pytest.approx(1 / (0.8 * 0.5))  # the whole frequency plane, (lp/mm)^2
    assert found.frequency[-1] == pytest.approx(np.hypot(5 / 0.8, 5 / 0.5), rel=0.02)  # lp/cm, the corner


def test_filtered_noise_has_the_filters_spectrum():
    """White noise through a known response M(f) has the power sigma^2 dx dy M(f)^2."""
    pitch, n = 0.7, 48
    kernel = KERNELS["BL57"]
    frequency = np.hypot(fft.fftfreq(n, pitch / 10)[:, None], fft.rfftfreq(n, pitch / 10))
    regions = fft.irfft2(fft.rfft2(RNG(1).normal(0, 30, (400, n, n))) * kernel.mtf(frequency), s=(n, n))
    found = noise_power(regions, (pitch, pitch))
    expected = 900 * pitch**2 * kernel.mtf(found.frequency) ** 2
    np.testing.assert_allclose(found.power[3:-3], expected[3:-3], atol=0.04 * expected.max())
    assert found.variance == pytest.approx(regions.var(), rel=0.02)


def test_a_wave_stands_at_its_frequency():
    """8 periods of amplitude 10 over 64 px of 0.5 mm: all of the variance, 50, at 2.5 lp/cm; trends play no part."""
    y, x = np.mgrid[:64, :64] / 64
    wave = 10 * np.cos(2 * np.pi * 8 * x)
    found = noise_power(np.stack([wave, wave + 300 - 80 * x + 50 * y**2 + 20 * x * y]), (0.5, 0.5))
    peak = found.power.argmax()
    assert found.frequency[peak] == pytest.approx(2.5, rel=0.01)
    assert [found.variance, found.power[peak] * found.area[peak]] == pytest.approx([50, 50], rel=0.01)


def test_uniform_regions_are_found():
    """The quiet right side is chosen, not the left with its structure, nor lung, however uniform; windows do not overlap."""
    y, x = np.indices((128, 128))
    hu = 40.0 + 25 * np.sin(y / 6) * np.sin(x / 6) * (x < 64) + RNG(0).normal(0, 12, (128, 128))
    hu[:48] = -850
    windows = uniform_regions(hu, size=16, number=6)
    assert len(windows) == 6
    covered = np.zeros((128, 128), int)
    for rows, columns in windows:
        assert (rows.stop - rows.start, columns.stop - columns.start) == (16, 16)
        covered[rows, columns] += 1
    assert covered.max() == 1
    assert covered[52:, 64:].sum() == 6 * 256
    noise = noise_power(np.stack([hu[window] for window in windows]), (0.7, 0.7))
    assert np.sqrt(noise.variance) == pytest.approx(12, rel=0.05)


def test_uneven_regions_are_not_taken():
    """Where only two windows are uniform there are two, whatever number was asked for; best first; none in bone."""
    y, x = np.indices((32, 64))
    hu = 40.0 + 0.5 * np.sin(x / 4) * (x < 32) + 0.2 * np.sin(y / 4) + 40 * np.sin(x / 3) * (y >= 16)
    found = uniform_regions(hu, size=12, number=9, hu_range=(-150, 150))
    assert 1 <= len(found) <= 5
    assert all(rows.stop <= 16 for rows, _ in found)
    assert found[0][1].start >= 32
    assert uniform_regions(hu + 500) == []
    assert uniform_regions(np.zeros((20, 20))) == []


@pytest.mark.parametrize(("relative", "number"), [(1.98, 2), (2.02, 1)])
def test_a_region_of_twice_the_structure_is_uniform(relative, number, monkeypatch):
    """A region is uniform up to twice the structure of the most uniform one; 1 % more and it is not."""
    monkeypatch.setattr("stan_ct.ct.noise.SMOOTHING", 1e-3)  # so that regions do not reach into each other
    structure = np.sin(np.arange(24) / 4)[:, None] * np.ones(24)
    hu = np.full((24, 96), 500.0)
    hu[:, :24], hu[:, 72:] = 40.0 + structure, 40.0 + relative * structure
    assert len(uniform_regions(hu)) == number


@pytest.mark.parametrize(("lowest", "highest", "number"), [(-149, 149, 1), (-151, 100, 0), (-100, 151, 0)])
def test_a_region_lies_within_the_range(lowest, highest, number, monkeypatch):
    """By default a region holds no less than -150 and no more than 150 HU."""
    monkeypatch.setattr("stan_ct.ct.noise.SMOOTHING", 1e-3)
    hu = np.full((24, 24), float(lowest))
    hu[12:] = highest
    assert len(uniform_regions(hu)) == number


def kernel_noise(seed: int, name: str, sd: float = 20.0, pitch: float = 0.7, n: int = 160) -> np.ndarray:
    """(n, n) HU: noise as a kernel filters it, around 40 HU."""
    frequency = np.hypot(fft.fftfreq(n, pitch / 10)[:, None], fft.rfftfreq(n, pitch / 10))
    return 40 + fft.irfft2(fft.rfft2(RNG(seed).normal(0, sd, (n, n))) * KERNELS[name].mtf(frequency), s=(n, n))


def test_spectrum_in_bands():
    """ln(sigma sqrt(dx dy) M(f)) at the bands below the Nyquist frequency, NaN beyond, and NaN where nothing is uniform."""
    found = noise_spectrum([kernel_noise(seed, "BR40") for seed in range(12)], (0.7, 0.7))
    expected = np.log(20 * 0.7 * KERNELS["BR40"].mtf(np.array(BANDS)))
    below = np.array(BANDS) < 5 / 0.7
    np.testing.assert_allclose(found[below][:6], expected[below][:6], atol=0.15)
    assert np.isnan(noise_spectrum([kernel_noise(0, "BR40", pitch=1.0)], (1.0, 1.0))[np.array(BANDS) > 5]).all()
    assert np.isnan(noise_spectrum([np.full((64, 64), -900.0)], (0.7, 0.7))).all()
    assert np.isnan(noise_spectrum([np.full((64, 64), 40.0)], (0.7, 0.7))).all()
    assert np.isnan(noise_spectrum([], (0.7, 0.7))).all()
