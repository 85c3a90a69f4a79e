"""Pixel grid of a series in space, and the regions of interest (ROI) that are drawn on it, plane by plane.

DICOM counts millimetres to the patient's left, posterior and head (LPS), and so does this module.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np

from stan_ct.dicom import header as dicom
from stan_ct.dicom.positions import POSITION_TOLERANCE, same_position
from stan_ct.dicom.series import SeriesFiles
from stan_ct.dicom.tolerance import tolerant
from stan_ct.errors import NotComparable

ADVICE = "Masks are not resampled: draw it on this series, or resample it to its grid yourself and look at it"

Plane = tuple[str, np.ndarray, np.ndarray | None]
"""One plane of one ROI: its name, (H, W) bool, and the corners of the plane (`corners_of`), None if the file has no place."""


@dataclass(frozen=True)
class Roi:
    """A region of interest in a series.

    Attributes:
        mask: (Z, H, W) bool, True in the ROI.
        elsewhere: Location along the normal, mm -> number of voxels drawn there, where the series lacks a slice of its grid.
    """

    mask: np.ndarray
    elsewhere: Mapping[float, int] = field(default_factory=dict)

    @property
    def drawn(self) -> int:
        """Number of voxels, those on slices that the series lacks included."""
        return int(self.mask.sum()) + sum(self.elsewhere.values())


class Grid:
    """Pixel grid of a series in space.

    Attributes:
        shape: (Z, H, W).
        name: Name of the series, for messages.
        axes: Directions of rows, columns and normal, (3, 3), unit vectors.
        corners: Corners of each slice (`corners_of`), (Z, 3, 3) mm.
        locations: Location of each slice along the normal, (Z,) mm.
        step: Distance of neighbouring slices along the normal, mm; NaN of a single slice.
    """

    def __init__(self, files: SeriesFiles) -> None:
        self.shape, self.name = files.shape, f"series {files.uid}"
        orientation = dicom.vector(files.first, "ImageOrientationPatient")
        self.axes = np.stack([orientation[:3], orientation[3:], np.cross(orientation[:3], orientation[3:])])
        self.pixel_steps = pixel_steps(orientation, np.array(files.pixel_spacing))
        self.corners = np.stack([corners_of(i.position, *self.pixel_steps, self.shape[1:]) for i in files.instances])
        self.locations = np.array([instance.location for instance in files.instances])
        self.step = step_of(self.locations)

    def place(self, planes: Iterable[Plane], rois: Iterable[str], path: Path) -> dict[str, Roi]:
        """Draws planes on the slices.

        Args:
            planes: Planes of ROIs; those without a marked pixel are ignored.
            rois: Names of all ROIs.
            path: File that they are of, for messages.
        Raises:
            NotComparable: If a plane lies in the place of no slice, nor of one that the series lacks among or beside its own.
        """
        masks = {roi: np.zeros(self.shape, bool) for roi in rois}
        elsewhere: dict[str, dict[float, np.ndarray]] = {roi: {} for roi in masks}
        for roi, pixels, corners in planes:
            if not pixels.any():
                continue
            if (z := self._slice_at(corners, pixels.shape)) is not None:
                masks[roi][z] |= pixels
            elif (location := self._gap_at(corners, pixels.shape)) is not None:
                elsewhere[roi][location] = elsewhere[roi].get(location, False) | pixels
            else:
                raise self._refusal(_described(pixels.shape, corners), path)
        gaps = [location for places in elsewhere.values() for location in places]
        if gaps and not any(mask.any() for mask in masks.values()) and not any(map(self._spans, gaps)):
            raise self._refusal(f"planes at {gaps[0]:.6g} mm along the normal", path)
        counts = {roi: {location: int(p.sum()) for location, p in places.items()} for roi, places in elsewhere.items()}
        return {roi: Roi(mask, counts[roi]) for roi, mask in masks.items()}

    def _slice_at(self, corners: np.ndarray | None, shape: tuple[int, ...]) -> int | None:
        """Index of the slice with these corners, None if there is none."""
        if shape != self.shape[1:] or corners is None:
            return None
        fits = np.flatnonzero(same_position(corners, self.corners).all(axis=1))
        return int(fits[0]) if fits.size == 1 else None

    def _gap_at(self, corners: np.ndarray | None, shape: tuple[int, ...]) -> float | None:
        """Location, mm, if a slice with these corners would continue the grid: whole steps from the nearest slice."""
        if shape != self.shape[1:] or corners is None:
            return None
        location = float(corners[0] @ self.axes[2])
        nearest, steps = self._steps_to(location)
        continues = steps != 0 and same_position(corners, self.corners[nearest] + steps * self._one_step).all()
        return round(location, 3) if continues else None

    def origin_of(self, points: np.ndarray) -> np.ndarray | None:
        """Centre of the first pixel of the slice in whose plane points lie, or would lie if the series did not lack it.

        Args:
            points: (n, 3) mm.
        Returns:
            (3,) mm; None if they lie in no such plane.
        """
        nearest, steps = self._steps_to(float(np.median(points @ self.axes[2])))
        origin = self.corners[nearest, 0] + steps * self._one_step
        return origin if (np.abs((points - origin) @ self.axes[2]) <= POSITION_TOLERANCE).all() else None

    def _steps_to(self, location: float) -> tuple[int, int]:
        """The nearest slice, and how many steps lie from there to a location; 0 of a single slice."""
        nearest = int(np.abs(self.locations - location).argmin())
        return nearest, 0 if np.isnan(self.step) else round((location - self.locations[nearest]) / self.step)

    @property
    def _one_step(self) -> np.ndarray:
        """From a slice to the next, (3,) mm."""
        if np.isnan(self.step):
            return np.zeros(3)
        return (self.corners[-1, 0] - self.corners[0, 0]) * self.step / (self.locations[-1] - self.locations[0])

    def _spans(self, location: float) -> bool:
        return bool(self.locations[0] < location < self.locations[-1])

    def _refusal(self, came: str, path: Path) -> NotComparable:
        ends = f"{_described(self.shape[1:], self.corners[0])} to {_described(self.shape[1:], self.corners[-1])}"
        return NotComparable(
            f"{path} is not on the grid of {self.name}. Expected: marked planes in the places of its {len(self.corners)} "
            f"slices, {ends}. Came: {came}, in the place of 0. {ADVICE}"
        )

    def check_step(self, step: float, path: Path) -> None:
        """Refuses planes (`step` mm apart, NaN if that is not known) that do not follow each other as the slices do."""
        if len(self.corners) > 1 and not abs(step - self.step) <= POSITION_TOLERANCE:
            came = f"planes {step:.4g} mm apart (nan: it does not say)"
            raise NotComparable(f"{path} has {came}, expected {self.step:.4g} mm as the slices of {self.name}. {ADVICE}")

    def check_neighbours(self, rois: Collection[Roi], step: float | None, path: Path) -> None:
        """Refuses planes as :meth:`check_step`, unless marked neighbours show that they follow each other as the slices do.

        Args:
            rois: The ROIs of a file.
            step: Distance of its planes that the file states, mm; NaN if it should and does not, None if it never does.
            path: The file.
        """
        slices = np.any([roi.mask.any(axis=(1, 2)) for roi in rois], axis=0)
        marked = sorted({*self.locations[slices].tolist(), *(location for roi in rois for location in roi.elsewhere)})
        steps = np.diff(marked)
        if (steps <= self.step + POSITION_TOLERANCE).any():
            return
        if step is None:
            if not len(steps) or np.ptp(steps) > POSITION_TOLERANCE:  # single slices here and there, not every second one
                return
            step = float(steps[0])
        if len(marked) > 1 or step > 0:
            self.check_step(step, path)


def step_of(locations: np.ndarray) -> float:
    """Distance of neighbouring slices of a series that may lack some.

    Args:
        locations: Locations along the normal, (Z,) mm, ascending.
    Returns:
        The smallest distance, if all others are whole multiples of it within `POSITION_TOLERANCE`; else the median distance,
        mm; NaN of a single slice.
    """
    if len(locations) < 2:
        return np.nan
    steps = np.diff(locations)
    step = np.median(steps[steps <= steps.min() + POSITION_TOLERANCE])
    multiples = np.abs(steps - np.round(steps / step) * step) <= POSITION_TOLERANCE
    return float(step if multiples.all() else np.median(steps))


def pixel_steps(orientation: np.ndarray, spacing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """From a row to the next and from a column to the next, (3,) mm each, from DICOM's numbers."""
    return orientation[3:] * spacing[0], orientation[:3] * spacing[1]


