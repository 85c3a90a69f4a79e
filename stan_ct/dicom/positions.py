"""Which slices lie in the same place: the one rule for pairing, evaluation and masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stan_ct.dicom import header as dicom
from stan_ct.dicom.series import Instance

POSITION_TOLERANCE = 0.1
"""Largest distance between two points in the same place, mm.

Headers that were rounded to tenths of a millimetre move a point by up to 0.087 mm (0.05 mm along each axis), which passes.
CT pixels are 0.3 mm wide or more and slices 0.5 mm apart or more, so the neighbour of either never does.
"""

SPACING_TOLERANCE = 1e-5
"""Largest difference in pixel spacing on the same grid, mm: 0.005 mm over 512 pixels."""

DIRECTION_TOLERANCE = 1e-3
"""Largest difference in a direction cosine on the same grid: headers round it to three decimals or more."""


def same_position(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Whether points in space coincide within `POSITION_TOLERANCE`.

    Args:
        points: (..., 3) mm.
        others: (..., 3) mm; both broadcast.
    Returns:
        (...) bool; False where a coordinate is NaN.
    """
    return np.linalg.norm(np.asarray(points) - np.asarray(others), axis=-1) <= POSITION_TOLERANCE


class SlicePositions:
    """Slices that are found by where they lie.

    Args:
        instances: Slices of any series in one coordinate system (one Frame of Reference).
    """

    def __init__(self, instances: Sequence[Instance]) -> None:
        self._geometry = np.array([_geometry(instance) for instance in instances]).reshape(-1, 13)

    def at(self, instance: Instance) -> np.ndarray:
        """Slices on the same pixel grid and in the same place as a slice.

        Args:
            instance: The slice; of these or of another series.
        Returns:
            (n,) int, indices of the slices with its matrix, pixel spacing, direction cosines and position, ascending.
        """
        position, direction, spacing, matrix = np.split(self._geometry, [3, 9, 11], axis=1)
        own_position, own_direction, own_spacing, own_matrix = np.split(_geometry(instance), [3, 9, 11])
        found = same_position(position, own_position) & (matrix == own_matrix).all(axis=1)
        found &= (np.abs(direction - own_direction) <= DIRECTION_TOLERANCE).all(axis=1)
        return np.flatnonzero(found & (np.abs(spacing - own_spacing) <= SPACING_TOLERANCE).all(axis=1))


def _geometry(instance: Instance) -> np.ndarray:
    """(13,) float64: position mm, direction cosines of row and column, pixel spacing mm, rows and columns."""
    header = instance.header
    vectors = [dicom.vector(header, k) for k in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")]
    return np.concatenate([*vectors, [header.Rows, header.Columns]])
