"""Protocol of a series: reconstruction kernel and slice thickness; the one rule for thicknesses that are the same."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

THICKNESS_TOLERANCE = 0.015
"""Largest difference between equal slice thicknesses, mm: headers round to hundredths."""


@dataclass(frozen=True, order=True)
class Protocol:
    """Reconstruction kernel and slice thickness.

    Attributes:
        kernel: Convolution Kernel (0018,1210); several values are joined by "/"; "?" where none is stated.
        thickness: Slice Thickness (0018,0050), mm, to 1/100; 0 where it is not stated.
    Example:
        >>> str(Protocol("BL64", 1.0)), str(Protocol("B", 0.0)), Protocol.from_text("BL64 1 mm")
        ('BL64 1 mm', 'B', Protocol(kernel='BL64', thickness=1.0))
    """

    kernel: str
    thickness: float

    def __str__(self) -> str:
        return f"{self.kernel} {self.thickness:g} mm" if self.thickness else self.kernel

    @classmethod
    def from_text(cls, text: str) -> Protocol:
        """The protocol of which `str` made a text."""
        stated = re.fullmatch(r"(.*) (\d+(?:\.\d+)?) mm", text)
        return cls(stated[1], float(stated[2])) if stated else cls(text, 0.0)


def same_thickness(one: float, other: float) -> bool:
    """Whether two slice thicknesses in mm are the same; "not stated", 0, is the same as itself alone."""
    return abs(one - other) <= THICKNESS_TOLERANCE


def same_protocol(protocol: Protocol, protocols: Iterable[Protocol]) -> Protocol | None:
    """The first of some protocols with the kernel and the thickness of another, None if there is none."""
    return next((p for p in protocols if p.kernel == protocol.kernel and same_thickness(p.thickness, protocol.thickness)), None)


def distinct_protocols(protocols: Iterable[Protocol]) -> list[Protocol]:
    """Protocols in ascending order, those of the same kernel and thickness once."""
    found: list[Protocol] = []
    for protocol in sorted(set(protocols)):
        if same_protocol(protocol, found) is None:
            found.append(protocol)
    return found
