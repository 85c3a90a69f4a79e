"""The simulated scan: sharpness, noise, slice thickness and sampling, against formulas worked out here."""

import numpy as np
import pytest
from scipy import fft, ndimage

from stan_ct.ct.kernels import KERNELS
from stan_ct.ct.mtf import measure_mtf
from stan_ct.simulation.acquisition import (
    FIELD_OF_VIEW,
    OVERSAMPLING,
    PIXELS,
    Z_STEP,
    Noise,
    Reconstruction,
    Scanner,
    _fold,
    slice_sensitivity,
    to_stored_hu,
)

RAW, RAW_PITCH, PITCH = 1024, 0.35, 0.7  # mm
MIDDLE = slice(224, 288)  # of an image: +-22 mm
SHOWN = ("BR40", "BL57", "BL64")
THICKNESSES = (0.5, 1.0, 1.5, 3.0)
WIDTHS = [(0.5, 0.59), (1.0, 1.01), (1.5, 1.51), (3.0, 3.01)]  # nominal, full width at half maximum, mm


@pytest.fixture(scope="module")
def noise() -> Noise:
    return Noise(Scanner())


@pytest.fixture(scope="module")
def reconstruct() -> Reconstruction:
    return Reconstruction([KERNELS[name] for name in SHOWN])


def places() -> tuple[np.ndarray, np.ndarray]:
    """x (to the right) and y (down) of the raw pixels' centres, mm from the middle."""
    middle = (np.arange(RAW) - (RAW - 1) / 2) * RAW_PITCH
    return middle[None, :], middle[:, None]


def water(diameter: float) -> np.ndarray:
    """A cylinder of water in air, (1024, 1024) float32 HU."""
    return (np.clip(0.5 - (np.hypot(*places()) - diameter / 2) / RAW_PITCH, 0, 1) * 1000 - 1000).astype(np.float32)


def wire(x: float, y: float) -> np.ndarray:
    """A point of signal 1 at (x, y) mm, band-limited: its integral over the raw pixels is 1, wherever it lies."""
    row, column = (np.array([y, x]) / RAW_PITCH) + (RAW - 1) / 2
    return fft.irfft2(np.exp(-2j * np.pi * (row * fft.fftfreq(RAW)[:, None] + column * fft.rfftfreq(RAW)[None])))


def ray_variance(integral: np.ndarray, tube: np.ndarray | float = 1.0) -> np.ndarray:
    """Variance of a line integral measured with 90 000 quanta in air (times `tube`) and an electronic variance of 40."""
    number = 9e4 * tube * np.exp(-integral)
    return (1 + 40 / number) / number


def squared_amplitude(variance: np.ndarray | float) -> np.ndarray:
    """A^2, HU^2 mm^3, of back-projection from 1050 views of rays at 0.6 mm; water attenuates 0.0195 per mm."""
    return (1000 / 0.0195) ** 2 * np.pi / 1050 * 0.6 * np.asarray(variance)


def sampled_power(name: str) -> np.ndarray:
    """f M(f)^2, 1/mm, folded at the sampling frequency of the images in both directions, (512, 512)."""
    frequency = np.hypot(*np.meshgrid(fft.fftfreq(RAW, RAW_PITCH), fft.fftfreq(RAW, RAW_PITCH)))  # 1/mm
    power = frequency * KERNELS[name].mtf(10 * frequency) ** 2
    return power.reshape(2, PIXELS, 2, PIXELS).sum((0, 2))


def deviation(name: str) -> float:
    """Root of 2 pi int f^2 M^2 df, mm^-1.5: standard deviation of noise of amplitude 1."""
    frequency = np.arange(0.0005, 3, 0.001)  # 1/mm
    return float(np.sqrt(2 * np.pi * np.sum((frequency * KERNELS[name].mtf(10 * frequency)) ** 2) * 0.001))


def averaged(raw: np.ndarray, thickness: float) -> list[np.ndarray]:
    """Every slice of the thickness from a stack of raw slices that is thought to be periodic."""
    profile = slice_sensitivity(thickness)
    half = len(profile) // 2
    return [sum(w * raw[(z + k - half) % len(raw)] for k, w in enumerate(profile)) for z in range(len(raw))]


# Sharpness


