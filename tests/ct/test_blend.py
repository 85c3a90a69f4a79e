"""Blends of amplitude and Wiener filter: the exponents, the target's clipping, and what fitting through it finds."""

import numpy as np
import pytest

from stan_ct.ct.blend import LEAST_CLIPPED, Curves, clipping_floor, fit_curves
from stan_ct.ct.filters import HIGHEST_FLOOR, RadialFilter, fit_radial_filter

SPACING = (0.7, 0.7)  # Nyquist frequency 7.14 lp/cm
SHARP = RadialFilter((0.0, 2.0, 4.0, 8.0), (1.0, 1.2, 2.4, 2.0))
CLIPPED = RadialFilter(SHARP.frequency, SHARP.gain, floor=-1024.0)


def air(seed):
    """Noise of 15 HU, air in the upper half and water below, (128, 128) HU."""
    image = np.random.default_rng(seed).normal(0, 15, (128, 128)).astype(np.float32)
    image[:64] -= 990
    return np.maximum(image, -1024)


PAIRS = [(air(seed), CLIPPED(air(seed), SPACING), SPACING) for seed in range(3)]


def test_blend_by_hand():
    """Amplitude 4, Wiener 1: exponents 0, 1/2, 1 at the middles of three bands are gains 1, 2, 4, geometric between; 1 at 0."""
    frequency = np.arange(0, 9, 0.5)
    curves = Curves(frequency, np.full(18, 4.0), np.full(18, 1.0), np.full(18, 7.0), -1024.0, 6.0)
    gain = dict(zip(frequency, curves.blend((0, 0.5, 1)).gain, strict=True))
    assert [gain[f] for f in (0.5, 1, 2, 3, 4, 5, 8.5)] == pytest.approx([1, 1, 2**0.5, 2, 2**1.5, 4, 4], abs=1e-4)
    one = curves.blend([1.0])
    assert one.gain[0] == 1
    assert set(one.gain[1:]) == {4}
    assert one.floor == -1024
    assert set(one.ceiling) == {7}


def test_clipping_floor():
    """Files clip at their lowest HU if many pixels have it and it is air: a share of .001 is enough, -999 HU is not air."""
    image = np.linspace(-900, 500, 10_000).reshape(100, 100)
    assert LEAST_CLIPPED == 0.001
    for value, number, floor in ((-1024, 10, -1024), (-1024, 9, None), (HIGHEST_FLOOR, 10, -1000), (-999, 10, None)):
        image.flat[:number], image.flat[number:11] = value, -900
        assert clipping_floor([image]) == floor
    assert clipping_floor([image, np.full((100, 100), -1024.0)]) == -1024


def test_fit_sees_through_the_clipping():
    """Where files cut off the noise of air, a ratio of spectra is 17 % too small; a fit as it is applied is right to 2 %."""
    curves, plain = fit_curves(PAIRS, 0.25), fit_radial_filter(PAIRS)
    seen = (curves.frequency > 2) & (curves.frequency < 7)
    wanted = np.interp(curves.frequency[seen], SHARP.frequency, SHARP.gain)
    assert np.mean(np.array(plain.gain)[seen] / wanted) == pytest.approx(0.83, abs=0.03)
    for gain in (curves.amplitude, curves.wiener):
        assert np.mean(gain[seen] / wanted) == pytest.approx(1, abs=0.02)
        assert np.mean(np.abs(gain[seen] / wanted - 1)) < 0.08
    assert curves.floor == -1024


def test_fitted_blend_turns_source_into_target():
    """On another slice a fit leaves at most a third of what the ratio of spectra leaves."""
    source, target = air(9), CLIPPED(air(9), SPACING)
    errors = [
        np.std(curve(source, SPACING) - target) for curve in (fit_radial_filter(PAIRS), fit_curves(PAIRS, 0.25).blend([0.5]))
    ]
    assert errors[1] < errors[0] / 3


def test_a_target_that_does_not_clip_keeps_its_air():
    """Noise far below -1024 HU counts as it is, and the filter has no floor."""
    pairs = [(air(seed), SHARP(air(seed), SPACING), SPACING) for seed in range(3)]
    curves = fit_curves(pairs, 0.25)
    assert curves.floor is None
    seen = (curves.frequency > 2) & (curves.frequency < 7)
    np.testing.assert_allclose(
        curves.wiener[seen], np.interp(curves.frequency[seen], *(SHARP.frequency, SHARP.gain)), rtol=0.05
    )
    assert curves.blend([1.0])(air(8), SPACING).min() < -1040


def test_the_ceiling_lets_pass_what_the_fit_makes():
    """A slice as those that were fitted is filtered with the whole gain, with Hann windows too."""
    fitted = fit_curves(PAIRS, 1.0).blend([1.0])
    free = RadialFilter(fitted.frequency, fitted.gain, floor=fitted.floor)
    np.testing.assert_allclose(fitted(air(9), SPACING), free(air(9), SPACING), atol=2)


def test_flat_slices():
    """Slices without texture give a filter that keeps them."""
    flat = np.full((64, 64), 40.0, np.float32)
    np.testing.assert_allclose(fit_curves([(flat, flat, SPACING)], 0.25).blend([0.5])(flat, SPACING), flat, atol=0.5)


def test_fit_needs_a_pair():
    """No pair gives an error that says so."""
    with pytest.raises(ValueError, match="at least one pair"):
        fit_curves([], 0.25)
