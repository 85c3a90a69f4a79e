r"""Amplitude and Wiener filters fitted with the target's clipping, and blends of the two by frequency.

Files of many scanners hold nothing below -1024 HU. In air a sharp kernel's noise is cut off there, so the target has less power
than its kernel gave it, and a ratio of spectra is too small everywhere, in tissue too. Here filters are fitted as they are
applied: the source is filtered and clipped as the target was, the spectra of the output are compared with the target's, and
the gain is corrected, a few times. That also makes up for the leakage of strong low frequencies into weak high ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stan_ct.ct.bright import calm_weight, without_bright
from stan_ct.ct.filters import HIGHEST_FLOOR, MIN_COEFFICIENTS, RadialFilter
from stan_ct.ct.hounsfield import AIR
from stan_ct.ct.spectra import TAPER, Spacing, cross_power, radial_sums

ROUNDS = 5
"""Corrections of the gain; from the third on the errors of texture change in their third digit."""
GAINS = (1e-3, 1e3)
"""Smallest and largest gain: a Wiener gain can be negative where nothing correlates, and no power has no ratio."""
LEAST_CLIPPED = 0.001
"""Least share of the targets' pixels at their lowest HU that shows that files clip there."""
LEAST_POWER = 1e-9
"""Power that divides at least, HU^2 mm^2: a slice without texture has none."""

Pair = tuple[np.ndarray, np.ndarray, Spacing]
"""Source slice and target slice, (H, W) HU each, and (row, column) pixel spacing, mm."""


@dataclass(frozen=True)
class Curves:
    """The two filters between which blends lie.

    Attributes:
        frequency: (n,) from 0 in equal steps to the corner of the spectrum, lp/cm.
        amplitude: (n,) gain that gives the target's amplitude spectrum.
        wiener: (n,) gain that gives the least squared error.
        ceiling: (n,) amplitude spectrum that `amplitude` gives the sources, measured as :class:`RadialFilter` does, HU mm.
        floor: HU at which the target clips; None if it does not.
        nyquist: Nyquist frequency, lp/cm.
    """

    frequency: np.ndarray
    amplitude: np.ndarray
    wiener: np.ndarray
    ceiling: np.ndarray
    floor: float | None
    nyquist: float

    def blend(self, exponents: Sequence[float]) -> RadialFilter:
        r"""The filter of gain :math:`amplitude^a\,wiener^{1-a}`.

        Args:
            exponents: a at the middles of as many equal bands from 0 to the Nyquist frequency; between them a is linear.
        """
        middles = (np.arange(len(exponents)) + 0.5) * self.nyquist / len(exponents)
        a = np.interp(self.frequency, middles, exponents)
        curves = self.frequency, self.amplitude**a * self.wiener ** (1 - a), self.ceiling
        frequency, gain, ceiling = (tuple(curve.round(5).tolist()) for curve in curves)
        return RadialFilter(frequency, (1.0, *gain[1:]), ceiling, self.floor)


def clipping_floor(targets: Sequence[np.ndarray]) -> float | None:
    """The HU at which files clip: the lowest of all, if it is at or below air and many pixels have it.

    Args:
        targets: (H, W) HU each.
    """
    lowest = float(min(image.min() for image in targets))
    share = float(np.mean([np.mean(image <= lowest) for image in targets]))
    return lowest if lowest <= HIGHEST_FLOOR and share >= LEAST_CLIPPED else None


def fit_curves(pairs: Sequence[Pair], taper: float, bins: int = 96) -> Curves:
    """Fits both filters to slices.

    Args:
        pairs: Source slices, target slices and pixel spacings; slices are continued beyond their fields of view, since padding
            counts as part of the target.
        taper: Share of each side over which slices fade out where spectra are measured: with 1, a Hann window, their middle
            counts most.
        bins: Number of frequencies from 0 to the highest Nyquist frequency of the pairs.
    Raises:
        ValueError: If there is no pair.
    """
    if not pairs:
        raise ValueError("fitting a filter needs at least one pair of slices")
    nyquist = max(5.0 / min(spacing) for _, _, spacing in pairs)
    corner = max(math.hypot(5.0 / spacing[0], 5.0 / spacing[1]) for _, _, spacing in pairs)
    step = nyquist / (bins - 1)
    frequency, floor = step * np.arange(1 + math.ceil(corner / step)), clipping_floor([target for _, target, _ in pairs])
    calm = [_without_metal(*pair) for pair in pairs]
    sources, targets = [source for source, _, _ in calm], [target for _, target, _ in calm]
    spectra = _Spectra(calm, frequency, taper, nyquist)
    source, target, common = spectra.power(sources), spectra.power(targets), spectra.with_source(targets)
    amplitude, wiener = np.clip(np.sqrt(target / source), *GAINS), np.clip(common / source, *GAINS)
    for _ in range(ROUNDS):
        made = spectra.power(_filtered(calm, frequency, amplitude, floor))
        amplitude = np.clip(amplitude * np.sqrt(target / made), *GAINS)
        made = spectra.with_source(_filtered(calm, frequency, wiener, floor))
        wiener = np.clip(wiener + (common - made) / source, *GAINS)
    ceiling = amplitude * np.sqrt(_Spectra(calm, frequency, TAPER, nyquist).power(sources))
    return Curves(frequency, amplitude, wiener, ceiling, floor, nyquist)


def _without_metal(source: np.ndarray, target: np.ndarray, spacing: Spacing) -> Pair:
    """The pair without metal, which outshines the spectra of tissue; source HU below air count as air, as in the filter."""
    source = np.maximum(source, AIR).astype(np.float32)
    weight = calm_weight(source, spacing)
    if weight is None:
        return source, target, spacing
    return without_bright(source, weight), without_bright(target, weight), spacing


def _filtered(pairs: Sequence[Pair], frequency: np.ndarray, gain: np.ndarray, floor: float | None) -> list[np.ndarray]:
    curve = RadialFilter(tuple(frequency), (1.0, *gain[1:]), floor=floor)
    return [curve(source, spacing) for source, _, spacing in pairs]


class _Spectra:
    """Radially averaged spectra of some slices, (n,) HU^2 mm^2 each.

    Args:
        pairs: The slices.
        frequency: (n,) lp/cm.
        taper: Share of each side over which they fade out.
        nyquist: Frequency, lp/cm, beyond which an average needs `MIN_COEFFICIENTS`.
    """

    def __init__(self, pairs: Sequence[Pair], frequency: np.ndarray, taper: float, nyquist: float) -> None:
        self._pairs, self._frequency, self._taper, self._nyquist = pairs, frequency, taper, nyquist

    def power(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Of images in the places of the pairs; above 0."""
        return np.maximum(self._average([(image, image) for image in images]), LEAST_POWER)

    def with_source(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Of what images in the places of the pairs have in common with the sources."""
        return self._average([(source, image) for (source, _, _), image in zip(self._pairs, images, strict=True)])

    def _average(self, images: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        sums, number = np.zeros(len(self._frequency)), np.zeros(len(self._frequency))
        for (a, b), (_, _, spacing) in zip(images, self._pairs, strict=True):
            power = cross_power(a, b, spacing, self._taper)
            found = radial_sums(power, spacing, self._frequency, a.shape)
            sums, number = sums + found[0], number + found[1]
        known = number >= np.where(self._frequency > self._nyquist, MIN_COEFFICIENTS, 1)
        return np.interp(self._frequency, self._frequency[known], sums[known] / number[known])
