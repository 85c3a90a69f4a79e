"""Image quality in physical units: HU errors by tissue, emphysema index, MTF of a disc; noise is `stan_ct.ct.noise`.

Images and volumes are (H, W) or (Z, H, W) HU, masks bool of the same shape, pixel spacings (row, column) in mm, frequencies
in line pairs per cm. The MTF of a wire is :func:`stan_ct.ct.mtf.measure_mtf`'s.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage, signal
from skimage import measure, segmentation

from stan_ct.ct.noise import SMOOTHING
from stan_ct.ct.tissues import TISSUES
from stan_ct.features.errors import HUError, hu_error

LUNG_BELOW, LUNG_AREA, LUNG_PART = -500.0, 10.0, 0.1
"""Lung is air below this HU, of at least this area in a slice, cm^2, and at least this part of the largest such volume."""

EDGE, BIN = 10.0, 0.1
"""Half width, mm, of the ring around a disc's edge that shows its profile, and the width of the profile's bins, px."""

Spacing = tuple[float, float]


def hu_error_by_tissue(image: np.ndarray, target: np.ndarray, mask: np.ndarray | None = None) -> dict[str, HUError]:
    """Tissue of `TISSUES` -> :func:`hu_error` there; the target says, smoothed, what is which tissue.

    Note:
        Unsmoothed, the target's noise would choose the pixels: where it is high they would pass for denser tissue, and an
        unbiased image would seem biased. Smoothed borders of two tissues may pass for a third between them.
    """
    everywhere = np.ones(np.shape(target), bool) if mask is None else mask
    sigma = (0,) * (np.ndim(target) - 2) + (SMOOTHING, SMOOTHING)
    smooth = ndimage.gaussian_filter(np.asarray(target, np.float64), sigma)
    return {
        tissue: hu_error(image, target, everywhere & (smooth >= low) & (smooth <= high))
        for tissue, (low, high) in TISSUES.items()
    }


def laa950(hu: np.ndarray, lung: np.ndarray) -> float:
    """Emphysema index: the share of lung below -950 HU, in [0, 1]; NaN without lung. Compare images within one mask.

    Example:
        >>> laa950(np.array([-1000.0, -960.0, -950.0, -850.0]), np.array([False, True, True, True]))
        0.3333333333333333
    """
    return float(np.mean(hu[lung] < -950)) if lung.any() else float("nan")


def lung_mask(hu: np.ndarray, pixel_spacing: Spacing) -> np.ndarray:
    """The air within the body that is large enough to be lung (`LUNG_BELOW`, `LUNG_AREA`, `LUNG_PART`), bool like `hu`.

    In each slice, air that reaches the border is outside the body, and small air is trachea or bowel.

    Note:
        Vessels and consolidations are left out; bronchi that open into the lung within a slice, and a stomach full of air,
        are not. A lung that the field of view cuts counts as outside.
    """
    slices = np.reshape(hu, (-1, *np.shape(hu)[-2:]))
    pixels = LUNG_AREA * 100 / (pixel_spacing[0] * pixel_spacing[1])
    lung = np.stack([_at_least(segmentation.clear_border(air), pixels) for air in slices < LUNG_BELOW])
    largest = np.bincount(measure.label(lung).ravel())[1:].max(initial=0)
    return _at_least(lung, LUNG_PART * largest).reshape(np.shape(hu))


def _at_least(mask: np.ndarray, pixels: float) -> np.ndarray:
    """The connected parts of a mask that have at least so many pixels."""
    parts = measure.label(mask)
    keep = np.bincount(parts.ravel()) >= pixels
    keep[0] = False
    return keep[parts]


def disc_mtf(image: np.ndarray, pixel_spacing: Spacing, frequency: np.ndarray) -> np.ndarray:
    r"""MTF from the edge of a uniform disc, :math:`|\int -p'(r) e^{-2 \pi i f r} dr|` with its profile p(r) from the centre.

    The distances of the pixels around the edge fall between each other, so the curve is a presampled one.

    Args:
        image: (H, W) HU, with one disc over its middle, brighter or darker than the uniform rest.
        pixel_spacing: mm, equal to each other.
        frequency: (n,) lp/cm.
    Returns:
        (n,) float64, 1 at frequency 0. The outer half of the ring fades out, so an overshoot wider than `EDGE` is lost.
    Raises:
        ValueError: If the pixels are not square, or what is in the middle is no disc with room around it.
    Reference: Richard et al., Medical Physics 39 (2012) 4115-4122.
    """
    if not np.isclose(*pixel_spacing, rtol=1e-3):
        raise ValueError(f"the MTF is measured on square pixels, not on {pixel_spacing[0]:g} x {pixel_spacing[1]:g} mm")
    frequency, step = np.asarray(frequency, np.float64), BIN * pixel_spacing[0] / 10  # cm
    profile = _edge_profile(_contrast(image), EDGE / pixel_spacing[0])
    spread = -np.diff(profile) * signal.windows.tukey(len(profile) - 1, 0.5)
    wave = np.exp(-2j * np.pi * np.outer(frequency, np.arange(len(spread)) * step))
    return np.abs(wave @ spread) / (spread.sum() * np.sinc(frequency * step) ** 2)  # a bin's width, a difference's


def _contrast(image: np.ndarray) -> np.ndarray:
    """An image in units of its middle (5 x 5 px), counted from its border: about 1 in the disc, 0 around it."""
    image, (row, column) = np.asarray(image, np.float64), (n // 2 for n in np.shape(image))
    border = np.median(np.concatenate([image[[0, -1]].ravel(), image[:, [0, -1]].ravel()]))
    height = np.median(image[row - 2 : row + 3, column - 2 : column + 3]) - border
    return (image - border) / height if height else np.zeros(image.shape)


def _edge_profile(contrast: np.ndarray, half: float) -> np.ndarray:
    """The mean by distance from the disc's centre, in bins of `BIN` px, up to `half` px to both sides of its edge."""
    shape = contrast.shape
    parts = measure.label(contrast > 0.5)
    disc = measure.regionprops((parts == parts[shape[0] // 2, shape[1] // 2]).astype(int))[0]  # without one: what is around
    radius, room = np.sqrt(disc.area / np.pi), min(*disc.bbox[:2], *np.subtract(shape, disc.bbox[2:]))
    half = min(half, radius, room)
    if half < 4 or abs(disc.area_bbox / (4 * radius**2) - 1) > 0.1:
        raise ValueError(f"expected a disc over the middle, >= 4 px from the border, got {disc.bbox} of {shape} pixels")
    distance = np.hypot(*(index - centre for index, centre in zip(np.indices(shape), disc.centroid, strict=True)))
    nearest, bins = np.floor((distance - radius + half) / BIN).astype(int), int(2 * half / BIN)
    ring = (nearest >= 0) & (nearest < bins)
    number, sums = (np.bincount(nearest[ring], weights, bins) for weights in (None, contrast[ring]))
    hit = np.flatnonzero(number)
    return np.interp(np.arange(bins), hit, sums[hit] / number[hit])
