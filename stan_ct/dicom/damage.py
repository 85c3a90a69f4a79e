"""Signs that pixels were damaged on the way: values that no scanner's reconstruction leaves in a slice."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from stan_ct.ct.field_of_view import outside_field_of_view
from stan_ct.dicom.plausibility import GAP

ISOLATED = 5.0
"""From this multiple of the slice's own scatter on, a pixel beyond all its neighbours is damaged. Those of 700 real slices stay
below 3.1."""
SCATTER_FLOOR = 20.0
"""Is added to the scatter, HU, so that slices without noise have some."""
SCATTER_PERCENTILE, SCATTER_ABOVE = 99, -900.0
"""The scatter is this percentile of the distances of pixels from the median of 3 x 3, where that lies above this many HU."""
LOWEST = -3100.0
"""HU below which only padding lies, in areas; scanners that do not clip air mark the outside of the field of view by -3024."""
SHORTEST_RUN, LONG_RUN = 16, 64
"""Pixels of one value in a row that noise never makes, and that are named if the slice has no others of that value."""
ODD = 2.0
"""From this multiple of the difference between its neighbours on, a slice that differs from both is odd. Slices at even
distances that were measured stay below 0.8, first and last ones below 1.5."""
DIFFERENCE_FLOOR = 10.0
"""Is added to the difference between neighbours, HU, so that equal slices have one."""
CLIPPED = (-1100.0, 1500.0)
"""Range of HU in which slices are compared, so that metal and padding do not decide."""


def damaged_pixels(hu: np.ndarray, padding: np.ndarray) -> str:
    """Pixels that bits flipped, or bytes lost, on the way, in words; empty if there are none.

    Args:
        hu: (H, W) HU of a slice.
        padding: (H, W) bool; padding, and what lies beside it, is not judged.
    """
    if number := int(isolated_pixels(hu, padding).sum()):
        return f"{number} pixel{'s' * (number > 1)} far from all neighbours"
    if (low := hu < LOWEST).any() and (number := int((low & ~padding & ~_beside_outside(hu, padding)).sum())):
        return f"{number} pixel{'s' * (number > 1)} below {LOWEST:g} HU"
    length = constant_run(hu, padding)
    return f"{length} pixels of one value in a row" if length else ""


def isolated_pixels(hu: np.ndarray, padding: np.ndarray) -> np.ndarray:
    """Pixels far above or below all their eight neighbours.

    A scanner's point spread function is wider than a pixel and noise has a scale, so that the excess of the most extreme pixel
    over its neighbours stays within a multiple of the slice's own scatter.

    Args:
        hu: (H, W) HU.
        padding: (H, W) bool; padding, and what lies beside it, is not judged.
    Returns:
        (H, W) bool; False throughout where there is too little tissue to measure the scatter.
    """
    image = np.ascontiguousarray(hu, np.float32)
    ring = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], np.uint8)
    median = cv2.medianBlur(image, 3)
    tissue = (median > SCATTER_ABOVE) & ~padding
    if np.count_nonzero(tissue) < LONG_RUN:
        return np.zeros(hu.shape, bool)
    scatter = np.percentile(np.abs(image - median)[tissue], SCATTER_PERCENTILE) + SCATTER_FLOOR
    excess = np.maximum(image - cv2.dilate(image, ring), cv2.erode(image, ring) - image)
    found = (excess > ISOLATED * scatter) & ~padding
    return found & ~_beside_outside(image, padding) if found.any() else found


def _beside_outside(image: np.ndarray, padding: np.ndarray) -> np.ndarray:
    """Solid parts of what lies outside the field of view with what lies beside them, and the slice's own border."""
    outside = outside_field_of_view(image, padding).astype(np.uint8)
    solid = cv2.morphologyEx(outside, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_REPLICATE)
    beside = cv2.dilate(solid, np.ones((5, 5), np.uint8)) > 0
    beside[[0, -1]], beside[:, [0, -1]] = True, True
    return beside


def constant_run(hu: np.ndarray, padding: np.ndarray) -> int:
    """Length of a run of one value, in the order in which pixels are stored, that is no part of an area of that value.

    Args:
        hu: (H, W) HU.
        padding: (H, W) bool; runs of padding do not count.
    Returns:
        Pixels; 0 if there is no such run. Areas of one value, as in phantoms and beyond the field of view, make many runs.
    """
    flat, width = hu.ravel(), hu.shape[1]
    starts = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1])
    lengths = np.diff(np.concatenate([starts, [flat.size]]))
    runs = starts[lengths >= SHORTEST_RUN]
    values, counts = np.unique(flat[runs], return_counts=True)
    alone = set(values[counts == 1].tolist())
    for start, length in zip(starts[lengths >= LONG_RUN].tolist(), lengths[lengths >= LONG_RUN].tolist(), strict=True):
        of_whole_rows = start % width == 0 and (start + length) % width == 0
        if flat[start] in alone and not of_whole_rows and not padding.flat[start]:
            return length
    return 0


def odd_slices(volume: np.ndarray, locations: Sequence[float]) -> dict[int, float]:
    """Slices that differ from both neighbours much more than these differ from each other.

    Another rescale, another patient or a stream that was decoded wrongly make a slice odd; anatomy and noise do not.

    Args:
        volume: (Z, H, W) HU.
        locations: (Z,) mm along the normal, ascending; slices beside gaps are not judged.
    Returns:
        Index of a slice -> root mean square difference from the more similar neighbour, relative to that of the neighbours. The
        first and the last slice are compared with the two beside them.
    """
    return odd_differences([differences(volume, z) for z in range(len(volume))], locations)


def differences(volume: np.ndarray, z: int) -> tuple[float, float]:
    """Root mean square differences of slice z from the next and from the one after that, HU; NaN where there is none."""
    one = np.clip(volume[z], *CLIPPED)
    next_, after_next = (
        float(np.sqrt(np.mean((one - np.clip(volume[n], *CLIPPED)) ** 2))) if n < len(volume) else float("nan")
        for n in (z + 1, z + 2)
    )
    return next_, after_next


def odd_differences(found_by: Sequence[tuple[float, float]], locations: Sequence[float]) -> dict[int, float]:
    """Like :func:`odd_slices`, of what :func:`differences` found of each slice."""
    found: dict[int, float] = {}
    steps = np.diff(locations)
    for z in range(len(found_by) - 2):
        if not 0 < max(steps[z : z + 2]) < GAP * min(steps[z : z + 2]):
            continue
        (before, across), (after, _) = found_by[z], found_by[z + 1]
        judged = {z + 1: (before, after, across)}
        judged |= {0: (before, across, after)} if z == 0 else {}
        judged |= {z + 2: (after, across, before)} if z + 3 == len(found_by) else {}
        for slice_, (one, other, between) in judged.items():
            ratio = min(one, other) / (between + DIFFERENCE_FLOOR)
            if ratio > ODD:
                found[slice_] = ratio
    return found
