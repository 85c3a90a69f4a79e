"""Masks of regions of interest (ROI), DICOM SEG or NIfTI -> the voxels of a CT series. Needs the extra `stan-ct[masks]`.

A mask goes by what its file says of place, never by the order of frames or voxels, and is taken as it was drawn: one on
another grid is refused, not resampled. DICOM counts millimetres to the patient's left, posterior and head (LPS), NIfTI to the
right, anterior and head (RAS).

    masks = read_masks("lesions.dcm", series)
    series.volume[masks["Nodule 1"]]  # HU
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
from pydicom.dataset import Dataset

from stan_ct.dicom import header as dicom
from stan_ct.dicom.positions import POSITION_TOLERANCE, same_position
from stan_ct.dicom.refusal import Refused
from stan_ct.dicom.series import Series
from stan_ct.dicom.tolerance import tolerant
from stan_ct.errors import NotComparable

SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""SOP Classes: Segmentation Storage and Label Map Segmentation Storage."""

ADVICE = "Masks are not resampled: draw it on this series, or resample it to its grid yourself and look at it"

LABEL_TOLERANCE = 1e-3
"""Largest distance of a label in a NIfTI file from a whole number: files that store floats with the scale of the CT round."""

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])

Plane = tuple[str, np.ndarray, np.ndarray | None]
"""One plane of one ROI: its name, (H, W) bool, and the corners of the plane (`_corners`), None if the file has no place."""


def read_masks(path: Path | str, series: Series) -> dict[str, np.ndarray]:
    """Reads the masks of a series.

    Args:
        path: A DICOM SEG, a NIfTI file (.nii, .nii.gz), or a directory: all of these in it, but SEGs of other studies.
        series: The CT, as loaded.
    Returns:
        ROI -> (Z, H, W) bool, True in the ROI; ROIs may overlap. A segment of a SEG has its Segment Label, and with
        several of one label its number; a value of a NIfTI file has the file's name and the value, "liver 1". A segment
        that the SEG describes but does not draw is all False, so that it is reported and not forgotten.
    Raises:
        FileNotFoundError: If `path` does not exist.
        NotComparable: If a mask is of another study or grid, no mask, empty, or of a ROI seen before; or the extra is missing.
    """
    masks: dict[str, np.ndarray] = {}
    for file in _mask_files(Path(path), series):
        found = _read_nifti(file, series) if _is_nifti(file) else _read_seg(file, series)
        if twice := sorted(set(found) & set(masks)):
            raise NotComparable(f"{file} holds the ROI {twice[0]!r}, and so does another file: rename one, or give one of them")
        masks |= found
    if not any(mask.any() for mask in masks.values()):
        raise NotComparable(f"{path} marks no voxel: draw at least one ROI")
    return masks


def _mask_files(path: Path, series: Series) -> list[Path]:
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    if path.is_file():
        return [path]
    if found := [f for f in sorted(path.rglob("*")) if f.is_file() and (_is_nifti(f) or _is_seg_of(f, series))]:
        return found
    raise NotComparable(f"{path} holds neither .nii or .nii.gz files nor a DICOM SEG of study {series.files.study_uid}")


def _is_nifti(path: Path) -> bool:
    return path.name.lower().endswith((".nii", ".nii.gz"))


def _is_seg_of(path: Path, series: Series) -> bool:
    try:
        with tolerant():
            header = dicom.read_header(path) if dicom.looks_like_dicom(path) else Dataset()
    except Refused:
        return False
    return header.get("SOPClassUID") in SEGMENTATIONS and header.get("StudyInstanceUID") == series.files.study_uid


def _extra(name: str) -> ModuleType:
    """highdicom or nibabel, which are loaded when they are needed."""
    try:
        with tolerant():
            return import_module(name)
    except ImportError as error:
        raise NotComparable(f"reading masks needs {name}: pip install 'stan-ct[masks]'") from error


class _Grid:
    """Pixel grid of a series in space."""

    def __init__(self, series: Series) -> None:
        self.shape, self.name = series.volume.shape, f"series {series.files.uid}"
        orientation = dicom.vector(series.files.first, "ImageOrientationPatient")
        down, right = series.files.pixel_spacing  # mm
        self.axes = np.stack([orientation[:3], orientation[3:], np.cross(orientation[:3], orientation[3:])])
        steps = _steps(orientation, np.array([down, right]))
        self.corners = np.stack([_corners(i.position, *steps, self.shape[1:]) for i in series.instances])  # (Z, 3, 3) mm
        self.step = float(np.median(np.diff([i.location for i in series.instances]))) if self.shape[0] > 1 else np.nan  # mm

    def place(self, planes: Iterable[Plane], rois: Iterable[str], path: Path) -> dict[str, np.ndarray]:
        """ROI -> (Z, H, W) bool; NotComparable if a plane with a marked pixel lies in the place of no slice."""
        masks = {roi: np.zeros(self.shape, bool) for roi in rois}
        for roi, pixels, corners in planes:
            if pixels.any():
                masks[roi][self._slice_at(corners, pixels.shape, path)] |= pixels
        return masks

    def _slice_at(self, corners: np.ndarray | None, shape: tuple[int, ...], path: Path) -> int:
        fits = np.zeros(len(self.corners), bool)
        if shape == self.shape[1:] and corners is not None:
            fits |= same_position(corners, self.corners).all(axis=1)
        if fits.sum() != 1:
            raise NotComparable(
                f"{path} is not on the grid of {self.name}. Expected: marked planes in the places of its {len(fits)} slices, "
                f"{_described(self.shape[1:], self.corners[0])} to {_described(self.shape[1:], self.corners[-1])}. "
                f"Came: {_described(shape, corners)}, in the place of {fits.sum()}. {ADVICE}"
            )
        return int(fits.argmax())

    def check_step(self, step: float, path: Path) -> None:
        """Refuses planes (`step` mm apart, NaN if that is not known) that do not follow each other as the slices do."""
        if len(self.corners) > 1 and not abs(step - self.step) <= POSITION_TOLERANCE:
            came = f"planes {step:.4g} mm apart (nan: it does not say)"
            raise NotComparable(f"{path} has {came}, expected {self.step:.4g} mm as the slices of {self.name}. {ADVICE}")


