"""What the series of one kernel look like: ranges of their headers, and the shape of their noise spectrum."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from stan_ct.ct.noise import BANDS

ROOM, NOISE_ROOM = 1.1, 2.0
"""Ranges of slice thickness and pixel spacing, and of noise, reach beyond what was seen by these factors."""
SPREADS, LEAST = 2.0, 0.1
"""A series is of a kernel if its spectrum is as near as `SPREADS` times the farthest one seen, or `LEAST`."""


@dataclass(frozen=True)
class Appearance:
    """One series, measured.

    Attributes:
        slice_thickness: (0018,0050), mm; 0 where it is not stated.
        pixel_spacing: (0028,0030), the larger one, mm.
        spectrum: (len(BANDS),) of `stan_ct.ct.noise.noise_spectrum`.
    """

    slice_thickness: float
    pixel_spacing: float
    spectrum: np.ndarray


@dataclass(frozen=True)
class Fingerprint:
    """A kernel's.

    Attributes:
        kernel: Convolution Kernel (0018,1210).
        slice_thickness: Least and most, mm.
        pixel_spacing: Least and most, mm.
        spectrum: (len(BANDS),) mean spectrum of its series around their levels; None where not every series shows it.
        level: Least and most noise, as the mean of a spectrum above this one.
        spread: Distance of the farthest of these series.
    """

    kernel: str
    slice_thickness: tuple[float, float]
    pixel_spacing: tuple[float, float]
    spectrum: tuple[float | None, ...]
    level: tuple[float, float] = (0.0, 0.0)
    spread: float = 0.0

    @classmethod
    def of(cls, kernel: str, seen: Sequence[Appearance]) -> Fingerprint:
        """The fingerprint of a kernel from at least one of its series."""
        ranges = (_range([s.slice_thickness for s in seen]), _range([s.pixel_spacing for s in seen]))
        spectra = [s.spectrum for s in seen if np.isfinite(s.spectrum).any()]
        if not spectra:
            return cls(kernel, *ranges, (None,) * len(BANDS))
        mean = np.mean(spectra, axis=0)  # NaN where one of them is
        mean = mean - np.nanmean(mean)
        found = cls(kernel, *ranges, tuple(None if np.isnan(v) else round(float(v), 4) for v in mean))
        levels, distances = zip(*map(found.compare, spectra), strict=True)
        return replace(found, level=_range(levels), spread=_range(distances)[1])

    @classmethod
    def from_json(cls, values: dict) -> Fingerprint:
        """What `asdict` of one became in JSON, where tuples are lists."""
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})

    def compare(self, spectrum: np.ndarray) -> tuple[float, float]:
        """Level, and distance: the root mean square difference around the level, over the bands that both know.

        NaN where these are fewer than three.
        """
        difference = spectrum - np.array(self.spectrum, np.float64)
        known = difference[np.isfinite(difference)]
        return (float(known.mean()), float(known.std())) if known.size >= 3 else (float("nan"), float("nan"))

    @property
    def limit(self) -> float:
        """The largest distance of a series of this kernel."""
        return max(SPREADS * self.spread, LEAST)

    def is_called(self, kernel: str) -> bool:
        """Whether a Convolution Kernel names this one.

        The case does not matter, nor what follows a "/" or a Siemens suffix: a letter for the scan mode, a number for the
        strength of an iterative reconstruction.

        Example:
            >>> found = Fingerprint("BR40", (1, 1), (0.7, 0.7), (), 0)
            >>> [found.is_called(name) for name in ("Br40d/3", "BR40", "Br49", "B40f")]
            [True, True, False, False]
        """
        return _plain(kernel) == _plain(self.kernel)

    def outside(self, seen: Appearance) -> list[str]:
        """What of a series lies outside what was seen of this kernel, in words; nothing of what could not be measured."""
        headers = (
            ("slice thickness", seen.slice_thickness, self.slice_thickness),
            ("pixel spacing", seen.pixel_spacing, self.pixel_spacing),
        )
        found = [
            f"{name} {value:g} mm, expected {low:g} to {high:g} mm"
            for name, value, (low, high) in headers
            if not low / ROOM <= value <= high * ROOM
        ]
        level, distance = self.compare(seen.spectrum)
        if distance > self.limit:
            found.append(f"noise spectrum {distance:.2f} from that of {self.kernel}, expected at most {self.limit:.2f}")
        if level < self.level[0] - np.log(NOISE_ROOM) or level > self.level[1] + np.log(NOISE_ROOM):
            low, high = np.exp(self.level)
            found.append(f"{np.exp(level):.2g} times the mean noise of {self.kernel}, expected {low:.2g} to {high:.2g} times")
        return found


def _plain(kernel: str) -> str:
    return re.sub(r"(?<=\d)[a-z]$", "", kernel.split("/")[0].strip().casefold())


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Least and most, to 1/1000; 0 and 0 of nothing finite."""
    finite = [value for value in values if np.isfinite(value)] or [0.0]
    return round(float(min(finite)), 3), round(float(max(finite)), 3)
