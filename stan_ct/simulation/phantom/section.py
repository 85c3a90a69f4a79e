"""Geometry that all shapes of one section share: coordinates, skin, pleura and direction."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from stan_ct.simulation.phantom.shapes import Grid


@dataclass
class Section:
    """One axial section.

    Attributes:
        z: Level in the scanner, mm.
        grid: Reference coordinates of the cells.
        skin: Distance to the skin, (n, n) float32 mm, negative inside, as are the next two.
        pleura: Distance to the wall of the chest cavity.
        lung: Distance to the lungs.
    """

    z: float
    grid: Grid
    skin: np.ndarray
    pleura: np.ndarray
    lung: np.ndarray

    @cached_property
    def angle(self) -> np.ndarray:
        """Direction seen from the middle of the chest: 0 to the spine, pi / 2 to either side, pi to the sternum."""
        return np.arctan2(np.abs(self.grid.x), self.grid.y - 2)
