"""Fingerprints of reconstruction kernels: ranges of slice thickness and pixel spacing, and the shape of the noise spectrum."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stan_ct.ct.kernel_shape import shape_distance
from stan_ct.ct.noise import BANDS

HEADER_MARGIN = 1.1
"""Factor by which slice thickness and pixel spacing may lie beyond the range of a kernel's series."""

NOISE_MARGIN = 2.0
"""Factor by which the mean noise may lie beyond that range."""

SPREAD_FACTOR, MIN_DISTANCE_LIMIT = 2.0, 0.1
"""A spectrum may lie `SPREAD_FACTOR` times as far from the mean as that of the farthest series of the kernel, and in any case
`MIN_DISTANCE_LIMIT` (natural logarithm of amplitude)."""
MIN_SHAPE_LIMIT = 0.12
"""The same of edges and noise: of 20 simulated patients those of a kernel lie at .02 to .15 from its mean, and those of BL57 at
.11 to .28 from BL64, its nearest neighbour (`python benchmarks/unpaired.py patients PATIENTS --numbers 10`)."""

MIN_BANDS = 3
"""Smallest number of frequencies that both spectra need for a comparison."""


@dataclass(frozen=True)
class SeriesCharacteristics:
    """What is compared of a series.

    Attributes:
        slice_thickness: Slice thickness (0018,0050), mm; 0 where it is not stated.
        pixel_spacing: The larger pixel spacing (0028,0030), mm.
        spectrum: Noise spectrum from :func:`stan_ct.ct.noise.noise_spectrum`, (len(BANDS),).
        slice_spacing: Median distance of adjacent slices, mm; 0 for a single slice.
        shape: Shape of the kernel's spectra from :func:`stan_ct.ct.kernel_shape.kernel_shape`, (SIZE,); None if not measured.
    """

    slice_thickness: float
    pixel_spacing: float
    spectrum: np.ndarray
    slice_spacing: float = 0.0
    shape: np.ndarray | None = None


