"""Slices between those of a series: where they lie, and what their headers say of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset

from stan_ct.dicom.derived import source_image
from stan_ct.dicom.encoding import set_element
from stan_ct.dicom.header import Header
from stan_ct.dicom.plausibility import GAP, usual_step
from stan_ct.dicom.series import Instance


@dataclass(frozen=True)
class Place:
    """Where a derived slice lies: at a slice of the source, or between it and the next.

    Attributes:
        below: Number of the source slice.
        part: Number of the step on the way to the next slice; 0 for the slice itself.
        parts: Number of steps from this slice to the next; 1 where none lies between.
        spacing: Usual distance of derived slices, mm; 0 for a single one.
    """

    below: int
    part: int = 0
    parts: int = 1
    spacing: float = 0.0

    @property
    def fraction(self) -> float:
        """Fraction of the way to the next slice of the source, in [0, 1)."""
        return self.part / self.parts


def places_at(locations: Sequence[float], distance: float) -> tuple[Place, ...]:
    """Places of the slices of a series and of evenly spaced ones between them; gaps, where slices are missing, stay.

    Args:
        locations: (Z,) positions of the slices along their normal, ascending, mm.
        distance: Distance of slices to come near, mm.
    """
    steps, usual = np.diff(locations), usual_step(locations)
    missing = steps >= GAP * (np.inf if usual is None else usual)
    parts = np.where(missing, 1, np.maximum(np.rint(steps / distance), 1)).astype(int)
    spacing = round(float(np.median(np.repeat(steps / parts, parts))), 6) if steps.size else 0.0
    found = [Place(below, part, int(n), spacing) for below, n in enumerate(parts) for part in range(n)]
    return (*found, Place(len(locations) - 1, spacing=spacing))


def set_place(header: Dataset, place: Place, instances: Sequence[Instance]) -> None:
    """States where a slice lies, and for one between two slices of the source that it was made of both.

    Args:
        header: Header of the slice below, which is edited.
        place: The place.
        instances: Slices of the source.
    """
    if place.spacing and "SpacingBetweenSlices" in header:
        set_element(header, "SpacingBetweenSlices", f"{place.spacing:.6g}")
    if not place.part:
        return
    below, above = instances[place.below], instances[place.below + 1]
    position = below.position + place.fraction * (above.position - below.position)
    set_element(header, "ImagePositionPatient", [f"{value:.6f}".rstrip("0").rstrip(".") for value in position])
    if (location := _interpolated_location(below.header, above.header, place.fraction)) is not None:
        set_element(header, "SliceLocation", f"{location:.4f}")
    set_element(header, "SourceImageSequence", [source_image(each, located=False) for each in (below, above)])


def _interpolated_location(below: Header, above: Header, fraction: float) -> float | None:
    """Slice Location (0020,1041) between two slices, mm; None where one does not state it."""
    try:
        one, other = (float(header.get("SliceLocation")) for header in (below, above))
    except (TypeError, ValueError):
        return None
    return one + fraction * (other - one)


def descending(instances: Sequence[Instance]) -> bool:
    """Whether Instance Numbers (0020,0013) fall along the normal."""
    first, last = (instances[end].sort_key[1] for end in (0, -1))
    return first > last
