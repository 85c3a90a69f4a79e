"""Radial filters of whole slices: what is linear and shift-invariant in a change of kernel.

Two reconstructions of one scan differ, to a good approximation, by the ratio of the modulation transfer functions
of their kernels: a curve over spatial frequency, and a filter of the whole slice.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from stan_ct.ct.bright import calm_weight, without_bright
from stan_ct.ct.fourier import fast_length, multiplied
from stan_ct.ct.hounsfield import AIR
from stan_ct.ct.protocol import Protocol
from stan_ct.ct.spectra import Spacing, cross_power, radial_sums, response, tapered_spectrum

MARGIN = 64
"""Pixels of reflected border around a slice while it is filtered, so that its opposite edges do not mix."""

HEADROOM = 1.5
"""How far above the target's amplitude spectrum a filter may lift a slice: patients and doses differ."""

MIN_COEFFICIENTS = 64
"""Coefficients of the spectra that a point beyond Nyquist is fitted to at least; the very corner of few slices has fewer."""

HIGHEST_FLOOR = -1000.0
"""Highest HU at which files of a target clip; where a target has nothing lower, it has no air."""

FitMethod = Literal["amplitude", "wiener"]


@dataclass(frozen=True)
class RadialFilter:
    """A real, radially symmetric frequency response.

    Attributes:
        frequency: (n,) increasing, line pairs per cm.
        gain: (n,) amplitude; constant beyond both ends.
        ceiling: (n,) amplitude spectrum of target images, HU mm, or empty for no limit. No frequency of a slice is
            amplified beyond `HEADROOM` times it, so that a slice which is sharp or noisy already is not treated as
            one of the soft kernel that the filter was fitted on.
        floor: HU at which the files of the target clip, and the filter's output too; None for targets that do not.
    """

    frequency: tuple[float, ...]
    gain: tuple[float, ...]
    ceiling: tuple[float, ...] = ()
    floor: float | None = None

    def __call__(self, hu: np.ndarray, pixel_spacing: tuple[float, float]) -> np.ndarray:
        """Filters one slice.

        Metal passes a filter that sharpens unchanged, see :mod:`stan_ct.ct.bright`: what is filtered is the slice with
        metal replaced by what lies around it.

        Args:
            hu: (H, W) HU; values below air (padding) count as air, so that they do not ring.
            pixel_spacing: (row, column), mm.
        Returns:
            (H, W) float32 HU.
        """
        image = np.maximum(hu, AIR).astype(np.float32)
        weight = calm_weight(image, pixel_spacing) if max(self.gain) > 1 else None
        calm = image if weight is None else without_bright(image, weight)
        filtered = self._filtered(calm, pixel_spacing)
        if weight is not None:
            filtered += image - calm
        return filtered if self.floor is None else np.maximum(filtered, np.float32(self.floor))

    def _filtered(self, image: np.ndarray, pixel_spacing: Spacing) -> np.ndarray:
        """(H, W) float32 HU, mirrored at the borders -> (H, W) float32 HU."""
        height, width = image.shape
        padded = np.pad(image, [(MARGIN, fast_length(n + 2 * MARGIN) - n - MARGIN) for n in image.shape], "symmetric")
        gain_there = response(padded.shape, pixel_spacing, self.frequency, self._limited_gain(image, pixel_spacing))
        filtered = multiplied(padded, gain_there)
        return filtered[MARGIN : MARGIN + height, MARGIN : MARGIN + width].astype(np.float32)

    def _limited_gain(self, image: np.ndarray, pixel_spacing: Spacing) -> np.ndarray:
        """(n,) gain: `self.gain`, where it amplifies no more than the ceiling allows."""
        gain = np.asarray(self.gain)
        if not self.ceiling:
            return gain
        frequency = np.asarray(self.frequency)
        power, number = radial_sums(cross_power(image, image, pixel_spacing), pixel_spacing, frequency, image.shape)
        known = number > 0
        amplitude = np.interp(frequency, frequency[known], np.sqrt(power[known] / number[known]))
        allowed = HEADROOM * np.asarray(self.ceiling) / np.maximum(amplitude, 1e-6)
        return np.minimum(gain, np.maximum(allowed, 1.0))

    @property
    def sharpens(self) -> bool:
        """Whether the response, averaged above 2 lp/cm, is larger than 1."""
        gains = [g for f, g in zip(self.frequency, self.gain, strict=True) if f > 2]
        return bool(gains) and float(np.mean(gains)) > 1

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> RadialFilter:
        """What `to_json` became in a file."""
        curves: dict[str, Any] = {name: tuple(value) for name, value in values.items() if name != "floor"}
        return replace(cls(**curves), floor=values.get("floor"))

    def to_json(self) -> dict[str, Any]:
        """The attributes; without a floor where there is none, as before filters had one."""
        return {name: value for name, value in asdict(self).items() if name != "floor" or value is not None}


