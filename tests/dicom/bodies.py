"""Slices of simple bodies: a fat ellipse with muscle, lungs and bones of each patient's own, and noise before any kernel."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from scipy import fft

from stan_ct.ct.spectra import radial_frequency

SIDE, PITCH = 256, 0.8
"""Pixels and pixel spacing, mm, of a slice."""
NOISE = 10.0
"""Standard deviation of the noise before any kernel, HU, at dose 1."""


def body(seed: int, dose: float) -> tuple[np.ndarray, np.ndarray]:
    """Object and noise before any kernel, (SIDE, SIDE) HU each; noise grows by the factor `dose`, as a lower dose has it."""
    rng = np.random.default_rng(seed)
    over = 4
    canvas = np.full((SIDE * over, SIDE * over), -1000.0, np.float32)

    def ellipse(centre: tuple[float, float], axes: tuple[float, float], hu: float) -> None:
        points = (tuple(round(over * SIDE * c) for c in centre), tuple(round(over * SIDE * a) for a in axes))
        cv2.ellipse(canvas, *points, float(rng.uniform(0, 40)), 0, 360, hu, -1)

    ellipse((0.5, 0.5), (0.42 + 0.03 * rng.random(), 0.34 + 0.03 * rng.random()), -100.0)
    ellipse((0.5, 0.5), (0.38, 0.3), 50.0)
    for side in (0.33, 0.67):
        ellipse((side, 0.42 + 0.04 * rng.random()), (0.1 + 0.02 * rng.random(), 0.12), -850.0)
    for _ in range(12):
        x, y = rng.uniform(0.25, 0.75, 2)
        ellipse((x, y), tuple(rng.uniform(0.006, 0.02, 2)), float(rng.choice([-100.0, 20.0, 120.0, 500.0])))
    small = cv2.resize(canvas, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return small.astype(np.float64), dose * NOISE * rng.standard_normal((SIDE, SIDE))


def reconstruct(hu: np.ndarray, noise: np.ndarray, mtf: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """A slice in a kernel, (SIDE, SIDE) HU, from what :func:`body` returns; the noise gets the ramp of back-projection."""
    frequency = radial_frequency(hu.shape, (PITCH, PITCH))
    spectrum = fft.rfft2(hu + 1000) + fft.rfft2(noise) * np.sqrt(frequency)
    return fft.irfft2(spectrum * mtf(frequency), s=hu.shape) - 1000
