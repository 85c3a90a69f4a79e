"""The radial kernel filter alone, the strong classical baseline."""

from __future__ import annotations

import numpy as np

from stan_ct.ct.filters import FrontEnd


class KernelFilter:
    """Filters the whole slice and leaves patches alone; every patch counts as real.

    Args:
        front_end: Fitted to pairs, see :mod:`stan_ct.patches.front_end`, or without, see :mod:`stan_ct.adaptation`.
    """

    def __init__(self, front_end: FrontEnd) -> None:
        self.front_end = front_end

    def prepare(self, hu: np.ndarray, pixel_spacing: tuple[float, float], kernel: str = "") -> np.ndarray:
        """(H, W) HU -> filtered (H, W) float32 HU."""
        return self.front_end(hu, pixel_spacing, kernel)

    def __call__(self, patches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, h, w) HU -> the same, and P(real) = 1, (N,)."""
        return patches, np.ones(len(patches), np.float32)
