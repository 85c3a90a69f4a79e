"""Noise of uniform tissue: uniform regions of a slice, their noise power, and the spectrum by which kernels differ.

Images are (H, W) HU, pixel spacings (row, column) in mm, frequencies in line pairs per cm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from stan_ct.ct.smoothing import gaussian
from stan_ct.parallel import threaded

SMOOTHING = 2.0
"""Standard deviation of the Gaussian by which a slice is smoothed before tissue or uniformity is determined, px."""

MAX_RELATIVE_STRUCTURE = 2.0
"""Largest structure (standard deviation after smoothing) of a uniform region, in units of that of the most uniform one."""

ROUNDING = 1e-3
"""More than rounding adds to a variance that is the difference of two means, HU^2."""

BANDS = tuple(float(f) for f in np.arange(3.5, 7.01, 0.5))
"""Frequencies at which noise spectra are compared, lp/cm: below them anatomy differs more than kernels do."""

Spacing = tuple[float, float]


@dataclass(frozen=True)
class NoisePower:
    """Radially averaged noise power: `power` (n,) HU^2 mm^2 at `frequency` (n,) lp/cm, of `area` (n,) in (lp/mm)^2 each."""

    frequency: np.ndarray
    power: np.ndarray
    area: np.ndarray

    @property
    def variance(self) -> float:
        """The integral over the frequency plane, its corners included: the variance of the noise, HU^2."""
        return float(self.power @ self.area)


def uniform_regions(
    hu: np.ndarray, size: int = 24, number: int = 4, hu_range: tuple[float, float] = (-150.0, 150.0)
) -> list[tuple[slice, slice]]:
    """Most uniform regions of a slice, for :func:`noise_power`.

    The slice is smoothed by `SMOOTHING`, which keeps structure and removes most of the noise. Candidates lie a quarter of a
    side apart and within `hu_range`. Those of the smallest standard deviation are taken, up to `MAX_RELATIVE_STRUCTURE` times
    the smallest of all. Images that are to be compared are measured in the same regions.

    Args:
        hu: Slice, (H, W) HU.
        size: Side of a region, px.
        number: Largest number of regions.
        hu_range: Lowest and highest HU in a smoothed region; by default fat and soft tissue, without lung and bone.
    Returns:
        At most `number` regions (rows, columns), the most uniform first, without overlap; none if none lies within `hu_range`.
    """
    if min(hu.shape) < size:
        return []
    smooth, step = gaussian(np.asarray(hu, np.float64), SMOOTHING), max(1, size // 4)
    square, starts = np.ones((size, size), np.uint8), tuple(np.s_[: n - size + 1 : step] for n in hu.shape)
    single = smooth.astype(np.float32)  # of which OpenCV finds extremes seven times as fast
    lowest, highest = (function(single, square, anchor=(0, 0))[starts] for function in (cv2.erode, cv2.dilate))
    inside = (lowest >= hu_range[0]) & (highest <= hu_range[1])
    centred = smooth - smooth.mean()
    mean, square_mean = (cv2.blur(image, (size, size), anchor=(0, 0))[starts] for image in (centred, centred**2))
    variance = np.where(inside, square_mean - mean**2, np.inf)
    inside &= variance <= MAX_RELATIVE_STRUCTURE**2 * max(variance.min(), 0) + ROUNDING
    found: list[tuple[int, int]] = []
    corners = np.argwhere(inside)[np.argsort(variance[inside], kind="stable")] * step
    for row, column in corners.tolist():
        if len(found) == number:
            break
        if all(max(abs(row - r), abs(column - c)) >= size for r, c in found):
            found.append((row, column))
    return [(slice(row, row + size), slice(column, column + size)) for row, column in found]


def noise_power(regions: np.ndarray, pixel_spacing: Spacing) -> NoisePower:
    r"""Noise power spectrum, :math:`\frac{d_x d_y}{N_x N_y} \langle |DFT(I - trend)|^2 \rangle`, averaged over directions.

    The trend of each region is its best polynomial of second order, so the lowest frequencies lack power.

    Args:
        regions: Uniform regions, (R, S, S) HU.
        pixel_spacing: (row, column) spacing, mm.
    Returns:
        The spectrum, to the corner of the frequency plane; its integral is the variance around the trends.
    Reference: ICRU Report 87 (2012); AAPM Report 233 (2019).
    """
    _, height, width = np.shape(regions)
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    basis, _ = np.linalg.qr(np.stack([(y**i * x**j).ravel() for i in range(3) for j in range(3 - i)], axis=1))
    flat = np.reshape(np.asarray(regions, np.float64), (len(regions), -1))
    noise = (flat - (flat @ basis) @ basis.T).reshape(np.shape(regions))
    extent = height * pixel_spacing[0], width * pixel_spacing[1]  # mm
    power = np.square(np.abs(np.fft.fft2(noise))).mean(axis=0) * (extent[0] * extent[1] / (height * width) ** 2)
    vertical, horizontal = (np.fft.fftfreq(n, d / 10) for n, d in zip((height, width), pixel_spacing, strict=True))
    frequency = np.hypot(vertical[:, None], horizontal)
    nearest = np.rint(frequency * min(extent) / 10).astype(int).ravel()
    cells, sums, powers = (np.bincount(nearest, weights) for weights in (None, frequency.ravel(), power.ravel()))
    known = cells > 0
    cells = cells[known]
    return NoisePower(sums[known] / cells, powers[known] / cells, cells / (extent[0] * extent[1]))


def noise_spectrum(slices: Sequence[np.ndarray], pixel_spacing: Spacing, threads: int = 1) -> np.ndarray:
    """Amplitude of the noise in the uniform regions of some slices.

    Args:
        slices: Slices, (H, W) HU each.
        pixel_spacing: (row, column) spacing, mm.
        threads: Number of threads, each of which looks for the uniform regions of a slice.
    Returns:
        (len(BANDS),) natural logarithm of HU mm; NaN beyond the Nyquist frequency, and everywhere if nothing is uniform or
        there is no noise.
    """
    windows = threaded(uniform_regions, slices, threads)
    regions = [image[window] for image, some in zip(slices, windows, strict=True) for window in some]
    if not regions or not np.ptp(regions):
        return np.full(len(BANDS), np.nan)
    found = noise_power(np.stack(regions), pixel_spacing)
    with np.errstate(divide="ignore"):
        logarithm = np.log(found.power) / 2
    return np.interp(BANDS, found.frequency, np.where(np.isfinite(logarithm), logarithm, np.nan)) + np.where(
        np.asarray(BANDS) > 5 / max(pixel_spacing), np.nan, 0.0
    )
