"""The protocol of a series, as its headers state it: reconstruction kernel and slice thickness."""

from __future__ import annotations

from stan_ct.ct.protocol import Protocol
from stan_ct.dicom.series import SeriesFiles


def protocol_of(series: SeriesFiles) -> Protocol:
    """Recognises the protocol of a series from its headers."""
    thickness = series.slice_thickness
    return Protocol(series.kernel, round(thickness, 2) if thickness > 0 else 0.0)  # False for NaN
