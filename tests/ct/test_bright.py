"""Metal does not ring: what a filter makes around it is what it makes without it."""

import doctest

import numpy as np
import pytest
from scipy import ndimage

from stan_ct.ct import bright
from stan_ct.ct.bright import BONE_END, HALO, METAL_START, SOFT, calm_weight, without_bright
from stan_ct.ct.filters import RadialFilter, fit_radial_filter
from stan_ct.models.folder import find_model, read_config

SPACING = (0.7, 0.7)
Y, X = np.indices((160, 160)) - 80.0
FILTERS = [("default", "BR40"), ("default", "BL57"), ("philips_b_l", "B")]


def tissue(seed=0):
    """Soft tissue with the noise of a soft kernel, SD 12 HU."""
    noise = np.random.default_rng(seed).normal(0, 60, Y.shape)
    return (40 + ndimage.gaussian_filter(noise, 1.5)).astype(np.float32)


def front_end(model, kernel):
    """A radial filter that ships."""
    return read_config(find_model(model)).front_end.filters[kernel]


def test_docstring():
    """The example holds."""
    assert doctest.testmod(bright, extraglobs={"np": np}).failed == 0


@pytest.mark.parametrize("blur", [0.0, 1.2])
@pytest.mark.parametrize(("metal", "stored"), [(3000, 30_000), (8000, 3071), (20_000, 3071), (20_000, 30_000)])
@pytest.mark.parametrize(("model", "kernel"), FILTERS)
def test_a_rod_of_metal_does_not_ring(model, kernel, metal, stored, blur):
    """Sharp or blurred, cut off at 3,071 HU or not: beside it is what is there without it, inside it is the source."""
    curve = front_end(model, kernel)
    distance = np.hypot(Y, X)
    rod = ndimage.gaussian_filter((distance < 5).astype(float), blur) if blur else distance < 5
    hu = np.minimum(tissue() + metal * rod, stored).astype(np.float32)
    filtered, clean = curve(hu, SPACING), curve(tissue(), SPACING)
    beside = (distance > 6 + 3 * blur) & (distance < 40)
    assert np.abs(filtered - clean)[beside].max() < 3 * clean.std()
    assert filtered.min() > clean.min() - clean.std()
    assert filtered.max() < hu.max() + clean.std()
    np.testing.assert_allclose(filtered[distance < 2], hu[distance < 2], atol=3 * clean.std())


@pytest.mark.parametrize(("brightest", "changes"), [(BONE_END, False), (BONE_END + 1, True)])
def test_bone_is_filtered_as_ever(brightest, changes):
    """Up to `BONE_END` a slice is filtered bit for bit as a whole; above, the weight sinks by little."""
    hu = tissue()
    hu[80, 80] = brightest
    weight = calm_weight(hu, SPACING)
    assert (weight is not None) == changes
    if changes:
        assert weight.min() == pytest.approx(1 - 1 / (METAL_START - BONE_END), abs=1e-5)


def test_weight_by_hand():
    """Metal has no weight within `HALO`, half-way values half of it, all else the whole."""
    hu = tissue()
    hu[80, 80], hu[40, 40] = METAL_START, (BONE_END + METAL_START) / 2
    weight = calm_weight(hu, (0.5, 0.5))
    assert weight[80, 80 + int(HALO / 0.5)] == 0
    assert weight[80, 80 + int(HALO / 0.5) + SOFT] == 1
    assert weight[40, 40] == pytest.approx(0.5, abs=1e-4)
    hu[80, 80] = METAL_START - 1
    assert calm_weight(hu, (0.5, 0.5))[80, 80] > 0


def test_filling_keeps_what_has_weight_and_is_smooth():
    """A ramp goes on through the gap; a slice without any weight is left as it is."""
    ramp = (3 * X).astype(np.float32)
    weight = np.where(np.hypot(Y, X) < 6, np.float32(0), np.float32(1))
    filled = without_bright(np.where(weight > 0, ramp, np.float32(9000)), weight)
    np.testing.assert_array_equal(filled[weight == 1], ramp[weight == 1])
    assert np.abs(filled - ramp).max() < 3 * 6
    np.testing.assert_array_equal(without_bright(ramp, np.zeros_like(weight)), ramp)


def test_a_filter_that_smooths_smooths_metal_too():
    """Only filters that sharpen make rings: without a gain above 1 metal is filtered like the rest."""
    hu = tissue()
    hu[80, 80] = 3000
    assert RadialFilter((0.0, 7.0), (1.0, 0.2))(hu, SPACING)[80, 80] < 2500
    assert RadialFilter((0.0, 7.0), (1.0, 2.0))(hu, SPACING)[80, 80] == pytest.approx(3000, abs=60)


@pytest.mark.parametrize("method", ["amplitude", "wiener"])
def test_metal_does_not_spoil_a_fit(method):
    """With a rod of 20,000 HU in source and target the fitted gain is what it is without."""
    sharp = RadialFilter((0.0, 2.0, 4.0, 8.0), (1.0, 1.2, 1.8, 1.5))
    rod = np.where(np.hypot(Y, X) < 5, np.float32(20_000), np.float32(0))
    white = [np.random.default_rng(s).normal(40, 20, Y.shape).astype(np.float32) for s in range(4)]
    plain = [(x, sharp(x, SPACING), SPACING) for x in white]
    metal = [(x + rod, y + rod, spacing) for x, y, spacing in plain]
    fits = [np.array(fit_radial_filter(pairs, method).gain)[2:90] for pairs in (plain, metal)]
    np.testing.assert_allclose(fits[1], fits[0], rtol=0.05)
