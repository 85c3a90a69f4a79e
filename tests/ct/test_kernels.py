"""Kernel curves: the formula, the table's published facts, and measuring a curve that is known."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import fft

from stan_ct.ct.filters import RadialFilter, fit_radial_filter
from stan_ct.ct.kernels import KERNELS, Kernel, parse_kernel, read_kernels
from stan_ct.ct.mtf import WIRE_RADIUS, fit_kernel, kernel_from_ratio, measure_mtf

PITCH = 0.7  # mm; Nyquist frequency 7.14 lp/cm
FREQUENCY = np.linspace(0, 18, 181)  # lp/cm


def crossing(curve: np.ndarray, level: float, frequency: np.ndarray = FREQUENCY) -> float:
    """Last frequency at which a curve passes a level, by linear interpolation."""
    i = int(np.flatnonzero(curve >= level)[-1])
    return float(frequency[i] + (curve[i] - level) / (curve[i] - curve[i + 1]) * (frequency[i + 1] - frequency[i]))


def spread(kernel: Kernel, scene: np.ndarray, fine: float, each: int) -> np.ndarray:
    """A scene's spectrum (n, n // 2 + 1) on a fine grid, blurred by a kernel and sampled at each `each`-th point."""
    n = scene.shape[0]
    frequency = np.hypot(fft.fftfreq(n, fine / 10)[:, None], fft.rfftfreq(n, fine / 10)[None])
    return fft.irfft2(scene * kernel.mtf(frequency))[::each, ::each]


def wire(kernel: Kernel, rng: np.random.Generator, noise: float = 0.0, n: int = 48, finer: int = 4) -> np.ndarray:
    """Image of a wire at a random place between pixels, 1800 HU above water at its brightest, rounded."""
    y, x = (n / 2 + rng.uniform(-2, 2, 2)) * finer  # the Nyquist frequency of the fine grid is 28.6 lp/cm
    place = np.exp(-2j * np.pi * (y * fft.fftfreq(n * finer)[:, None] + x * fft.rfftfreq(n * finer)[None]))
    image = spread(kernel, place, PITCH / finer, finer)
    return np.rint(40 + image * (1800 / image.max()) + rng.normal(0, noise, image.shape)).astype(np.int16)


# The curve

levels = st.floats(1.0, 12.0), st.floats(1.1, 2.2), st.floats(0.0, 1.0), st.floats(0.4, 0.7)
some_kernel = st.builds(lambda f50, r, a, at: Kernel("K", f50, f50 * r, a, f50 * at), *levels)


@settings(max_examples=60)
@given(some_kernel)
def test_a_curve_passes_through_its_points(kernel):
    """M is 1 at frequency 0, 0.5 at f50, 0.1 at f10, and vanishes far out, whatever the overshoot."""
    np.testing.assert_allclose(kernel.mtf([0, kernel.f50, kernel.f10]), [1, 0.5, 0.1], rtol=1e-9)
    assert kernel.mtf(np.array(kernel.f10 * 20)) < 1e-3
    assert kernel.mtf(np.zeros((3, 2))).shape == (3, 2)


def test_a_curve_without_overshoot_by_hand():
    """f10 / f50 = (ln 10 / ln 2)^(1/n): for n = 2 the curve is the Gaussian 2^-(f/f50)^2, 0.5^0.25 at half of f50."""
    gauss = Kernel("G", 5.0, 5.0 * np.sqrt(np.log(10) / np.log(2)))
    np.testing.assert_allclose(gauss.mtf([2.5, 10.0]), [0.5**0.25, 0.5**4], rtol=1e-12)


def test_an_overshoot_lifts_by_one_plus_a_at_its_frequency():
    """At f_b, (f/f_b)^2 exp(1 - (f/f_b)^2) is 1: the lift is 1 + a; f_b is half of f50 where it is not given."""
    kernel = Kernel("K", 8.0, 12.0, 0.25, 4.0)
    lift50, lift10 = (1 + 0.25 * q * np.exp(1 - q) for q in (4.0, 9.0))
    n = np.log(np.log(lift10 / 0.1) / np.log(lift50 / 0.5)) / np.log(12 / 8)
    expected = 1.25 * np.exp(-((4 / 8) ** n) * np.log(lift50 / 0.5))
    assert kernel.mtf(np.array(4.0)) == pytest.approx(expected, rel=1e-9)
    assert Kernel("K", 8.0, 12.0, 0.25).mtf(np.array(3.0)) == kernel.mtf(np.array(3.0))


