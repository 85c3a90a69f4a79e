"""Which of the series that were found are to be standardized."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from stan_ct.ct.protocol import same_thickness
from stan_ct.dicom.grouping import patient_key
from stan_ct.dicom.positions import POSITION_TOLERANCE
from stan_ct.dicom.series import SeriesFiles
from stan_ct.dicom.tolerance import tolerant
from stan_ct.patches.where import parse_conditions

DATES = (("SeriesDate", "SeriesTime"), ("ContentDate", "ContentTime"), ("AcquisitionDate", "AcquisitionTime"))
"""Attributes that tell which of two series is the newer one, in the order in which they are asked."""


@dataclass(frozen=True)
class Choice:
    """Which series to standardize; by default all.

    Attributes:
        include: Conditions on header fields, joined by commas, such as `ConvolutionKernel~^B,KVP>=100,KVP<=120`; a series must
            meet all conditions of one of the texts, if there are any.
        exclude: The same, of series to leave out.
        newest: Whether only the newest of series that are alike is standardized, see :func:`newest_of_duplicates`.
        limit: Number of series to standardize at most; 0 for all.
    """

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    newest: bool = False
    limit: int = 0

    def of(self, series: Sequence[SeriesFiles]) -> list[SeriesFiles]:
        """The chosen series, in their order.

        Raises:
            UsageError: If a text is no condition.
        """
        included, excluded = (
            [parse_conditions([text], flag) for text in texts]
            for texts, flag in ((self.include, "include"), (self.exclude, "exclude"))
        )
        chosen = [
            files
            for files in series
            if (not included or any(all(each.holds(files) for each in conditions) for conditions in included))
            and not any(all(each.holds(files) for each in conditions) for conditions in excluded)
        ]
        chosen = newest_of_duplicates(chosen) if self.newest else chosen
        return chosen[: self.limit] if self.limit else chosen


def newest_of_duplicates(series: Sequence[SeriesFiles]) -> list[SeriesFiles]:
    """Series without those of which there is a newer one.

    Two series are alike if they are of one patient, study, acquisition, kernel, slice thickness, description, matrix and range
    of positions: one was reconstructed, or sent, anew. The newer one has the later date and time on any of its slices, else the
    higher number.

    Args:
        series: The series.
    Returns:
        One of each, in their order.
    """
    groups: dict[tuple, list[list[SeriesFiles]]] = defaultdict(list)
    for files in series:
        found = groups[_stated(files)]
        alike = next((group for group in found if _are_alike(group[0], files)), None)
        if alike is None:
            found.append([files])
        else:
            alike.append(files)
    kept = {id(max(group, key=_age) if len(group) > 1 else group[0]) for found in groups.values() for group in found}
    return [files for files in series if id(files) in kept]


def _stated(files: SeriesFiles) -> tuple:
    first = files.first
    stated = (str(first.get(keyword) or "") for keyword in ("AcquisitionNumber", "AcquisitionTime", "SeriesDescription"))
    return patient_key(first), files.study_uid, files.kernel, files.shape, files.grid, *stated


def _are_alike(one: SeriesFiles, other: SeriesFiles) -> bool:
    thicknesses = [0.0 if math.isnan(files.slice_thickness) else files.slice_thickness for files in (one, other)]
    ends = [abs(one.instances[end].location - other.instances[end].location) for end in (0, -1)]
    return same_thickness(*thicknesses) and max(ends) <= POSITION_TOLERANCE


@tolerant()
def _age(files: SeriesFiles) -> tuple:
    headers = [instance.header for instance in files.instances]
    times = (max("".join(_digits(header.get(keyword)) for keyword in pair) for header in headers) for pair in DATES)
    return *times, files.number or 0, files.uid


def _digits(value: object) -> str:
    """A date or a time as digits: 20200102, and 2020.01.02 as files of before 1993 have it."""
    return re.sub(r"\D", "", str(value or ""))