def _steps(orientation: np.ndarray, spacing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """From a row to the next and from a column to the next, (3,) mm each, from DICOM's numbers."""
    return orientation[3:] * spacing[0], orientation[:3] * spacing[1]


def _corners(first: np.ndarray, down: np.ndarray, right: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Centers of the first pixel, the last one in its row, and the last one in its column, (3, 3) mm LPS."""
    return first + np.stack([0 * right, (shape[1] - 1) * right, (shape[0] - 1) * down])


def _described(shape: tuple[int, ...], corners: np.ndarray | None) -> str:
    points = () if corners is None else ("(" + ", ".join(f"{mm:.6g}" for mm in np.round(c, 3) + 0.0) + ")" for c in corners)
    return f"{shape[0]} x {shape[1]} pixels with corners {' '.join(points) or 'nowhere'} mm"


def _read_seg(path: Path, series: Series) -> dict[str, np.ndarray]:
    highdicom, grid = _extra("highdicom"), _Grid(series)
    with tolerant():
        try:
            seg = highdicom.seg.segread(path)
        except Exception as error:
            raise NotComparable(f"{path} is neither .nii or .nii.gz nor a DICOM SEG: {dicom.first_line(error)}") from error
        _check_origin(seg, series, path)
        masks = grid.place(_seg_planes(seg, names := _segment_names(seg), path), names.values(), path)
        step = abs(float(_group(seg, 0, "PixelMeasuresSequence").get("SpacingBetweenSlices") or "nan"))
    marked = np.flatnonzero(np.any([mask.any(axis=(1, 2)) for mask in masks.values()], axis=0))
    if not (np.diff(marked) == 1).any() and (len(marked) > 1 or step > 0):  # neighbours would show that the steps are equal
        grid.check_step(step, path)
    return masks


def _check_origin(seg: Dataset, series: Series, path: Path) -> None:
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID"):
        theirs, ours = seg.get(keyword), {instance.header.get(keyword) for instance in series.instances} - {None, ""}
        if theirs and len(ours) == 1 and theirs not in ours:  # anonymizing may have given each slice a frame of its own
            raise NotComparable(f"{path} has {keyword} {theirs}, expected {ours.pop()}: give a mask drawn on this scan")


def _segment_names(seg: Dataset) -> dict[int, str]:
    """Segment Number -> Segment Label, with the number where several have one label."""
    labels = {number: str(seg.get_segment_description(number).SegmentLabel) for number in seg.segment_numbers}
    several = {label for label in labels.values() if list(labels.values()).count(label) > 1}
    return {number: f"{label} ({number})" if label in several else label for number, label in labels.items()}


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
    return _corners(position, *_steps(orientation, spacing), shape) if known else None


def _group(seg: Dataset, index: int, keyword: str) -> Dataset:
    """A functional group of a frame, its own or that of all frames; empty if there is none."""
    holders = (seg.PerFrameFunctionalGroupsSequence[index], *seg.get("SharedFunctionalGroupsSequence", ()))
    return next((holder.get(keyword)[0] for holder in holders if holder.get(keyword)), Dataset())


def _read_nifti(path: Path, series: Series) -> dict[str, np.ndarray]:
    (values, affine), grid = _open_nifti(path), _Grid(series)
    orientations, of_series = _extra("nibabel").orientations, np.eye(4)
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
    nibabel = _extra("nibabel")
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
    if (rounded := _labels(labels)) is None:
        raise NotComparable(f"{path} holds fractions or numbers below 0, expected labels: choose a threshold, write it binary")
    return rounded.reshape(labels.shape[:3]), affine


def _labels(values: np.ndarray) -> np.ndarray | None:
    """Whole numbers >= 0 that values stand for; None if they are no labels, but probabilities, colours or not finite."""
    if values.dtype.kind not in "buif":
        return None
    rounded = np.rint(values)
    with np.errstate(invalid="ignore"):  # infinities
        labels = (np.abs(values - rounded) <= LABEL_TOLERANCE).all() and (rounded >= 0).all()
    return rounded if labels else None


def _nifti_planes(labels: np.ndarray, affine: np.ndarray, rois: dict[float, str]) -> Iterator[Plane]:
    step, down, right, first = affine[:3].T
    for number, plane in enumerate(labels):
        corners = _corners(first + number * step, down, right, plane.shape)
        yield from ((rois[value], plane == value, corners) for value in np.unique(plane) if value)