@pytest.mark.parametrize(
    "numbers",
    [
        (0, 7), (-4, 7), (7, 7), (7, 4), (np.nan, 7), (4, np.inf), (4, 7, -0.1), (4, 7, 0.1, -2), (4, 7, np.nan),
        (4, 7, 0, np.inf),
    ],
)  # fmt: skip
def test_numbers_that_make_no_curve_are_refused(numbers):
    """f50 must be above 0 and below f10, the overshoot at least 0, all finite; the message says what came."""
    with pytest.raises(ValueError, match=rf"kernel BAD: expected 0 < f50 < f10 .* got f50 {numbers[0]:g}, f10 {numbers[1]:g}"):
        Kernel("BAD", *numbers)


@pytest.mark.parametrize(
    ("inside", "outside"),
    [
        ((4.0, 4.0 * 1.06), (4.0, 4.0 * 1.04)),
        ((1.01, 2.0), (0.99, 2.0)),
        ((4.0, 9.0, 1.49, 1.3), (4.0, 9.0, 1.51, 1.3)),
        ((4.0, 7.0, 0.1, 4.0 * 0.303), (4.0, 7.0, 0.1, 4.0 * 0.297)),
    ],
)
def test_each_limit_of_a_kernel_from_both_sides(inside, outside):
    """f10 / f50 of 1.05, f50 of 1 lp/cm, an overshoot of 1.5 and its place at 0.3 of f50 are the ends of what is accepted."""
    Kernel("K", *inside)
    with pytest.raises(ValueError, match="kernel K"):
        Kernel("K", *outside)


def test_an_overshoot_too_large_for_a_falling_curve_is_refused():
    """Overshoot 20 at 4 lp/cm leaves no curve of this form that is 0.5 at 4 and 0.1 at 10 lp/cm and 1 at 0."""
    with pytest.raises(ValueError, match="kernel X"):
        Kernel("X", 4.0, 10.0, 20.0, 4.0)


@pytest.mark.parametrize("name", ["", " BR40", "a" * 17, "BR40\\SYN", "BR\u00f640", "BR40\n"])
def test_a_name_that_dicom_cannot_hold_is_refused(name):
    """A code string of DICOM has at most 16 characters and no backslash; the message shows the name."""
    with pytest.raises(ValueError, match="expected 1 to 16 letters"):
        Kernel(name, 4.0, 7.0)


# The table


def test_the_table_holds_the_published_figures():
    """B30 (f50 / f10 of 3.5 / 5.9) and D45 (5.6 / 9.4) enclose BR40 and BR44; the lung kernels lie beyond them."""
    assert list(KERNELS) == [kernel.name for kernel in KERNELS.values()]
    assert (KERNELS["BR40"].f50, KERNELS["BR40"].f10) == (4.2, 7.0)
    assert 3.5 < KERNELS["B31f"].f50 < KERNELS["BR40"].f50 < KERNELS["BR44"].f50 < 5.6 < KERNELS["BL57"].f50
    assert 5.9 < KERNELS["B31f"].f10 < KERNELS["BR40"].f10 < KERNELS["BR44"].f10 < 9.4 < KERNELS["BL57"].f10
    for kernel in KERNELS.values():
        if not kernel.overshoot:  # B30 and D45 both have 1.68
            assert kernel.f10 / kernel.f50 == pytest.approx(5.9 / 3.5, rel=0.02)


@pytest.mark.parametrize(("low", "high", "loosened"), [("BR40", "BR44", 0.0), ("BR40", "BL57", 0.07), ("BR40", "BL64", 0.11)])
def test_resolution_grows_by_four_percent_per_step(low, high, loosened):
    """f50 follows 4 % per step of the index, less 7 % for BL57 and 11 % for BL64, to 1 %."""
    steps = int(high[2:]) - int(low[2:])
    assert KERNELS[high].f50 == pytest.approx(KERNELS[low].f50 * 1.04**steps * (1 - loosened), rel=0.012)


