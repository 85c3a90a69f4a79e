"""A slice between two slices, with the texture of both."""

from __future__ import annotations

import numpy as np

from stan_ct.ct.filters import Spacing, fit_radial_filter

METHOD = "linearly, then filtered to the mean power spectrum of both"
"""How :func:`slice_between` interpolates, in words."""


def slice_between(below: np.ndarray, above: np.ndarray, fraction: float, pixel_spacing: Spacing) -> np.ndarray:
    """Interpolates a slice between two slices.

    Noise and fine detail of two slices are not the same, so their weighted mean has less of both. A radial filter gives it the
    mean power spectrum of the two back.

    Args:
        below: (H, W) HU.
        above: (H, W) HU.
        fraction: Fraction of the way from the one to the other, in [0, 1].
        pixel_spacing: (row, column), mm.
    Returns:
        (H, W) float32 HU.
    """
    mean = ((1 - fraction) * below + fraction * above).astype(np.float32)
    restored = fit_radial_filter([(mean, other, pixel_spacing) for other in (below, above)])
    return restored(mean, pixel_spacing)
