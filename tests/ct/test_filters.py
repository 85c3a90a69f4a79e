"""Radial filters: what they do to a sinusoid, a constant, padding, and what fitting finds."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal.windows import tukey

from stan_ct.ct import spectra
from stan_ct.ct.filters import (
    HEADROOM,
    MARGIN,
    MIN_COEFFICIENTS,
    FrontEnd,
    RadialFilter,
    fit_radial_filter,
)
from stan_ct.ct.fourier import rfft2
from stan_ct.ct.spectra import cross_power, radial_frequency, radial_sums, response, taper_window

IDENTITY = RadialFilter((0.0, 10.0), (1.0, 1.0))
SHARP = RadialFilter((0.0, 2.0, 4.0, 8.0), (1.0, 1.2, 1.8, 1.5))
SPACING = (0.7, 0.7)  # Nyquist frequency 7.14 lp/cm

spacings = st.tuples(st.floats(0.2, 3.0), st.floats(0.2, 3.0))
shapes = st.tuples(st.integers(1, 150), st.integers(1, 150))


def noise(seed: int, shape: tuple[int, int] = (200, 180), sd: float = 100.0) -> np.ndarray:
    """White noise around 0 HU."""
    return np.random.default_rng(seed).normal(0, sd, shape).astype(np.float32)


@given(st.integers(1, 600), st.floats(0.01, 1.0))
def test_the_taper_is_scipys_tukey_window(size, taper):
    """To rounding, without the zeros at its ends."""
    np.testing.assert_allclose(taper_window(size, taper), tukey(size + 2, taper)[1:-1], atol=1e-12)


@settings(max_examples=40)
@given(shapes, spacings, st.integers(1, 9))
def test_curves_over_spectra(shape, spacing, points):
    """What tables give is the curve at every frequency, and the sum of what lies nearest to each of its points."""
    rng = np.random.default_rng(points)
    frequency, gain = tuple(np.cumsum(rng.uniform(0.1, 3, points)).tolist()), rng.uniform(0, 40, points)
    there = radial_frequency(shape, spacing)
    np.testing.assert_allclose(response(shape, spacing, frequency, gain), np.interp(there, frequency, gain), atol=1e-4)
    power, even = rng.uniform(0, 1, there.shape), 1.3 * np.arange(points + 1)
    sums, number = radial_sums(power, spacing, even, shape)
    nearest = np.rint(there / 1.3)
    np.testing.assert_allclose(sums, [power[nearest == k].sum() for k in range(points + 1)])
    np.testing.assert_array_equal(number, [np.sum(nearest == k) for k in range(points + 1)])


def test_the_power_of_an_image_with_itself_takes_one_transform(monkeypatch):
    """And is that of a copy of it; that of white noise is its variance times the area of a pixel."""
    image = noise(0, sd=10) - 1024
    whole = cross_power(image, image.copy(), SPACING)
    assert whole.mean() == pytest.approx(100 * 0.49, rel=0.02)
    transforms = []
    monkeypatch.setattr(spectra, "rfft2", lambda x: transforms.append(1) or rfft2(x))
    np.testing.assert_array_equal(cross_power(image, image, SPACING), whole)
    assert len(transforms) == 1


@settings(max_examples=40)
@given(shapes, spacings, st.integers(0, 99))
def test_gain_one_gives_the_image_back(shape, spacing, seed):
    """A gain of 1 changes no pixel by more than float32 rounding, whatever the size and spacing, odd and small ones too."""
    hu = np.random.default_rng(seed).uniform(-1024, 3071, shape).astype(np.float32)
    filtered = IDENTITY(hu, spacing)
    assert filtered.dtype == np.float32
    assert filtered.shape == shape
    np.testing.assert_allclose(filtered, hu, rtol=0, atol=5e-3)


@settings(max_examples=40)
@given(
    shapes, spacings, st.lists(st.floats(0, 5), min_size=1, max_size=6), st.none() | st.floats(0, 1000), st.floats(-1024, 3071)
)
def test_a_constant_stays(shape, spacing, gains, ceiling, value):
    """With gain 1 at frequency 0 a flat slice keeps its HU, whatever the gain and the ceiling elsewhere."""
    points = len(gains) + 1
    curve = RadialFilter(tuple(np.arange(float(points))), (1.0, *gains), () if ceiling is None else (ceiling,) * points)
    filtered = curve(np.full(shape, value, np.float32), spacing)
    np.testing.assert_allclose(filtered, value, rtol=0, atol=5e-3)


def test_radial_frequency_by_hand():
    """4 x 4 pixels of 0.5 mm x 1 mm: rows step by 5 lp/cm, columns by 2.5; Nyquist is 10 down and 5 across."""
    frequency = radial_frequency((4, 4), (0.5, 1.0))
    np.testing.assert_allclose(frequency[:, 0], [0, 5, 10, 5])
    np.testing.assert_allclose(frequency[0], [0, 2.5, 5])
    assert frequency[1, 2] == pytest.approx(np.sqrt(50))


@pytest.mark.parametrize(
    ("down", "across", "lp_per_cm"),
    [(12, None, 10 / 6), (None, 12, 10 / 12), (8, 8, np.hypot(10 / 4, 10 / 8))],
)
def test_a_sinusoid_is_scaled_by_the_gain_at_its_frequency(down, across, lp_per_cm):
    """Waves of 12 pixels of 0.5 mm down are 1.67 lp/cm, of 1 mm across 0.83 lp/cm: those points of the curve scale them."""
    rows, columns = np.mgrid[:240, :252] + 0.5
    wave = np.ones(rows.shape)
    if down:
        wave = wave * np.cos(2 * np.pi * rows / down)
    if across:
        wave = wave * np.cos(2 * np.pi * columns / across)
    line = RadialFilter((0.0, 5.0), (1.0, 3.5))  # gain 1 + f / 2
    filtered = line(200 * wave, (0.5, 1.0))
    centre = slice(60, -60), slice(60, -60)
    scale = (filtered[centre] * wave[centre]).sum() / (wave[centre] ** 2).sum() / 200
    assert scale == pytest.approx(1 + lp_per_cm / 2, rel=0.01)


def test_gain_beyond_the_curve_is_its_end():
    """Above the last frequency of the curve its last gain holds."""
    short = RadialFilter((0.0, 1.0), (1.0, 2.0))
    long = RadialFilter((0.0, 1.0, 50.0), (1.0, 2.0, 2.0))
    np.testing.assert_array_equal(short(noise(0), SPACING), long(noise(0), SPACING))


def test_padding_counts_as_air():
    """-3024 HU around the patient filters exactly as air does: no ringing into the patient."""
    rows, columns = np.mgrid[:128, :128] - 63.5
    inside = np.hypot(rows, columns) < 50
    padded, air = (np.where(inside, 40.0, outside).astype(np.float32) for outside in (-3024, -1024))
    np.testing.assert_array_equal(SHARP(padded, SPACING), SHARP(air, SPACING))
    assert SHARP(padded, SPACING).min() > -1600  # the overshoot of a step of 1064 HU, not of 3064


def test_opposite_edges_do_not_mix():
    """A bright left edge leaves the right edge alone."""
    hu = np.zeros((64, 256), np.float32)
    hu[:, :16] = 1000
    changed = np.abs(SHARP(hu, SPACING))
    assert changed[:, :16].max() > 1000
    assert changed[:, -32:].max() < 2
    assert MARGIN == 64


def test_floor():
    """Nothing of the output lies below the floor, and what lies above it is as without one."""
    hu = np.where(np.mgrid[:96, :96][0] < 48, -1000, 40).astype(np.float32)
    free, floored = SHARP(hu, SPACING), RadialFilter(SHARP.frequency, SHARP.gain, floor=-1024.0)(hu, SPACING)
    assert free.min() < -1100
    assert floored.dtype == np.float32
    np.testing.assert_array_equal(floored, np.maximum(free, -1024))


def test_filtering_does_not_touch_its_input():
    """The slice handed over keeps its values, padding too."""
    hu = np.full((32, 32), -3024, np.float32)
    SHARP(hu, SPACING)
    assert (hu == -3024).all()


@pytest.mark.parametrize("method", ["amplitude", "wiener"])
@pytest.mark.parametrize("spacing", [(0.7, 0.7), (0.5, 0.9)])
def test_fit_finds_a_known_gain(method, spacing):
    """Between a random field and what a known filter made of it, the fit finds the filter to 5 % from 1.2 lp/cm on."""
    images = [noise(seed) for seed in range(4)]
    fitted = fit_radial_filter([(x, SHARP(x, spacing), spacing) for x in images], method)
    frequency, gain = np.array(fitted.frequency), np.array(fitted.gain)
    seen = (frequency > 1.2) & (frequency < 5 / max(spacing))
    np.testing.assert_allclose(gain[seen], np.interp(frequency[seen], SHARP.frequency, SHARP.gain), rtol=0.05)
    corner = np.hypot(5 / spacing[0], 5 / spacing[1])
    assert corner <= frequency[-1] <= corner + frequency[1]
    nyquist = fit_radial_filter([(x, SHARP(x, spacing), spacing) for x in images], method, corners=False)
    assert nyquist.frequency[-1] == pytest.approx(5 / min(spacing), abs=1e-3)
    assert nyquist.gain == fitted.gain[: len(nyquist.gain)]


def test_a_corner_of_few_coefficients_takes_the_gain_beside_it():
    """The gain is constant beyond the last point that 64 coefficients of all slices support, and varies before it."""
    pairs = [(noise(s, (64, 64)), noise(s + 50, (64, 64)), SPACING) for s in range(8)]
    fitted = fit_radial_filter(pairs)
    frequency = np.array(fitted.frequency)
    nearest = np.rint(radial_frequency((64, 64), SPACING) / frequency[1]).astype(int)
    number = 8 * np.bincount(nearest.ravel(), minlength=len(frequency))[: len(frequency)]
    last = np.flatnonzero(number >= MIN_COEFFICIENTS).max()
    assert MIN_COEFFICIENTS == 64
    assert frequency[last] > 8
    assert set(fitted.gain[last:]) == {fitted.gain[last]}
    assert fitted.gain[last - 1] != fitted.gain[last]


def test_fit_reaches_the_corners_of_the_spectrum():
    """A source without its corners and a target with them: below Nyquist the gain is 1, in the corners it is 4.

    A curve that ends at Nyquist, 7.14 lp/cm, leaves the corners, 21 % of the frequencies, as they are.
    """
    corners = RadialFilter((0.0, 7.14, 7.5, 10.2), (1.0, 1.0, 0.25, 0.25))
    pairs = [(corners(noise(s), SPACING), noise(s), SPACING) for s in range(4)]
    fitted, short = fit_radial_filter(pairs), fit_radial_filter(pairs, corners=False)
    assert np.interp([5.0, 8.5, 9.5], fitted.frequency, fitted.gain) == pytest.approx([1, 4, 4], rel=0.06)
    source, target = corners(noise(9), SPACING), noise(9)
    errors = [np.std(image - target) for image in (source, short(source, SPACING), fitted(source, SPACING))]
    assert errors[2] < 0.2 * errors[0]
    assert errors[1] > 0.8 * errors[0]


@pytest.mark.parametrize("method", ["amplitude", "wiener"])
def test_fitted_filter_turns_source_into_target(method):
    """A fit on other slices takes away 95 % of the error between a soft and a sharp slice."""
    fitted = fit_radial_filter([(noise(s), SHARP(noise(s), SPACING), SPACING) for s in range(4)], method)
    source, target = noise(9), SHARP(noise(9), SPACING)
    before, after = (np.sqrt(np.mean((image - target) ** 2)) for image in (source, fitted(source, SPACING)))
    assert after < 0.05 * before


def test_fit_by_hand_with_independent_noise():
    """Target = source + as much independent noise: amplitude is sqrt(2), for texture; Wiener is 1, for least error."""
    pairs = [(noise(s), noise(s) + noise(s + 50), SPACING) for s in range(6)]
    for method, expected in (("amplitude", np.sqrt(2)), ("wiener", 1.0)):
        fitted = fit_radial_filter(pairs, method)
        gain = np.array(fitted.gain)[np.array(fitted.frequency) > 1]
        assert gain.mean() == pytest.approx(expected, rel=0.02), method


@settings(max_examples=20)
@given(st.integers(0, 999), st.floats(0, 200), st.sampled_from([(33, 40), (64, 64), (51, 27)]))
def test_wiener_is_never_above_amplitude(seed, noise_sd, shape):
    """|Re Sxy| <= sqrt(Sxx Syy) (Cauchy-Schwarz): noise lowers the Wiener gain, and raises the amplitude ratio."""
    source = noise(seed, shape)
    pairs = [(source, SHARP(source, SPACING) + noise(seed + 1, shape, noise_sd), SPACING)]
    wiener, amplitude = (np.array(fit_radial_filter(pairs, m).gain) for m in ("wiener", "amplitude"))
    assert (wiener <= amplitude + 1e-4).all()


def test_fit_keeps_the_mean_and_ignores_padding():
    """The gain at frequency 0 is 1 even where mean HU differ, and padding fits as air."""
    source = noise(0)
    shifted = fit_radial_filter([(source, source + 300, SPACING)])
    assert shifted.gain[0] == 1.0
    padded, air = source.copy(), source.copy()
    padded[:40], air[:40] = -3024, -1024
    assert fit_radial_filter([(padded, source, SPACING)]) == fit_radial_filter([(air, source, SPACING)])


def test_ceiling_of_a_fit_is_the_target_spectrum():
    """White noise of 100 HU in pixels of 0.7 x 0.5 mm has the amplitude spectrum 100 * sqrt(0.35) = 59.2 HU mm."""
    spacing = (0.7, 0.5)
    fitted = fit_radial_filter([(noise(s, sd=30.0), noise(s), spacing) for s in range(4)])
    ceiling = np.array(fitted.ceiling)[np.array(fitted.frequency) > 2]
    assert ceiling.mean() == pytest.approx(59.16, rel=0.02)
    np.testing.assert_allclose(ceiling, 59.16, rtol=0.15)


@pytest.mark.parametrize(("gain", "ceiling", "expected"), [(3, 1000, 3), (3, 70, HEADROOM), (3, 20, 1), (0.5, 20, 0.5)])
def test_ceiling_by_hand(gain, ceiling, expected):
    """Noise of 100 HU (70 HU mm) is lifted to 1.5 times the ceiling at most, never lowered by it; a gain below 1 is kept."""
    frequency = tuple(np.linspace(0, 7.2, 97))
    limited = RadialFilter(frequency, (1.0,) + (gain,) * 96, (ceiling,) * 97)
    assert limited(noise(1), SPACING).std() == pytest.approx(100 * expected, rel=0.03)


def test_a_slice_that_is_sharp_already_is_hardly_sharpened():
    """What a fit makes of its own kind it does not do to its target: that keeps within 1.5 times its texture."""
    soft, sharp = noise(7, sd=30.0), noise(7, sd=100.0)
    fitted = fit_radial_filter([(noise(s, sd=30.0), noise(s), SPACING) for s in range(4)])
    assert fitted(soft, SPACING).std() == pytest.approx(100, rel=0.05)
    assert fitted(sharp, SPACING).std() <= 1.03 * HEADROOM * 100


def test_fit_needs_a_pair():
    """No pair gives an error that says so."""
    with pytest.raises(ValueError, match="at least one pair"):
        fit_radial_filter([])


def test_sharpens():
    """A filter sharpens if it lifts what lies above 2 lp/cm; a curve that ends below lifts nothing."""
    assert SHARP.sharpens
    assert not RadialFilter((0.0, 2.0, 4.0), (1.0, 3.0, 0.5)).sharpens
    assert not IDENTITY.sharpens
    assert not RadialFilter((0.0, 1.0), (1.0, 2.0)).sharpens


def test_front_end_has_a_filter_for_each_kernel():
    """Each kernel gets its own; an unknown one is refused with those there are, unless there is but one. JSON keeps it."""
    hu, front_end = noise(1), FrontEnd({"soft": SHARP, "mid": IDENTITY})
    np.testing.assert_array_equal(front_end(hu, SPACING, "soft"), SHARP(hu, SPACING))
    np.testing.assert_array_equal(front_end(hu, SPACING, "mid"), IDENTITY(hu, SPACING))
    with pytest.raises(ValueError, match="filters for kernels soft, mid, not for bone"):
        front_end(hu, SPACING, "bone")
    np.testing.assert_array_equal(FrontEnd({"soft": SHARP})(hu, SPACING, "bone"), SHARP(hu, SPACING))
    assert FrontEnd.from_json(json.loads(json.dumps(front_end.to_json()))) == front_end
    assert FrontEnd.from_json({}) is None


def test_front_end_has_a_filter_for_each_thickness():
    """Kernel and thickness have a filter; a thickness between gets the nearest, and one kernel is never another's."""
    front_end = FrontEnd({"A 1 mm": SHARP, "A 3 mm": IDENTITY, "B 5 mm": SHARP})
    chosen = {name: front_end.choose(name) for name in ("A 1 mm", "A 1.01 mm", "A 1.9 mm", "A")}
    assert set(map(id, chosen.values())) == {id(SHARP)}
    assert all(front_end.choose(name) is IDENTITY for name in ("A 3 mm", "A 2.1 mm", "A 5 mm"))
    assert FrontEnd({"A": SHARP, "B": IDENTITY}).choose("A 3 mm") is SHARP
    with pytest.raises(ValueError, match="filters for kernels A 1 mm, A 3 mm, B 5 mm, not for C 1 mm"):
        front_end.choose("C 1 mm")


