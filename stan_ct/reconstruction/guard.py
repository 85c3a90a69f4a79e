"""Out-of-protocol guard: whether a series is of a kind that the model was made for, or of the standard protocol already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
    """

    kernel: str
    standard: bool = False
    reasons: tuple[str, ...] = ()


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
        known = " and ".join(dict.fromkeys(source.kernel for source in self.sources))
        return self._verdict(self._nearest(seen), seen, (f"kernel {kernel}, the model standardizes {known}",))

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
