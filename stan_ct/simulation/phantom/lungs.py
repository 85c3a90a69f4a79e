"""The chest cavity, the diaphragm and the lungs within it: shape and parenchyma."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import map_coordinates

from stan_ct.simulation.phantom.anatomy import CAVITY_BACK, CAVITY_FRONT, CAVITY_HALF_WIDTH, Anatomy
from stan_ct.simulation.phantom.canvas import FIELD_OF_VIEW
from stan_ct.simulation.phantom.shapes import Curve, Grid, ellipsoid, merge

MAP_LEVELS = np.arange(-150.0, 121.0, 5.0)
MAP_CELLS = 64

LEVELS = (-20, 20, 50, 75, 100, 120)
CLOSING = Curve(LEVELS, (0, 0, 0, 1.5, 14, 40))
"""Inward shift of the walls of the cavity above the apex, mm."""
BRIDGE = Curve(LEVELS, (0, 2, 10, 22, 30, 30))
"""Inward shift of the middle of the cavity, between the lungs, mm."""


class LungMap:
    """A coarse map of the lungs of one patient, by which vessels and nodules are placed.

    `distance` is (levels, n, n): distance to the lungs on cells of FIELD_OF_VIEW / n, at MAP_LEVELS.
    """

    def __init__(self, distance: np.ndarray) -> None:
        self._distance = distance

    def depth(self, points: np.ndarray) -> np.ndarray:
        """Distance of points (n, 3) in the scanner from the surface of the lungs, mm, positive inside."""
        cells = self._distance.shape[1]
        step = [MAP_LEVELS[1] - MAP_LEVELS[0], FIELD_OF_VIEW / cells, FIELD_OF_VIEW / cells]
        index = (points[:, ::-1] - [MAP_LEVELS[0], 0, 0]) / step + [0, (cells - 1) / 2, (cells - 1) / 2]
        return -map_coordinates(self._distance, index.T, order=1, mode="nearest")


def cavity(grid: Grid) -> np.ndarray:
    """Distance to the pleura: two lobes beside the spine and the space between them."""
    half_width, front, back = CAVITY_HALF_WIDTH(grid.z), CAVITY_FRONT(grid.z), CAVITY_BACK(grid.z)
    middle, half = (front + back) / 2, (back - front) / 2
    shapes = [ellipsoid(grid, (0, middle - 6), (0.97 * half_width, 0.86 * half)) + BRIDGE(grid.z)]
    shapes += [ellipsoid(grid, (s * 0.42 * half_width, middle), (0.57 * half_width, half)) for s in (-1, 1)]
    return merge(shapes, 4.0) + 2.0 + CLOSING(grid.z)


def domes(grid: Grid, anatomy: Anatomy) -> tuple[np.ndarray, np.ndarray]:
    """Distances to what the right and left dome of the diaphragm cover: liver, and stomach with spleen."""
    right = anatomy.build.diaphragm / anatomy.build.height
    left = right - 10 - 6 * anatomy.vary("left dome")
    liver = ellipsoid(grid, (-52, -8, right - 85), (82, 92, 85), 0.15)
    spleen = ellipsoid(grid, (62, 8, left - 80), (66, 84, 80), -0.15)
    return liver, spleen


def parenchyma(
    anatomy: Anatomy, y: np.ndarray, depth: np.ndarray, cloud: np.ndarray, septa: np.ndarray, fine: np.ndarray
) -> np.ndarray:
    """HU of the lung before vessels.

    Args:
        anatomy: The patient.
        y: Position from front to back, mm.
        depth: Distance below the pleura, mm, positive inside.
        cloud: Texture, see `texture.Planes`, as are the next two.
        septa: Texture.
        fine: Texture.
    Returns:
        HU, same shape as the textures.
    """
    build = anatomy.build
    hu = build.lung - 18 + (build.gravity / 100) * y
    hu += (18 + 5 * anatomy.vary("clouds")) * cloud
    hu += (33 + 9 * anatomy.vary("grain")) * (fine + 0.42 * np.maximum(fine, 0) ** 2)
    sheet = np.clip(1.2 - np.abs(septa) * 14, 0, 1)  # septa are where the field crosses zero
    hu += sheet * np.clip(25 + 32 * cloud, 0, 90)
    hu += 28 * np.exp(np.clip(depth, 0, 60) * (-1 / 6))
    if build.emphysema:
        holes = np.clip((septa + 0.5 * cloud - 1.4 + 0.9 * build.emphysema) * 4, 0, 1)
        hu -= (40 + 90 * build.emphysema) * holes
    return np.clip(hu, -995, -300, out=hu)


def fissures(anatomy: Anatomy, grid: Grid) -> list[tuple[np.ndarray, np.ndarray]]:
    """The major fissure of each lung and the minor fissure of the right one.

    Returns:
        For each the distance to either side of the sheet, which crosses 0, and the distance to the part of the chest it
        runs through, negative inside.
    """
    wave = 5 * np.sin(grid.x * 0.045 + 3 * anatomy.vary("fissure waves")) + 2 * np.sin(grid.y * 0.06 + grid.z * 0.04)
    major = {
        side: grid.y - 52 - 6 * anatomy.vary(f"fissure {side}") - 1.05 * (grid.z - 5) - 0.1 * np.abs(grid.x) + wave
        for side in (-1, 1)
    }
    minor = grid.z + 32 + 5 * anatomy.vary("minor fissure") + 0.12 * (np.abs(grid.x) - 60) + 0.1 * (grid.y + 40) + wave
    sheets = [(0.69 * major[side], -side * grid.x) for side in (-1, 1)]  # 0.69: they slope
    return [*sheets, (0.95 * minor, np.maximum(grid.x, major[-1]))]
