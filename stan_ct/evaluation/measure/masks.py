"""Masks of regions of interest (ROI), DICOM SEG, RTSTRUCT or NIfTI -> the voxels of a CT series.

SEG and NIfTI need the extra `stan-ct[masks]`.

A mask goes by what its file says of place, never by the order of frames or voxels, and is taken as it was drawn: one on
another grid is refused, not resampled. What is drawn where the series lacks a slice is counted.

    masks = read_masks("lesions.dcm", series)
    series.volume[masks["Nodule 1"]]  # HU
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from stan_ct.dicom import header as dicom
from stan_ct.dicom.nifti_files import is_nifti
from stan_ct.dicom.refusal import Refused
from stan_ct.dicom.series import Series, SeriesFiles
from stan_ct.dicom.tolerance import tolerant
from stan_ct.errors import NotComparable
from stan_ct.evaluation.measure.mask_grid import Roi
from stan_ct.evaluation.measure.mask_nifti import read_nifti
from stan_ct.evaluation.measure.mask_rtstruct import RTSTRUCT, read_rtstruct
from stan_ct.evaluation.measure.mask_seg import SEGMENTATIONS, read_seg


def read_masks(path: Path | str, series: Series) -> dict[str, np.ndarray]:
    """Reads the masks of a series that has every slice on which they were drawn.

    Args:
        path: As for :func:`read_rois`.
        series: The CT, as loaded.
    Returns:
        ROI -> (Z, H, W) bool, True in the ROI; ROIs may overlap.
    Raises:
        FileNotFoundError: If `path` does not exist.
        NotComparable: As :func:`read_rois`; or if the series lacks a slice on which a ROI was drawn.
    """
    rois = read_rois(path, series.files)
    for name, roi in rois.items():
        if roi.elsewhere:
            where = ", ".join(f"{location:.6g}" for location in sorted(roi.elsewhere))
            raise NotComparable(
                f"{path} marks {sum(roi.elsewhere.values())} voxels of {name!r} at {where} mm along the normal, where series "
                f"{series.files.uid} has no slice: give the whole series, or use read_rois, which counts them"
            )
    return {name: roi.mask for name, roi in rois.items()}


def read_rois(path: Path | str, files: SeriesFiles) -> dict[str, Roi]:
    """Reads the regions of interest of a series.

    Args:
        path: A DICOM SEG or RTSTRUCT, a NIfTI file (.nii, .nii.gz), or a directory: all of these in it, but DICOM of other
            studies.
        files: The slices of the CT.
    Returns:
        Name -> ROI; ROIs may overlap. A segment of a SEG has its Segment Label, a ROI of an RTSTRUCT its ROI Name, and with
        several of one name its number; a value of a NIfTI file has the file's name and the value, "liver 1". A segment or
        ROI that is described but not drawn is all False, so that it is reported and not forgotten.
    Raises:
        FileNotFoundError: If `path` does not exist.
        NotComparable: If a mask is of another study or grid, no mask, empty, or of a ROI seen before; or the extra is missing.
    """
    rois: dict[str, Roi] = {}
    for file in _mask_files(Path(path), files):
        found = _reader(file)(file, files)
        if twice := sorted(set(found) & set(rois)):
            raise NotComparable(f"{file} holds the ROI {twice[0]!r}, and so does another file: rename one, or give one of them")
        rois |= found
    if not any(roi.drawn for roi in rois.values()):
        raise NotComparable(f"{path} marks no voxel: draw at least one ROI")
    return rois


def _reader(path: Path) -> Callable[[Path, SeriesFiles], dict[str, Roi]]:
    if is_nifti(path):
        return read_nifti
    return read_rtstruct if _header(path).get("SOPClassUID") == RTSTRUCT else read_seg


def _mask_files(path: Path, files: SeriesFiles) -> list[Path]:
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    if path.is_file():
        return [path]
    if found := [f for f in sorted(path.rglob("*")) if f.is_file() and (is_nifti(f) or _is_drawn_on(f, files))]:
        return found
    raise NotComparable(f"{path} holds neither .nii or .nii.gz files nor a DICOM SEG or RTSTRUCT of study {files.study_uid}")


def _is_drawn_on(path: Path, files: SeriesFiles) -> bool:
    """Whether a file is a SEG or RTSTRUCT of the study of a series."""
    header = _header(path)
    return header.get("SOPClassUID") in (*SEGMENTATIONS, RTSTRUCT) and header.get("StudyInstanceUID") == files.study_uid


def _header(path: Path) -> Dataset:
    """Header of a DICOM file; empty of any other."""
    try:
        with tolerant():
            return dicom.read_header(path) if dicom.looks_like_dicom(path) else Dataset()
    except (Refused, OSError):
        return Dataset()