@pytest.mark.parametrize(("name", "peak", "at"), [("BL57", 1.15, 3.1), ("BL64", 1.27, 4.1), ("BR40", 1.0, 0.0)])
def test_lung_kernels_overshoot(name, peak, at):
    """The curve of BL57 peaks with 1.15 at 3.1 lp/cm, that of BL64 with 1.27 at 4.1; BR40's never exceeds 1."""
    curve = KERNELS[name].mtf(FREQUENCY)
    assert curve.max() == pytest.approx(peak, abs=0.006)
    assert FREQUENCY[curve.argmax()] == pytest.approx(at, abs=0.06)


@pytest.mark.parametrize(("soft", "sharp", "ratio"), [("BR40", "BL64", 3.9), ("BR40", "BL57", 2.6)])
def test_sharp_kernels_have_more_noise(soft, sharp, ratio):
    """Noise variance is proportional to the integral of f^2 M^2: BL64 has 3.9 times the noise of BR40, BL57 2.6 times."""
    soft_sd, sharp_sd = (np.sqrt(np.sum((FREQUENCY * KERNELS[name].mtf(FREQUENCY)) ** 2)) for name in (soft, sharp))
    assert sharp_sd / soft_sd == pytest.approx(ratio, rel=0.02)


def test_b40f_and_b70f_hold_what_a_real_pair_gave():
    """Their f50 are 4.07 and 8.5 lp/cm; B70f overshoots by 0.34 at half of f50 and has f10 / f50 = 1.3."""
    sharp = KERNELS["B70f"]
    assert (KERNELS["B40f"].f50, sharp.f50, sharp.overshoot) == (4.07, 8.5, 0.34)
    assert sharp.f10 / sharp.f50 == pytest.approx(1.3)
    assert sharp.mtf(np.array(4.25)) == pytest.approx(1.34 * np.exp(-((4.25 / sharp._fall[0]) ** sharp._fall[1])))


# From text


def test_a_flag_names_a_kernel_of_the_table_or_gives_one():
    """A name is looked up; NAME:f50:f10[:overshoot[:at]] is a kernel of its own, even under a known name."""
    assert parse_kernel("BL64", KERNELS) is KERNELS["BL64"]
    assert parse_kernel("SOFT:3.5:5.9", KERNELS) == Kernel("SOFT", 3.5, 5.9)
    assert parse_kernel("BL64:9:12:0.2:4.5", KERNELS) == Kernel("BL64", 9.0, 12.0, 0.2, 4.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("BR41", r"'BR41' is unknown: expected BR40, .*BL64.* or NAME:f50:f10"),
        ("", "is unknown"),
        ("A:4", "'A:4' is unknown"),
        ("A:4:7:0:1:2", "is unknown"),
        ("A:four:7", "'A:four:7'.*four"),
        ("A:7:4", "'A:7:4': kernel A: expected 0 < f50 < f10"),
        ("A::7", "'A::7'"),
    ],
)
def test_a_flag_that_is_no_kernel_is_refused(text, message):
    """The message repeats the flag and says what was expected."""
    with pytest.raises(ValueError, match=message):
        parse_kernel(text, KERNELS)


