"""Out-of-protocol guard: whether a series is of a kind that the model was made for, or of the standard protocol already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stan_ct.ct.fingerprint import Fingerprint, SeriesCharacteristics
from stan_ct.dicom.characteristics import series_characteristics
from stan_ct.dicom.series import Series


@dataclass(frozen=True)
class GuardVerdict:
    """Whether a model was made for a series.

    Attributes:
        kernel: Source kernel of the model as which the series is treated.
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
        sources: Fingerprints of the supported source kernels; if empty, every series is accepted.
        standard: Fingerprint of the standard protocol, None if unknown.
    """

    sources: Sequence[Fingerprint] = ()
    standard: Fingerprint | None = None

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
            return GuardVerdict(kernel)
        named = self.named(kernel)
        if self.standard and self.standard.is_named(kernel) and not (named and _is_source(named, self.standard, seen)):
            nearest, other = self._nearest(seen).kernel, self.standard.deviations(seen)
            if not other:
                return GuardVerdict(nearest, standard=True)
            return GuardVerdict(nearest, reasons=(f"kernel {kernel} is the standard one, but", *other))
        if named:
            return GuardVerdict(named.kernel, reasons=tuple(named.deviations(seen)))
        known = " and ".join(source.kernel for source in self.sources)
        return GuardVerdict(self._nearest(seen).kernel, reasons=(f"kernel {kernel}, the model standardizes {known}",))

    def named(self, kernel: str) -> Fingerprint | None:
        """Fingerprint of the source kernel of this name, None if the model does not know it."""
        return next((source for source in self.sources if source.is_named(kernel)), None)

    def _nearest(self, seen: SeriesCharacteristics) -> Fingerprint:
        """The source kernel with the most similar noise; the first one where noise cannot be measured."""
        distances = [source.compare(seen.spectrum)[1] for source in self.sources]
        return self.sources[int(np.argmin(np.nan_to_num(distances, nan=np.inf)))]


def _is_source(source: Fingerprint, standard: Fingerprint, seen: SeriesCharacteristics) -> bool:
    """Which of two protocols of one kernel a series has: the one whose ranges hold it, or of two the one of nearer noise."""
    if source.deviations(seen) or standard.deviations(seen):
        return not source.deviations(seen)
    return source.noise_distance(seen.spectrum) < standard.noise_distance(seen.spectrum)
