"""Metal and the densest bone, and a slice without them: their edges are steeper than any fitted filter has seen."""

from __future__ import annotations

import cv2
import numpy as np

BONE_END, METAL_START = 1500.0, 2200.0
"""HU between which a pixel goes over from bone, which a filter sharpens, to metal, which it leaves as it is."""
HALO = 2.5
"""Distance from metal, mm, within which its blurred edge still brightens a slice."""
SOFT = 5
"""Width of the transition from the halo to the rest, px: a kink in the filled slice would be sharpened too."""


def calm_weight(hu: np.ndarray, pixel_spacing: tuple[float, float]) -> np.ndarray | None:
    """Weight of what a filter may sharpen: 1 away from metal, 0 on it and in its halo, smooth between.

    Args:
        hu: (H, W) HU.
        pixel_spacing: (row, column), mm.
    Returns:
        (H, W) float32 in [0, 1], or None for a slice without a pixel above `BONE_END`.
    """
    if hu.max() <= BONE_END:
        return None
    size = [2 * max(1, round(HALO / spacing)) + SOFT for spacing in pixel_spacing]
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size[1], size[0]))
    metal = np.clip((hu.astype(np.float32) - BONE_END) / (METAL_START - BONE_END), 0, 1)
    return cv2.blur(cv2.erode(1 - metal, disk), (SOFT, SOFT))


def without_bright(hu: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Replaces what has little weight smoothly by what lies around it, coarse to fine.

    Args:
        hu: (H, W) HU.
        weight: (H, W) in [0, 1], from :func:`calm_weight`.
    Returns:
        (H, W) float32 HU; pixels of weight 1 keep their bits, and without any weight the slice is left as it is.
    Example:
        >>> slice_, weight = np.full((8, 8), 40.0), np.ones((8, 8), np.float32)
        >>> slice_[4, 4], weight[4, 4] = 3000, 0
        >>> float(without_bright(slice_, weight)[4, 4])
        40.0
    """
    hu, weight = hu.astype(np.float32), weight.astype(np.float32)
    if not weight.any():
        return hu
    mean = float((hu * weight).sum(dtype=np.float64) / weight.sum(dtype=np.float64))
    around = _fill(hu * weight, weight, mean)
    return np.where(weight < 1, weight * hu + (1 - weight) * around, hu)


def _fill(values: np.ndarray, weight: np.ndarray, mean: float) -> np.ndarray:
    """Weighted values over weights, (H, W); where there is little weight, that of the image at half the resolution."""
    if min(values.shape) < 4:
        coarse = np.full_like(values, mean)
    else:
        small = _fill(cv2.pyrDown(values), cv2.pyrDown(weight), mean)
        coarse = cv2.resize(small, values.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return values + (1 - weight) * coarse