@dataclass(frozen=True)
class Fingerprint:
    """Header ranges and noise spectrum that characterise the series of one reconstruction kernel.

    Attributes:
        kernel: Convolution Kernel (0018,1210).
        slice_thickness: Smallest and largest slice thickness, mm.
        pixel_spacing: Smallest and largest pixel spacing, mm.
        spectrum: Mean noise spectrum of the series less its own mean, (len(BANDS),); None at frequencies that a series lacks.
        level: Smallest and largest noise level: the mean difference between the spectrum of a series and this one.
        spread: Largest distance of a series from this spectrum.
        slice_spacing: Smallest and largest distance of adjacent slices, mm, for a model that sees these; 0 and 0: any.
        shape: Mean shape of the kernel's spectra, (SIZE,), None where a series lacks it; empty for earlier models.
        shape_spread: Largest distance of a series from this shape.
    """

    kernel: str
    slice_thickness: tuple[float, float]
    pixel_spacing: tuple[float, float]
    spectrum: tuple[float | None, ...]
    level: tuple[float, float] = (0.0, 0.0)
    spread: float = 0.0
    slice_spacing: tuple[float, float] = (0.0, 0.0)
    shape: tuple[float | None, ...] = ()
    shape_spread: float = 0.0

    @classmethod
    def from_series(cls, kernel: str, series: Sequence[SeriesCharacteristics]) -> Fingerprint:
        """The fingerprint of a kernel.

        Args:
            kernel: Convolution Kernel (0018,1210).
            series: Characteristics of at least one series of this kernel.
        """
        ranges = (_range([s.slice_thickness for s in series]), _range([s.pixel_spacing for s in series]))
        spectra = [s.spectrum for s in series if np.isfinite(s.spectrum).any()]
        if not spectra:
            return cls(kernel, *ranges, (None,) * len(BANDS))
        mean = np.mean(spectra, axis=0)  # NaN where one of them is
        mean = mean - np.nanmean(mean)
        fingerprint = cls(kernel, *ranges, tuple(None if np.isnan(v) else round(float(v), 4) for v in mean))
        levels, distances = zip(*map(fingerprint.compare, spectra), strict=True)
        fingerprint = replace(fingerprint, level=_range(levels), spread=_range(distances)[1])
        return fingerprint._with_shape([s.shape for s in series if s.shape is not None and np.isfinite(s.shape).any()])

    def _with_shape(self, shapes: Sequence[np.ndarray]) -> Fingerprint:
        """The fingerprint with the mean of some shapes, itself without any."""
        if not shapes:
            return self
        mean = np.mean(shapes, axis=0)  # NaN where one of them is
        found = replace(self, shape=tuple(None if np.isnan(v) else round(float(v), 4) for v in mean))
        return replace(found, shape_spread=_range([found.shape_distance(shape) for shape in shapes])[1])

    def with_slice_spacing(self, series: Sequence[SeriesCharacteristics]) -> Fingerprint:
        """The fingerprint with the distances of slices in the same series, for models that see adjacent slices."""
        return replace(self, slice_spacing=_range([s.slice_spacing for s in series if s.slice_spacing]))

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Fingerprint:
        """The fingerprint that `dataclasses.asdict` and JSON made `values` of, with lists for tuples."""
        fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return cls(**fields)

    def compare(self, spectrum: np.ndarray) -> tuple[float, float]:
        """Noise level and distance of a spectrum: mean and standard deviation of its difference from this one.

        Args:
            spectrum: Noise spectrum of a series, (len(BANDS),), NaN where it is unknown.
        Returns:
            Level and distance over the frequencies known in both, natural logarithm; NaN and NaN if these are fewer than
            `MIN_BANDS`.
        """
        difference = spectrum - np.array(self.spectrum, np.float64)
        known = difference[np.isfinite(difference)]
        return (float(known.mean()), float(known.std())) if known.size >= MIN_BANDS else (float("nan"), float("nan"))

    def noise_distance(self, spectrum: np.ndarray) -> float:
        """Distance of a noise spectrum from the middle of the kernel's, in level and shape; NaN where it is not measurable.

        Args:
            spectrum: Noise spectrum of a series, (len(BANDS),), natural logarithm, NaN where it is unknown.
        """
        level, distance = self.compare(spectrum)
        return float(np.hypot(level - sum(self.level) / 2, distance))

    def shape_distance(self, shape: np.ndarray | None) -> float:
        """Distance of the shape of a series from the kernel's; NaN where either is unknown."""
        return shape_distance(np.array(self.shape, np.float64), shape) if self.shape and shape is not None else float("nan")

    @property
    def shape_limit(self) -> float:
        """The largest distance in shape of a series of this kernel."""
        return max(SPREAD_FACTOR * self.shape_spread, MIN_SHAPE_LIMIT)

    def resembles(self, series: SeriesCharacteristics) -> bool:
        """Whether a series of another kernel's name has the thickness, pixels and noise of this one, all of them measured."""
        known = self.shape_distance(series.shape) if self.shape else self.compare(series.spectrum)[1]
        return bool(np.isfinite(known)) and not self.deviations(series)

    @property
    def limit(self) -> float:
        """The largest distance of a series of this kernel."""
        return max(SPREAD_FACTOR * self.spread, MIN_DISTANCE_LIMIT)

    def is_named(self, kernel: str) -> bool:
        """Whether a Convolution Kernel (0018,1210) means this kernel.

        Case is ignored, and so are further values after a "/" (such as the strength of an iterative reconstruction) and the
        letter for the scan mode that ends a Siemens kernel.

        Example:
            >>> found = Fingerprint("BR40", (1, 1), (0.7, 0.7), (), 0)
            >>> [found.is_named(name) for name in ("Br40d/3", "BR40", "Br49", "B40f")]
            [True, True, False, False]
        """
        return _plain(kernel) == _plain(self.kernel)

    def nearest_thickness(self, thickness: float) -> float:
        """The slice thickness in the range of this kernel nearest to another one, mm."""
        low, high = self.slice_thickness
        return min(max(thickness, low), high)

    def holds_thickness(self, thickness: float) -> bool:
        """Whether a slice thickness, mm, lies in the range of this kernel."""
        return _within(thickness, self.slice_thickness)

    def _sees_spacing(self, series: SeriesCharacteristics) -> bool:
        return any(self.slice_spacing) and series.slice_spacing > 0

    def deviations(self, series: SeriesCharacteristics, thicknesses: Sequence[tuple[float, float]] = ()) -> list[str]:
        """Describes what lies outside the ranges of this kernel, in words; what could not be measured is not judged.

        Args:
            series: What was measured of a series.
            thicknesses: Ranges of slice thickness for which this kernel has fingerprints, to name them all, mm; by default its
                own.
        """
        headers = (
            ("slice thickness", series.slice_thickness, thicknesses or (self.slice_thickness,)),
            ("pixel spacing", series.pixel_spacing, (self.pixel_spacing,)),
            *([("slice spacing", series.slice_spacing, (self.slice_spacing,))] if self._sees_spacing(series) else []),
        )
        found = [
            f"{name} {value:g} mm, expected {' or '.join(f'{low:g} to {high:g}' for low, high in ranges)} mm"
            for name, value, ranges in headers
            if not any(_within(value, limits) for limits in ranges)
        ]
        level, distance = self.compare(series.spectrum)
        if distance > self.limit:
            found.append(f"noise spectrum {distance:.2f} from that of {self.kernel}, expected at most {self.limit:.2f}")
        if (away := self.shape_distance(series.shape)) > self.shape_limit:
            found.append(f"edges and noise {away:.2f} from those of {self.kernel}, expected at most {self.shape_limit:.2f}")
        if level < self.level[0] - np.log(NOISE_MARGIN) or level > self.level[1] + np.log(NOISE_MARGIN):
            low, high = np.exp(self.level)
            found.append(f"{np.exp(level):.2g} times the mean noise of {self.kernel}, expected {low:.2g} to {high:.2g} times")
        return found


def _within(value: float, limits: tuple[float, float]) -> bool:
    """Whether a value of a header lies in a range, or beyond it by no more than a factor of `HEADER_MARGIN`."""
    low, high = limits
    return low / HEADER_MARGIN <= value <= high * HEADER_MARGIN


def _plain(kernel: str) -> str:
    return re.sub(r"(?<=\d)[a-z]$", "", kernel.split("/")[0].strip().casefold())


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Smallest and largest finite value, rounded to 1/1000; 0 and 0 if there is none."""
    finite = [value for value in values if np.isfinite(value)] or [0.0]
    return round(float(min(finite)), 3), round(float(max(finite)), 3)