def test_kernels_are_read_from_json(tmp_path):
    """What a file says, in its order; the overshoot may be left out."""
    path = tmp_path / "kernels.json"
    sharp = {"f50": 9, "f10": 12.5, "overshoot": 0.3, "overshoot_frequency": 4.5}
    path.write_text(json.dumps({"SOFT": {"f50": 3.5, "f10": 5.9}, "SHARP": sharp}))
    read = read_kernels(path)
    assert list(read) == ["SOFT", "SHARP"]
    assert read["SOFT"] == Kernel("SOFT", 3.5, 5.9)
    assert read["SHARP"] == Kernel("SHARP", 9, 12.5, 0.3, 4.5)


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "3", '{"A": 3}', '{"A": {}}', '{"A": {"f50": 4}}', '{"A": {"f50": 7, "f10": 4}}',
        '{"A": {"f50": "soft", "f10": 7}}', '{"A": {"f50": 4, "f10": 7, "sharpness": 1}}', '{"A": {"f50": 4, "f10": null}}',
        '{"A": {"f50": 4, "f10": NaN}}', '{"A": [4, 7]}', "\u00ff\u00fe",
    ],
)  # fmt: skip
def test_a_file_without_kernels_is_refused(tmp_path, text):
    """The message names the file and shows the form expected; a file that is not there is the system's own error."""
    path = tmp_path / "kernels.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=r'kernels.json: expected \{"NAME": \{"f50"'):
        read_kernels(path)
    with pytest.raises(OSError, match=r"none\.json"):
        read_kernels(tmp_path / "none.json")


# Measuring


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=list(KERNELS))
def test_a_wire_gives_the_curve(kernel):
    """One wire between pixels of 0.7 mm, in whole HU: f50 and f10 to 3 %, the curve to 0.06, beyond Nyquist too."""
    rng = np.random.default_rng(3)
    for _ in range(3):
        curve = measure_mtf([wire(kernel, rng)], (PITCH, PITCH), FREQUENCY)
        assert crossing(curve, 0.5) == pytest.approx(kernel.f50, rel=0.03)
        assert crossing(curve, 0.1) == pytest.approx(kernel.f10, rel=0.03)
        np.testing.assert_allclose(curve, kernel.mtf(FREQUENCY), rtol=0, atol=0.06)


@pytest.mark.parametrize("name", ["BR40", "BL57", "BL64"])
def test_noisy_wires_give_the_curve_together(name):
    """Eight wires of 1800 HU in white noise of 3 HU: f50 to 3 %, f10 to 5 %."""
    rng = np.random.default_rng(4)
    curve = measure_mtf([wire(KERNELS[name], rng, noise=3.0) for _ in range(8)], (PITCH, PITCH), FREQUENCY)
    assert crossing(curve, 0.5) == pytest.approx(KERNELS[name].f50, rel=0.03)
    assert crossing(curve, 0.1) == pytest.approx(KERNELS[name].f10, rel=0.05)


def test_a_measurement_does_not_depend_on_background_or_contrast():
    """In air instead of water, or half as bright, a wire gives the same curve, to the rounding of HU."""
    image = wire(KERNELS["BL57"], np.random.default_rng(5)).astype(np.float64)
    curve = measure_mtf([image], (PITCH, PITCH), FREQUENCY)
    np.testing.assert_allclose(measure_mtf([image - 1000], (PITCH, PITCH), FREQUENCY), curve, atol=1e-6)
    np.testing.assert_allclose(measure_mtf([image / 2], (PITCH, PITCH), FREQUENCY), curve, atol=1e-6)


def test_frequencies_scale_with_the_pixels():
    """The same image with pixels half as large has a curve that reaches twice as far."""
    image = wire(KERNELS["BL57"], np.random.default_rng(6))
    curve = measure_mtf([image], (PITCH, PITCH), FREQUENCY)
    twice = measure_mtf([image], (PITCH / 2, PITCH / 2), 2 * FREQUENCY)
    assert crossing(twice, 0.5, 2 * FREQUENCY) == pytest.approx(2 * crossing(curve, 0.5), rel=1e-3)


def test_images_that_no_curve_can_be_had_from_are_refused():
    """Pixels must be square, and the wire far enough from the border."""
    image = wire(KERNELS["BR40"], np.random.default_rng(7))
    with pytest.raises(ValueError, match=r"square pixels, not on 0.7 x 0.8 mm"):
        measure_mtf([image], (0.7, 0.8), FREQUENCY)
    row, column = np.unravel_index(image.argmax(), image.shape)
    cut = image[row - WIRE_RADIUS + 1 :]
    with pytest.raises(ValueError, match=rf"row {WIRE_RADIUS - 1}, column {column} is less than {WIRE_RADIUS} pixels"):
        measure_mtf([cut], (PITCH, PITCH), FREQUENCY)


# Fitting


