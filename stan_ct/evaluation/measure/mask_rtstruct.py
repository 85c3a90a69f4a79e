"""Regions of interest of an RT Structure Set (RTSTRUCT): contours in the planes of slices -> the voxels that they enclose."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from skimage.draw import polygon2mask

from stan_ct.dicom import header as dicom
from stan_ct.dicom.series import SeriesFiles
from stan_ct.dicom.tolerance import tolerant
from stan_ct.errors import NotComparable
from stan_ct.evaluation.measure.mask_grid import ADVICE, Grid, Plane, Roi, check_scan, corners_of, numbered_names

RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"
"""SOP Class: RT Structure Set Storage."""

CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
"""Contour Geometric Types (3006,0042) that enclose voxels; points and open lines do not."""

VERTEX_DECIMALS = 6
"""Vertices are rounded to this many decimals of a pixel, so that those on pixel centres do not lie beside them by rounding."""


def read_rtstruct(path: Path, files: SeriesFiles) -> dict[str, Roi]:
    """ROI Name -> ROI, as :func:`~stan_ct.evaluation.measure.masks.read_rois`.

    A voxel is in a ROI if its centre is in an odd number of its contours in that plane: a contour in another is a hole.

    Raises:
        NotComparable: If the file is damaged, of another scan, or a contour lies in the plane of no slice.
    """
    grid = Grid(files)
    with tolerant():
        try:
            structures = pydicom.dcmread(path)
            names = {int(roi.ROINumber): str(roi.get("ROIName") or "ROI") for roi in structures.StructureSetROISequence}
            frames = {str(roi.get("ReferencedFrameOfReferenceUID") or "") for roi in structures.StructureSetROISequence} - {""}
            study = str(structures.get("StudyInstanceUID") or "")
            polygons = {number: list(_polygons(structures, number)) for number in names}
        except Exception as error:  # pydicom raises whatever it meets in a damaged file
            raise NotComparable(f"{path} cannot be read as RTSTRUCT: {dicom.first_line(error)}") from error
    check_scan(study, frames, files, path)
    titles = numbered_names(names)
    planes = (plane for number, found in polygons.items() for plane in _planes(titles[number], found, grid, path))
    rois = grid.place(planes, titles.values(), path)
    grid.check_neighbours(rois.values(), None, path)
    return rois


def _polygons(structures: Dataset, number: int) -> Iterator[np.ndarray]:
    """The closed contours of a ROI, (points, 3) mm each."""
    for roi in structures.get("ROIContourSequence") or ():
        if int(roi.ReferencedROINumber) == number:
            for contour in roi.get("ContourSequence") or ():
                if contour.get("ContourGeometricType") in CLOSED:
                    points = np.array(contour.ContourData, np.float64).reshape(-1, 3)
                    if not np.isfinite(points).all():
                        raise ValueError("a contour has points that are not finite")
                    yield points


def _planes(name: str, polygons: Sequence[np.ndarray], grid: Grid, path: Path) -> Iterator[Plane]:
    """The voxels of one ROI, plane by plane."""
    planes: dict[tuple[float, ...], np.ndarray] = {}
    for points in polygons:
        origin = grid.origin_of(points)
        if origin is None:
            distance = np.abs(points @ grid.axes[2] - grid.locations[:, None]).max(axis=1).min()
            raise NotComparable(
                f"{path} has a contour of {name!r} {distance:.4g} mm from the plane of the nearest slice of {grid.name}, "
                f"expected in the plane of one. {ADVICE}"
            )
        key = tuple(origin.tolist())
        planes[key] = planes.get(key, False) ^ rasterize(points, origin, grid)
    yield from ((name, mask, corners_of(np.array(key), *grid.pixel_steps, mask.shape)) for key, mask in planes.items())


def rasterize(points: np.ndarray, origin: np.ndarray, grid: Grid) -> np.ndarray:
    """Pixels whose centre is in a polygon.

    Args:
        points: Vertices in the plane of a slice, (points, 3) mm.
        origin: Centre of the first pixel of that slice, (3,) mm.
        grid: Pixel grid of the series.
    Returns:
        (H, W) bool.
    """
    to_pixels = np.stack([step / (step @ step) for step in grid.pixel_steps], axis=1)  # (3, 2): rows, columns
    return polygon2mask(grid.shape[1:], np.round((points - origin) @ to_pixels, VERTEX_DECIMALS))
