"""A slice of a source, and what several steps need of it: each is made once, when it is first asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from stan_ct.ct.field_of_view import continuation, continued, outside_field_of_view


@dataclass(frozen=True)
class SourceSlice:
    """A slice of a source.

    Attributes:
        hu: (H, W) float32, HU.
        padding: (H, W) bool, True where a pixel is padding.
        pixel_spacing: (row, column), mm.
    """

    hu: np.ndarray
    padding: np.ndarray
    pixel_spacing: tuple[float, float]

    @cached_property
    def outside(self) -> np.ndarray:
        """Pixels outside the field of view, (H, W) bool, see :func:`outside_field_of_view`."""
        return outside_field_of_view(self.hu, self.padding)

    @cached_property
    def continued(self) -> np.ndarray:
        """HU, continued beyond the field of view, (H, W)."""
        return self.extend(self.hu)

    def extend(self, image: np.ndarray) -> np.ndarray:
        """Continues an image of the same place, (H, W), beyond the field of view of this slice."""
        return continued(image, self.outside, self._continuation)

    @cached_property
    def _continuation(self) -> np.ndarray | None:
        return continuation(self.outside)
