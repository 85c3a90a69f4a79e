"""Image quality of validation patches beside their texture: HU, power spectrum and tissues."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from stan_ct.ct.hounsfield import soft_tissue_mask
from stan_ct.ct.tissues import TISSUES
from stan_ct.models.judge import log_spectrum

SMOOTHING = 7
"""Side of the moving average of the target, px, by whose HU tissues are told: noise must not choose them."""
MIN_TISSUE = 1000
"""Pixels of a tissue, over all patches, at least; a rarer one does not count."""
LOWEST_BAND = 3
"""First band of the spectrum that counts: the bands below hold the anatomy."""


QUALITY = ("hu_rmse", "spectrum_error", "tissue_bias")


class Quality:
    """Measures patches against their targets.

    Args:
        target: (N, 256, 256) HU.
    """

    def __init__(self, target: np.ndarray) -> None:
        self._target, self._mask = target, soft_tissue_mask(target)
        self._spectrum = self._log_power(target)
        smooth = ndimage.uniform_filter(target, (0, SMOOTHING, SMOOTHING))
        masks = ((smooth >= low) & (smooth <= high) for low, high in TISSUES.values())
        self._tissues = [mask for mask in masks if mask.sum() >= MIN_TISSUE]

    def __call__(self, output: np.ndarray) -> dict[str, float]:
        """Quality of output patches, the smaller the better.

        Args:
            output: (N, 256, 256) HU.
        Returns:
            hu_rmse: Root mean square of output - target over the target's soft tissue, HU.
            spectrum_error: Mean absolute logarithm of the ratio of their power, over the bands of noise and fine detail.
            tissue_bias: Largest absolute mean of output - target over the pixels of a tissue, HU.
        """
        difference = output - self._target
        squares = np.square(difference, dtype=np.float64)
        biases = [abs(float(np.mean(difference, where=mask, dtype=np.float64))) for mask in self._tissues]
        return {
            "hu_rmse": float(np.sqrt(np.mean(squares, where=self._mask))) if self._mask.any() else 0.0,
            "spectrum_error": float(np.mean(np.abs(self._log_power(output) - self._spectrum))),
            "tissue_bias": max(biases, default=0.0),
        }

    @staticmethod
    def _log_power(patches: np.ndarray) -> np.ndarray:
        """Logarithm of the mean power of all patches in each band of fine detail."""
        power = np.mean([np.exp(log_spectrum(patch)) for patch in patches], axis=0)
        return np.log(power[LOWEST_BAND:])