def crossing(curve: np.ndarray, level: float, frequency: np.ndarray) -> float:
    """Last frequency at which a curve passes a level, by linear interpolation."""
    i = int(np.flatnonzero(curve >= level)[-1])
    return float(frequency[i] + (curve[i] - level) / (curve[i] - curve[i + 1]) * (frequency[i + 1] - frequency[i]))


def test_a_wire_shows_the_curve_of_its_kernel():
    """Wires in water between raw pixels, through kernel, sampling and rounding: f50 and f10 to 3 %, the peak to 0.05."""
    names = (*SHOWN, "BR44", "B40f", "B70f")
    reconstruct, rng = Reconstruction([KERNELS[name] for name in names]), np.random.default_rng(1)
    images: list[list[np.ndarray]] = [[] for _ in names]
    for _ in range(4):
        raw = wire(*rng.uniform(-50, 50, 2)) * 8000
        for of_kernel, image in zip(images, reconstruct(raw), strict=True):
            of_kernel.append(to_stored_hu(image))
            assert 300 < of_kernel[-1].max() < 3071  # not clipped
    frequency = np.linspace(0, 18, 121)
    for name, of_kernel in zip(names, images, strict=True):
        curve, kernel = measure_mtf(of_kernel, (PITCH, PITCH), frequency), KERNELS[name]
        assert crossing(curve, 0.5, frequency) == pytest.approx(kernel.f50, rel=0.03), name
        assert crossing(curve, 0.1, frequency) == pytest.approx(kernel.f10, rel=0.03), name
        assert curve.max() == pytest.approx(kernel.mtf(frequency).max(), abs=0.05), name


@pytest.mark.parametrize("period", [20.0, 5.0, 2.5, 1.6])
def test_a_wave_is_scaled_by_the_curve(reconstruct, period):
    """Waves of 17.92 mm to 1.6 mm across both axes keep the amplitude M(1 / period), to 1e-3."""
    cycles = round(FIELD_OF_VIEW / period / np.sqrt(2))  # along each axis: periodic in the image
    x, y = places()
    raw = 100 * np.cos(2 * np.pi * cycles / FIELD_OF_VIEW * (x + y)).astype(np.float32)
    for name, image in zip(SHOWN, reconstruct(raw), strict=True):
        expected = KERNELS[name].mtf(np.array(10 * np.sqrt(2) * cycles / FIELD_OF_VIEW))
        measured = 2 * np.abs(fft.fft2(image)[cycles, cycles]) / PIXELS**2
        assert measured / 100 == pytest.approx(float(expected), abs=1e-3)


# Geometry


