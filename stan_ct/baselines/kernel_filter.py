"""The radial kernel filter alone: the strong classical rival of a network."""

from __future__ import annotations

import numpy as np

from stan_ct.ct.filters import RadialFilter


class KernelFilter:
    """Filters the whole slice and leaves patches alone; every patch counts as real.

    Args:
        response: Fitted by :func:`stan_ct.ct.filters.fit_radial_filter`.
    """

    def __init__(self, response: RadialFilter) -> None:
        self.response = response

    def prepare(self, hu: np.ndarray, pixel_spacing: tuple[float, float]) -> np.ndarray:
        """(H, W) HU -> filtered (H, W) float32 HU."""
        return self.response(hu, pixel_spacing)

    def __call__(self, patches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, h, w) HU -> the same, and P(real) = 1, (N,)."""
        return patches, np.ones(len(patches), np.float32)
