"""What a series is: slices of one patient, scan, protocol and pixel grid, each place once; every slice speaks for itself."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from stan_ct.ct.protocol import THICKNESS_TOLERANCE
from stan_ct.dicom import header as dicom
from stan_ct.dicom.positions import DIRECTION_TOLERANCE, SPACING_TOLERANCE, SlicePositions
from stan_ct.dicom.series import Instance

PHASES = (
    *("AcquisitionNumber", "IrradiationEventUID", "AcquisitionDateTime", "AcquisitionTime", "TemporalPositionIdentifier"),
    *("NominalPercentageOfCardiacPhase", "ContrastBolusAgent", "ContrastBolusStartTime", "ContentTime"),
)
"""Attributes that tell the phases of a scan apart, in the order in which they are asked."""


def split_series(instances: Sequence[Instance]) -> list[list[Instance]]:
    """Splits the slices of one Series Instance UID into series of one patient, study, frame, protocol and grid.

    Args:
        instances: Slices, in any order.
    Returns:
        The groups, in an order that depends on their headers alone.
    """
    frames = {_text(instance.header, "FrameOfReferenceUID") for instance in instances}
    own_frames = len(frames) > len(instances) / 2  # de-identification may give each slice a frame of its own
    exact: dict[tuple, list[Instance]] = defaultdict(list)
    for instance in sorted(instances, key=lambda i: i.sort_key):
        frame = "" if own_frames else _text(instance.header, "FrameOfReferenceUID")
        exact[(*_identity(instance.header), frame)].append(instance)
    groups = [group for found in exact.values() for group in _alike(found)]
    return sorted(groups, key=lambda group: (_grid(group[0].header), _identity(group[0].header), group[0].uid))


def split_phases(instances: Sequence[Instance]) -> list[list[Instance]] | None:
    """Splits slices, several of which lie in one place, by the first attribute that tells their phases apart.

    Returns:
        The phases, each with every place at most once; None if no attribute tells them apart.
    """
    most = _most_in_one_place(instances)
    if most == 1:
        return [list(instances)]
    for keyword in PHASES:
        phases: dict[str, list[Instance]] = defaultdict(list)
        for instance in instances:
            phases[_text(instance.header, keyword)].append(instance)
        if len(phases) == most and all(_most_in_one_place(phase) == 1 for phase in phases.values()):
            return [phases[value] for value in sorted(phases)]
    return None


def patient_key(header: dicom.Header) -> str:
    """Patient ID (0010,0020) as people compare it, empty where it is not stated."""
    return comparable_id(_text(header, "PatientID"))


def comparable_id(patient_id: str) -> str:
    """A Patient ID without case, spaces, padding and the leading zeros of a number, which make no other patient."""
    text = re.sub(r"[\s\0]+", " ", patient_id).strip().casefold()
    return text.lstrip("0") or "0" if text.isdigit() else text


def _most_in_one_place(instances: Sequence[Instance]) -> int:
    positions = SlicePositions(instances)
    return max(positions.at(instance).size for instance in instances)


def _identity(header: dicom.Header) -> tuple[str, ...]:
    keywords = ("StudyInstanceUID", "ConvolutionKernel", "Rows", "Columns")
    return patient_key(header), *(_text(header, keyword) for keyword in keywords)


def _alike(instances: list[Instance]) -> list[list[Instance]]:
    """Groups whose grids and thicknesses lie within a tolerance of the group's first: no rounding, so no borders."""
    groups: list[tuple[np.ndarray, list[Instance]]] = []
    for instance in instances:
        own = _measures(instance.header)
        for first, group in groups:
            if _close(first, own):
                group.append(instance)
                break
        else:
            groups.append((own, [instance]))
    return [group for _, group in groups]


def _measures(header: dicom.Header) -> np.ndarray:
    """(9,) float64: direction cosines, pixel spacing and slice thickness (NaN where it is not stated), mm."""
    try:
        thickness = float(header.get("SliceThickness"))
    except (TypeError, ValueError):
        thickness = np.nan
    return np.concatenate([*(dicom.vector(header, k) for k in ("ImageOrientationPatient", "PixelSpacing")), [thickness]])


def _close(one: np.ndarray, other: np.ndarray) -> bool:
    tolerance = np.array([DIRECTION_TOLERANCE] * 6 + [SPACING_TOLERANCE] * 2 + [THICKNESS_TOLERANCE])
    return bool(((np.abs(one - other) <= tolerance) | (np.isnan(one) & np.isnan(other))).all())


def _grid(header: dicom.Header) -> tuple:
    orientation, spacing = (dicom.vector(header, k) for k in ("ImageOrientationPatient", "PixelSpacing"))
    return int(header.Rows), int(header.Columns), *np.round(orientation, 3), *np.round(spacing, 5)


def _text(header: dicom.Header, keyword: str) -> str:
    value: Any = header.get(keyword)
    return "" if value is None else str(value).strip(" \0")
