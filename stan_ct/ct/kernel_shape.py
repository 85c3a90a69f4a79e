"""The shape of a kernel's spectra, from low frequencies on: by it a series is told to be of a kernel, whatever its name.

The first values are of structure, less its mean at the lowest frequencies; the others of noise, of which the level, the
dose's, is left out when shapes are compared. All are natural logarithms of amplitudes.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from stan_ct.ct.filters import Spacing
from stan_ct.ct.slice_spectra import STEP, mean_spectra, slice_spectra
from stan_ct.ct.unpaired import FIRST_NOISE, LAST_STRUCTURE, between, take_apart
from stan_ct.parallel import threaded

OF_STRUCTURE = tuple(float(f) for f in np.arange(1.0, 5.01, 0.5))
"""Frequencies at which structure is compared, lp/cm."""
OF_NOISE = tuple(float(f) for f in np.arange(3.0, 10.01, 0.5))
"""Frequencies at which noise is compared, lp/cm."""
LOW = (0.5, 0.75)
"""Frequencies at which structure is taken to be the same in all kernels, lp/cm."""
SIZE = len(OF_STRUCTURE) + len(OF_NOISE)
"""Number of values of a shape."""


def kernel_shape(slices: Iterable[tuple[np.ndarray, np.ndarray]], spacing: Spacing, threads: int = 1) -> np.ndarray:
    """Measures the shape on some slices of a series.

    Args:
        slices: (H, W) HU, continued beyond the field of view, and what lies beyond it, (H, W) bool.
        spacing: (row, column) pixel spacing, mm.
        threads: Number of threads, each of which measures a slice.
    Returns:
        (SIZE,) float64; NaN beyond what the pixels hold, and everywhere if no slice shows enough soft tissue.
    """
    measured = threaded(lambda each: slice_spectra(*each, spacing), slices, threads)
    found = [spectra for spectra in measured if spectra is not None]
    if not found:
        return np.full(SIZE, np.nan)
    parts, nyquist = take_apart(mean_spectra(found)), 5 / max(spacing)
    with np.errstate(divide="ignore"):
        structure, noise = (np.log(power) / 2 for power in (parts.structure, parts.noise))
    structure = structure - structure[between(*LOW)].mean()
    of_structure = [_at(structure, f) if f <= LAST_STRUCTURE * nyquist else np.nan for f in OF_STRUCTURE]
    of_noise = [_at(noise, f) if min(FIRST_NOISE, nyquist / 2) <= f <= nyquist else np.nan for f in OF_NOISE]
    shape = np.array([*of_structure, *of_noise])
    return np.where(np.isfinite(shape), shape, np.nan)


def _at(curve: np.ndarray, frequency: float) -> float:
    return float(curve[round(frequency / STEP)])


def shape_distance(one: np.ndarray, other: np.ndarray) -> float:
    """Distance of two shapes: root mean square difference of structure or of noise, whichever is larger.

    Args:
        one: (SIZE,) natural logarithms, NaN where unknown.
        other: The same.
    Returns:
        Natural logarithm; NaN if fewer than three values of both structure and noise are known in both.
    """
    difference = np.asarray(one, np.float64) - np.asarray(other, np.float64)
    structure, noise = np.split(difference, [len(OF_STRUCTURE)])
    structure, noise = structure[np.isfinite(structure)], noise[np.isfinite(noise)]
    distances = ([np.sqrt(np.mean(structure**2))] if structure.size >= 3 else []) + ([noise.std()] if noise.size >= 3 else [])
    return float(max(distances, default=np.nan))
