"""First-order statistics of HU and of gray levels (IBSI "intensity-based statistics" and "intensity histogram").

All functions take rows of equal length, (N, n): N patches of n pixels, or one ROI as `volume[mask][None]`. In the formulas
:math:`x_1 .. x_n` are the values of a row, :math:`\\mu` is their mean and :math:`P_k` their k-th percentile, interpolated
linearly between the sorted values.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

STATISTICS = {
    "mean": "Q4LE",
    "variance": "ECT3",
    "skewness": "KE2A",
    "excess_kurtosis": "IPH6",
    "median": "Y12H",
    "minimum": "1GSF",
    "p10": "QG58",
    "p90": "8DWT",
    "maximum": "84IY",
    "interquartile_range": "SALO",
    "range": "2OJQ",
    "mean_absolute_deviation": "4FUA",
    "robust_mean_absolute_deviation": "1128",
    "median_absolute_deviation": "N72L",
    "coefficient_of_variation": "7TET",
    "quartile_coefficient_of_dispersion": "9S40",
    "energy": "N8CA",
    "root_mean_square": "5ZWQ",
}
"""Statistic -> its code in the IBSI reference manual, in the order of :func:`statistics`."""

HISTOGRAM = {"entropy": "TLU2", "uniformity": "BJ5W"}
"""Feature of the histogram of gray levels -> its code in the IBSI reference manual."""


def statistics(values: np.ndarray) -> dict[str, np.ndarray]:
    r"""IBSI's intensity-based statistics.

    ==================================  ===================================================================================
    mean, variance                      :math:`\mu`, :math:`\sigma^2 = \frac{1}{n} \sum (x_i - \mu)^2`
    skewness, excess_kurtosis           :math:`\frac{1}{n} \sum (x_i - \mu)^3 / \sigma^3`,
                                        :math:`\frac{1}{n} \sum (x_i - \mu)^4 / \sigma^4 - 3`; both 0 if all values are equal
    interquartile_range, range          :math:`P_{75} - P_{25}`, maximum - minimum
    mean_absolute_deviation             :math:`\frac{1}{n} \sum |x_i - \mu|`
    robust_mean_absolute_deviation      the same of the values in :math:`[P_{10}, P_{90}]`, from their own mean
    median_absolute_deviation           mean distance from the median, :math:`\frac{1}{n} \sum |x_i - P_{50}|`
    coefficient_of_variation            :math:`\sigma / \mu`
    quartile_coefficient_of_dispersion  :math:`(P_{75} - P_{25}) / (P_{75} + P_{25})`
    energy, root_mean_square            :math:`\sum x_i^2`, :math:`\sqrt{\frac{1}{n} \sum x_i^2}`
    ==================================  ===================================================================================

    Args:
        values: (N, n) HU or levels, finite, n >= 1.
    Returns:
        Statistic -> (N,) float64, in HU (variance and energy HU^2; skewness, kurtosis and the coefficients have no unit);
        keys and order as `STATISTICS`. NaN (undefined) are a coefficient whose divisor is 0, and the robust deviation of two
        different values (none is in [P10, P90]).
    Raises:
        ValueError: If `values` has not two dimensions, has no column, or holds a NaN or infinity.
    Example:
        >>> found = statistics(np.array([[1, 1, 1, 5]]))
        >>> [found[name].item() for name in ("mean", "variance", "median", "range", "energy")]
        [2.0, 3.0, 1.0, 4.0, 28.0]
    """
    x = _rows(values)
    minimum, p10, p25, median, p75, p90, maximum = np.percentile(x, [0, 10, 25, 50, 75, 90, 100], axis=1)
    mean = np.where(minimum == maximum, minimum, x.mean(axis=1))  # of equal values without a rounding error
    deviations = x - mean[:, None]
    squares = deviations * deviations  # powers other than 2 take NumPy twenty times as long as products
    variance = np.mean(squares, axis=1)
    return {
        "mean": mean,
        "variance": variance,
        "skewness": _ratio(np.mean(squares * deviations, axis=1), variance**1.5, where_zero=0.0),
        "excess_kurtosis": _ratio(np.mean(squares * squares, axis=1), variance**2, where_zero=3.0) - 3,
        "median": median,
        "minimum": minimum,
        "p10": p10,
        "p90": p90,
        "maximum": maximum,
        "interquartile_range": p75 - p25,
        "range": maximum - minimum,
        "mean_absolute_deviation": np.abs(deviations).mean(axis=1),
        "robust_mean_absolute_deviation": _robust_deviation(x, p10, p90),
        "median_absolute_deviation": np.abs(x - median[:, None]).mean(axis=1),
        "coefficient_of_variation": _ratio(np.sqrt(variance), mean),
        "quartile_coefficient_of_dispersion": _ratio(p75 - p25, p75 + p25),
        "energy": np.sum(x**2, axis=1),
        "root_mean_square": np.sqrt(np.mean(x**2, axis=1)),
    }


def histogram_features(levels: np.ndarray) -> dict[str, np.ndarray]:
    r"""Entropy and uniformity of the histogram of gray levels; :math:`p_i` is the share of values of level i.

    Args:
        levels: (N, n) integer gray levels, n >= 1.
    Returns:
        "entropy" :math:`-\sum_i p_i \log_2 p_i` in [0, log2(levels)] bits and "uniformity" :math:`\sum_i p_i^2` in (0, 1],
        each (N,) float64; 0 and 1 if all levels are equal.
    Raises:
        ValueError: If `levels` has not two dimensions, has no column, or holds no integers.
    Example:
        >>> histogram_features(np.array([[0, 0, 1, 2]]))  # 0.5 * 1 + 2 * 0.25 * 2 bits; 0.25 + 2 * 0.0625
        {'entropy': array([1.5]), 'uniformity': array([0.375])}
    """
    if np.asarray(levels).dtype.kind not in "iu":
        raise ValueError(f"expected gray levels as integers, got {np.asarray(levels).dtype}: discretize HU first")
    _rows(levels)
    return {"entropy": _per_row(_entropy, levels), "uniformity": _per_row(lambda p: p @ p, levels)}


def _rows(values: np.ndarray) -> np.ndarray:
    rows = np.asarray(values)
    if rows.ndim != 2 or not rows.shape[1]:
        raise ValueError(f"expected rows of values, (N, n) with n >= 1, got shape {rows.shape}; of a ROI: volume[mask][None]")
    rows = rows.astype(np.float64)
    if not np.isfinite(rows).all():
        raise ValueError(f"{(~np.isfinite(rows)).sum()} values are not finite: mask what has no value")
    return rows


def _ratio(numerator: np.ndarray, denominator: np.ndarray, where_zero: float = np.nan) -> np.ndarray:
    """Quotients; `where_zero` where the denominator is 0."""
    zero = denominator == 0
    return np.where(zero, where_zero, numerator / np.where(zero, 1.0, denominator))


def _robust_deviation(x: np.ndarray, p10: np.ndarray, p90: np.ndarray) -> np.ndarray:
    """Mean absolute deviation of the values in [p10, p90] from their own mean."""
    inside = (x >= p10[:, None]) & (x <= p90[:, None])
    above = np.where(inside, x - p10[:, None], 0.0)  # small numbers, and 0 exactly where all values are equal
    n = inside.sum(axis=1)
    mean = _ratio(above.sum(axis=1), n)
    return _ratio(np.where(inside, np.abs(above - mean[:, None]), 0.0).sum(axis=1), n)


def _per_row(feature: Callable[[np.ndarray], float], levels: np.ndarray) -> np.ndarray:
    """Values of a function of the probabilities of the levels that occur, (N,)."""
    return np.array([feature(_counts(row) / len(row)) for row in np.asarray(levels)], np.float64)


def _counts(row: np.ndarray) -> np.ndarray:
    """Counts of the levels that occur."""
    if row.dtype.kind == "u" or row.min() >= 0:
        counts = np.bincount(row)
        return counts[counts > 0]
    return np.unique(row, return_counts=True)[1]


def _entropy(p: np.ndarray) -> float:
    return 0.0 - float(p @ np.log2(p))  # 0.0 -: no -0.0
