"""Out-of-protocol guard: whether a series is of a kind that the model was made for, or of the standard protocol already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stan_ct.ct.fingerprint import Appearance, Fingerprint
from stan_ct.dicom.appearance import appearance
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
        """Compares Convolution Kernel, slice thickness, pixel spacing and noise spectrum with what the model was made for."""
        kernel = series.files.kernel
        if not self.sources:
            return GuardVerdict(kernel)
        seen = appearance(series)
        if self.standard and self.standard.is_called(kernel):
            other = self.standard.outside(seen)
            if not other:
                return GuardVerdict(self._nearest(seen).kernel, standard=True)
            return GuardVerdict(self._nearest(seen).kernel, reasons=(f"kernel {kernel} is the standard one, but", *other))
        named = [source for source in self.sources if source.is_called(kernel)]
        if named:
            return GuardVerdict(named[0].kernel, reasons=tuple(named[0].outside(seen)))
        known = " and ".join(source.kernel for source in self.sources)
        return GuardVerdict(self._nearest(seen).kernel, reasons=(f"kernel {kernel}, the model standardizes {known}",))

    def _nearest(self, seen: Appearance) -> Fingerprint:
        """The source kernel with the most similar noise; the first one where noise cannot be measured."""
        distances = [source.compare(seen.spectrum)[1] for source in self.sources]
        return self.sources[int(np.argmin(np.nan_to_num(distances, nan=np.inf)))]
