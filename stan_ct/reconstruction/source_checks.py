"""Checks of a source: what is wrong with it before anything is standardized."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stan_ct.dicom.acceptance import check_axial
from stan_ct.dicom.damage import ODD, damaged_pixels, differences, odd_differences
from stan_ct.dicom.nifti import of_nifti
from stan_ct.dicom.plausibility import implausible_hu, implausible_spacing, missing_slices, uneven_spacing
from stan_ct.dicom.refusal import Refused
from stan_ct.dicom.series import Series
from stan_ct.dicom.write import is_lossy
from stan_ct.reconstruction.checks import Finding
from stan_ct.reconstruction.wording import counted


def source_findings(series: Series) -> tuple[Finding, ...]:
    """What is wrong with a source as a whole: its HU, the places of its slices, damaged files, lossy compression."""
    findings = []
    if detail := implausible_hu(series.volume, series.padding):
        findings.append(Finding("implausible_source", detail=detail))
    if detail := implausible_spacing(series.files.pixel_spacing):
        findings.append(Finding("implausible_spacing", detail=detail))
    locations = [instance.location for instance in series.instances]
    missing, detail = missing_slices(locations)
    if missing:
        findings.append(Finding("missing_slices", float(missing), 0.0, detail))
    if detail := uneven_spacing(locations):
        findings.append(Finding("uneven_spacing", detail=detail))
    if damaged := len(series.refusals) + series.files.damaged:
        findings.append(Finding("unreadable_slices", float(damaged), 0.0))
    if lossy := sum(is_lossy(instance.header) for instance in series.instances):
        findings.append(Finding("lossy_compression", detail=counted(lossy, "slice")))
    if made := of_nifti(series.files.first):
        findings.append(Finding("from_nifti", detail=made))
    try:
        check_axial(series.files.first)
    except Refused as refused:
        findings.append(Finding("not_axial", detail=refused.found))
    return tuple(findings)


@dataclass(frozen=True)
class SourceCheck:
    """What is measured of one slice of a source.

    Attributes:
        damaged: Damaged pixels in words, from :func:`damaged_pixels`; empty if there are none.
        differences: From the next slice and the one after that, from :func:`differences`.
    """

    damaged: str
    differences: tuple[float, float]


def check_source_slice(series: Series, z: int) -> SourceCheck:
    """Measures slice z of a source; its two neighbours above are read too."""
    return SourceCheck(damaged_pixels(series.volume[z], series.padding[z]), differences(series.volume, z))


def source_slice_findings(series: Series, checks: Sequence[SourceCheck]) -> list[tuple[Finding, ...]]:
    """What is wrong with each slice of a source: damaged pixels, and slices that do not fit between their neighbours."""
    locations = [instance.location for instance in series.instances]
    odd = odd_differences([check.differences for check in checks], locations)
    findings = []
    for z, check in enumerate(checks):
        found = [Finding("odd_slice", round(odd[z], 2), ODD)] if z in odd else []
        if check.damaged:
            found.append(Finding("damaged_pixels", detail=check.damaged))
        findings.append(tuple(found))
    return findings
