"""Slice thickness, pixel spacing and noise spectrum of a series, for comparison with the fingerprints of a model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stan_ct.ct.fingerprint import SeriesCharacteristics
from stan_ct.ct.kernel_shape import kernel_shape
from stan_ct.ct.noise import noise_spectrum
from stan_ct.dicom.refusal import Refused
from stan_ct.dicom.series import Series, SeriesFiles, load_series

NUM_MEASURED = 8
"""Number of slices of a series, evenly spread, on which its noise is measured."""
EVERY = 2
"""Of these, every so many give the shape of the spectra, which takes longer."""


def series_characteristics(series: Series, threads: int = 1) -> SeriesCharacteristics:
    """Measures evenly spread slices of a series, in so many threads."""
    files, chosen = series.files, _spread(len(series.volume))
    thickness = files.slice_thickness if files.slice_thickness > 0 else 0.0
    spectrum = noise_spectrum([series.volume[z] for z in chosen], files.pixel_spacing, threads)
    slices = (series.slice(z) for z in chosen[::EVERY])
    shape = kernel_shape(((each.continued, each.outside) for each in slices), files.pixel_spacing, threads)
    return SeriesCharacteristics(thickness, max(files.pixel_spacing), spectrum, _slice_spacing(files), shape)


def read_characteristics(files: SeriesFiles, complete: bool = False, threads: int = 1) -> SeriesCharacteristics:
    """Like `series_characteristics`, but loads only the slices that it measures.

    Args:
        files: Series.
        complete: Whether every one of them must be read, since `series_characteristics` measures others in their places.
        threads: Number of threads that measure.
    Raises:
        Refused: If none of them can be read, or, where `complete`, if one cannot.
    """
    few = tuple(files.instances[z] for z in _spread(len(files.instances)))
    series = load_series(SeriesFiles(few, files.grid), workers=1)
    if complete and series.refusals:
        raise Refused(series.refusals[0].reason, series.refusals[0].found)
    found = series_characteristics(series, threads)
    return replace(found, slice_spacing=_slice_spacing(files))


def _slice_spacing(files: SeriesFiles) -> float:
    """Median distance of adjacent slices, mm; 0 for a single slice."""
    distances = np.diff([instance.location for instance in files.instances])
    return round(float(np.median(distances)), 3) if distances.size else 0.0


def _spread(count: int) -> np.ndarray:
    """At most `NUM_MEASURED` indices below `count`, evenly spread from the first to the last."""
    return np.unique(np.linspace(0, count - 1, NUM_MEASURED).round().astype(int))
