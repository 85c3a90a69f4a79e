"""Regions of interest of a DICOM SEG. Needs highdicom, of the extra `stan-ct[masks]`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from stan_ct.dicom import header as dicom
from stan_ct.dicom.series import SeriesFiles
from stan_ct.dicom.tolerance import tolerant
from stan_ct.errors import NotComparable
from stan_ct.evaluation.measure.mask_grid import Grid, Plane, Roi, check_scan, corners_of, extra, numbered_names, pixel_steps

SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""SOP Classes: Segmentation Storage and Label Map Segmentation Storage."""


def read_seg(path: Path, files: SeriesFiles) -> dict[str, Roi]:
    """Segment -> ROI, by its Segment Label; as :func:`~stan_ct.evaluation.measure.masks.read_rois`."""
    highdicom, grid = extra("highdicom"), Grid(files)
    with tolerant():
        try:
            seg = highdicom.seg.segread(path)
        except Exception as error:
            raise NotComparable(
                f"{path} is neither .nii or .nii.gz nor a DICOM SEG or RTSTRUCT: {dicom.first_line(error)}"
            ) from error
        check_scan(str(seg.get("StudyInstanceUID") or ""), {str(seg.get("FrameOfReferenceUID") or "")} - {""}, files, path)
        rois = grid.place(_seg_planes(seg, names := _segment_names(seg), path), names.values(), path)
        step = abs(float(_group(seg, 0, "PixelMeasuresSequence").get("SpacingBetweenSlices") or "nan"))
    grid.check_neighbours(rois.values(), step, path)
    return rois


def _segment_names(seg: Dataset) -> dict[int, str]:
    """Segment Number -> Segment Label, with the number where several have one label."""
    return numbered_names({number: str(seg.get_segment_description(number).SegmentLabel) for number in seg.segment_numbers})


def _seg_planes(seg: Dataset, names: dict[int, str], path: Path) -> Iterator[Plane]:
    full = seg.MaximumFractionalValue if seg.SegmentationType == "FRACTIONAL" else 1
    for index in range(len(seg.PerFrameFunctionalGroupsSequence)):
        stored, group = seg.get_stored_frame(index + 1), partial(_group, seg, index)
        if seg.SegmentationType == "LABELMAP":
            found = {number: stored == number for number in names}
        elif np.isin(stored, (0, full)).all():
            found = {group("SegmentIdentificationSequence").ReferencedSegmentNumber: stored == full}
        else:
            raise NotComparable(f"{path} holds fractions, expected 0 or {full}: choose a threshold, write it binary")
        corners = _seg_corners(group, stored.shape)
        yield from ((names[number], pixels, corners) for number, pixels in found.items())


def _seg_corners(group: Callable[[str], Dataset], shape: tuple[int, ...]) -> np.ndarray | None:
    position = dicom.vector(group("PlanePositionSequence"), "ImagePositionPatient")
    orientation = dicom.vector(group("PlaneOrientationSequence"), "ImageOrientationPatient")
    spacing = dicom.vector(group("PixelMeasuresSequence"), "PixelSpacing")
    known = (len(position), len(orientation), len(spacing)) == (3, 6, 2)
    return corners_of(position, *pixel_steps(orientation, spacing), shape) if known else None


def _group(seg: Dataset, index: int, keyword: str) -> Dataset:
    """A functional group of a frame, its own or that of all frames; empty if there is none."""
    holders = (seg.PerFrameFunctionalGroupsSequence[index], *seg.get("SharedFunctionalGroupsSequence", ()))
    return next((holder.get(keyword)[0] for holder in holders if holder.get(keyword)), Dataset())
