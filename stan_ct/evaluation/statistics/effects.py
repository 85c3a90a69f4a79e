"""Whether biology stays when features are harmonized: effects of covariates, and ranks of patients within their sites.

Ranks are taken within each site, so that a difference of the sites in location or scale cannot feign an effect or hide one.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from stan_ct.evaluation.statistics.agreement import Interval

MIN_PATIENTS = 4
"""Least number of patients at a site for ranks within it: of three, one swap halves Spearman's rho."""


def ranks_within(values: np.ndarray, sites: np.ndarray) -> np.ndarray:
    """Ranks of each column within each site, centred on 0 and in (-0.5, 0.5); ties share their mean rank.

    Args:
        values: (n, k), finite.
        sites: Site of each row, (n,).
    Example:
        >>> ranks_within(np.array([[3.0], [1.0], [10.0], [20.0]]), np.array(["A", "A", "B", "B"])).ravel().tolist()
        [0.25, -0.25, -0.25, 0.25]
    """
    values, result = np.asarray(values, np.float64), np.zeros(np.shape(values))
    for site in np.unique(sites):
        here = np.asarray(sites) == site
        result[here] = (stats.rankdata(values[here], axis=0) - 0.5) / here.sum() - 0.5
    return result


def within_site_effect(values: np.ndarray, covariate: np.ndarray, sites: np.ndarray) -> np.ndarray:
    """Spearman's rho of each feature and a covariate within sites, pooled over sites, (k,).

    The correlation of ranks within sites, all sites together.

    Args:
        values: (n, k), finite.
        covariate: (n,), finite.
        sites: Site of each row, (n,).
    Returns:
        In [-1, 1]; NaN where the feature or the covariate is constant within every site.
    """
    return _correlation(ranks_within(values, sites), ranks_within(np.asarray(covariate)[:, None], sites))


def pooled_effect(values: np.ndarray, covariate: np.ndarray) -> np.ndarray:
    """Spearman's rho of each feature and a covariate over all patients, as if there were no sites, (k,)."""
    return within_site_effect(values, covariate, np.zeros(len(values), int))


def effect_p(rho: np.ndarray, patients: int, sites: int) -> np.ndarray:
    """p values of :func:`within_site_effect`, by the t distribution with n - 1 - (number of sites) degrees of freedom."""
    freedom = patients - 1 - sites
    if freedom < 1:
        return np.full(np.shape(rho), np.nan)
    with np.errstate(divide="ignore"):
        t = np.abs(rho) * np.sqrt(freedom / np.maximum(1 - np.square(rho), 0.0))
    return 2 * stats.t.sf(t, freedom)


def rank_stability(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Spearman's rho of each feature before and after over the patients of one site, (k,); NaN if constant in either.

    Args:
        before: (n, k).
        after: (n, k), the same patients.
    Example:
        >>> rank_stability(np.array([[1.0], [2.0], [3.0], [4.0]]), np.array([[1.0], [2.0], [9.0], [4.0]]))
        array([0.8])
    """
    one = np.zeros(len(before), int)
    return _correlation(ranks_within(before, one), ranks_within(after, one))


def median_stability(before: np.ndarray, after: np.ndarray, resamples: int = 500, seed: int = 0) -> tuple[float, Interval]:
    """Median over features of :func:`rank_stability`, and its 95 % percentile interval over patients drawn with replacement.

    Args:
        before: (n, k).
        after: (n, k), the same patients.
        resamples: Number of draws; with fewer than `MIN_PATIENTS` patients there is no interval.
        seed: Seed.
    """

    def median(rows: np.ndarray) -> float:
        rho = rank_stability(before[rows], after[rows])
        return float(np.median(rho[np.isfinite(rho)])) if np.isfinite(rho).any() else np.nan

    n, rng = len(before), np.random.default_rng(seed)
    if n < MIN_PATIENTS:
        return np.nan, Interval(np.nan, np.nan, f"{n} patients, {MIN_PATIENTS} needed for ranks")
    found = median(np.arange(n))
    drawn = np.array([median(rng.integers(0, n, n)) for _ in range(resamples)])
    drawn = drawn[np.isfinite(drawn)]
    if np.isnan(found) or not len(drawn):
        return found, Interval(np.nan, np.nan, "no feature varies")
    low, high = np.quantile(drawn, [0.025, 0.975])
    return found, Interval(float(low), float(high))


def _correlation(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pearson's r of each column of x and the same, or the only, column of y; each centred within what it was ranked in."""
    products, norms = (x * y).sum(axis=0), np.sqrt((x**2).sum(axis=0) * (y**2).sum(axis=0))
    return np.where(norms > 1e-12, products / np.maximum(norms, 1e-12), np.nan)
