"""The image of one section, painted shape over shape with anti-aliased edges."""

from __future__ import annotations

import cv2
import numpy as np

FIELD_OF_VIEW = 358.4
"""Side of a section, mm."""

CELLS = 256
"""Shapes are evaluated on CELLS x CELLS cells of 1.4 mm; they are smooth, so pixels are interpolated between cells."""

EDGE = 1.2
"""Width of the ramp from outside to inside at an edge, pixels."""

AIR = -1000.0
"""HU of air."""


class Canvas:
    """HU of one section, (pixels, pixels) float32; all air at first."""

    def __init__(self, pixels: int) -> None:
        if pixels < CELLS or pixels % CELLS:
            raise ValueError(f"pixels must be a multiple of {CELLS}, got {pixels}")
        self.pixels = pixels
        self.pitch = FIELD_OF_VIEW / pixels
        self.everywhere = self.window((slice(0, CELLS), slice(0, CELLS)))
        self.hu = np.full((pixels, pixels), AIR, np.float32)

    def paint(self, distance: np.ndarray, hu: float | np.ndarray, edge: float = 0.0) -> None:
        """Set the inside of a shape to `hu`.

        Args:
            distance: Signed distance on the cells, (CELLS, CELLS) mm.
            hu: One value, or an image of (pixels, pixels).
            edge: Width of the ramp in mm, if wider than that of a sharp edge.
        """
        found = self.coverage(distance, edge)
        if found is not None:
            self.blend(*found, hu[found[0]] if isinstance(hu, np.ndarray) else hu)

    def blend(self, window: tuple[slice, slice], cover: np.ndarray, hu: float | np.ndarray) -> None:
        """Mix `hu` (one value, or one per pixel of the window) into a window by the share `cover` of each pixel, 0 to 1."""
        target = self.hu[window]
        change = hu - target
        change *= cover
        target += change

    def coverage(self, distance: np.ndarray, edge: float = 0.0) -> tuple[tuple[slice, slice], np.ndarray] | None:
        """Window of pixels that a shape touches, and the share of each pixel inside it; None if it touches none."""
        edge = max(edge, EDGE * self.pitch)
        touched = distance < edge
        rows, columns = np.flatnonzero(touched.any(1)), np.flatnonzero(touched.any(0))
        if not len(rows):
            return None
        cells = slice(max(0, rows[0] - 2), rows[-1] + 3), slice(max(0, columns[0] - 2), columns[-1] + 3)
        cover = self.enlarge(0.5 - distance[cells] * np.float32(1 / edge))
        np.clip(cover, 0, 1, out=cover)
        return self.window(cells), cover

    def enlarge(self, field: np.ndarray) -> np.ndarray:
        """A field given on (a window of) the cells, at the pixels."""
        factor = self.pixels // CELLS
        size = field.shape[1] * factor, field.shape[0] * factor
        return cv2.resize(np.ascontiguousarray(field, np.float32), size, interpolation=cv2.INTER_LINEAR)

    def window(self, cells: tuple[slice, slice]) -> tuple[slice, slice]:
        """The pixels of a window of cells."""
        factor = self.pixels // CELLS
        rows, columns = (slice(s.start * factor, min(s.stop, CELLS) * factor) for s in cells)
        return rows, columns
