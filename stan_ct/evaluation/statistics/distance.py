"""How far two groups of patients lie apart in a feature: Cohen's d with its interval, Kolmogorov-Smirnov.

Features are (m, k) of one group and (n, k) of the other, a row for each patient.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from stan_ct.evaluation.statistics.agreement import ROUNDING, Interval


@dataclass(frozen=True)
class ByChance:
    """What a statistic would be if patients were dealt to the groups at random.

    Attributes:
        found: The statistic of the groups as they are.
        expected: Its median over random groups.
        p: Share of random groups in which it is at least as large, the true one counted in.
    """

    found: float
    expected: float
    p: float


def cohens_d(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    r"""Cohen's d of independent groups, :math:`(\bar y - \bar x) / s`, with the pooled standard deviation s.

    Returns:
        (k,), > 0 if y is larger; NaN if a group has fewer than two patients, a value is not finite, or both are constant.
    Reference: Cohen, Statistical Power Analysis for the Behavioral Sciences (1988), Eq. 2.5.1.
    Example:
        >>> cohens_d(np.array([[1.0], [2.0], [3.0]]), np.array([[3.0], [4.0], [5.0]]))
        array([2.])
    """
    x, y = _groups(x, y)
    m, n = len(x), len(y)
    if min(m, n) < 2:
        return np.full(x.shape[1], np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        pooled = np.sqrt(((m - 1) * x.var(axis=0, ddof=1) + (n - 1) * y.var(axis=0, ddof=1)) / (m + n - 2))
        constant = pooled <= ROUNDING * np.maximum(np.abs(x).max(axis=0), np.abs(y).max(axis=0))
        return np.where(constant, np.nan, (y.mean(axis=0) - x.mean(axis=0)) / pooled)


def d_interval(d: float, m: int, n: int, confidence: float = 0.95) -> Interval:
    """Confidence interval of Cohen's d, from the noncentral t distribution; exact for normal features.

    Args:
        d: Cohen's d; NaN if undefined.
        m: Number of patients of one group.
        n: Number of patients of the other.
        confidence: Confidence level, in (0, 1).
    Reference: Steiger & Fouladi, in What If There Were No Significance Tests? (1997), 221-257.
    Example:
        >>> interval = d_interval(0.0, 10, 10)
        >>> round(interval.low, 3), round(interval.high, 3)  # -+ 1.960 sqrt(1 / 10 + 1 / 10)
        (-0.877, 0.877)
    """
    if np.isnan(d):
        return Interval(np.nan, np.nan, "Cohen's d is undefined")
    root = np.sqrt(m * n / (m + n))
    t, tail = d * root, (1 - confidence) / 2

    def below(noncentrality: float) -> float:
        found = stats.nct.cdf(t, m + n - 2, noncentrality)
        return float(noncentrality < t) if np.isnan(found) else float(found)  # SciPy gives up far out

    def end(probability: float) -> float:
        reach = 10 + 2 * abs(t)
        return float(optimize.brentq(lambda nc: below(nc) - probability, t - reach, t + reach) / root)

    return Interval(end(1 - tail), end(tail))


def ks(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Kolmogorov-Smirnov distance, (k,) in [0, 1], and its p adjusted over the features (Benjamini-Hochberg); NaN if undefined.

    Example:
        >>> ks(np.array([[1.0], [2.0]]), np.array([[3.0], [4.0]]))[0]
        array([1.])
    """
    x, y = _groups(x, y)
    distance, p = np.full((2, x.shape[1]), np.nan)
    for f in range(x.shape[1]):
        if len(x) and len(y) and np.isfinite(x[:, f]).all() and np.isfinite(y[:, f]).all():
            with warnings.catch_warnings(action="ignore"):  # that p is asymptotic where the exact one overflows
                distance[f], p[f] = stats.ks_2samp(x[:, f], y[:, f])
    return distance, adjusted(p)


def adjusted(p: np.ndarray) -> np.ndarray:
    """q values of Benjamini and Hochberg; NaN stay NaN and do not count."""
    q, defined = np.array(p, np.float64), ~np.isnan(p)
    q[defined] = stats.false_discovery_control(q[defined]) if defined.any() else np.nan
    return q


def by_chance(
    statistic: Callable[[np.ndarray], float], second: np.ndarray, patients: np.ndarray, permutations: int = 500, seed: int = 0
) -> ByChance:
    """A statistic of two groups, beside what it is by chance.

    Args:
        statistic: Function of which rows are of the second group, (n,) bool; large values mean that the groups differ.
        second: The true groups.
        patients: Patient of each row, (n,); the two rows of one who is in both groups change places, others are dealt anew.
        permutations: Number of random deals.
        seed: Seed.
    """
    found, rng = statistic(second), np.random.default_rng(seed)
    if np.isnan(found):
        return ByChance(np.nan, np.nan, np.nan)
    random = np.array([statistic(dealt(second, patients, rng)) for _ in range(permutations)])
    return ByChance(found, float(np.nanmedian(random)), float((1 + np.sum(random >= found * (1 - 1e-9))) / (1 + permutations)))


def median_distance(values: np.ndarray, second: np.ndarray) -> float:
    """Median over features of |d|, of those that have one; NaN without any."""
    d = np.abs(cohens_d(values[~second], values[second]))
    return float(np.median(d[np.isfinite(d)])) if np.isfinite(d).any() else np.nan


def dealt(second: np.ndarray, patients: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Groups dealt at random, (n,) bool: each keeps its size, and a patient who is in both stays in both."""
    result = np.array(second)
    names, index, counts = np.unique(patients, return_inverse=True, return_counts=True)
    alone = counts[index] == 1
    result[alone] = rng.permutation(result[alone])
    swap = rng.random(len(names)) < 0.5
    return np.where(~alone & swap[index], ~result, result)


def _groups(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ValueError(f"expected two groups of the same features, (m, k) and (n, k), got {x.shape} and {y.shape}")
    return x, y
