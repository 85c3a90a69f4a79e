"""Which of the series that were found are to be standardized."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stan_ct.dicom.grouping import patient_key
from stan_ct.dicom.series import SeriesFiles
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
    of positions: one was reconstructed, or sent, anew. The newer one has the later date and time, else the higher number.

    Args:
        series: The series.
    Returns:
        One of each, in their order.
    """
    newest: dict[tuple, SeriesFiles] = {}
    for files in series:
        other = newest.setdefault(_alike(files), files)
        if other is not files and _age(files) > _age(other):
            newest[_alike(files)] = files
    kept = {id(files) for files in newest.values()}
    return [files for files in series if id(files) in kept]


def _alike(files: SeriesFiles) -> tuple:
    first, ends = files.first, [round(files.instances[end].location, 1) for end in (0, -1)]
    stated = (str(first.get(keyword) or "") for keyword in ("AcquisitionNumber", "AcquisitionTime", "SeriesDescription"))
    thickness = f"{files.slice_thickness:g}"
    return patient_key(first), files.study_uid, files.kernel, thickness, files.shape, files.grid, *stated, *ends


def _age(files: SeriesFiles) -> tuple:
    times = (str(files.first.get(date) or "") + str(files.first.get(time) or "") for date, time in DATES)
    return *times, files.number or 0, files.uid
