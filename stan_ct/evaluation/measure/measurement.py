"""Measurements of a patch: texture, first-order statistics, and differences from the target in HU."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stan_ct.ct.tissues import TISSUES
from stan_ct.evaluation.statistics.image_quality import hu_error_by_tissue
from stan_ct.features.errors import HUError, hu_error
from stan_ct.features.first_order import histogram_features, statistics
from stan_ct.features.glcm import ALL_FEATURES, Discretization, patch_features

FIRST_ORDER = (*statistics(np.zeros((1, 1))), *histogram_features(np.zeros((1, 1), int)))
"""Names of first-order statistics of HU and of the histogram of gray levels."""

MEASURES = (*ALL_FEATURES, *(f"first-order {name}" for name in FIRST_ORDER))
"""Names of texture and first-order features, the columns of `Measured.features`."""

PLACES = ("soft-tissue range", *TISSUES)
"""Regions of differences in HU: where the source is in the soft-tissue range, and the tissues."""


@dataclass(frozen=True)
class Measured:
    """Measurements of an image.

    Attributes:
        features: Features of N patches, (N, len(MEASURES)) float64.
        hu: Differences from the target of M patches or slices, (M, len(PLACES), 4) float64: number of pixels, and sums of the
            difference, of its magnitude and of its square.
    """

    features: np.ndarray
    hu: np.ndarray


def measure_features(patches: np.ndarray, discretization: Discretization) -> np.ndarray:
    """Features of patches (N, H, W) HU: (N, len(MEASURES)) float64."""
    flat = np.reshape(patches, (len(patches), -1)).astype(np.float64)
    first_order = statistics(flat) | histogram_features(discretization.to_levels(flat))
    return np.column_stack([patch_features(patches, discretization), *(first_order[name] for name in FIRST_ORDER)])


def measure_hu(image: np.ndarray, target: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Differences of an image from its target in the pixels of the mask, (H, W) each: (len(PLACES), 4) float64."""
    errors = (hu_error(image, target, mask), *hu_error_by_tissue(image, target, mask).values())
    return np.array([_sums(error) for error in errors])


def _sums(error: HUError) -> tuple[float, float, float, float]:
    """Number of pixels and sums, which can be added over patches, unlike means."""
    if not error.pixels:
        return 0.0, 0.0, 0.0, 0.0
    return error.pixels, error.pixels * error.bias, error.pixels * error.mae, error.pixels * error.rmse**2
