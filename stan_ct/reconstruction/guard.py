"""Out-of-protocol guard: whether a series is of a kind that the model was made for, or of the standard protocol already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from stan_ct.ct.fingerprint import Fingerprint, SeriesCharacteristics
from stan_ct.ct.protocol import Protocol
from stan_ct.dicom.characteristics import series_characteristics
from stan_ct.dicom.series import Series


@dataclass(frozen=True)
class GuardVerdict:
    """Whether a model was made for a series.

    Attributes:
        kernel: Source kernel of the model as which the series is treated; where the model changes the slice thickness, with the
            source thickness as which it is treated, such as `BR40 3 mm`.
        standard: Whether the series has the standard protocol already.
        reasons: Differences to the protocols that the model was made for, in words; empty if there are none.
        relative: Of a series that the model standardizes though it knows no kernel of this name: whose noise it has, in words.
    """

    kernel: str
    standard: bool = False
    reasons: tuple[str, ...] = ()
    relative: str = ""


@dataclass(frozen=True)
class Guard:
    """Comparison of series with the fingerprints of a model.

    Attributes:
        sources: Fingerprints of the supported source protocols, of which several may have the same kernel and differ in slice
            thickness; if empty, every series is accepted.
        standard: Fingerprint of the standard protocol, None if unknown.
        by_thickness: Whether the model changes the slice thickness, and treats each thickness in its own way.
    """

    sources: Sequence[Fingerprint] = ()
    standard: Fingerprint | None = None
    by_thickness: bool = False

    def __call__(self, series: Series) -> GuardVerdict:
        """Compares a series in memory, see :meth:`judge`."""
        return self.judge(series.files.kernel, series_characteristics(series))

    def judge(self, kernel: str, seen: SeriesCharacteristics) -> GuardVerdict:
        """Compares Convolution Kernel, slice thickness, pixel spacing and noise spectrum with those of the model's protocols.

        Args:
            kernel: Convolution Kernel (0018,1210) of the series.
            seen: Its slice thickness, pixel spacing and noise spectrum.
        """
        if not self.sources:
            return GuardVerdict(str(Protocol(kernel, seen.slice_thickness)) if self.by_thickness else kernel)
        named = _of_thickness([source for source in self.sources if source.is_named(kernel)], seen.slice_thickness)
        if self.standard and self.standard.is_named(kernel) and not (named and _is_source(named[0], self.standard, seen)):
            other = self.standard.deviations(seen)
            reasons = (f"kernel {kernel} is the standard one, but", *other) if other else ()
            return self._verdict(self._nearest(seen), seen, reasons, standard=not other)
        if named:
            thicknesses = [source.slice_thickness for source in self.sources if source.is_named(kernel)]
            return self._verdict(named[0], seen, named[0].deviations(seen, thicknesses))
        if (relative := self._relative(seen)) is not None:
            verdict = self._verdict(relative, seen, ())
            return replace(verdict, relative=f"kernel {kernel}: its noise is that of {relative.kernel}")
        known = " and ".join(dict.fromkeys(source.kernel for source in self.sources))
        nearest = self._nearest(seen)
        reasons = (f"kernel {kernel}, the model standardizes {known}", *self._unlike(nearest, seen))
        return self._verdict(nearest, seen, reasons)

    def _relative(self, seen: SeriesCharacteristics) -> Fingerprint | None:
        """The source whose thickness, pixels and noise a series of a foreign name has; None if the standard's is nearer."""
        sources = [source for source in self.sources if source.resembles(seen)]
        if not sources:
            return None
        nearest = min(sources, key=lambda source: _distance(source, seen))
        return None if self.standard and _distance(self.standard, seen) <= _distance(nearest, seen) else nearest

    def _unlike(self, nearest: Fingerprint, seen: SeriesCharacteristics) -> tuple[str, ...]:
        """Why a series of a foreign name does not pass as the nearest protocol, in words."""
        if nearest.resembles(seen):
            return (f"its noise is nearer to that of the standard, {self.standard.kernel}",) if self.standard else ()
        return tuple(nearest.deviations(seen)) or ("its noise cannot be measured",)

    def _verdict(
        self, source: Fingerprint, seen: SeriesCharacteristics, reasons: Sequence[str], standard: bool = False
    ) -> GuardVerdict:
        thickness = source.nearest_thickness(seen.slice_thickness) if self.by_thickness else 0.0
        return GuardVerdict(str(Protocol(source.kernel, thickness)), standard, tuple(reasons))

    def named(self, kernel: str) -> Fingerprint | None:
        """Fingerprint of the source kernel of this name, None if the model does not know it."""
        return next((source for source in self.sources if source.is_named(kernel)), None)

    def _nearest(self, seen: SeriesCharacteristics) -> Fingerprint:
        """The source protocol with the most similar noise; the first one where noise cannot be measured."""
        sources = _of_thickness(self.sources, seen.slice_thickness) if self.by_thickness else self.sources
        distances = [source.compare(seen.spectrum)[1] for source in sources]
        return sources[int(np.argmin(np.nan_to_num(distances, nan=np.inf)))]


def _distance(protocol: Fingerprint, seen: SeriesCharacteristics) -> float:
    """How far a series is from a protocol, by the shape of its spectra where that is known; infinite where nothing is."""
    shape = protocol.shape_distance(seen.shape)
    return float(np.nan_to_num(shape if np.isfinite(shape) else protocol.noise_distance(seen.spectrum), nan=np.inf))


def _is_source(source: Fingerprint, standard: Fingerprint, seen: SeriesCharacteristics) -> bool:
    """Which of two protocols of one kernel a series has: the one whose ranges hold it, or of two the one of nearer noise."""
    if source.holds_thickness(seen.slice_thickness) and not standard.holds_thickness(seen.slice_thickness):
        return True
    if source.deviations(seen) or standard.deviations(seen):
        return not source.deviations(seen)
    return source.noise_distance(seen.spectrum) < standard.noise_distance(seen.spectrum)


def _of_thickness(sources: Sequence[Fingerprint], thickness: float) -> list[Fingerprint]:
    """The sources whose range of slice thickness is nearest to a thickness, mm."""
    distances = [abs(source.nearest_thickness(thickness) - thickness) for source in sources]
    return [source for source, distance in zip(sources, distances, strict=True) if distance == min(distances)]
