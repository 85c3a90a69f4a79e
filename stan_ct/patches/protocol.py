"""The protocol of a series, as its headers state it: reconstruction kernel and slice thickness."""

from __future__ import annotations

from dataclasses import dataclass

from stan_ct.dicom.grouping import THICKNESS_TOLERANCE
from stan_ct.dicom.series import SeriesFiles


@dataclass(frozen=True, order=True)
class Protocol:
    """Reconstruction kernel and slice thickness.

    Attributes:
        kernel: Convolution Kernel (0018,1210); several values are joined by "/"; "?" where none is stated.
        thickness: Slice Thickness (0018,0050), mm, to 1/100; 0 where it is not stated.
    Example:
        >>> str(Protocol("BL64", 1.0)), str(Protocol("B", 0.0))
        ('BL64 1 mm', 'B')
    """

    kernel: str
    thickness: float

    def __str__(self) -> str:
        return f"{self.kernel} {self.thickness:g} mm" if self.thickness else self.kernel


def protocol_of(series: SeriesFiles) -> Protocol:
    """Recognises the protocol of a series from its headers."""
    thickness = series.slice_thickness
    return Protocol(series.kernel, round(thickness, 2) if thickness > 0 else 0.0)  # False for NaN


def same_thickness(one: float, other: float) -> bool:
    """Whether two slice thicknesses in mm are the same; "not stated", 0, is the same as itself alone."""
    return abs(one - other) <= THICKNESS_TOLERANCE
