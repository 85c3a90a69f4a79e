"""Two spectra of a slice by which kernels are compared without pairs: that of its noise, and that of its structure.

Noise is what uniform soft tissue shows, and its strength is the dose's. Structure is what the body shows whole, skin and lungs
included: edges, whose spectrum is much the same from patient to patient and which no dose changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from stan_ct.ct.filters import Spacing
from stan_ct.ct.fourier import fast_length, rfft2
from stan_ct.ct.hounsfield import AIR
from stan_ct.ct.smoothing import fill_holes

STEP = 0.25
"""Distance of the frequencies, lp/cm."""
FREQUENCY = STEP * np.arange(65)
"""Frequencies of the spectra, lp/cm: to the corner of the spectrum of pixels of 0.45 mm."""
TISSUE = (-150.0, 150.0)
"""HU of fat and soft tissue, after smoothing."""
UNIFORM = 0.25
"""Share of the tissue, that of the smallest gradients, whose noise is measured."""
BODY, BRIGHTEST = -400.0, 1500.0
"""HU of the smoothed slice above which a pixel is not air, and HU at which metal and dense bone are cut off."""
SKIN_REACH = 20.0
"""Distance from the body, mm, to which its surroundings count, so that the edge of the skin does."""
LOCAL = 3.0
"""Standard deviation, mm, of the Gaussian that is taken for the local mean."""
LEAST_AREA = 400.0
"""Smallest area, mm^2, of which a spectrum is measured."""
LEAST_COEFFICIENTS = 16
"""Fewest coefficients of a frequency."""


@dataclass(frozen=True)
class SliceSpectra:
    """Power spectra of a slice, or the mean of several.

    Attributes:
        noise: (len(FREQUENCY),) HU^2 mm^2 of uniform soft tissue; NaN beyond the corner of the spectrum.
        structure: The same of the body with its skin.
        area: Area of the uniform tissue, mm^2.
    """

    noise: np.ndarray
    structure: np.ndarray
    area: float


def slice_spectra(hu: np.ndarray, outside: np.ndarray, spacing: Spacing) -> SliceSpectra | None:
    """Measures a slice.

    Args:
        hu: (H, W) HU, continued beyond its field of view.
        outside: (H, W) bool, True beyond the field of view.
        spacing: (row, column) pixel spacing, mm.
    Returns:
        The spectra; None if there is too little soft tissue.
    """
    image = np.clip(hu, AIR, BRIGHTEST).astype(np.float32)
    tissue, uniform = _uniform_tissue(image, outside, spacing)
    body, around = _body(image, outside, spacing)
    noise, structure = _spectrum(image, tissue, uniform, spacing), _spectrum(image, around, body, spacing)
    if noise is None or structure is None:
        return None
    return SliceSpectra(noise, structure, float(np.square(uniform).sum()) * spacing[0] * spacing[1])


def spectra_of_parts(hu: np.ndarray, outside: np.ndarray, spacing: Spacing) -> list[SliceSpectra]:
    """Measures parts of a slice, which stand for several slices where there is one alone.

    They are the quarters about the centre of the body that show enough soft tissue, or of a small body the halves.

    Args:
        hu: (H, W) HU, continued beyond its field of view.
        outside: (H, W) bool, True beyond the field of view.
        spacing: (row, column) pixel spacing, mm.
    Returns:
        Spectra of two parts or more, or none.
    """
    dense = (hu > BODY) & ~outside
    if not dense.any():
        return []
    row, column = (round(float(np.mean(index))) for index in np.nonzero(dense))
    below = np.broadcast_to(np.arange(hu.shape[0])[:, None] >= row, hu.shape)
    right = np.broadcast_to(np.arange(hu.shape[1]) >= column, hu.shape)
    for parts in ([b & r for b in (~below, below) for r in (~right, right)], [~below, below], [~right, right]):
        found = [slice_spectra(hu, outside | ~part, spacing) for part in parts]
        if len(measured := [each for each in found if each is not None]) > 1:
            return measured
    return []


def mean_spectra(slices: Sequence[SliceSpectra]) -> SliceSpectra:
    """The spectra of some slices of one patient together, weighted by their areas of uniform tissue."""
    area = [each.area for each in slices]
    noise, structure = (np.average([getattr(s, name) for s in slices], 0, area) for name in ("noise", "structure"))
    return SliceSpectra(noise, structure, float(sum(area)))


def _uniform_tissue(image: np.ndarray, outside: np.ndarray, spacing: Spacing) -> tuple[np.ndarray, np.ndarray]:
    """Soft tissue, (H, W) bool, and the weight of its most uniform parts, (H, W) in [0, 1]."""
    smooth = _blur(image, 1.4, spacing)
    tissue = (smooth > TISSUE[0]) & (smooth < TISSUE[1]) & ~outside
    core = _depth(tissue, spacing) > LOCAL
    if core.sum() * spacing[0] * spacing[1] < LEAST_AREA:
        return tissue, np.zeros(image.shape, np.float32)
    coarse = _blur(image, 2.5, spacing)
    slopes = (cv2.Sobel(coarse, cv2.CV_32F, *order) / step for order, step in zip(((0, 1), (1, 0)), spacing, strict=True))
    gradient = _blur(np.hypot(*slopes), 1.5, spacing)
    chosen = (core & (gradient <= np.quantile(gradient[core], UNIFORM))).astype(np.uint8)
    radius = max(1, round(1.5 / min(spacing)))
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    chosen = cv2.morphologyEx(cv2.morphologyEx(chosen, cv2.MORPH_CLOSE, disk), cv2.MORPH_OPEN, disk)
    return tissue, _ramp(_depth(chosen > 0, spacing) / 4)


def _body(image: np.ndarray, outside: np.ndarray, spacing: Spacing) -> tuple[np.ndarray, np.ndarray]:
    """Weight of the body with its skin, (H, W) in [0, 1], and the pixels in question, (H, W) bool."""
    dense = ((_blur(image, 2.0, spacing) > BODY) & ~outside).astype(np.uint8)
    number, parts, statistics, _ = cv2.connectedComponentsWithStats(dense, connectivity=4)
    if number < 2:
        return np.zeros(image.shape, np.float32), np.zeros(image.shape, bool)
    body = fill_holes(parts == 1 + np.argmax(statistics[1:, cv2.CC_STAT_AREA]))
    distance = cv2.distanceTransform((~body).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5) * min(spacing)
    around = (body | (distance < SKIN_REACH)) & ~outside
    return _ramp(_depth(around, spacing) / 8), around


def _spectrum(image: np.ndarray, where: np.ndarray, weight: np.ndarray, spacing: Spacing) -> np.ndarray | None:
    """Radially averaged power of the weighted image less its local mean over `where`, (n,) HU^2 mm^2; None if that is small."""
    energy = float(np.square(weight, dtype=np.float64).sum())
    if energy * spacing[0] * spacing[1] < LEAST_AREA:
        return None
    share = _blur(where.astype(np.float32), LOCAL, spacing)
    mean = _blur(np.where(where, image, 0).astype(np.float32), LOCAL, spacing) / np.maximum(share, 1e-3)
    rows, columns = (np.flatnonzero(weight.any(axis)) for axis in (1, 0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    texture = ((image - mean) * weight)[box]
    shape = [fast_length(max(n + 8, 64)) for n in texture.shape]
    padded = np.pad(texture, [(0, whole - n) for whole, n in zip(shape, texture.shape, strict=True)])
    power = np.square(np.abs(rfft2(padded)), dtype=np.float64) * (spacing[0] * spacing[1] / energy)
    both = np.full(power.shape, 2.0)  # a half spectrum: all but the first column, and the last of an even number, stand for two
    both[:, 0] = 1
    both[:, (shape[1] + 1) // 2 :] = 1
    frequency = np.hypot(np.fft.fftfreq(shape[0], spacing[0] / 10)[:, None], np.fft.rfftfreq(shape[1], spacing[1] / 10))
    nearest = np.rint(frequency / STEP).astype(int)
    inside = nearest < len(FREQUENCY)
    sums, number = (np.bincount(nearest[inside], w[inside], len(FREQUENCY)) for w in (power * both, both))
    return np.where(number >= LEAST_COEFFICIENTS, sums / np.maximum(number, 1), np.nan)


def _blur(image: np.ndarray, sigma: float, spacing: Spacing) -> np.ndarray:
    """Gaussian blur with a standard deviation in mm, (H, W) float32."""
    return cv2.GaussianBlur(image, (0, 0), sigma / spacing[1], sigmaY=sigma / spacing[0], borderType=cv2.BORDER_REFLECT)


def _depth(mask: np.ndarray, spacing: Spacing) -> np.ndarray:
    """Distance from the border of a mask or of the image, mm, (H, W)."""
    padded = np.pad(mask.astype(np.uint8), 1)
    return cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_5)[1:-1, 1:-1] * min(spacing)


def _ramp(depth: np.ndarray) -> np.ndarray:
    """Squared sine that rises from 0 at 0 to 1 at 1, float32."""
    return np.square(np.sin(np.pi / 2 * np.clip(depth, 0, 1))).astype(np.float32)
