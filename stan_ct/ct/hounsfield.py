"""Hounsfield units: the soft-tissue range, and the one invertible map between HU and the network's range."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

SOFT_TISSUE = (-1000.0, 900.0)
"""Soft-tissue range in HU, both ends included (paper Sec. "Step 1")."""

AIR = -1024.0
"""HU that stands for "nothing here": what a network sees in place of padding or values below any CT number."""


@dataclass(frozen=True)
class HUWindow:
    """The fixed window [low, high] HU <-> [-1, 1] between which images and networks exchange values.

    The same window maps there and back, so the map is exactly invertible inside it, which Eq. 7 as printed
    is not.

    Raises:
        ValueError: If the window does not cover the soft-tissue range.
    """

    low: float = -1024.0
    high: float = 1500.0

    def __post_init__(self) -> None:
        if not (self.low <= SOFT_TISSUE[0] and self.high >= SOFT_TISSUE[1]):
            raise ValueError(
                f"HU window [{self.low:g}, {self.high:g}] must cover the soft-tissue range "
                f"[{SOFT_TISSUE[0]:g}, {SOFT_TISSUE[1]:g}] HU"
            )

    def normalize(self, hu: Any) -> Any:
        """HU -> network values, without clipping: [low, high] becomes [-1, 1].

        Plain arithmetic, so that it maps numbers, NumPy arrays, and tensors of TensorFlow and Keras alike.

        Args:
            hu: HU, any shape, floating point.
        Returns:
            Network values, of the type and shape of `hu`.
        """
        return (hu - self.low) * (2.0 / (self.high - self.low)) - 1.0

    def denormalize(self, gray: Any) -> Any:
        """Network values -> HU, without clipping: the inverse of :meth:`normalize`, for the same types."""
        return (gray + 1.0) * ((self.high - self.low) / 2.0) + self.low

    def to_network(self, hu: np.ndarray) -> np.ndarray:
        """HU of any shape -> float32 in [-1, 1]; values outside the window are clipped to it."""
        return np.clip(self.normalize(np.asarray(hu, np.float32)), -1.0, 1.0).astype(np.float32)

    def to_hu(self, gray: np.ndarray) -> np.ndarray:
        """Network values of any shape -> float32 HU in [low, high]: the inverse of :meth:`to_network`."""
        return self.denormalize(np.clip(np.asarray(gray, np.float32), -1.0, 1.0)).astype(np.float32)


def soft_tissue_mask(hu: np.ndarray, padding: np.ndarray | None = None) -> np.ndarray:
    """Pixels whose HU lies in the soft-tissue range and which are not padding.

    Args:
        hu: HU, any shape.
        padding: True where a pixel is padding, same shape; None for no padding.
    Returns:
        bool, the shape of `hu`.
    Example:
        >>> soft_tissue_mask(np.array([-1001.0, -1000.0, 900.0, 901.0])).tolist()
        [False, True, True, False]
    """
    inside = (hu >= SOFT_TISSUE[0]) & (hu <= SOFT_TISSUE[1])
    return inside if padding is None else inside & ~padding


def quantiles(patches: Iterable[np.ndarray], number: int = 1024) -> tuple[float, ...]:
    """The distribution of HU over the soft tissue of patches, as `number` quantiles, ascending.

    Args:
        patches: HU, any shape each.
        number: How many.
    """
    values = np.concatenate([patch[soft_tissue_mask(patch)] for patch in patches])
    return tuple(np.quantile(values, (np.arange(number) + 0.5) / number).round(2).tolist())