@settings(max_examples=25)
@given(
    st.builds(
        lambda f50, r, a, at: Kernel("K", f50, f50 * r, a, f50 * at),
        st.floats(3.0, 10.0), st.floats(1.25, 1.8), st.floats(0.15, 0.6), st.floats(0.4, 0.6),
    )
)  # fmt: skip
def test_a_fit_finds_the_parameters_of_a_curve(kernel):
    """From the curve itself, to 1 % of f50 and f10 and 0.02 in the overshoot."""
    found = fit_kernel("FOUND", FREQUENCY, kernel.mtf(FREQUENCY))
    assert found.name == "FOUND"
    assert (found.f50, found.f10) == pytest.approx((kernel.f50, kernel.f10), rel=0.01)
    assert found.overshoot == pytest.approx(kernel.overshoot, abs=0.02)


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=list(KERNELS))
def test_a_fit_finds_the_table_again(kernel):
    """Every curve of the table comes back to 0.5 % of f50 and f10, from a curve with errors of 0.01 too."""
    curve = kernel.mtf(FREQUENCY)
    found = fit_kernel(kernel.name, FREQUENCY, curve)
    assert (found.f50, found.f10, found.overshoot) == pytest.approx(
        (kernel.f50, kernel.f10, kernel.overshoot), rel=5e-3, abs=5e-3
    )
    rough = fit_kernel(kernel.name, FREQUENCY, curve + np.random.default_rng(0).normal(0, 0.01, curve.shape))
    assert (rough.f50, rough.f10) == pytest.approx((kernel.f50, kernel.f10), rel=0.01)


def test_a_curve_that_is_not_finite_is_refused():
    """The message says how many of its points are not."""
    with pytest.raises(ValueError, match="2 of its points"):
        fit_kernel("BAD", FREQUENCY[:4], np.array([1, np.nan, 0.5, np.inf]))


def scene(rng: np.random.Generator, n: int) -> np.ndarray:
    """The spectrum of a random scene with the 1/f amplitudes of images, 200 HU of standard deviation, and noise."""
    frequency = np.hypot(fft.fftfreq(n)[:, None], fft.rfftfreq(n)[None])
    clouds = fft.irfft2(fft.rfft2(rng.standard_normal((n, n))) / np.maximum(frequency, 4 / n))
    return fft.rfft2(clouds / clouds.std() * 200 + rng.normal(0, 60, (n, n)))


@pytest.mark.parametrize(
    ("source", "target", "pitch", "percent"),
    [
        ("BR40", "BL64", 0.5, 5), ("BR40", "BL57", 0.5, 3), ("B40f", "B70f", 0.5, 3), ("BR40", "BR44", 0.7, 3),
        ("BL64", "BR40", 0.7, 5), ("BL64", "BR40", 0.5, 3), ("BR40", "BL57", 0.7, 12),
    ],
)  # fmt: skip
def test_a_pair_of_series_gives_the_other_kernel(source, target, pitch, percent):
    """Two kernels of one scene, in whole HU: the unknown f50 from the ratio, to 5 % or better.

    With 0.7 mm pixels a sharp target is aliased (it has power beyond 7.14 lp/cm) and the f50 found too high.
    """
    rng, known = np.random.default_rng(8), KERNELS[source]
    pairs = []
    for _ in range(3):
        spectrum = scene(rng, 768)  # of points at half a pixel
        images = (np.rint(spread(KERNELS[name], spectrum, pitch / 2, 2)) for name in (source, target))
        pairs.append((*images, (pitch, pitch)))
    found = kernel_from_ratio("FOUND", fit_radial_filter(pairs, corners=False), known)
    assert found.name == "FOUND"
    assert found.f50 == pytest.approx(KERNELS[target].f50, rel=percent / 100)


def test_a_ratio_of_one_is_the_known_kernel():
    """A filter that changes nothing leads from a kernel to itself."""
    frequency = np.linspace(0, 10, 96)
    same = kernel_from_ratio("SAME", RadialFilter(tuple(frequency), (1.0,) * 96), KERNELS["BR40"])
    assert (same.f50, same.f10, same.overshoot) == pytest.approx((4.2, 7.0, 0.0), abs=0.02)
