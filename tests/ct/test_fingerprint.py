"""Fingerprints of kernels: what they tell apart, and what they let pass."""

import doctest
import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from stan_ct.ct import fingerprint
from stan_ct.ct.fingerprint import MIN_DISTANCE_LIMIT, NOISE_MARGIN, Fingerprint, SeriesCharacteristics
from stan_ct.ct.noise import BANDS

SLOPE = -0.3 * (np.array(BANDS) - 5)  # of a soft kernel


def seen(spectrum=SLOPE, level=2.0, thickness=1.0, spacing=0.7) -> SeriesCharacteristics:
    return SeriesCharacteristics(thickness, spacing, np.asarray(spectrum) + level)


SOFT = Fingerprint.from_series("BR40", [seen(level=2.0), seen(level=3.0, thickness=3.0, spacing=0.9)])


def test_a_fingerprint_by_hand():
    """Ranges of what was seen, the mean spectrum around 0, levels around it, and how far the farthest series lies."""
    assert (SOFT.slice_thickness, SOFT.pixel_spacing) == ((1.0, 3.0), (0.7, 0.9))
    np.testing.assert_allclose(SOFT.spectrum, SLOPE - SLOPE.mean(), atol=1e-4)
    assert SOFT.level == pytest.approx((2.0 + SLOPE.mean(), 3.0 + SLOPE.mean()), abs=2e-3)
    assert SOFT.spread == 0.0
    wavy = 0.2 * (-1.0) ** np.arange(len(BANDS))
    both = Fingerprint.from_series("X", [seen(SLOPE + wavy), seen(SLOPE - wavy)])
    assert both.spread == pytest.approx(0.2, abs=2e-3)
    assert Fingerprint.from_json(json.loads(json.dumps(asdict(both)))) == both


@pytest.mark.parametrize(("level", "distance"), [(2.5, 0.0), (2.0, 0.5), (3.5, 1.0)])
def test_distance_of_noise(level, distance):
    """Half of it is the level, from the middle of the range; half the shape; what cannot be measured has none."""
    assert SOFT.noise_distance(seen(level=level).spectrum) == pytest.approx(distance, abs=2e-3)
    wavy = seen(SLOPE + 0.2 * (-1.0) ** np.arange(len(BANDS)), level=level).spectrum
    assert SOFT.noise_distance(wavy) == pytest.approx(np.hypot(distance, 0.2), abs=0.02)
    assert np.isnan(SOFT.noise_distance(np.full(len(BANDS), np.nan)))


@pytest.mark.parametrize(
    ("distance", "told"),
    [(3.29, []), (3.31, ["slice spacing 3.31 mm, expected 2 to 3 mm"]), (1.82, []), (1.81, ["slice spacing 1.81 mm"]), (0, [])],
)
def test_spacing_of_slices(distance, told):
    """It is compared where it was seen, within the margin of headers; a single slice has none, and old fingerprints neither."""
    series = [replace(seen(), slice_spacing=spacing) for spacing in (3.0, 0.0, 2.0)]
    found = Fingerprint.from_series("BR40", series).with_slice_spacing(series)
    assert found.slice_spacing == (2.0, 3.0)
    deviations = found.deviations(replace(seen(), slice_spacing=distance))
    assert len(deviations) == len(told)
    assert all(one.startswith(other) for one, other in zip(deviations, told, strict=True))
    assert SOFT.deviations(replace(seen(), slice_spacing=distance)) == []


def test_its_own_series_pass():
    """Whatever was seen, and a little more, is inside; also where bands, or all of the noise, could not be measured."""
    assert SOFT.deviations(seen()) == []
    assert SOFT.deviations(seen(thickness=3.2, spacing=0.65, level=3.0 + 0.9 * np.log(NOISE_MARGIN))) == []
    half = np.where(np.array(BANDS) > 5.5, np.nan, SLOPE)
    assert SOFT.deviations(seen(half)) == []
    assert SOFT.deviations(seen(np.full(len(BANDS), np.nan))) == []


