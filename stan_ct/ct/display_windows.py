"""Display windows: the range of HU that a picture of a slice shows, by centre and width as on a workstation."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np


class DisplayWindow(NamedTuple):
    """HU from `center - width / 2` (black) to `center + width / 2` (white)."""

    center: float
    width: float

    @property
    def low(self) -> float:
        """The highest HU that is black."""
        return self.center - self.width / 2

    @property
    def high(self) -> float:
        """The lowest HU that is white."""
        return self.center + self.width / 2

    def to_gray(self, hu: np.ndarray) -> np.ndarray:
        """HU of any shape -> uint8 gray levels, 0 to 255.

        Example:
            >>> DisplayWindow(40, 400).to_gray(np.array([-1000.0, -160.0, -60.0, 240.0, 1000.0]))
            array([  0,   0,  64, 255, 255], dtype=uint8)
        """
        return np.clip(np.rint((hu - self.low) * (255 / self.width)), 0, 255).astype(np.uint8)


LUNG_WINDOW = DisplayWindow(-600.0, 1500.0)
SOFT_TISSUE_WINDOW = DisplayWindow(40.0, 400.0)
BONE_WINDOW = DisplayWindow(400.0, 1800.0)

DISPLAY_WINDOWS = {"lung": LUNG_WINDOW, "soft tissue": SOFT_TISSUE_WINDOW, "bone": BONE_WINDOW}
"""Name -> window, in the order in which a reader steps through them."""

KERNEL_WINDOWS = {
    r"BL\d+[A-Z]?(/\d+)?": LUNG_WINDOW,  # Siemens, body lung: BL64, Bl57d/3
    r"L": DisplayWindow(-600.0, 1600.0),  # Philips, lung
    r"FC5\d": LUNG_WINDOW,  # Toshiba, Canon: lung
    r"LUNG": LUNG_WINDOW,  # GE
}
"""Names of sharp kernels, as regular expressions -> window in which scanners show their series."""


def kernel_window(kernel: str) -> DisplayWindow | None:
    """Window in which scanners show series of a kernel; None where none is known, soft kernels among them.

    Example:
        >>> kernel_window("Bl64d/3"), kernel_window("B31f")
        (DisplayWindow(center=-600.0, width=1500.0), None)
    """
    name = kernel.strip().upper()
    return next((window for pattern, window in KERNEL_WINDOWS.items() if re.fullmatch(pattern, name)), None)
