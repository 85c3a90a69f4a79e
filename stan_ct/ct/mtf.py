"""Measurement of kernels: the MTF from images of a wire, and the kernel whose curve is nearest to a measured one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import optimize, special

from stan_ct.ct.filters import RadialFilter
from stan_ct.ct.kernels import MAX_OVERSHOOT, MIN_OVERSHOOT_PLACE, MIN_SLOPE, Kernel

TYPICAL_SLOPE = 1.3
"""f10 / f50 of sharp kernels, taken where the measured curve does not show it."""

WIRE_RADIUS = 12
"""Half of the side of the square around a wire that :func:`measure_mtf` uses, px."""


def measure_mtf(
    images: Sequence[np.ndarray], pixel_spacing: tuple[float, float], frequency: np.ndarray, smoothness: float = 1e-5
) -> np.ndarray:
    r"""The presampled MTF, from images of a thin wire across the slice (each of the same wire or of others).

    A wire at :math:`x_0` gives :math:`I(x) = c \int M(f) J_0(2 \pi f |x - x_0|) 2 \pi f \, df`, which is linear in M: the
    samples around the wire are solved for it by least squares with a penalty on its second differences. Since the distances
    |x - x_0| differ from pixel to pixel, the curve is found beyond the Nyquist frequency as well.

    Args:
        images: (H, W) HU each, with one wire that is their brightest point, at least `WIRE_RADIUS` pixels from the border.
            The wire lies in water or plastic: in air, undershoot would be clipped at -1024 HU.
        pixel_spacing: (row, column), mm; equal to each other.
        frequency: (n,) equidistant from 0, lp/cm, to beyond the point where the MTF vanishes.
        smoothness: Weight of the penalty.
    Returns:
        (n,) M, 1 at frequency 0.
    Raises:
        ValueError: If a wire is too near to the border, or the pixels are not square.
    """
    if not np.isclose(*pixel_spacing, rtol=1e-3):
        raise ValueError(f"the MTF is measured on square pixels, not on {pixel_spacing[0]:g} x {pixel_spacing[1]:g} mm")
    normal, right = len(images) * _penalty(len(frequency), smoothness), np.zeros(len(frequency))
    for image in images:
        around = _around_wire(np.asarray(image, np.float64))
        rows = _bessel_rows(_centre(around, pixel_spacing[0], frequency), pixel_spacing[0], frequency)
        normal = normal + rows.T @ rows
        right = right + rows.T @ (around.ravel() / around.sum())
    curve = np.linalg.solve(normal, right)
    return curve / curve[0]  # the sum of the pixels is aliased, and of a sharp kernel up to 8 % off


def _penalty(n: int, smoothness: float) -> np.ndarray:
    """Quadratic form that punishes bends of a curve of n points, and a slope at its start, (n, n)."""
    bends = np.vstack([np.diff(np.eye(n), 2, axis=0), np.diff(np.eye(n)[:2], axis=0)])
    return smoothness * n**2 * bends.T @ bends


def _around_wire(image: np.ndarray) -> np.ndarray:
    """The square around the brightest pixel, less the background (median of its border), (2R + 1, 2R + 1)."""
    row, column = np.unravel_index(np.argmax(image), image.shape)
    r = WIRE_RADIUS
    if min(row, column, image.shape[0] - 1 - row, image.shape[1] - 1 - column) < r:
        raise ValueError(f"the wire at row {row}, column {column} is less than {r} pixels from the border of the image")
    around = image[row - r : row + r + 1, column - r : column + r + 1]
    border = np.ones(around.shape, bool)
    border[1:-1, 1:-1] = False
    return around - np.median(around[border])


def _bessel_rows(centre: tuple[float, float], pitch: float, frequency: np.ndarray) -> np.ndarray:
    """What each frequency adds to each pixel around a wire, (pixels, n)."""
    row, column = np.mgrid[-WIRE_RADIUS : WIRE_RADIUS + 1, -WIRE_RADIUS : WIRE_RADIUS + 1]
    distance = np.hypot(row - centre[0], column - centre[1]).ravel() * pitch / 10  # cm
    step = frequency[1] - frequency[0]
    return special.j0(2 * np.pi * frequency * distance[:, None]) * (2 * np.pi * frequency * step * (pitch / 10) ** 2)


def _centre(around: np.ndarray, pitch: float, frequency: np.ndarray) -> tuple[float, float]:
    """Where the wire is, (row, column) in pixels from the brightest one: the place about which the image is symmetric."""
    steps = int(np.ceil(frequency[-1] * 3 * WIRE_RADIUS * pitch / 10))  # a sum over f in steps d repeats itself at distance 1/d
    coarse = np.linspace(0, frequency[-1], steps + 1)
    penalty, values = _penalty(len(coarse), 1e-8), around.ravel() / around.sum()

    def misfit(centre: np.ndarray) -> float:
        rows = _bessel_rows(tuple(centre), pitch, coarse)
        curve = np.linalg.solve(rows.T @ rows + penalty, rows.T @ values)
        return float(np.sum((rows @ curve - values) ** 2) + curve @ penalty @ curve)

    place = np.mgrid[-1:2, -1:2].reshape(2, -1)
    near = np.clip(around[WIRE_RADIUS - 1 : WIRE_RADIUS + 2, WIRE_RADIUS - 1 : WIRE_RADIUS + 2].ravel(), 0, None)
    start = place @ near / near.sum()  # centroid of the nearest nine pixels
    simplex = start + np.array([[0, 0], [0.1, 0], [0, 0.1]])
    options = {"initial_simplex": simplex, "xatol": 1e-4, "fatol": 1e-12}
    found = optimize.minimize(misfit, start, method="Nelder-Mead", options=options)
    return float(found.x[0]), float(found.x[1])


def fit_kernel(name: str, frequency: np.ndarray, mtf: np.ndarray) -> Kernel:
    """The kernel whose curve is nearest to a measured one, in least squares.

    Args:
        name: Its name.
        frequency: (n,) lp/cm.
        mtf: (n,) measured.
    Raises:
        ValueError: If the curve is not finite, or starts below 0.5.
    Note:
        A curve that ends above 0.5, as at the Nyquist frequency of a pair of series, gives an extrapolated `f50`, and an
        `f10` of `TYPICAL_SLOPE` times that.
    """
    frequency, mtf = np.asarray(frequency, np.float64), np.asarray(mtf, np.float64)
    if mtf[0] < 0.5:
        raise ValueError(f"the curve of {name} must start at about 1, not at {mtf[0]:.2f}")
    if not np.isfinite(mtf).all():
        raise ValueError(f"the curve of {name} must be finite, but {np.count_nonzero(~np.isfinite(mtf))} of its points are not")
    below = np.flatnonzero(mtf < 0.5)
    half = frequency[below[0] if below.size else -1]
    slopes = (MIN_SLOPE, 2.5) if below.size else (TYPICAL_SLOPE, TYPICAL_SLOPE + 1e-6)  # nothing shows how steeply it falls

    def kernel(p: np.ndarray) -> Kernel:
        return Kernel(name, p[0], p[0] * p[1], p[2], p[0] * p[3])

    low, high = zip((half * 0.5, half * 2), slopes, (0.0, MAX_OVERSHOOT), (MIN_OVERSHOOT_PLACE + 0.01, 0.8), strict=True)
    starts = [np.clip(start, low, high) for start in ([half, 1.4, 0.05, 0.5], [half, 1.3, 0.3, 0.5])]
    fits = [optimize.least_squares(lambda p: kernel(p).mtf(frequency) - mtf, start, bounds=(low, high)) for start in starts]
    found = kernel(min(fits, key=lambda fit: fit.cost).x)
    return Kernel(name, *(round(float(n), 3) for n in (found.f50, found.f10, found.overshoot, found.overshoot_frequency)))


def certain_frequencies(ratio: RadialFilter, known: Kernel) -> np.ndarray:
    """Frequencies at which a measured ratio is one of two curves: elsewhere it is one of noise and rounding, or aliased.

    Args:
        ratio: Ratio of two kernels, (n,) frequencies.
        known: Kernel in the denominator.
    Returns:
        (n,) bool, True where the known curve exceeds 0.05, without the last fifth of the frequencies.
    """
    frequency = np.asarray(ratio.frequency)
    return (known.mtf(frequency) > 0.05) & (frequency < 0.8 * frequency[-1])


def kernel_from_ratio(name: str, ratio: RadialFilter, known: Kernel) -> Kernel:
    """The kernel of the target series, from the filter source -> target of a real pair and the source's known kernel.

    Only the ratio of two curves can be had from a pair: what comes out is as good as `known` is.

    Args:
        name: Of the target's kernel.
        ratio: From :func:`stan_ct.ct.filters.fit_radial_filter`, method "amplitude", without the corners of the spectrum.
        known: Kernel of the source.
    Raises:
        ValueError: As :func:`fit_kernel`.
    Note:
        Aliasing lifts the ratio near the Nyquist frequency: the last fifth of the curve is left out. Where the target is
        sharp, its f50 lies beyond and is extrapolated.
    """
    frequency, gain = np.asarray(ratio.frequency), np.asarray(ratio.gain)
    source = known.mtf(frequency)
    certain = certain_frequencies(ratio, known)
    return fit_kernel(name, frequency[certain], (source * gain)[certain])
