"""Vessels and bronchi on a section: tapered rods in space, drawn in batches of similar size."""

from __future__ import annotations

import numpy as np

from stan_ct.simulation.phantom.canvas import EDGE, FIELD_OF_VIEW, Canvas


class Rods:
    """Many tapered rods, of which a section meets a few."""

    def __init__(self, rods: np.ndarray) -> None:
        """Keep `rods`, (n, 8) float32: x, y, z, radius of both ends, mm in the scanner."""
        self.rods = rods
        reach = np.maximum(rods[:, 3], rods[:, 7]) + 1.0
        self._low = np.minimum(rods[:, 2], rods[:, 6]) - reach
        self._high = np.maximum(rods[:, 2], rods[:, 6]) + reach

    def at(self, z: float) -> np.ndarray:
        """The parts of the rods that a section at `z` can meet, (m, 8)."""
        rods = self.rods[(self._low < z) & (self._high > z)]
        reach = np.maximum(rods[:, 3], rods[:, 7]) + 1.0
        rise = rods[:, 6] - rods[:, 2]
        rise = np.where(np.abs(rise) < 1e-3, 1e-3, rise)
        ends = np.sort([(z - reach - rods[:, 2]) / rise, (z + reach - rods[:, 2]) / rise], axis=0)
        first, last = np.clip(ends, 0, 1).astype(np.float32)[..., None]
        start, step = rods[:, :4], rods[:, 4:] - rods[:, :4]
        return np.concatenate([start + first * step, start + last * step], 1)


def render(canvas: Canvas, rods: np.ndarray, z: float, grow_by: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """Share of each pixel covered by the rods, (pixels, pixels) float32.

    Args:
        canvas: Gives the pixels.
        rods: (m, 8), see `Rods.at`.
        z: Level of the section.
        grow_by: Constant (mm) and share of the radius by which radii are enlarged, for walls.
    """
    cover = np.zeros((canvas.pixels, canvas.pixels), np.float32)
    edge = max(EDGE * canvas.pitch, 0.6)
    rods = rods.copy()
    rods[:, 3::4] += grow_by[0] + grow_by[1] * rods[:, 3::4]
    middle = (rods[:, :2] + rods[:, 4:6]) / 2
    half = np.abs(rods[:, :2] - rods[:, 4:6]).max(1) / 2 + np.maximum(rods[:, 3], rods[:, 7]) + edge
    side = np.maximum(4, 2 ** np.ceil(np.log2(2 * half / canvas.pitch + 2))).astype(int)  # pixels, a power of two
    corner = np.round((middle + FIELD_OF_VIEW / 2) / canvas.pitch - side[:, None] / 2).astype(int)
    for size in np.unique(side):
        chosen = np.flatnonzero(side == size)
        for part in np.array_split(chosen, max(1, len(chosen) * size * size // 200_000)):
            _stamp(cover, _windows(rods[part], corner[part], int(size), z, canvas.pitch, edge), corner[part])
    return cover


def _windows(rods: np.ndarray, corner: np.ndarray, size: int, z: float, pitch: float, edge: float) -> np.ndarray:
    """Coverage by each rod in its own window, (m, size, size)."""
    offset = (np.arange(size) + 0.5) * pitch - FIELD_OF_VIEW / 2
    x = (corner[:, :1] * pitch + offset).astype(np.float32)[:, None, :]
    y = (corner[:, 1:] * pitch + offset).astype(np.float32)[:, :, None]
    x0, y0, z0, r0, x1, y1, z1, r1 = (column[:, None, None] for column in rods.T)
    dx, dy, dz = x1 - x0, y1 - y0, z1 - z0
    px, py, pz = x - x0, y - y0, np.float32(z) - z0
    along = np.clip((px * dx + py * dy + pz * dz) / (dx * dx + dy * dy + dz * dz + np.float32(1e-6)), 0, 1)
    gap = np.sqrt((px - along * dx) ** 2 + (py - along * dy) ** 2 + (pz - along * dz) ** 2)
    return np.clip(0.5 - (gap - r0 - along * (r1 - r0)) * np.float32(1 / edge), 0, 1)


def _stamp(cover: np.ndarray, windows: np.ndarray, corner: np.ndarray) -> None:
    """Keep the largest coverage where windows overlap; what lies outside the image is cut."""
    size, pixels = windows.shape[1], len(cover)
    for (column, row), window in zip(corner.tolist(), windows, strict=True):
        top, left = max(row, 0), max(column, 0)
        bottom, right = min(row + size, pixels), min(column + size, pixels)
        if top < bottom and left < right:
            target = cover[top:bottom, left:right]
            np.maximum(target, window[top - row : bottom - row, left - column : right - column], out=target)
