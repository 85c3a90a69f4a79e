"""Bounds on the output: what a change of kernel can make of the source around a pixel, and no more."""

from __future__ import annotations

import cv2
import numpy as np

from stan_ct.ct.hounsfield import AIR
from stan_ct.reconstruction.checks import Finding

REACH = 3.0
"""Radius of the neighbourhood whose lowest and highest source value bound a pixel, mm."""
DETAIL = 300.0
"""Range of source values in a neighbourhood, HU, up to which it is texture and small structures, which kernels enlarge most."""
NOISE_ROOM, DETAIL_GAIN, EDGE_GAIN, MOST = 150.0, 3.0, 1.8, 2300.0
"""Overshoot beyond the neighbourhood's lowest and highest source value that a kernel may make: `NOISE_ROOM` HU in any case,
`DETAIL_GAIN` times the range up to `DETAIL`, `EDGE_GAIN` times what is above it, `MOST` HU at the most. Just above what the
sharpest real target at hand does to its source (Philips kernels B and L: 2,053 HU at a range of 800 to 1,200)."""


TOLERATED = 100.0
"""Largest excess over a bound, HU, that is cut off without a finding."""


def plausible_range(source: np.ndarray, pixel_spacing: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest HU that a kernel can make of each pixel.

    Args:
        source: (H, W) HU, continued beyond the field of view.
        pixel_spacing: (row, column), mm.
    Returns:
        Two arrays (H, W) float32, HU; the source lies between them.
    """
    size = [2 * max(1, round(REACH / spacing)) + 1 for spacing in pixel_spacing]
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size[1], size[0]))
    image = np.ascontiguousarray(source, np.float32)
    low, high = cv2.erode(image, disk), cv2.dilate(image, disk)
    extent = high - low
    room = NOISE_ROOM + DETAIL_GAIN * np.minimum(extent, DETAIL) + EDGE_GAIN * np.maximum(extent - DETAIL, 0)
    room = np.minimum(room, MOST)
    return low - room, high + room


def bound(
    hu: np.ndarray, source: np.ndarray, outside: np.ndarray, pixel_spacing: tuple[float, float]
) -> tuple[np.ndarray, Finding | None]:
    """Bounds a standardized slice to what a change of kernel can make of its source.

    Args:
        hu: Standardized slice, (H, W) float32 HU.
        source: Source, continued beyond the field of view, (H, W) HU.
        outside: Pixels outside the field of view, (H, W) bool; they are not touched.
        pixel_spacing: (row, column), mm.
    Returns:
        The bounded slice, and `implausible_hu` if a pixel lay more than `TOLERATED` HU beyond its bound.
    """
    low, high = plausible_range(np.maximum(source, AIR), pixel_spacing)
    excess = np.where(outside, 0, np.maximum(hu - high, low - np.maximum(hu, AIR)))  # below air is cut off in any case
    if not (excess > 0).any():
        return hu, None
    bounded = np.where(excess > 0, np.clip(hu, low, high), hu).astype(np.float32)
    worst = float(excess.max())
    found = Finding("implausible_hu", round(worst, 1), TOLERATED, f"{int((excess > TOLERATED).sum())} pixels")
    return bounded, found if worst > TOLERATED else None
