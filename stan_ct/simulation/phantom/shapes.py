"""Shapes of one axial section as signed distances in mm: negative inside, positive outside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.interpolate import PchipInterpolator

FAR = 60.0
"""Distance that stands for "far outside" where a shape was not evaluated, mm."""


@dataclass(frozen=True)
class Grid:
    """Positions of the pixels of one section in the body.

    Attributes:
        x: (n, n) float32, mm, positive towards the patient's left.
        y: (n, n) float32, mm, positive towards the back.
        z: Level, mm, positive towards the head.
        pitch: Distance between neighbouring pixels, mm.
    """

    x: np.ndarray
    y: np.ndarray
    z: float
    pitch: float


class Curve:
    """A smooth function of z through keyframes, constant beyond the first and last one."""

    def __init__(self, levels: Sequence[float], values: Sequence[float]) -> None:
        self._range = levels[0], levels[-1]
        self._curve = PchipInterpolator(levels, values)

    def __call__(self, z: float) -> float:
        """Value at `z`, a plain float (so that float32 images stay float32)."""
        return float(self._curve(min(max(z, self._range[0]), self._range[1])))


def ellipsoid(grid: Grid, centre: Sequence[float], radii: Sequence[float], angle: float = 0.0) -> np.ndarray:
    """Distance to an ellipsoid turned by `angle` in the axial plane; to first order, exact for a sphere.

    Args:
        grid: Pixels of the section.
        centre: (x, y, z) mm; (x, y) for a cylinder along z.
        radii: As many as `centre`.
        angle: From x towards y, rad.
    Returns:
        (n, n) float32, mm.
    """
    x, y = grid.x - float(centre[0]), grid.y - float(centre[1])
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    u, v = (x * cos + y * sin) / float(radii[0]), (y * cos - x * sin) / float(radii[1])
    w = (grid.z - float(centre[2])) / float(radii[2]) if len(centre) > 2 else 0.0
    steepness = (u / float(radii[0])) ** 2 + (v / float(radii[1])) ** 2
    if len(centre) > 2:
        steepness += (w / float(radii[2])) ** 2
    level = np.sqrt(u * u + v * v + w * w)
    return level * (level - 1) / np.sqrt(steepness + 1e-9)


def capsule(grid: Grid, start: Sequence[float], end: Sequence[float], radii: Sequence[float]) -> np.ndarray:
    """Distance to a rod in the section whose radius goes from `radii[0]` at `start` to `radii[1]` at `end`."""
    x, y = grid.x - float(start[0]), grid.y - float(start[1])
    dx, dy = float(end[0] - start[0]), float(end[1] - start[1])
    along = np.clip((x * dx + y * dy) / (dx * dx + dy * dy + 1e-6), 0, 1)
    return np.hypot(x - along * dx, y - along * dy) - (float(radii[0]) + along * float(radii[1] - radii[0]))


def merge(distances: Sequence[np.ndarray], width: float) -> np.ndarray:
    """Union with fillets of about `width` mm, -w log sum exp(-d / w)."""
    total = sum(np.exp(np.clip(distance, -FAR, FAR) * (-1 / width)) for distance in distances)
    return -width * np.log(total)


def as_distance(level: np.ndarray, pitch: float) -> np.ndarray:
    """Turn any smooth function that is 0 on the edge into a distance, f / |grad f|, within FAR."""
    down, right = np.gradient(level, pitch)
    return np.clip(level / np.sqrt(down * down + right * right + 1e-8), -FAR, FAR)


def window(angle: np.ndarray, start: float, stop: float, soft: float = 0.25) -> np.ndarray:
    """1 between `start` and `stop`, falling to 0 towards both over `soft` rad."""
    return np.clip(np.minimum(angle - start, stop - angle) / soft, 0, 1)


class Tube:
    """A vessel or airway along a smooth line in space."""

    def __init__(self, points: ArrayLike, step: float = 4.0) -> None:
        """Lay a smooth line through `points`, (n, 4): x, y, z and radius in mm."""
        nodes = np.asarray(points, float)
        arc = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(nodes[:, :3], axis=0), axis=1))])
        fine = np.linspace(0, arc[-1], max(2, int(arc[-1] / step)))
        self.line = PchipInterpolator(arc, nodes)(fine).astype(np.float32)  # (m, 4)

    def __call__(self, grid: Grid, margin: float = 14.0) -> np.ndarray | None:
        """Distance on the section, FAR where farther than `margin`; None if the tube is that far from the section."""
        start, end = self.line[:-1], self.line[1:]
        reach = np.maximum(start[:, 3], end[:, 3]) + margin
        near = (np.minimum(start[:, 2], end[:, 2]) - reach < grid.z) & (np.maximum(start[:, 2], end[:, 2]) + reach > grid.z)
        if not near.any():
            return None
        distance = np.full(grid.x.shape, FAR, np.float32)
        box = _box(grid, start[near], end[near], float(reach[near].max()))
        if box is not None:
            distance[box] = _to_rods(grid.x[box], grid.y[box], grid.z, start[near], end[near])
        return distance


def _box(grid: Grid, start: np.ndarray, end: np.ndarray, reach: float) -> tuple[slice, slice] | None:
    """Window of the section that holds all pixels within `reach` of the rods."""
    low, high = np.minimum(start, end).min(0) - reach, np.maximum(start, end).max(0) + reach
    columns = np.flatnonzero(((grid.x > low[0]) & (grid.x < high[0])).any(0))
    rows = np.flatnonzero(((grid.y > low[1]) & (grid.y < high[1])).any(1))
    if not (len(rows) and len(columns)):
        return None
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _to_rods(x: np.ndarray, y: np.ndarray, z: float, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Distance of the points (x, y, z) to the nearest of several tapered rods in space."""
    best = np.full(x.shape, FAR, np.float32)
    for (x0, y0, z0, r0), (dx, dy, dz, dr) in zip(start.tolist(), (end - start).tolist(), strict=True):
        px, py, pz = x - x0, y - y0, z - z0
        along = np.clip((px * dx + py * dy + pz * dz) / (dx * dx + dy * dy + dz * dz + 1e-6), 0, 1)
        gap = np.sqrt((px - along * dx) ** 2 + (py - along * dy) ** 2 + (pz - along * dz) ** 2)
        np.minimum(best, gap - (r0 + along * dr), out=best)
    return best
