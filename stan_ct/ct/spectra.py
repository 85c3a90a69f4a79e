"""Spectra of slices: tapered, averaged over directions, and curves over frequency spread out over a spectrum.

Images are (H, W) HU, pixel spacings (row, column) in mm, frequencies in line pairs per cm. What depends on the size of a slice
alone is made once.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from stan_ct.ct.fourier import rfft2
from stan_ct.ct.hounsfield import AIR

TAPER = 0.25
"""Share of each side over which a slice fades to air where its spectrum is measured."""

Spacing = tuple[float, float]


def radial_frequency(shape: tuple[int, int], pixel_spacing: Spacing) -> np.ndarray:
    """Spatial frequency of each element of the half spectrum of an image, (H, W // 2 + 1), in lp/cm."""
    vertical = np.fft.fftfreq(shape[0], pixel_spacing[0] / 10)
    horizontal = np.fft.rfftfreq(shape[1], pixel_spacing[1] / 10)
    return np.hypot(vertical[:, None], horizontal[None, :])


def cross_power(a: np.ndarray, b: np.ndarray, pixel_spacing: Spacing, taper: float = TAPER) -> np.ndarray:
    """Cross power spectral density of two tapered images.

    Args:
        a: (H, W) HU.
        b: Same shape.
        pixel_spacing: (row, column), mm.
        taper: Share of each side over which the images fade to air; 1 for a Hann window.
    Returns:
        Real part, (H, W // 2 + 1), HU^2 mm^2.
    """
    x = tapered_spectrum(a, pixel_spacing, taper)
    y = x if b is a else tapered_spectrum(b, pixel_spacing, taper)
    return x.real * y.real + x.imag * y.imag


def tapered_spectrum(image: np.ndarray, pixel_spacing: Spacing, taper: float = TAPER) -> np.ndarray:
    """Spectrum of a tapered image, whose square is its power spectral density.

    Args:
        image: (H, W) HU.
        pixel_spacing: (row, column), mm.
        taper: As for :func:`cross_power`.
    Returns:
        (H, W // 2 + 1) complex, HU mm.
    """
    height, width = image.shape
    window = _taper((height, width), taper)
    return rfft2((image - AIR) * (window * np.sqrt(pixel_spacing[0] * pixel_spacing[1])))


def taper_window(size: int, taper: float) -> np.ndarray:
    """Tukey window without its zeros at both ends, (size,) in (0, 1].

    Args:
        size: Number of points.
        taper: Share over which it rises and falls; 1 for a Hann window.
    Example:
        >>> taper_window(3, 1.0).tolist()
        [0.5, 1.0, 0.5]
    """
    place = np.arange(1, size + 1) / (size + 1)
    from_end = np.minimum(place, 1 - place)
    return np.where(from_end < taper / 2, 0.5 * (1 - np.cos(2 * np.pi * from_end / taper)), 1.0)


def radial_sums(
    power: np.ndarray, pixel_spacing: Spacing, frequency: np.ndarray, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of the elements of a spectrum nearest to each frequency.

    Args:
        power: (H, W // 2 + 1).
        pixel_spacing: (row, column), mm.
        frequency: (n,) from 0 in equal steps, lp/cm.
        shape: (H, W).
    Returns:
        Sums and numbers, (n,) each.
    """
    nearest, number = _nearest((shape[0], shape[1]), tuple(pixel_spacing), float(frequency[1]), len(frequency))
    sums = np.bincount(nearest, power.ravel(), len(frequency) + 1)
    return sums[:-1], number.copy()


def response(shape: tuple[int, int], pixel_spacing: Spacing, frequency: tuple[float, ...], gain: np.ndarray) -> np.ndarray:
    """A curve at each element of a spectrum, (H, W // 2 + 1) float32.

    Args:
        shape: (H, W) of the image.
        pixel_spacing: (row, column), mm.
        frequency: (n,) increasing, lp/cm.
        gain: (n,) the curve at these frequencies; constant beyond both ends.
    """
    below, part = _between(shape, tuple(pixel_spacing), frequency)
    return gain.astype(np.float32)[below] + np.append(np.diff(gain), 0).astype(np.float32)[below] * part


@lru_cache(maxsize=4)
def _taper(shape: tuple[int, int], taper: float) -> np.ndarray:
    """Window of both axes whose squares sum to 1, (H, W)."""
    window = np.outer(*(taper_window(n, taper) for n in shape))
    return window / np.sqrt(np.sum(window**2))


@lru_cache(maxsize=4)
def _nearest(shape: tuple[int, int], pixel_spacing: Spacing, step: float, length: int) -> tuple[np.ndarray, np.ndarray]:
    """For each element of a spectrum the index of the nearest frequency, `length` beyond the last, (N,), and their numbers."""
    nearest = np.minimum(np.rint(radial_frequency(shape, pixel_spacing) / step), length).astype(np.int32).ravel()
    return nearest, np.bincount(nearest, minlength=length + 1)[:-1]


@lru_cache(maxsize=4)
def _between(shape: tuple[int, int], pixel_spacing: Spacing, frequency: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """For each element of a spectrum the index of the point of a curve below it, and the part of the way to the next."""
    place = np.interp(radial_frequency(shape, pixel_spacing), frequency, np.arange(len(frequency)))
    below = np.minimum(place.astype(np.int32), max(len(frequency) - 2, 0))
    return below, (place - below).astype(np.float32)
