"""Texture features of a slice, a volume or a region in one call: :func:`texture_features`."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from stan_ct.features.glcm import Discretization
from stan_ct.features.glcm_region import roi_features

SQUARE = 1e-3
"""Largest relative difference of row and column spacing of pixels that count as square."""


def texture_features(
    hu: np.ndarray,
    *,
    pixel_spacing: tuple[float, float] | None = None,
    mask: np.ndarray | None = None,
    discretization: Discretization | None = None,
    aggregation: str = "2D averaged",
    resample_to: float | None = None,
) -> dict[str, float]:
    r"""Features of the gray-level co-occurrence matrix (GLCM), as in the paper's Sec. "Evaluation Metric".

    HU become gray levels, the levels of neighbouring pixels (distance 1 px) are counted in a matrix per direction, and each
    feature is a sum over its probabilities :math:`p_{ij}`: :mod:`stan_ct.features.glcm` has the formulas.

    Args:
        hu: Slice (H, W) or volume (Z, H, W), HU.
        pixel_spacing: (row, column) spacing, mm. Pixels must be square, since neighbours are counted in pixels; features of
            images of different spacing are not comparable unless all are resampled.
        mask: Region, bool of the shape of `hu`: both pixels of a pair must lie in it. By default all pixels.
        discretization: Map from HU to gray levels; by default 256 levels over [-1000, 900] HU, the soft-tissue range, with HU
            outside in the end levels.
        aggregation: Key of :data:`~stan_ct.features.glcm_region.AGGREGATIONS`; by default a matrix for each slice and each of
            the directions 0, 45, 90 and 135 degrees, over which features are averaged.
        resample_to: Side of the square pixels to which slices are resampled first (bilinear, aligned at the image's centre, a
            pixel belongs to the region if at least half of it does), mm; needs `pixel_spacing`. By default no resampling.
    Returns:
        Feature -> value: the paper's `dissimilarity`, `contrast`, `homogeneity`, `energy` and `correlation`, then `asm`,
        `inverse_difference` and `joint_entropy`. NaN where undefined: all features of a region without neighbouring pixels,
        and the correlation of a region of one gray level.
    Raises:
        ValueError: If shapes do not fit, a pixel of the region is NaN, or the pixels are not square and are not resampled.
    Example:
        Stripes of two gray levels: neighbours differ by one level along three of the four directions, and are equal along
        the columns.

        >>> stripes = np.array([[0, 100, 0, 100]] * 4)
        >>> found = texture_features(stripes, discretization=Discretization(levels=4, bin_width=100, low=0))
        >>> found["dissimilarity"], found["contrast"]  # (1 + 1 + 0 + 1) / 4
        (0.75, 0.75)
        >>> found["homogeneity"], found["correlation"]  # (1/2 + 1/2 + 1 + 1/2) / 4, (-1 - 1 + 1 - 1) / 4
        (0.625, -0.5)
    """
    volume, region = _volume(hu, mask)
    if pixel_spacing is not None or resample_to is not None:
        volume, region = _with_square_pixels(volume, region, pixel_spacing, resample_to)
    levels = (discretization or Discretization.fixed_number()).to_levels(np.where(region, volume, 0.0))
    return {name: float(value) for name, value in roi_features(levels, region, aggregation).values.items()}


def _volume(hu: np.ndarray, mask: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """HU and region as volumes, (Z, H, W) each."""
    hu = np.asarray(hu, np.float64)
    region = np.ones(hu.shape, bool) if mask is None else np.asarray(mask)
    if hu.ndim not in (2, 3) or region.shape != hu.shape or region.dtype != bool:
        raise ValueError(
            f"expected a slice (H, W) or a volume (Z, H, W) and a mask (bool) of the same shape, got shape {hu.shape} and "
            f"a mask of {region.dtype}, shape {region.shape}"
        )
    return (hu[None], region[None]) if hu.ndim == 2 else (hu, region)


def _with_square_pixels(
    volume: np.ndarray, region: np.ndarray, pixel_spacing: tuple[float, float] | None, side: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """Checks that pixels are square, or resamples slices to square pixels of `side` mm."""
    if pixel_spacing is None:
        raise ValueError(f"resampling to {side:g} mm needs pixel_spacing=(row, column) in mm")
    row, column = pixel_spacing
    if not (min(row, column) > 0 and max(row, column, side or 0) < np.inf and (side is None or side > 0)):
        raise ValueError(f"expected a pixel spacing above 0 mm, got {row:g} x {column:g} mm, resampled to {side} mm")
    if side is None:
        if abs(row - column) > SQUARE * max(row, column):
            raise ValueError(f"expected square pixels, got {row:g} x {column:g} mm: give resample_to=1.0 (mm), or another side")
        return volume, region
    rows, columns = (_sample_points(n, step, side) for n, step in zip(volume.shape[1:], pixel_spacing, strict=True))
    points = np.meshgrid(rows, columns, indexing="ij")
    resampled = [ndimage.map_coordinates(image, points, order=1, mode="nearest") for image in volume]
    covered = [ndimage.map_coordinates(image, points, order=1, mode="nearest") for image in region.astype(np.float64)]
    return np.stack(resampled), np.stack(covered) >= 0.5


def _sample_points(n: int, spacing: float, side: float) -> np.ndarray:
    """Centres of the new pixels along an axis, in old pixels: as many as cover it, aligned at its middle (IBSI)."""
    points = int(np.ceil(round(n * spacing / side, 6)))
    return (n - 1) / 2 + (np.arange(points) - (points - 1) / 2) * side / spacing
