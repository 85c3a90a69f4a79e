"""Image quality in physical units: HU errors by tissue and emphysema index. For noise see :mod:`stan_ct.ct.noise`.

Images and volumes are (H, W) or (Z, H, W) HU, masks bool of the same shape, pixel spacings (row, column) in mm.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage import measure, segmentation

from stan_ct.ct.noise import SMOOTHING
from stan_ct.ct.tissues import TISSUES
from stan_ct.features.errors import HUError, hu_error

LUNG_BELOW, LUNG_AREA, LUNG_PART = -500.0, 10.0, 0.1
"""Lung: HU below, least area in a slice, cm^2, and least volume as a fraction of the largest such volume."""

EMPHYSEMA_BELOW = -950.0
"""HU below which lung counts as emphysema."""

Spacing = tuple[float, float]


def hu_error_by_tissue(image: np.ndarray, target: np.ndarray, mask: np.ndarray | None = None) -> dict[str, HUError]:
    """Tissue of `TISSUES` -> :func:`hu_error` in its pixels, which the smoothed target determines.

    Note:
        Without smoothing, the target's noise would select the pixels: noisy ones would count as denser tissue, and an unbiased
        image would appear biased. Smoothed borders of two tissues may count as a third tissue in between.
    """
    everywhere = np.ones(np.shape(target), bool) if mask is None else mask
    sigma = (0,) * (np.ndim(target) - 2) + (SMOOTHING, SMOOTHING)
    smooth = ndimage.gaussian_filter(np.asarray(target, np.float64), sigma)
    return {
        tissue: hu_error(image, target, everywhere & (smooth >= low) & (smooth <= high))
        for tissue, (low, high) in TISSUES.items()
    }


def laa950(hu: np.ndarray, lung: np.ndarray) -> float:
    """Emphysema index: share of lung below `EMPHYSEMA_BELOW` HU, in [0, 1]; NaN without lung. Use one mask for all images.

    Example:
        >>> laa950(np.array([-1000.0, -960.0, -950.0, -850.0]), np.array([False, True, True, True]))
        0.3333333333333333
    """
    return float(np.mean(hu[lung] < EMPHYSEMA_BELOW)) if lung.any() else float("nan")


def lung_mask(hu: np.ndarray, pixel_spacing: Spacing) -> np.ndarray:
    """Air within the body that is large enough to be lung (`LUNG_BELOW`, `LUNG_AREA`, `LUNG_PART`), bool of the shape of `hu`.

    In each slice, air that touches the border is outside the body, and small air-filled regions are trachea or bowel.

    Note:
        Vessels and consolidations are excluded; bronchi that open into the lung within a slice, and an air-filled stomach,
        are not. A lung that is cut by the field of view counts as outside.
    """
    slices = np.reshape(hu, (-1, *np.shape(hu)[-2:]))
    pixels = LUNG_AREA * 100 / (pixel_spacing[0] * pixel_spacing[1])
    lung = np.stack([_at_least(segmentation.clear_border(air), pixels) for air in slices < LUNG_BELOW])
    largest = np.bincount(measure.label(lung).ravel())[1:].max(initial=0)
    return _at_least(lung, LUNG_PART * largest).reshape(np.shape(hu))


def _at_least(mask: np.ndarray, pixels: float) -> np.ndarray:
    """Connected parts of a mask with at least `pixels` pixels."""
    parts = measure.label(mask)
    keep = np.bincount(parts.ravel()) >= pixels
    keep[0] = False
    return keep[parts]
