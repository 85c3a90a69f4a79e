"""Random fields in space: cloudy parenchyma, fine reticular texture, septa."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import scipy.fft

from stan_ct.simulation.phantom.canvas import FIELD_OF_VIEW


class Field:
    """A periodic Gaussian random field with mean 0 and SD 1, kept as axial planes.

    The power spectrum is (corner^2 + f^2)^(-slope / 2) with f in cycles/mm, cut below `lowest`; its period is the field
    of view in the plane and `planes * spacing` along z, which no one sees.
    """

    def __init__(
        self, rng: np.random.Generator, cells: int, planes: int, slope: float, corner: float, lowest: float = 0.0
    ) -> None:
        self.spacing = FIELD_OF_VIEW / cells  # the same along z
        shape = (planes, cells, cells)
        spectrum = scipy.fft.rfftn(rng.standard_normal(shape, dtype=np.float32), overwrite_x=True)
        spectrum *= _amplitude(shape, self.spacing, slope, corner, lowest)
        values = scipy.fft.irfftn(spectrum, s=shape, overwrite_x=True)
        values *= 1 / values.std()
        self._likeness = float(np.mean(values[0] * values[1]) / np.mean(values[:2] ** 2))
        self.planes = values.astype(np.float16)

    def at(self, z: float, pixels: int) -> np.ndarray:
        """The field at level `z`, (pixels, pixels) float32; SD 1 between planes too."""
        lower = int(np.floor(z / self.spacing))
        share = z / self.spacing - lower
        plane = self.planes[lower % len(self.planes)].astype(np.float32)
        plane *= 1 - share
        plane += share * self.planes[(lower + 1) % len(self.planes)].astype(np.float32)
        plane *= 1 / np.sqrt((1 - share) ** 2 + share**2 + 2 * share * (1 - share) * self._likeness)
        if pixels == len(plane):
            return plane
        method = cv2.INTER_AREA if pixels < len(plane) else cv2.INTER_CUBIC
        return cv2.resize(plane, (pixels, pixels), interpolation=method)


class Planes(NamedTuple):
    """Textures of one section, each (pixels, pixels) float32 with SD 1.

    Attributes:
        cloud: Fractal, smooth: parenchyma, fat, muscle.
        septa: Waves of about 20 mm; its zero crossings are thin sheets.
        fine: Reticular, down to 0.7 mm.
        marrow: The same elsewhere, for trabeculae.
    """

    cloud: np.ndarray
    septa: np.ndarray
    fine: np.ndarray
    marrow: np.ndarray


class Textures:
    """The random fields of one patient."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._cloud = Field(rng, 256, 80, slope=3.0, corner=0.02)
        self._septa = Field(rng, 256, 80, slope=7.0, corner=0.06, lowest=0.03)
        self._fine = Field(rng, 512, 64, slope=1.3, corner=0.08)

    def at(self, z: float, pixels: int) -> Planes:
        """All textures at level `z`."""
        fine, marrow = (self._fine.at(level, pixels) for level in (z, z + 23))
        return Planes(self._cloud.at(z, pixels), self._septa.at(z, pixels), fine, marrow)


def _amplitude(shape: tuple[int, int, int], spacing: float, slope: float, corner: float, lowest: float) -> np.ndarray:
    """Square root of the power spectrum on the half grid of a real transform, float32; 0 for the mean."""
    axes = [np.fft.fftfreq(n, spacing) for n in shape[:2]] + [np.fft.rfftfreq(shape[2], spacing)]
    z, y, x = (axis.astype(np.float32) for axis in axes)
    squared = z[:, None, None] ** 2 + y[None, :, None] ** 2 + x[None, None, :] ** 2
    amplitude = (squared + np.float32(corner**2)) ** np.float32(-slope / 4)
    amplitude[squared <= lowest**2] = 0
    return amplitude