def test_a_floor_is_stored_where_there_is_one():
    """JSON of a filter without a floor is what it was before filters had one; a floor comes back as it was."""
    floored = RadialFilter((0.0, 9.0), (1.0, 2.0), (), -1024.0)
    assert set(SHARP.to_json()) == {"frequency", "gain", "ceiling"}
    for curve in (SHARP, floored):
        assert RadialFilter.from_json(json.loads(json.dumps(curve.to_json()))) == curve
    assert RadialFilter.from_json({"frequency": [0.0, 9.0], "gain": [1.0, 2.0]}) == RadialFilter((0.0, 9.0), (1.0, 2.0))


@pytest.mark.parametrize("method", ["amplitude", "wiener"])
def test_slices_of_one_value_give_the_filter_that_changes_nothing(method):
    """Air alone, and values below it, hold no frequency of which anything could be said."""
    flat = [
        (np.full((32, 32), value, np.float32), np.full((32, 32), value, np.float32), (0.7, 0.7)) for value in (-1024, -7000)
    ]
    fitted = fit_radial_filter(flat, method)
    assert set(fitted.gain) == {1.0}
    image = np.random.default_rng(0).normal(0, 100, (32, 32)).astype(np.float32)
    np.testing.assert_allclose(fitted(image, (0.7, 0.7)), image, atol=0.01)