def corners_of(first: np.ndarray, down: np.ndarray, right: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Centers of the first pixel, the last one in its row, and the last one in its column, (3, 3) mm."""
    return first + np.stack([0 * right, (shape[1] - 1) * right, (shape[0] - 1) * down])


def _described(shape: tuple[int, ...], corners: np.ndarray | None) -> str:
    points = () if corners is None else ("(" + ", ".join(f"{mm:.6g}" for mm in np.round(c, 3) + 0.0) + ")" for c in corners)
    return f"{shape[0]} x {shape[1]} pixels with corners {' '.join(points) or 'nowhere'} mm"


def extra(name: str) -> ModuleType:
    """highdicom or nibabel, which are loaded when they are needed.

    Raises:
        NotComparable: If it is not installed.
    """
    try:
        with tolerant():
            return import_module(name)
    except ImportError as error:
        raise NotComparable(f"reading masks needs {name}: pip install 'stan-ct[masks]'") from error


def check_scan(study: str, frames: set[str], files: SeriesFiles, path: Path) -> None:
    """Refuses a mask of another scan than the series.

    Args:
        study: Study Instance UID of the mask.
        frames: Frame of Reference UIDs of the mask.
        files: The slices of the series; anonymizing may have given each a frame of its own, which then say nothing.
        path: File of the mask, for the message.
    Raises:
        NotComparable: If study or frame differ, where both state it.
    """
    frames_here = {str(instance.header.get("FrameOfReferenceUID") or "") for instance in files.instances} - {""}
    stated = [("StudyInstanceUID", {study} - {""}, {files.study_uid})]
    stated += [("FrameOfReferenceUID", frames, frames_here)] if len(frames_here) == 1 else []
    for keyword, theirs, ours in stated:
        if theirs and not theirs & ours:
            raise NotComparable(
                f"{path} has {keyword} {', '.join(sorted(theirs))}, expected {min(ours)}: give a mask drawn on this scan"
            )


def numbered_names(names: Mapping[int, str]) -> dict[int, str]:
    """Number -> name of a ROI, with the number where several have one name."""
    counts = Counter(names.values())
    return {number: f"{name} ({number})" if counts[name] > 1 else name for number, name in names.items()}
