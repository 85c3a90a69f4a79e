"""How far sites differ in noise and in the HU of tissues, before and after standardization."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import numpy as np
from scipy import stats

from stan_ct.ct.tissues import TISSUES
from stan_ct.evaluation.sites.features import AFTER, BEFORE
from stan_ct.evaluation.sites.measure import FREQUENCIES, Measured
from stan_ct.evaluation.statistics.agreement import Interval
from stan_ct.evaluation.statistics.distance import ByChance, by_chance

SHAPE_FROM = 1.0
"""Lowest frequency at which the shape of noise spectra is compared, lp/cm: below, detrending removes power."""


@dataclass(frozen=True)
class Mean:
    """Mean over patients, its 95 % t interval, standard deviation, and number of patients; NaN without any."""

    mean: float
    interval: Interval
    sd: float
    n: int


@dataclass(frozen=True)
class ImageComparison:
    """Noise and HU of tissues.

    Attributes:
        states: States, in reading order.
        shapes: Pair of sites -> state -> distance of the mean shapes of their noise spectra, rms of the natural logarithm of
            amplitude from `SHAPE_FROM` to the lowest Nyquist frequency, each less its mean; beside chance.
        noise: State -> site -> standard deviation of the noise, HU.
        tissues: State -> site -> tissue -> HU.
        changes: Site -> tissue -> change of HU by standardization; empty without.
        powers: State -> site -> noise power of each patient at `FREQUENCIES`, (patients, F).
    """

    states: tuple[str, ...]
    shapes: Mapping[tuple[str, str], Mapping[str, ByChance]]
    noise: Mapping[str, Mapping[str, Mean]]
    tissues: Mapping[str, Mapping[str, Mapping[str, Mean]]]
    changes: Mapping[str, Mapping[str, Mean]]
    powers: Mapping[str, Mapping[str, np.ndarray]]


def compare_images(measured: Sequence[Measured], standardized: bool, permutations: int = 500, seed: int = 0) -> ImageComparison:
    """Compares noise and HU of sites.

    Args:
        measured: Measurements of the scans.
        standardized: Whether there are scans after standardization.
        permutations: Number of permutations of the sites.
        seed: Seed.
    """
    states = (BEFORE, AFTER) if standardized else (BEFORE,)
    sites = np.array([m.scan.site for m in measured])
    patients = np.array([m.scan.patient for m in measured])
    names = tuple(dict.fromkeys(sites.tolist()))
    of = {site: [m for m in measured if m.scan.site == site] for site in names}
    shapes: dict[tuple[str, str], dict[str, ByChance]] = {}
    for pair in combinations(names, 2):
        for state in states:
            power = np.array([m.noise[state] for m in measured])
            rows = np.isin(sites, pair) & np.isfinite(power).any(axis=1)
            statistic = partial(shape_distance, spectrum_shapes(power[rows]))
            found = by_chance(statistic, sites[rows] == pair[1], patients[rows], permutations, seed)
            shapes.setdefault(pair, {})[state] = found

    def tissues(site: str, values: Sequence[np.ndarray]) -> dict[str, Mean]:
        return {tissue: mean_of(np.array([v[t] for v in values])) for t, tissue in enumerate(TISSUES)}

    return ImageComparison(
        states,
        shapes,
        {s: {site: mean_of(np.array([m.noise_sd[s] for m in ms])) for site, ms in of.items()} for s in states},
        {s: {site: tissues(site, [m.tissues[s] for m in ms]) for site, ms in of.items()} for s in states},
        {
            site: tissues(site, [m.tissues[AFTER] - m.tissues[BEFORE] for m in ms])
            for site, ms in of.items()
            if standardized and any(m.scan.standardized is not None for m in ms)
        },
        {s: {site: np.array([m.noise[s] for m in ms]) for site, ms in of.items()} for s in states},
    )


def spectrum_shapes(power: np.ndarray) -> np.ndarray:
    """Shapes of noise spectra: natural logarithm of amplitude less its mean, at the frequencies that all spectra have.

    Args:
        power: (n, F) at `FREQUENCIES`, NaN beyond Nyquist.
    Returns:
        (n, f), f >= 0.
    """
    known = np.isfinite(power).all(axis=0) & (power > 0).all(axis=0) & (FREQUENCIES >= SHAPE_FROM)
    logarithm = np.log(power[:, known]) / 2
    return logarithm - logarithm.mean(axis=1, keepdims=True) if known.any() else logarithm


def shape_distance(shapes: np.ndarray, second: np.ndarray) -> float:
    """Root mean square difference of the mean shapes of two groups; NaN if a group is empty or there is no frequency."""
    if not (second.any() and (~second).any() and shapes.shape[1]):
        return np.nan
    return float(np.sqrt(np.mean((shapes[second].mean(axis=0) - shapes[~second].mean(axis=0)) ** 2)))


def mean_of(values: np.ndarray) -> Mean:
    """Mean of the defined values, with a t interval from two values on."""
    x = values[np.isfinite(values)]
    if not len(x):
        return Mean(np.nan, Interval(np.nan, np.nan, "no patient has it"), np.nan, 0)
    mean = float(x.mean())
    if len(x) < 2:
        return Mean(mean, Interval(np.nan, np.nan, "one patient"), np.nan, 1)
    sd = float(x.std(ddof=1))
    half = float(stats.t.ppf(0.975, len(x) - 1)) * sd / np.sqrt(len(x))
    return Mean(mean, Interval(mean - half, mean + half), sd, len(x))
