"""Histogram matching: the classical baseline of the paper's Table 1."""

from __future__ import annotations

import numpy as np
from skimage.exposure import match_histograms

from stan_ct.ct.hounsfield import soft_tissue_mask


class HistogramMatching:
    """Gives the soft tissue of a slice the gray-level distribution of the standard protocol; leaves patches alone.

    Args:
        quantiles: Quantiles of target pixels in the soft-tissue range, HU, from :func:`stan_ct.ct.hounsfield.quantiles`.
    """

    def __init__(self, quantiles: tuple[float, ...]) -> None:
        self._reference = np.asarray(quantiles, np.float32)[None]

    def prepare(self, hu: np.ndarray, pixel_spacing: tuple[float, float], kernel: str = "") -> np.ndarray:
        """(H, W) HU -> matched (H, W) float32 HU; pixels beyond the soft-tissue range are kept."""
        matched, soft_tissue = np.array(hu, np.float32), soft_tissue_mask(hu)
        if soft_tissue.any():
            matched[soft_tissue] = match_histograms(matched[soft_tissue][None], self._reference)[0]
        return matched

    def __call__(self, patches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, h, w) HU -> the same, and P(real) = 1, (N,)."""
        return patches, np.ones(len(patches), np.float32)