@pytest.mark.parametrize(
    ("strange", "told"),
    [
        (seen(thickness=5.0), "slice thickness 5 mm, expected 1 to 3 mm"),
        (seen(thickness=0.0), "slice thickness 0 mm"),
        (seen(spacing=0.4), "pixel spacing 0.4 mm, expected 0.7 to 0.9 mm"),
        (seen(SLOPE * 0.2), "noise spectrum 0.27 from that of BR40, expected at most 0.10"),
        (seen(level=4.5), "times the mean noise of BR40"),
        (seen(level=0.0), "times the mean noise of BR40"),
    ],
)
def test_strangers_are_told(strange, told):
    """Each stranger is told by what is strange about it, and by that alone."""
    (found,) = SOFT.deviations(strange)
    assert told in found


WAVE = (-1.0) ** np.arange(len(BANDS))  # mean 0, standard deviation 1
SPREAD = Fingerprint.from_series("X", [seen(SLOPE + 0.2 * WAVE), seen(SLOPE - 0.2 * WAVE)])


@pytest.mark.parametrize(
    ("known", "inside", "outside"),
    [
        (SOFT, seen(thickness=3.0 * 1.1 * 0.99), seen(thickness=3.0 * 1.1 * 1.01)),
        (SOFT, seen(thickness=1.0 / 1.1 * 1.01), seen(thickness=1.0 / 1.1 * 0.99)),
        (SOFT, seen(spacing=0.9 * 1.1 * 0.99), seen(spacing=0.9 * 1.1 * 1.01)),
        (SOFT, seen(spacing=0.7 / 1.1 * 1.01), seen(spacing=0.7 / 1.1 * 0.99)),
        (SOFT, seen(level=3.0 + np.log(2.0 * 0.99)), seen(level=3.0 + np.log(2.0 * 1.01))),
        (SOFT, seen(level=2.0 - np.log(2.0 * 0.99)), seen(level=2.0 - np.log(2.0 * 1.01))),
        (SOFT, seen(SLOPE + 0.099 * WAVE), seen(SLOPE + 0.101 * WAVE)),
        (SPREAD, seen(SLOPE + 0.396 * WAVE), seen(SLOPE + 0.404 * WAVE)),
    ],
)
def test_each_limit_from_both_sides(known, inside, outside):
    """1 % inside of the margins of 1.1, 2 and twice the spread (or 0.1) a series passes; 1 % outside one deviation is found."""
    assert known.deviations(inside) == []
    assert len(known.deviations(outside)) == 1


@pytest.mark.parametrize(("num_bands", "compared"), [(2, False), (3, True)])
def test_spectra_are_compared_over_three_bands_at_least(num_bands, compared):
    """Two known frequencies say nothing of a spectrum: level and distance are unknown; three do."""
    few = np.where(np.arange(len(BANDS)) < num_bands, 5.0 + 3.0 * WAVE, np.nan)
    assert np.isfinite(SOFT.compare(few)).all() == compared
    assert bool(SOFT.deviations(seen(few))) == compared


def test_limit():
    """Twice as far as the farthest that was seen, and at least `MIN_DISTANCE_LIMIT`."""
    assert SOFT.limit == MIN_DISTANCE_LIMIT == 0.1
    assert Fingerprint("X", (1, 1), (1, 1), (), spread=0.4).limit == pytest.approx(0.8)


def test_no_noise_was_measured():
    """A kernel none of whose series has uniform tissue has a fingerprint of headers."""
    found = Fingerprint.from_series("X", [seen(np.full(len(BANDS), np.nan))])
    assert found.spectrum == (None,) * len(BANDS)
    assert found.deviations(seen()) == []


def test_examples_in_the_docstrings():
    """The examples of the docstrings are true."""
    result = doctest.testmod(fingerprint)
    assert result.attempted >= 2
    assert result.failed == 0