@dataclass(frozen=True)
class FrontEnd:
    """A radial filter for each source protocol: the whole-slice step of a model.

    Attributes:
        filters: Protocol of the source -> its filter: Convolution Kernel, as headers state it, such as `BR40`; where the
            target has another slice thickness, kernel and thickness, such as `BR40 3 mm`.
    """

    filters: dict[str, RadialFilter]

    def __call__(self, hu: np.ndarray, pixel_spacing: tuple[float, float], kernel: str = "") -> np.ndarray:
        """Filters one slice, see :class:`RadialFilter`, with the filter that :meth:`choose` returns."""
        return self.choose(kernel)(hu, pixel_spacing)

    def choose(self, kernel: str) -> RadialFilter:
        """The filter of a source: of its kernel, and of the nearest slice thickness; a front end of one has it for all.

        Args:
            kernel: Convolution Kernel (0018,1210), and perhaps slice thickness, such as `BR40 3 mm`.
        Raises:
            ValueError: If there is no filter for this kernel.
        """
        if len(self.filters) == 1:
            return next(iter(self.filters.values()))
        source = Protocol.from_text(kernel)
        known = {Protocol.from_text(text): curve for text, curve in self.filters.items()}
        same = [protocol for protocol in known if protocol.kernel == source.kernel]
        if not same:
            raise ValueError(f"the model has filters for kernels {', '.join(self.filters)}, not for {kernel}")
        return known[min(same, key=lambda protocol: abs(protocol.thickness - source.thickness))]

    @classmethod
    def from_json(cls, values: dict[str, dict]) -> FrontEnd | None:
        """What `to_json` became in a file; None of an empty one."""
        return cls({kernel: RadialFilter.from_json(curve) for kernel, curve in values.items()}) if values else None

    def to_json(self) -> dict[str, dict]:
        """The inverse of `from_json`."""
        return {kernel: fitted.to_json() for kernel, fitted in self.filters.items()}


def fit_radial_filter(
    pairs: Iterable[tuple[np.ndarray, np.ndarray, Spacing]],
    method: FitMethod = "amplitude",
    bins: int = 96,
    corners: bool = True,
) -> RadialFilter:
    r"""Fits the filter that turns source slices into target slices.

    With the radially averaged spectra :math:`S_{xx}, S_{yy}, S_{xy}` of tapered slices, `amplitude` is
    :math:`\sqrt{S_{yy} / S_{xx}}`, which gives the target's texture, and `wiener` is
    :math:`\mathrm{Re}\,S_{xy} / S_{xx}`, which gives the least squared error.

    Args:
        pairs: Source slice (H, W) HU, target slice (H, W) HU, (row, column) pixel spacing in mm.
        method: See above.
        bins: Number of points on the curve from 0 to the highest Nyquist frequency of the pairs.
        corners: Whether the curve goes on, with the same step, to the corner of the spectrum, sqrt(2) times as far for
            square pixels: 21 % of a slice's frequencies lie beyond Nyquist, and sharp kernels pass much of them.
    Returns:
        The filter, with the target's amplitude spectrum as its ceiling; its gain at frequency 0 is 1, so mean HU is
        kept. Slices of one value, which hold no frequency, give the filter that changes nothing.
    Raises:
        ValueError: If there is no pair.
    """
    pairs = list(pairs)
    if not pairs:
        raise ValueError("fitting a radial filter needs at least one pair of slices")
    nyquist = max(5.0 / min(spacing) for _, _, spacing in pairs)  # lp/cm
    corner = max(math.hypot(5.0 / spacing[0], 5.0 / spacing[1]) for _, _, spacing in pairs)
    step = nyquist / (bins - 1)
    frequency = step * np.arange(1 + math.ceil(corner / step) if corners else bins)
    spectra, number = np.zeros((3, len(frequency))), np.zeros(len(frequency))
    for source, target, spacing in pairs:
        x, y = (np.maximum(image, AIR) for image in (source, target))
        if (weight := calm_weight(x, spacing)) is not None:  # metal outshines the spectra of tissue
            x, y = (without_bright(image, weight) for image in (x, y))
        both = [tapered_spectrum(image, spacing) for image in (x, y)]
        for row, (a, b) in enumerate(((0, 0), (1, 1), (0, 1))):
            power, count = radial_sums((both[a].conj() * both[b]).real, spacing, frequency, source.shape)
            spectra[row] += power
        number += count
    enough = np.where(frequency > nyquist, MIN_COEFFICIENTS, 1)
    known = (number >= enough) & (spectra[0] > 0)
    if not known.any():  # slices of one value, such as air alone
        return RadialFilter(tuple(frequency.round(5).tolist()), (1.0,) * len(frequency))
    xx, yy, xy = spectra[:, known] / number[known]
    ratio = np.sqrt(yy / xx) if method == "amplitude" else xy / xx
    gain, ceiling = (np.interp(frequency, frequency[known], curve) for curve in (ratio, np.sqrt(yy)))
    gain[0] = 1.0
    points, gains, limits = (tuple(curve.round(5).tolist()) for curve in (frequency, gain, ceiling))
    return RadialFilter(points, gains, limits)
