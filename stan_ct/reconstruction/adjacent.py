"""Slices beside the one that is standardized, as a synthesizer sees them (2.5 D)."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from stan_ct.dicom.series import Series
from stan_ct.patches.adjacent import adjacent_slices

if TYPE_CHECKING:
    from stan_ct.reconstruction.qualification import Synthesizer


class PreparedSlices:
    """Slices of a series as a synthesizer sees them beside another one; a few at a time are kept.

    Args:
        series: The source.
        synthesizer: Its `adjacent_slices` says how many it sees on either side.
        kernel: The model's source kernel as which the series is treated.
    """

    def __init__(self, series: Series, synthesizer: Synthesizer, kernel: str) -> None:
        count = getattr(synthesizer, "adjacent_slices", 0)
        self._numbers = adjacent_slices([instance.location for instance in series.instances], count)
        spacing = series.files.pixel_spacing

        @lru_cache(maxsize=2 * count + 1)
        def prepare(z: int) -> np.ndarray:
            return synthesizer.prepare(series.slice(z).continued, spacing, kernel)

        self._prepare = prepare

    def beside(self, z: int) -> list[np.ndarray]:
        """Slices before and after slice z, (H, W) HU each; none for a synthesizer that does not see them."""
        return [self._prepare(int(n)) for n in self._numbers[z]]
