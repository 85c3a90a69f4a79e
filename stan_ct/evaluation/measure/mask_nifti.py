"""Regions of interest of a NIfTI file of labels. Needs nibabel, of the extra `stan-ct[masks]`.

NIfTI counts millimetres to the patient's right, anterior and head (RAS).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stan_ct.dicom import header as dicom
from stan_ct.dicom.series import SeriesFiles
from stan_ct.errors import NotComparable
from stan_ct.evaluation.measure.mask_grid import Grid, Plane, Roi, corners_of, extra

LABEL_TOLERANCE = 1e-3
"""Largest distance of a label in a NIfTI file from a whole number: files that store floats with the scale of the CT round."""

MAX_SCALE = 0.1
"""Largest scale of a NIfTI file, below 1, of which half is the tolerance instead: that far its rounding moves a label."""

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_nifti(path: Path, files: SeriesFiles) -> dict[str, Roi]:
    """Label -> ROI, as :func:`~stan_ct.evaluation.measure.masks.read_rois`."""
    (values, affine), grid = _open_nifti(path), Grid(files)
    orientations, of_series = extra("nibabel").orientations, np.eye(4)
    of_series[:3, :3] = grid.axes[::-1]  # along the normal, along columns, along rows: the order of (Z, H, W)
    turn = orientations.io_orientation(of_series @ affine)
    affine = affine @ orientations.inv_ornt_aff(turn, values.shape)
    values = orientations.apply_orientation(values, turn)  # (planes, rows, columns), as the series counts them
    if len(values) > 1:
        grid.check_step(affine[:3, 0] @ grid.axes[2], path)
    name = path.name[: path.name.lower().rindex(".nii")]
    rois = {value: f"{name} {int(value)}" for value in np.unique(values) if value}
    return grid.place(_nifti_planes(values, affine, rois), rois.values(), path)


def _open_nifti(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Labels (I, J, K), whole numbers, and the affine from voxels to mm LPS, (4, 4)."""
    nibabel = extra("nibabel")
    try:
        image = nibabel.load(path)
        labels, placed = np.asanyarray(image.dataobj), image.header["sform_code"] or image.header["qform_code"]
    except Exception as error:
        raise NotComparable(f"{path} cannot be read as NIfTI: {dicom.first_line(error)}") from error
    affine = RAS_TO_LPS @ image.affine
    if not (placed and np.isfinite(affine).all() and np.linalg.det(affine)):
        raise NotComparable(f"{path} does not say where its voxels lie (no sform or qform): write it with the affine of the CT")
    if labels.ndim < 3 or labels.size != np.prod(labels.shape[:3]):
        raise NotComparable(f"{path} has shape {labels.shape}, expected one volume: write it without the other dimensions")
    if (rounded := _labels(labels, _tolerance(float(getattr(image.dataobj, "slope", 1.0))))) is None:
        raise NotComparable(f"{path} holds fractions or numbers below 0, expected labels: choose a threshold, write it binary")
    return rounded.reshape(labels.shape[:3]), affine


def _tolerance(scale: float) -> float:
    """Largest distance of a label from a whole number in a file with this scale (scl_slope)."""
    return max(LABEL_TOLERANCE, abs(scale) / 2) if abs(scale) <= MAX_SCALE else LABEL_TOLERANCE


def _labels(values: np.ndarray, tolerance: float) -> np.ndarray | None:
    """Whole numbers >= 0 that values stand for; None if they are no labels, but probabilities, colours or not finite."""
    if values.dtype.kind not in "buif":
        return None
    rounded = np.rint(values)
    with np.errstate(invalid="ignore"):  # infinities
        labels = (np.abs(values - rounded) <= tolerance).all() and (rounded >= 0).all()
    return rounded if labels else None


def _nifti_planes(labels: np.ndarray, affine: np.ndarray, rois: dict[float, str]) -> Iterator[Plane]:
    step, down, right, first = affine[:3].T
    for number, plane in enumerate(labels):
        corners = corners_of(first + number * step, down, right, plane.shape)
        yield from ((rois[value], plane == value, corners) for value in np.unique(plane) if value)