@pytest.mark.parametrize("n", [8, 16, 20, 64])
def test_folding_a_spectrum_takes_every_second_sample(n):
    """Inverse transform of the folded half spectrum = every second row and column, of any image."""
    image = np.random.default_rng(n).normal(0, 100, (n, n))
    np.testing.assert_allclose(fft.irfft2(_fold(fft.rfft2(image)), s=(n // 2, n // 2)), image[::2, ::2], atol=1e-10)


def test_a_symmetric_object_stays_in_the_middle(reconstruct):
    """A cylinder about the middle of the field of view gives an image equal to its mirror images to 0.01 HU."""
    for image in reconstruct(water(200)):
        assert np.ptp(image) > 1000
        for mirrored in (image[::-1], image[:, ::-1], image.T):
            np.testing.assert_allclose(image, mirrored, rtol=0, atol=0.01)


def test_an_object_lies_where_it_was(reconstruct):
    """The centroid of a blob at (40.1, -63.3) mm stays there to 0.005 mm."""
    x, y = places()
    raw = 1000 * np.exp(-((x - 40.1) ** 2 + (y + 63.3) ** 2) / (2 * 2.0**2)).astype(np.float32)
    at = (np.arange(PIXELS) + 0.5) * PITCH - FIELD_OF_VIEW / 2
    for image in reconstruct(raw):
        total = image.sum(dtype=np.float64)
        assert total == pytest.approx(1000 * 2 * np.pi * 2.0**2 / PITCH**2, rel=1e-3)
        centre = (image.sum(0, dtype=np.float64) @ at / total, image.sum(1, dtype=np.float64) @ at / total)
        assert centre == pytest.approx((40.1, -63.3), abs=0.005)


def test_raw_and_image_pixels_share_the_field_of_view():
    """512 pixels of 0.7 mm and 1024 raw pixels of 0.35 mm are 358.4 mm."""
    assert (PIXELS, PIXELS * OVERSAMPLING) == (512, RAW)
    assert pytest.approx(PIXELS * PITCH) == FIELD_OF_VIEW == pytest.approx(RAW * RAW_PITCH)


# HU


def test_air_stays_air_and_water_water(reconstruct, noise):
    """A field of air is -1000 HU in every pixel; water within a cylinder is 0 +- 0.5, with noise 0 +- 1 HU on average."""
    for image in reconstruct(np.full((RAW, RAW), -1000, np.float32)):
        assert (to_stored_hu(image) == -1000).all()
    cylinder = water(200)
    for image in reconstruct(cylinder):
        stored = to_stored_hu(image)
        assert np.abs(stored[MIDDLE, MIDDLE]).max() <= 0.5
        assert (stored[:20] == -1000).all()
    amplitude, rng = noise.amplitude(cylinder), np.random.default_rng(2)
    raw = np.mean([noise(amplitude, rng) for _ in range(4)], axis=0) + cylinder
    for image in reconstruct(raw):
        assert to_stored_hu(image)[MIDDLE, MIDDLE].std() > 5
        assert to_stored_hu(image)[MIDDLE, MIDDLE].mean() == pytest.approx(0, abs=1)


def test_stored_hu_are_rounded_and_clipped_to_12_bits():
    """-1024 to 3071 HU, the nearest whole number, ties to even."""
    stored = to_stored_hu(np.array([-5000, -1024.6, -999.6, -0.5, 0.4, 1.5, 3071.4, 9000], np.float32))
    assert stored.dtype == np.int16
    np.testing.assert_array_equal(stored, [-1024, -1024, -1000, 0, 0, 2, 3071, 3071])


# Slice thickness


@pytest.mark.parametrize(("thickness", "width"), WIDTHS)
def test_the_slice_profile_is_as_wide_as_its_name_says(thickness, width):
    """Full width at half maximum, finely sampled: the figures of a box blurred by 0.45 mm, to 0.05 mm; nominal from 1 mm on."""
    fine = slice_sensitivity(thickness, 0.005)
    found = np.count_nonzero(fine > fine.max() / 2) * 0.005
    assert found == pytest.approx(width, abs=0.05)
    if thickness >= 1:
        assert found == pytest.approx(thickness, abs=0.05)


@pytest.mark.parametrize("thickness", THICKNESSES)
@pytest.mark.parametrize("step", [Z_STEP, 0.1, 0.01])
def test_the_slice_profile_is_a_symmetric_mean(thickness, step):
    """Odd in number, mirror-symmetric, never negative, sum 1, with the variance of box and blur."""
    profile = slice_sensitivity(thickness, step)
    assert len(profile) % 2 == 1
    np.testing.assert_array_equal(profile, profile[::-1])
    assert profile.min() >= 0
    assert profile.sum() == pytest.approx(1, abs=1e-12)
    if step < 0.5:
        z = (np.arange(len(profile)) - len(profile) // 2) * step
        blur = 0.45 / np.sqrt(8 * np.log(2))
        assert np.sqrt(profile @ z**2) == pytest.approx(np.sqrt(thickness**2 / 12 + blur**2), rel=0.005)


@pytest.mark.parametrize(("thickness", "width"), WIDTHS)
def test_a_bead_is_as_long_as_the_slice_is_thick(reconstruct, thickness, width):
    """A bead in one raw slice of 21, imaged at every 0.5 mm: its brightness along z has the profile's width to 0.05 mm."""
    bead = (1000 * np.exp(-(places()[0] ** 2 + places()[1] ** 2) / (2 * 1.5**2))).astype(np.float32)
    profile, middle = slice_sensitivity(thickness), 10
    bright = []
    for z in range(21):
        offset = middle - z + len(profile) // 2
        weight = profile[offset] if 0 <= offset < len(profile) else 0.0
        bright.append(float(reconstruct((weight * bead).astype(np.float32))[0][254:258, 254:258].mean()))
    fine = np.arange(0, 20, 0.01)
    curve = np.interp(fine, np.arange(21), bright)
    assert np.count_nonzero(curve > curve.max() / 2) * 0.01 * Z_STEP == pytest.approx(width, abs=0.05)
    whole = float(reconstruct(bead)[0][254:258, 254:258].mean())
    assert sum(bright) == pytest.approx(whole, rel=1e-4)


# Noise: its amplitude


def test_wedges_share_out_every_frequency():
    """At every frequency the wedges sum to 1 in amplitude, to 1e-5; each is 1 at its own direction and 0 a step away."""
    for directions in (4, 16):
        wedges = Noise(Scanner(directions=directions), 256, 1.4).wedges
        assert wedges.shape == (directions, 256, 129)
        np.testing.assert_allclose(wedges.sum(0), 1, rtol=0, atol=1e-5)
        assert (wedges >= 0).all()
        np.testing.assert_allclose(wedges[:, 0, 50], np.eye(directions)[0], atol=1e-5)  # along a row: direction 0
        np.testing.assert_allclose(wedges[:, 50, 0], np.eye(directions)[directions // 2], atol=1e-5)  # down: a right angle
        np.testing.assert_allclose(wedges[:, 50, 50], np.eye(directions)[directions // 4], atol=1e-5)  # right and down
        np.testing.assert_allclose(wedges[:, -50, 50], np.eye(directions)[-directions // 4], atol=1e-5)  # right and up


def test_amplitudes_follow_the_rays_through_an_oblique_ellipse(noise):
    """For 16 directions and places in and around a tilted ellipse of water off centre: the ray through it, to 4 %.

    Line integrals of an ellipse are known in closed form; tube current and bow-tie filter are worked out here again.
    """
    long, short, tilt, x0, y0 = 140.0, 95.0, np.deg2rad(25), 14.0, -9.0  # mm
    x, y = places()
    u = ((x - x0) * np.cos(tilt) + (y - y0) * np.sin(tilt)) / long
    v = (-(x - x0) * np.sin(tilt) + (y - y0) * np.cos(tilt)) / short
    inside = np.clip(0.5 - (np.hypot(u, v) - 1) * short / RAW_PITCH, 0, 1)
    amplitude = noise.amplitude((inside * 1000 - 1000).astype(np.float32))
    assert amplitude.shape == (16, 128, 128)
    angle = np.pi * np.arange(16) / 16
    reach = np.hypot(long * np.cos(angle - tilt), short * np.sin(angle - tilt))  # half the shadow's width
    thickest = 0.0195 * 2 * long * short / reach
    current = np.exp(0.5 * (thickest - thickest.mean()) / 2)
    current /= current.mean()
    for row, column in [(64, 64), (50, 80), (75, 40), (90, 70), (40, 50), (60, 100)]:
        offset = (column - 63.5) * 2.8 * np.cos(angle) + (row - 63.5) * 2.8 * np.sin(angle)
        inner = np.clip(reach**2 - (offset - x0 * np.cos(angle) - y0 * np.sin(angle)) ** 2, 0, None)
        integral = 0.0195 * 2 * long * short * np.sqrt(inner) / reach**2
        bowtie = np.exp(-0.6 * 0.0195 * 2 * (160 - np.sqrt(160**2 - offset**2)))
        expected = np.sqrt(squared_amplitude(ray_variance(integral, current * bowtie)))
        clear = np.abs(inner) > (0.35 * reach) ** 2  # not a ray that grazes the edge
        np.testing.assert_allclose(amplitude[clear, row, column], expected[clear], rtol=0.04)
        assert clear.sum() >= 10


@pytest.fixture(scope="module")
def cylinders(noise) -> dict[int, np.ndarray]:
    """12 raw slices of noise each in the middle of water cylinders of 200 and 320 mm."""
    found = {}
    for diameter in (200, 320):
        amplitude, rng = noise.amplitude(water(diameter)), np.random.default_rng(diameter)
        found[diameter] = np.array([noise(amplitude, rng) for _ in range(12)])
    return found


@pytest.mark.parametrize("diameter", [200, 320])
@pytest.mark.parametrize("thickness", [1.0, 3.0])
def test_noise_in_water_is_that_of_theory(cylinders, reconstruct, diameter, thickness):
    """SD in the middle of a cylinder is root(A^2 2 pi int f^2 M^2 df sum SSP^2), to 5 %, for three kernels."""
    amplitude = np.sqrt(squared_amplitude(ray_variance(0.0195 * diameter)))
    stored = [reconstruct(raw) for raw in averaged(cylinders[diameter], thickness)]
    for index, name in enumerate(SHOWN):
        measured = np.sqrt(np.mean([to_stored_hu(images[index])[MIDDLE, MIDDLE].var() for images in stored]))
        rounding = 1 / 12  # HU^2
        expected = amplitude * deviation(name) * np.sqrt(np.sum(slice_sensitivity(thickness) ** 2))
        assert np.sqrt(measured**2 - rounding) == pytest.approx(expected, rel=0.05), name


def test_noise_in_water_in_hu(cylinders, reconstruct):
    """A 200 mm cylinder at 1 mm has 10.6, 27.3 and 41.0 HU with BR40, BL57 and BL64; 320 mm 38, 98 and 146 HU: to 5 %."""
    known = {200: (10.6, 27.3, 41.0), 320: (38.0, 98.0, 146.0)}
    for diameter, figures in known.items():
        images = zip(*(reconstruct(raw) for raw in averaged(cylinders[diameter], 1.0)), strict=True)
        found = [np.sqrt(np.mean([image[MIDDLE, MIDDLE].var() for image in of_kernel])) for of_kernel in images]
        assert found == pytest.approx(figures, rel=0.05)


def test_noise_falls_with_the_root_of_the_dose(reconstruct):
    """Four times the dose halves the SD where quanta are many, and does more where the electronic noise counts."""
    for diameter, low, high in ((160, 0.495, 0.5), (340, 0.42, 0.46)):
        amplitudes = [Noise(Scanner(dose=dose)).amplitude(water(diameter))[:, 64, 64] for dose in (1.0, 4.0)]
        variance = [ray_variance(0.0195 * diameter, dose) for dose in (1, 4)]
        ratio = amplitudes[1].mean() / amplitudes[0].mean()
        assert ratio == pytest.approx(np.sqrt(variance[1] / variance[0]), rel=0.01)
        assert low < ratio < high
    cylinder, sds = water(160), []
    for dose in (1.0, 4.0):
        noise = Noise(Scanner(dose=dose))
        sds.append(reconstruct(noise(noise.amplitude(cylinder), np.random.default_rng(7)))[0][MIDDLE, MIDDLE].std())
    assert sds[1] / sds[0] == pytest.approx(0.5, rel=0.01)


def test_an_iterative_reconstruction_leaves_its_share_of_the_noise(noise):
    """noise_factor 0.65 leaves 65 % of every amplitude."""
    cylinder = water(200)
    left = Noise(Scanner(noise_factor=0.65)).amplitude(cylinder)
    np.testing.assert_allclose(left, 0.65 * noise.amplitude(cylinder), rtol=1e-5)
    assert left.min() > 1


# Noise: its spectrum


@pytest.fixture(scope="module")
def uniform(noise, reconstruct) -> list[np.ndarray]:
    """Power spectra (HU^2 mm^2) of noise of amplitude 40 everywhere, (512, 512), of each kernel: 8 draws."""
    amplitude, rng = np.full((16, 128, 128), 40, np.float32), np.random.default_rng(11)
    draws = [reconstruct(noise(amplitude, rng)) for _ in range(8)]
    scale = PITCH**2 / PIXELS**2
    return [np.mean([np.abs(fft.fft2(image)) ** 2 for image in images], 0) * scale for images in zip(*draws, strict=True)]


def radial(power: np.ndarray, bins: np.ndarray, pitch: float = PITCH) -> np.ndarray:
    """Mean of a (n, n) spectrum in rings, bounded by frequencies in lp/cm."""
    n = power.shape[0]
    ring = np.digitize(np.hypot(*np.meshgrid(fft.fftfreq(n, pitch / 10), fft.fftfreq(n, pitch / 10))), bins)
    return np.array([power[ring == i].mean() for i in range(1, len(bins))])


@pytest.mark.parametrize("index", range(3), ids=SHOWN)
def test_the_noise_power_spectrum_is_that_of_back_projection(uniform, index):
    """A^2 f M^2, with what sampling folds, from 0.1 to 10 lp/cm in rings of 0.25: to 5 %, and 3 % where it is high."""
    bins = np.arange(0.1, 10.1, 0.25)
    expected = radial(40**2 * sampled_power(SHOWN[index]), bins)
    ratio = radial(uniform[index], bins) / expected
    assert np.abs(ratio - 1)[expected > 0.02 * expected.max()].max() < 0.05
    assert np.abs(ratio - 1)[expected > 0.5 * expected.max()].max() < 0.03
    assert np.count_nonzero(expected > 0.02 * expected.max()) > 25


@pytest.mark.parametrize(("index", "mean"), [(0, 2.9), (1, 4.4), (2, 4.9)], ids=SHOWN)
def test_sharper_kernels_have_finer_noise(uniform, index, mean):
    """The mean of the radial curve lies at 2.9, 4.4 and 4.9 lp/cm up to the Nyquist frequency."""
    bins = np.arange(0.0, 7.15, 0.25)
    curve = radial(uniform[index], bins)
    assert np.sum(curve * (bins[1:] + bins[:-1]) / 2) / np.sum(curve) == pytest.approx(mean, abs=0.15)


def test_noise_in_water_has_the_spectrum_of_back_projection(cylinders, reconstruct):
    """In the middle of a 200 mm cylinder, through a window of 90 mm: A^2 f M^2 to 10 %, and the rounding of HU below it."""
    n = 128
    taper = np.outer(np.hanning(n + 2)[1:-1], np.hanning(n + 2)[1:-1])
    amplitude2 = squared_amplitude(ray_variance(0.0195 * 200))
    where = slice((PIXELS - n) // 2, (PIXELS + n) // 2)
    off_centre = np.hypot(*np.meshgrid(*[(np.arange(n) - (n - 1) / 2) * PITCH] * 2))
    # rays off the centre are shorter, and the bow-tie filter dims them: their mean variance under the window
    share = ray_variance(0.0195 * 2 * np.sqrt(100**2 - off_centre**2 / 2), np.exp(-0.6 * 0.0195 * off_centre**2 / 2 / 160))
    amplitude2 *= np.sum(taper**2 * share) / np.sum(taper**2) / ray_variance(0.0195 * 200)
    blur = np.abs(fft.fft2(taper, s=(PIXELS, PIXELS))) ** 2
    blur /= blur.sum()
    bins = np.arange(0.4, 7.2, 0.4)
    for index, name in enumerate(SHOWN):
        seen = fft.irfft2(fft.rfft2(amplitude2 * sampled_power(name)) * fft.rfft2(blur), s=(PIXELS, PIXELS))
        expected = radial(seen[:: PIXELS // n, :: PIXELS // n] + PITCH**2 / 12, bins)
        power = [
            np.abs(fft.fft2(taper * to_stored_hu(reconstruct(raw)[index])[where, where])) ** 2 * PITCH**2 / np.sum(taper**2)
            for raw in cylinders[200]
        ]
        high = expected > 0.05 * expected.max()
        np.testing.assert_allclose(radial(np.mean(power, 0), bins)[high], expected[high], rtol=0.1)


def test_noise_has_the_amplitude_of_each_direction(noise):
    """Amplitudes 30 (1 + cos(2 (t - 30 deg)) / 2) over the direction t give that power, squared, in twelve sectors, to 6 %."""
    angle = np.pi * np.arange(16) / 16

    def strength(t: np.ndarray) -> np.ndarray:
        return 30 * (1 + 0.5 * np.cos(2 * (t - np.pi / 6)))

    amplitude = np.broadcast_to(strength(angle)[:, None, None], (16, 128, 128)).astype(np.float32)
    rng = np.random.default_rng(12)
    power = np.mean([np.abs(fft.fft2(noise(amplitude, rng))) ** 2 for _ in range(3)], 0) * RAW_PITCH**2 / RAW**2
    across, down = np.meshgrid(fft.fftfreq(RAW, RAW_PITCH), fft.fftfreq(RAW, RAW_PITCH))
    frequency, direction = np.hypot(across, down), np.arctan2(down, across) % np.pi
    for sector in range(12):
        low, high = np.pi / 12 * sector, np.pi / 12 * (sector + 1)
        inside = (frequency > 0.1) & (frequency < 1) & (direction >= low) & (direction < high)
        measured = np.mean(power[inside] / frequency[inside])
        assert measured == pytest.approx(np.mean(strength(np.linspace(low, high, 50)) ** 2), rel=0.06)


def test_noise_in_an_ellipse_lies_along_its_long_axis(noise, reconstruct):
    """Rays along the long axis (across, 280 mm; 180 mm down) are noisier: power down is theirs, power across the others'."""
    x, y = places()
    inside = np.clip(0.5 - (np.hypot(x / 140, y / 90) - 1) * 90 / RAW_PITCH, 0, 1)
    amplitude, rng = noise.amplitude((inside * 1000 - 1000).astype(np.float32)), np.random.default_rng(13)
    images = [reconstruct(noise(amplitude, rng))[0][MIDDLE, MIDDLE] for _ in range(10)]
    taper = np.outer(np.hanning(66)[1:-1], np.hanning(66)[1:-1])
    power = np.mean([np.abs(fft.fft2(image * taper)) ** 2 for image in images], 0)
    across, down = np.meshgrid(fft.fftfreq(64, 0.07), fft.fftfreq(64, 0.07))
    band = (np.hypot(across, down) > 1) & (np.hypot(across, down) < 5)
    narrow = np.tan(np.deg2rad(12))
    ratio = (
        power[band & (np.abs(across) < narrow * np.abs(down))].mean()
        / power[band & (np.abs(down) < narrow * np.abs(across))].mean()
    )
    angle = np.pi * np.arange(16) / 16
    thickest = 0.0195 * 2 * 140 * 90 / np.hypot(140 * np.cos(angle), 90 * np.sin(angle))
    current = np.exp(0.5 * (thickest - thickest.mean()) / 2)
    current /= current.mean()
    expected = ray_variance(thickest[8], current[8]) / ray_variance(thickest[0], current[0])
    assert expected > 3
    assert ratio == pytest.approx(expected, rel=0.2)


# Noise: what it shares


def test_kernels_share_their_noise(noise, reconstruct):
    """Two kernels of one raw slice correlate with int f^2 M1 M2 / root(int f^2 M1^2 int f^2 M2^2), to 0.02."""
    raw = noise(np.full((16, 128, 128), 40, np.float32), np.random.default_rng(14))
    images = dict(zip(SHOWN, reconstruct(raw), strict=True))
    f = np.arange(0.005, 30, 0.01)  # lp/cm
    for one, other in (("BR40", "BL57"), ("BR40", "BL64"), ("BL57", "BL64")):
        a, b = f * KERNELS[one].mtf(f), f * KERNELS[other].mtf(f)
        expected = a @ b / np.sqrt((a @ a) * (b @ b))
        assert 0.5 < expected < 0.99
        assert np.corrcoef(images[one].ravel(), images[other].ravel())[0, 1] == pytest.approx(expected, abs=0.02)


def test_thicknesses_share_their_noise(cylinders, reconstruct):
    """Slices of 1 and 3 mm at one place correlate as their profiles overlap, to 0.06."""
    thin, thick = slice_sensitivity(1.0), slice_sensitivity(3.0)
    longer = np.pad(thin, (len(thick) - len(thin)) // 2)
    expected = longer @ thick / np.sqrt((thin @ thin) * (thick @ thick))
    stacks = [np.array([reconstruct(raw)[0][MIDDLE, MIDDLE] for raw in averaged(cylinders[200], t)]) for t in (1.0, 3.0)]
    assert expected == pytest.approx(0.70, abs=0.02)
    assert np.corrcoef(stacks[0].ravel(), stacks[1].ravel())[0, 1] == pytest.approx(expected, abs=0.06)


def test_equal_seeds_give_equal_bytes(noise, reconstruct):
    """The generator is the only randomness: the same seed gives the same bytes, another seed noise that is unrelated."""
    amplitude = noise.amplitude(water(200))
    first, again, other = (noise(amplitude, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert first.std() > 10
    assert first.tobytes() == again.tobytes()
    assert Noise(Scanner())(amplitude, np.random.default_rng(5)).tobytes() == first.tobytes()
    assert [i.tobytes() for i in reconstruct(first)] == [i.tobytes() for i in reconstruct(again)]
    assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.01


def test_noise_is_stronger_where_rays_are_longer(cylinders):
    """At 80 mm from the axis of a 200 mm cylinder rays are shorter: 0.7 to 0.95 of the noise in the middle."""
    deviations = np.sqrt(ndimage.uniform_filter(np.mean(cylinders[200] ** 2, 0), 60))
    middle, side = deviations[512, 512], deviations[512, 512 + int(80 / RAW_PITCH)]
    assert 0.7 < side / middle < 0.95
