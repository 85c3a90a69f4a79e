"""A pair of real series of one scan -> the curve of one kernel, given that of the other.

Only the ratio of the two curves can be measured on a pair: the result is as good as the known curve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stan_ct.ct.filters import RadialFilter, fit_radial_filter
from stan_ct.ct.kernels import Kernel
from stan_ct.ct.mtf import certain_frequencies, kernel_from_ratio
from stan_ct.dicom.series import SeriesFiles, load_series
from stan_ct.patches.pairs import PairingRule, SeriesPair, pair_series

SLICES = 128
"""Largest number of pairs of slices that are compared."""

WORST_FIT = 0.1
"""Largest error of an acceptable fit, as a fraction of the highest measured ratio."""


@dataclass(frozen=True)
class KernelFit:
    """The kernel that explains the measured ratio best.

    Attributes:
        kernel: The fitted kernel.
        known: The known kernel.
        ratio: Measured ratio, from the known kernel to the fitted one.
        num_slices: Number of pairs of slices compared.
    """

    kernel: Kernel
    known: Kernel
    ratio: RadialFilter
    num_slices: int

    @property
    def error(self) -> float:
        """Root mean square difference of fitted and measured ratio, where the measurement is certain."""
        frequency = np.asarray(self.ratio.frequency)
        fitted = self.kernel.mtf(frequency) / self.known.mtf(frequency)
        certain = certain_frequencies(self.ratio, self.known)
        return float(np.sqrt(np.mean((fitted - self.ratio.gain)[certain] ** 2)))

    @property
    def acceptable(self) -> bool:
        """Whether the error is at most `WORST_FIT` times the highest ratio."""
        return self.error <= WORST_FIT * max(self.ratio.gain)

    @property
    def extrapolated(self) -> bool:
        """Whether the kernel's f50 lies beyond the Nyquist frequency of the series."""
        return self.kernel.f50 > self.ratio.frequency[-1]


def fit_kernel_to_series(series: Sequence[SeriesFiles], known: Kernel, name: str) -> KernelFit:
    """Fits the curve of a kernel to pairs of series in two kernels.

    Args:
        series: Series of both kernels, of the same scans.
        known: Kernel whose curve is known.
        name: Convolution Kernel whose curve is fitted.
    Raises:
        PairingError: If there is no pair.
        Refused: If a series cannot be read.
        ValueError: If the ratio gives no curve.
    """
    pairs = pair_series(series, PairingRule((known.name,), name))
    slices = _spread_slices(pairs)
    ratio = fit_radial_filter(slices, corners=False)  # the corners of the spectrum are aliased
    return KernelFit(kernel_from_ratio(name, ratio, known), known, ratio, len(slices))


def _spread_slices(pairs: Sequence[SeriesPair]) -> list[tuple[np.ndarray, np.ndarray, tuple[float, float]]]:
    """Source slice, target slice, (H, W) HU, and pixel spacing of evenly spread pairs of slices, about `SLICES` in all."""
    slices, each = [], max(SLICES // len(pairs), 1)
    for pair in pairs[:SLICES]:
        source, target = load_series(pair.source), load_series(pair.target)
        chosen = pair.slices[:: max(len(pair.slices) // each, 1)]
        slices += [(source.volume[z], target.volume[t], pair.source.pixel_spacing) for z, t in chosen]
    return slices
