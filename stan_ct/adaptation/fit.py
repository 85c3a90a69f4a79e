"""Scans of two groups of patients -> the filter between their kernels, and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from stan_ct.adaptation.scans import Measured, Patient, clipping_floor_of, measure
from stan_ct.adaptation.settings import AdaptationError
from stan_ct.ct.blend import LEAST_CLIPPED
from stan_ct.ct.filters import RadialFilter
from stan_ct.ct.slice_spectra import FREQUENCY
from stan_ct.ct.unpaired import LAST_STRUCTURE, LOWEST, Parts, between, fit_gain, take_apart

ROUNDS = 2
"""Times that sources are filtered and clipped as the target was, and the gain is corrected by what is still missing."""
RESAMPLES = 200
"""Bootstrap samples of the patients."""
MOST_LOG_GAIN = 6.5
"""Largest amount of the logarithm of a gain."""
SURE = 0.05
"""Half width of the 95 % interval of the gain, relative, below which there are patients enough: errors of texture follow it."""
FEWEST = 3
"""Patients of a side below which nobody can say how much patients differ."""

Side = Sequence[Measured]
Map = Callable[[Callable, Sequence[tuple]], list]


@dataclass(frozen=True)
class AdaptedFilter:
    """The filter of one source kernel.

    Attributes:
        filter: The filter.
        low: (len(FREQUENCY),) lower end of the 95 % interval of the gain.
        high: The upper end.
        dose: Ratio of the targets' noise to the sources' that doses make, not kernels; the filter leaves it.
        patients: Numbers of source and target patients.
        over: What was resampled for the interval: `patients`; `slices` where a side has one patient, and `parts of a slice`
            where it has one slice.
        nyquist: Nyquist frequency of the coarsest pixels, lp/cm.
        before: Noise amplitude of the sources, geometric mean over the patients, (len(FREQUENCY),) HU mm.
        after: That of the filtered sources.
        target: That of the targets.
    """

    filter: RadialFilter
    low: np.ndarray
    high: np.ndarray
    dose: float
    patients: tuple[int, int]
    over: str
    nyquist: float
    before: np.ndarray
    after: np.ndarray
    target: np.ndarray

    @property
    def uncertainty(self) -> float:
        """Mean half width of the interval, relative to the gain, from 0.5 lp/cm to 0.7 times the Nyquist frequency."""
        used = between(LOWEST, LAST_STRUCTURE * self.nyquist)
        return float(np.mean(np.log(self.high[used] / self.low[used])) / 2)

    @property
    def missing_patients(self) -> int:
        """How many more patients each side needs, at least, for an uncertainty of `SURE`; 0 if there are enough."""
        few = max(FEWEST - min(self.patients), 0)
        if self.over != "patients":
            return few
        return max(few, math.ceil(min(self.patients) * ((self.uncertainty / SURE) ** 2 - 1)))


def adapt_filter(patients: Sequence[Patient], sources: Side, targets: Side, run: Map) -> AdaptedFilter:
    """Fits the filter of one source kernel.

    The gain is fitted as it is applied: sources are filtered and clipped where the target's files clip, which takes power from
    a sharp kernel, and what is still missing is added to the gain.

    Args:
        patients: Source patients.
        sources: What was measured of them.
        targets: What was measured of target patients.
        run: Calls a function on tasks and returns the results in their order, in several processes perhaps.
    Raises:
        AdaptationError: If a side has one slice alone.
    """
    spacings = [spacing for side in (sources, targets) for m in side for spacing in _spacings(m)]
    nyquist, finest = 5 / max(spacings), 5 / min(spacings)
    corner = min(math.sqrt(2) * finest, float(FREQUENCY[-1]))
    floor, wanted = clipping_floor_of(targets, LEAST_CLIPPED), [take_apart(each.spectra) for each in targets]
    log_gain, made = np.zeros(len(FREQUENCY)), list(sources)
    for number in range(ROUNDS + 1):
        found = fit_gain([take_apart(each.spectra) for each in made], wanted, nyquist, corner)
        log_gain = np.clip(log_gain + found.log_gain, -MOST_LOG_GAIN, MOST_LOG_GAIN)
        curve = _filter(log_gain, corner, floor)
        if number < ROUNDS:
            filtered = run(measure, [(patient, curve) for patient in patients])
            made = [each for each in filtered if each is not None]
    few = min(len(made), len(targets)) == 1
    units = [_units(each, few) for each in (made, targets)]
    if min(map(len, units)) < 2:
        raise AdaptationError(
            "a side has one slice alone, and too little tissue in it to tell how sure a filter is: two slices or more are "
            "needed"
        )
    spread = _resampled(units, nyquist, corner) - found.log_gain
    low, high = (np.exp(log_gain + q) for q in np.quantile(spread, (0.025, 0.975), axis=0))
    noise = {name: _noise(side) for name, side in (("before", sources), ("after", made), ("target", targets))}
    ceiling = np.max([each.ceiling for each in made], axis=0)
    return AdaptedFilter(
        _filter(log_gain, corner, floor, ceiling),
        low,
        high,
        math.exp(found.dose),
        (len(sources), len(targets)),
        _resampled_over(few, sources, targets),
        nyquist,
        **noise,
    )


def _spacings(measured: Measured) -> list[float]:
    return [each.pixel_spacing for each in measured.characteristics] or [0.7]


def _filter(log_gain: np.ndarray, corner: float, floor: float | None, ceiling: np.ndarray | None = None) -> RadialFilter:
    """The gain as a filter, to the first frequency at or beyond the corner of the spectrum."""
    used = slice(0, 1 + int(np.searchsorted(FREQUENCY, corner)))
    limit = () if ceiling is None else tuple(ceiling[used].round(3).tolist())
    gain = np.exp(log_gain[used]).round(5).tolist()
    return RadialFilter(tuple(FREQUENCY[used].tolist()), (1.0, *gain[1:]), limit, floor)


def _units(side: Side, by_slice: bool) -> list[Parts]:
    """What is resampled: patients, or their slices or the parts of one."""
    return [take_apart(s) for each in side for s in (each.each if by_slice else (each.spectra,))]


def _resampled_over(few: bool, *sides: Side) -> str:
    """What the units are, in a word."""
    if not few:
        return "patients"
    return "parts of a slice" if min(sum(len(each.slices) for each in side) for side in sides) == 1 else "slices"


def _resampled(sides: Sequence[Sequence[Parts]], nyquist: float, corner: float) -> np.ndarray:
    """Logarithms of the gain for bootstrap samples of both sides, (RESAMPLES, n)."""
    rng = np.random.default_rng(0)
    samples = ([[side[i] for i in rng.integers(0, len(side), len(side))] for side in sides] for _ in range(RESAMPLES))
    return np.stack([fit_gain(source, target, nyquist, corner).log_gain for source, target in samples])


def _noise(side: Side) -> np.ndarray:
    return np.exp(np.mean([np.log(take_apart(each.spectra).noise) for each in side], axis=0) / 2)
