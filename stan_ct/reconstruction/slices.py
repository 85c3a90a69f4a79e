"""A series slice by slice: each is standardized and compared with its source, several at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Generator, Iterable
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np

from stan_ct.ct.source_slice import SourceSlice
from stan_ct.dicom.series import Series
from stan_ct.parallel import threaded
from stan_ct.reconstruction.adjacent import PreparedSlices
from stan_ct.reconstruction.fidelity import Fidelity, SliceFidelity, fit, fitted_slices, series_fidelity, slice_fidelity
from stan_ct.reconstruction.pipeline import SliceResult, standardize_slice
from stan_ct.reconstruction.qualification import Synthesizer
from stan_ct.reconstruction.settings import PipelineSettings
from stan_ct.reconstruction.source_checks import SourceCheck, check_source_slice
from stan_ct.volume_file import zeros_like


def standardize_slices(
    series: Series,
    synthesizer: Synthesizer,
    settings: PipelineSettings,
    *,
    kernel: str | None = None,
    keep: Collection[int] = (),
    at_once: int = 1,
    progress: Callable[[Iterable], Iterable] = iter,
) -> tuple[np.ndarray, list[SliceResult], Fidelity, list[SourceCheck]]:
    """Standardizes every slice of a series, and compares the series with its source.

    The slices on which the filter of the comparison is fitted come first; every other one is compared as soon as it is
    standardized. What becomes of a slice does not depend on the others, nor on how many are under way.

    Args:
        series: The source.
        synthesizer: Makes standard patches; it is called from as many threads as slices are under way.
        settings: The switches.
        kernel: The model's source kernel as which the series is treated; None for the series' own.
        keep: Indices of the slices whose residuals are kept, for pictures.
        at_once: Number of slices under way at a time.
        progress: Wraps the iteration over slices.
    Returns:
        (Z, H, W) float32 HU, where the source's volume is, in memory or on disk; each slice's result with an empty image; the
        comparison; and what was measured of each slice of the source.
    """
    work = _Work(series, synthesizer, settings, kernel or series.files.kernel, keep, at_once)
    with closing(work.steps()) as steps:
        for _ in progress(range(len(series.volume))):
            next(steps)
        return next(steps)


class _Work:
    """The slices of a series under way; arguments as for :func:`standardize_slices`."""

    def __init__(
        self,
        series: Series,
        synthesizer: Synthesizer,
        settings: PipelineSettings,
        kernel: str,
        keep: Collection[int],
        at_once: int,
    ) -> None:
        self._series, self._synthesizer, self._settings, self._kernel = series, synthesizer, settings, kernel
        self._keep, self._at_once = keep, at_once
        self._beside = PreparedSlices(series, synthesizer, kernel)
        self._volume = zeros_like(series.volume)
        self._sources: dict[int, SourceSlice] = {}
        self._results: dict[int, SliceResult] = {}
        self._checks: dict[int, SourceCheck] = {}

    def steps(self) -> Generator[Any, None, None]:
        """Does the work.

        Yields:
            None for each slice that is done, and then the results.
        """
        slices = range(len(self._volume))
        first = fitted_slices(len(slices))
        for z, source in zip(first, threaded(self._standardize, first, self._at_once), strict=True):
            self._sources[z] = source
            yield
        explained = fit((self._sources[z], self._volume[z]) for z in first)

        def compare(z: int) -> SliceFidelity:
            source = self._sources.pop(z, None) or self._standardize(z)
            return slice_fidelity(source, self._volume[z], explained, z in self._keep)

        order = [*first, *(z for z in slices if z not in self._results)]
        compared = {}
        for z, found in zip(order, threaded(compare, order, self._at_once), strict=True):
            compared[z] = found
            if len(compared) > len(first):
                yield
        fidelity = series_fidelity([compared[z] for z in slices], explained)
        yield self._volume, [self._results[z] for z in slices], fidelity, [self._checks[z] for z in slices]

    def _standardize(self, z: int) -> SourceSlice:
        source, rng = self._series.slice(z), generator(self._settings.seed, self._series.instances[z].uid)
        result = standardize_slice(source, self._synthesizer, self._settings, rng, self._kernel, self._beside.beside(z))
        self._volume[z] = result.hu
        self._checks[z] = check_source_slice(self._series, z)
        self._results[z] = replace(result, hu=np.empty((0, 0), np.float32))
        return source


def generator(seed: int, uid: str) -> np.random.Generator:
    """Random numbers of a slice, whatever its place in the series and the order of the work."""
    digest = hashlib.sha256(uid.encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])
