"""Image quality of validation patches beside their texture: HU, power spectrum and tissues."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from stan_ct.ct.hounsfield import soft_tissue_mask
from stan_ct.ct.tissues import TISSUES
from stan_ct.models.judge_features import log_spectrum

SMOOTHING = 7
"""Side of the moving average of the target, px, by whose HU tissues are told: noise must not choose them."""
MIN_TISSUE = 1000
"""Pixels of a tissue, over all patches, at least; a rarer one does not count."""
LOWEST_BAND = 3
"""First band of the spectrum that counts: the bands below hold the anatomy."""


QUALITY = ("hu_rmse", "spectrum_error", "tissue_bias")
SPECTRUM = ("spectrum_error",)
"""Of them, what can be compared with targets of other patients."""


class Quality:
    """Measures patches against their targets.

    Args:
        target: (N, 256, 256) HU.
        names: What is measured.
    """

    def __init__(self, target: np.ndarray, names: tuple[str, ...] = QUALITY) -> None:
        self._target, self._mask, self._names = target, soft_tissue_mask(target), names
        self._spectrum = self._power(target)
        smooth = ndimage.uniform_filter(target, (0, SMOOTHING, SMOOTHING))
        masks = ((smooth >= low) & (smooth <= high) for low, high in TISSUES.values())
        self._tissues = [mask for mask in masks if mask.sum() >= MIN_TISSUE]

    def __call__(self, output: np.ndarray) -> dict[str, float]:
        """Quality of output patches, the smaller the better.

        Args:
            output: (N, 256, 256) HU.
        Returns:
            hu_rmse: Root mean square of output - target over the target's soft tissue, HU.
            spectrum_error: Absolute difference of their power spectra over the power of the target, in the bands of detail.
            tissue_bias: Largest absolute mean of output - target over the pixels of a tissue, HU.
        """
        difference = output - self._target
        squares = np.square(difference, dtype=np.float64)
        biases = [abs(float(np.mean(difference, where=mask, dtype=np.float64))) for mask in self._tissues]
        found = {
            "hu_rmse": float(np.sqrt(np.mean(squares, where=self._mask))) if self._mask.any() else 0.0,
            "spectrum_error": float(np.abs(self._power(output) - self._spectrum).sum() / self._spectrum.sum()),
            "tissue_bias": max(biases, default=0.0),
        }
        return {name: found[name] for name in self._names}

    @staticmethod
    def _power(patches: np.ndarray) -> np.ndarray:
        """Power of all patches in each band of noise and detail, whose number of frequencies grows with their radius."""
        power = np.mean([np.exp(log_spectrum(patch)) for patch in patches], axis=0)
        return (power * np.arange(0.5, len(power)))[LOWEST_BAND:]
