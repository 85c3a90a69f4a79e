"""Out-of-protocol guard: whether a series is of a kind that the model was made for, or of the standard protocol already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stan_ct.ct.fingerprint import Appearance, Fingerprint
from stan_ct.dicom.appearance import appearance
from stan_ct.dicom.series import Series


@dataclass(frozen=True)
class Verdict:
    """What a series is to the model.

    Attributes:
        kernel: The model's source kernel as which the series is treated.
        standard: Whether it has the standard protocol already.
        reasons: Why it is none of the model's series, in words; empty if it is one.
    """

    kernel: str
    standard: bool = False
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Guard:
    """Compares series with the fingerprints of a model.

    Attributes:
        sources: Of the kernels it standardizes; none lets everything pass.
        standard: Of the standard protocol.
        allow: Go on with series that it was not made for.
    """

    sources: Sequence[Fingerprint] = ()
    standard: Fingerprint | None = None
    allow: bool = False

    def __call__(self, series: Series) -> Verdict:
        """Compares Convolution Kernel, slice thickness, pixel spacing and noise spectrum with what the model was made for."""
        kernel = series.files.kernel
        if not self.sources:
            return Verdict(kernel)
        seen = appearance(series)
        if self.standard and self.standard.is_called(kernel):
            other = self.standard.outside(seen)
            if not other:
                return Verdict(self._nearest(seen).kernel, standard=True)
            return Verdict(self._nearest(seen).kernel, reasons=(f"kernel {kernel} is the standard one, but", *other))
        named = [source for source in self.sources if source.is_called(kernel)]
        if named:
            return Verdict(named[0].kernel, reasons=tuple(named[0].outside(seen)))
        known = " and ".join(source.kernel for source in self.sources)
        return Verdict(self._nearest(seen).kernel, reasons=(f"kernel {kernel}, the model standardizes {known}",))

    def _nearest(self, seen: Appearance) -> Fingerprint:
        """The source kernel with the most similar noise; the first one where noise cannot be measured."""
        distances = [source.compare(seen.spectrum)[1] for source in self.sources]
        return self.sources[int(np.argmin(np.nan_to_num(distances, nan=np.inf)))]
