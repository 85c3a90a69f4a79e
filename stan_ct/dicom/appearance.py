"""What a series looks like, for comparison with the fingerprints of a model."""

from __future__ import annotations

import numpy as np

from stan_ct.ct.fingerprint import Appearance
from stan_ct.ct.noise import noise_spectrum
from stan_ct.dicom.series import Series, SeriesFiles, load_series

MEASURED = 8
"""Slices of a series, evenly spread, on which its noise is measured."""


def appearance(series: Series) -> Appearance:
    """Measures a series on evenly spread slices."""
    files, chosen = series.files, _spread(len(series.volume))
    thickness = files.slice_thickness if files.slice_thickness > 0 else 0.0
    return Appearance(thickness, max(files.pixel_spacing), noise_spectrum(series.volume[chosen], files.pixel_spacing))


def look_at(files: SeriesFiles) -> Appearance:
    """The same, reading no other slices than these.

    Raises:
        Refused: If none of them can be read.
    """
    few = tuple(files.instances[z] for z in _spread(len(files.instances)))
    return appearance(load_series(SeriesFiles(few, files.grid), workers=1))


def _spread(count: int) -> np.ndarray:
    return np.unique(np.linspace(0, count - 1, MEASURED).round().astype(int))
