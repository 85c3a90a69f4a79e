"""Reconstruction kernels as radial filters: what is linear and shift-invariant in a change of kernel.

Two reconstructions of one scan differ, to a good approximation, by the ratio of the modulation transfer functions
of their kernels: a curve over spatial frequency, and a filter of the whole slice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import fft, signal

from stan_ct.ct.hounsfield import AIR

MARGIN = 64
"""Pixels of reflected border around a slice while it is filtered, so that its opposite edges do not mix."""

FitMethod = Literal["amplitude", "wiener"]


@dataclass(frozen=True)
class RadialFilter:
    """A real, radially symmetric frequency response.

    Attributes:
        frequency: (n,) increasing, line pairs per cm.
        gain: (n,) amplitude; constant beyond both ends.
    """

    frequency: tuple[float, ...]
    gain: tuple[float, ...]

    def __call__(self, hu: np.ndarray, pixel_spacing: tuple[float, float]) -> np.ndarray:
        """Filters one slice.

        Args:
            hu: (H, W) HU; values below air (padding) count as air, so that they do not ring.
            pixel_spacing: (row, column), mm.
        Returns:
            (H, W) float32 HU.
        """
        height, width = hu.shape
        margins = [(MARGIN, fft.next_fast_len(n + 2 * MARGIN) - n - MARGIN) for n in hu.shape]
        padded = np.pad(np.maximum(hu, AIR), margins, mode="symmetric").astype(np.float32)
        response = np.interp(radial_frequency(padded.shape, pixel_spacing), self.frequency, self.gain).astype(np.float32)
        filtered = fft.irfft2(fft.rfft2(padded) * response, s=padded.shape)
        return filtered[MARGIN : MARGIN + height, MARGIN : MARGIN + width].astype(np.float32)

    @property
    def sharpens(self) -> bool:
        """Whether the response, averaged above 2 lp/cm, is larger than 1."""
        gains = [g for f, g in zip(self.frequency, self.gain, strict=True) if f > 2]
        return bool(gains) and float(np.mean(gains)) > 1


def radial_frequency(shape: tuple[int, int], pixel_spacing: tuple[float, float]) -> np.ndarray:
    """Spatial frequency of each element of `scipy.fft.rfft2` of an image, (H, W // 2 + 1), in lp/cm."""
    vertical = fft.fftfreq(shape[0], pixel_spacing[0] / 10)
    horizontal = fft.rfftfreq(shape[1], pixel_spacing[1] / 10)
    return np.hypot(vertical[:, None], horizontal[None, :])


def fit_radial_filter(
    pairs: Iterable[tuple[np.ndarray, np.ndarray, tuple[float, float]]], method: FitMethod = "amplitude", bins: int = 96
) -> RadialFilter:
    r"""Fits the filter that turns source slices into target slices.

    With the radially averaged spectra :math:`S_{xx}, S_{yy}, S_{xy}` of tapered slices, `amplitude` is
    :math:`\sqrt{S_{yy} / S_{xx}}`, which gives the target's texture, and `wiener` is
    :math:`\mathrm{Re}\,S_{xy} / S_{xx}`, which gives the least squared error.

    Args:
        pairs: Source slice (H, W) HU, target slice (H, W) HU, (row, column) pixel spacing in mm.
        method: See above.
        bins: Number of points on the curve, from 0 to the highest Nyquist frequency met.
    Returns:
        The filter; its gain at frequency 0 is 1, so mean HU is kept.
    Raises:
        ValueError: If there is no pair.
    """
    pairs = list(pairs)
    if not pairs:
        raise ValueError("fitting a radial filter needs at least one pair of slices")
    top = max(5.0 / min(spacing) for _, _, spacing in pairs)  # Nyquist frequency, lp/cm
    spectra = np.zeros((3, bins))
    for source, target, spacing in pairs:
        taper = np.outer(*(signal.windows.tukey(n, 0.25) for n in source.shape))
        x, y = (fft.rfft2((np.maximum(image, AIR) - AIR) * taper) for image in (source, target))
        bin_of = np.rint(radial_frequency(source.shape, spacing) / top * (bins - 1)).astype(int)
        inside = bin_of < bins
        for row, power in enumerate((np.abs(x) ** 2, np.abs(y) ** 2, (x.conj() * y).real)):
            spectra[row] += np.bincount(bin_of[inside], power[inside], bins)
    xx, yy, xy = spectra
    known = xx > 0
    ratio = np.sqrt(yy[known] / xx[known]) if method == "amplitude" else xy[known] / xx[known]
    frequency = np.linspace(0, top, bins)
    gain = np.interp(frequency, frequency[known], ratio)
    gain[0] = 1.0
    return RadialFilter(tuple(frequency.round(4).tolist()), tuple(gain.round(5).tolist()))
