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


def median_stability(before: np.ndarray, after: np.ndarray) -> tuple[float, Interval]:
    """Median over features of :func:`rank_stability`, and its 95 % interval (:func:`rho_interval`).

    Args:
        before: (n, k).
        after: (n, k), the same patients.
    """
    n = len(before)
    if n < MIN_PATIENTS:
        return np.nan, Interval(np.nan, np.nan, f"{n} patients, {MIN_PATIENTS} needed for ranks")
    rho = rank_stability(before, after)
    if not np.isfinite(rho).any():
        return np.nan, Interval(np.nan, np.nan, "no feature varies")
    found = float(np.median(rho[np.isfinite(rho)]))
    return found, rho_interval(found, n)


def rho_interval(rho: float, n: int, confidence: float = 0.95) -> Interval:
    """Confidence interval of Spearman's rho over n patients, by Fisher's transformation.

    A rho of 1 counts as 1 less half of what a swap of neighbours takes, so that few patients have a wide interval even where
    none changed places.

    Args:
        rho: Spearman's rho, in [-1, 1].
        n: Number of patients, at least `MIN_PATIENTS`.
        confidence: Confidence level, in (0, 1).
    Note:
        Percentiles over patients drawn with replacement are too narrow: a patient who is drawn twice agrees with itself.
    Reference: Bonett & Wright, Psychometrika 65 (2000) 23-28.
    Example:
        >>> [(round(i.low, 2), round(i.high, 2)) for i in (rho_interval(1.0, 4), rho_interval(0.95, 25))]
        [(-0.69, 1.0), (0.87, 0.98)]
    """
    most = 1 - 6 / (n * (n**2 - 1))
    within = float(np.clip(rho, -most, most))
    half = float(stats.norm.ppf((1 + confidence) / 2)) * np.sqrt((1 + within**2 / 2) / (n - 3))
    low, high = np.tanh(np.arctanh(within) - half), np.tanh(np.arctanh(within) + half)
    return Interval(min(float(low), rho), max(float(high), rho))


def _correlation(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pearson's r of each column of x and the same, or the only, column of y; each centred within what it was ranked in."""
    products, norms = (x * y).sum(axis=0), np.sqrt((x**2).sum(axis=0) * (y**2).sum(axis=0))
    return np.where(norms > 1e-12, products / np.maximum(norms, 1e-12), np.nan)
