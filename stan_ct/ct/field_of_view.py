"""The field of view of a slice, and its smooth continuation beyond: filters must not see a step where no tissue ends."""

from __future__ import annotations

import cv2
import numpy as np

NO_CT_NUMBER = -1500.0
"""HU below which a pixel holds no CT number, whether it is declared as padding or not: some scanners write -2000 or -3024."""
AIRY = -900.0
"""HU below which the lowest value of a slice may stand for what lies outside the field of view; above it there is no air."""
SOLID = 5
"""Side of the smallest square of one value that noise in air does not make, px."""
LEAST_PART = 0.002
"""Smallest part of a slice that is taken for an undeclared outside of the field of view."""
CORE, LARGEST_PART = 0.8, 0.01
"""Semi-axes of the ellipse at the centre of a slice, as a fraction of its half sides, and the largest part of an undeclared
border region inside it: what reaches farther in is air without noise around a body, as are regions beside which HU rise."""
RISE_AT, RISE = (1.0, 5.0), 100.0
"""Distances in pixels from a border region, and the rise of the median HU between them that only skin makes."""


def outside_field_of_view(hu: np.ndarray, padding: np.ndarray) -> np.ndarray:
    """Pixels that hold no CT number: padding, values far below air, and a border region of the slice's lowest value alone.

    Args:
        hu: (H, W) HU.
        padding: (H, W) bool, True where a pixel is padding.
    Returns:
        (H, W) bool.
    """
    outside = padding | (hu < NO_CT_NUMBER)
    inside = hu[~outside]
    if not inside.size or inside.min() > AIRY:
        return outside
    border = _with_blended_rim(_constant_border(hu == inside.min()), hu)
    return outside if _is_air(hu, border) else outside | border


def _is_air(hu: np.ndarray, border: np.ndarray) -> bool:
    """Whether a border region is air without noise around a body: it reaches into the core, or HU rise gradually beside it."""
    y, x = np.ogrid[-1 : 1 : hu.shape[0] * 1j, -1 : 1 : hu.shape[1] * 1j]
    if border[x**2 + y**2 < CORE**2].sum() > LARGEST_PART * border.sum():
        return True
    distance = cv2.distanceTransform((~border).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    near, far = (hu[(distance >= d - 0.5) & (distance < d + 0.5)] for d in RISE_AT)
    return bool(near.size and far.size) and abs(float(np.median(far) - np.median(near))) > RISE


def _constant_border(lowest: np.ndarray) -> np.ndarray:
    """Solid parts of a mask that touch the border of the slice, (H, W) bool; none if they are small."""
    square = np.ones((SOLID, SOLID), np.uint8)
    mask = lowest.astype(np.uint8)
    solid = cv2.morphologyEx(mask, cv2.MORPH_OPEN, square, borderType=cv2.BORDER_REPLICATE)
    if not solid.any():
        return np.zeros(lowest.shape, bool)
    _, parts = cv2.connectedComponents(solid, connectivity=4)
    border = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
    touching = np.isin(parts, border[border > 0])
    if touching.mean() < LEAST_PART:
        return np.zeros(lowest.shape, bool)
    return (cv2.dilate(touching.astype(np.uint8), square) > 0) & lowest  # what the opening took off its corners


def _with_blended_rim(border: np.ndarray, hu: np.ndarray) -> np.ndarray:
    """A border region with the pixels beside it that scanners blend with it where tissue or the table meets it."""
    rim = cv2.dilate(border.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    tissue = cv2.dilate(np.ascontiguousarray(hu, np.float32), np.ones((SOLID, SOLID), np.uint8)) > AIRY
    return border | (rim & tissue)


def _nearest_inside(outside: np.ndarray) -> np.ndarray:
    """Row and column of the pixel inside that is nearest to each pixel outside, (2, n)."""
    mask = outside.astype(np.uint8)
    _, labels = cv2.distanceTransformWithLabels(mask, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL)
    places = np.zeros((2, labels.max() + 1), np.intp)
    places[:, labels[~outside]] = np.nonzero(~outside)  # each pixel inside has a label of its own
    return places[:, labels[outside]]


def continue_smoothly(hu: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """Continues slices beyond their field of view by what lies beside it, mirrored at the border.

    A mirror image keeps value and texture at the border, so that a filter makes of the pixels inside what it would make of
    them in the middle of such tissue. Where the mirrored pixel lies outside too, the nearest one inside is taken. Single
    pixels outside, such as those of a padding value that also occurs in the body, get a neighbour's value.

    Args:
        hu: (..., H, W) HU.
        outside: (H, W) bool, True where `hu` is not to be used.
    Returns:
        (..., H, W), `hu` itself if nothing, or everything, lies outside.
    Example:
        >>> continue_smoothly(np.array([[10.0, 20.0, -2000.0, -2000.0]]), np.array([[False, False, True, True]])).tolist()
        [[10.0, 20.0, 20.0, 10.0]]
    """
    return continued(hu, outside, continuation(outside))


def continuation(outside: np.ndarray) -> np.ndarray | None:
    """Row and column of the pixel inside that continues a slice at each pixel outside, (2, n); None if no, or every, pixel is.

    Args:
        outside: (H, W) bool.
    """
    if not outside.any() or outside.all():
        return None
    nearest, here = _nearest_inside(outside), np.argwhere(outside).T
    # The pixel beside the border maps to the border's own pixel, the next one to the one before it: "symmetric" of np.pad.
    mirrored = 2 * nearest - here - np.sign(nearest - here)
    mirrored = np.clip(mirrored, 0, np.array(outside.shape)[:, None] - 1)
    return np.where(outside[tuple(mirrored)], nearest, mirrored)


def continued(hu: np.ndarray, outside: np.ndarray, chosen: np.ndarray | None) -> np.ndarray:
    """Slices (..., H, W) with the pixels outside replaced by those that :func:`continuation` chose; themselves for None."""
    if chosen is None:
        return hu
    extended = hu.copy()
    extended[..., outside] = hu[..., chosen[0], chosen[1]]
    return extended
