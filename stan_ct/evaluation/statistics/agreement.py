"""Agreement of a feature measured on the same patients (or regions) in two or more protocols.

Arrays x, y ... hold the same patients in the same order, each in one protocol: (n,), one feature of n patients, or (n, k), k
features; results are a number or (k,). Other shapes are a ValueError. A feature is *undefined*, NaN, if fewer than two
patients were measured, a value is not finite, or (unless stated otherwise) all patients have the same value in a protocol, up
to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

REPRODUCIBLE = 0.85
"""Least concordance of a reproducible feature, as in studies of CT kernels."""

ROUNDING = 1e-12
"""Values are the same up to rounding if their range is at most this fraction of the largest of them."""


@dataclass(frozen=True)
class Share:
    """Share of features that reach a threshold, of the `n` defined ones (NaN without any), and number of undefined ones."""

    share: float
    n: int
    undefined: int


@dataclass(frozen=True)
class PairedTest:
    """p value of each feature, and q: p adjusted for the number of features; a number or (k,) each."""

    p: np.ndarray
    q: np.ndarray


@dataclass(frozen=True)
class Interval:
    """Confidence interval; NaN with a reason, in words, if it is undefined."""

    low: float
    high: float
    reason: str = ""


def concordance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    r"""Lin's concordance correlation coefficient, :math:`2 s_{xy} / (s_x^2 + s_y^2 + (\bar x - \bar y)^2)`.

    Returns:
        In [-1, 1], 1 for equal values; NaN if undefined.
    Note:
        Variances and covariance divide by n, as in Lin 1989; with n - 1 the shift would weigh a little less.
    Reference: Lin, Biometrics 45 (1989) 255-268.
    Example:
        >>> float(concordance(np.array([1.0, 3.0]), np.array([2.0, 4.0])))  # 2 * 1 / (1 + 1 + 1)
        0.6666666666666666
    """

    def formula(xy: np.ndarray) -> np.ndarray:
        mean = xy.mean(axis=1)
        deviation = xy - mean[:, None]
        covariance, variances = (deviation[0] * deviation[1]).mean(axis=0), (deviation**2).mean(axis=1)
        return 2 * covariance / (variances.sum(axis=0) + (mean[0] - mean[1]) ** 2)

    return _per_feature(formula, x, y)


def reproducible(ccc: np.ndarray, threshold: float = REPRODUCIBLE) -> Share:
    """Share of features whose concordance is at least `threshold`.

    Example:
        >>> reproducible(np.array([0.9, 0.85, 0.2, np.nan]))
        Share(share=0.6666666666666666, n=3, undefined=1)
    """
    defined = np.asarray(ccc)[~np.isnan(ccc)]
    share = float(np.mean(defined >= threshold)) if defined.size else float("nan")
    return Share(share, defined.size, np.size(ccc) - defined.size)


def icc_agreement(x: np.ndarray, y: np.ndarray, *more: np.ndarray) -> np.ndarray:
    r"""ICC(2,1), absolute agreement: :math:`(B - E) / (B + (r - 1) E + r (J - E) / n)`.

    B, J and E are the mean squares between n patients, between r protocols, and of the residual. A shift between protocols
    lowers the coefficient.

    Returns:
        At most 1, for equal values; NaN if undefined.
    Reference: Shrout & Fleiss, Psychological Bulletin 86 (1979) 420-428.
    Example:
        >>> float(icc_agreement(np.array([1.0, 2.0, 3.0]), np.array([2.0, 3.0, 4.0])))  # B = 2, J = 1.5, E = 0
        0.6666666666666666
    """

    def formula(values: np.ndarray) -> np.ndarray:
        (r, n), (b, j, e) = values.shape[:2], _mean_squares(values)
        total = b + (r - 1) * e + r * (j - e) / n  # 0 for two patients that change places
        return (b - e) / np.where(total > ROUNDING * (b + j + e), total, np.nan)

    return _per_feature(formula, x, y, *more)


def wilcoxon_fdr(x: np.ndarray, y: np.ndarray) -> PairedTest:
    """SciPy's two-sided Wilcoxon signed-rank test of paired values, Benjamini-Hochberg adjusted over the defined features.

    Returns:
        p and q, as :func:`signed_rank_p`.
    Example:
        >>> wilcoxon_fdr(np.array([1.0, 2.0, 3.0]), np.zeros(3)).p.item()  # 2 of the 2^3 patterns of signs
        0.25
    """
    differences, _ = _differences(x, y)
    p = np.apply_along_axis(signed_rank_p, 0, differences)
    q, defined = p.copy(), ~np.isnan(p)
    q[defined] = stats.false_discovery_control(p[defined]) if defined.any() else np.nan
    return PairedTest(p, q)


def signed_rank_p(differences: np.ndarray) -> float:
    """p value of SciPy's two-sided Wilcoxon signed-rank test.

    Args:
        differences: Paired differences, (n,).
    Returns:
        In [0, 1]; NaN if n < 2 or a difference is not finite.
    Note:
        Zero differences are dropped before ranking (Wilcoxon's way); if all are zero, p = 1. SciPy computes the exact p for
        up to 50 differences without ties and zeros, and the normal approximation otherwise.
    """
    if len(differences) < 2 or not np.isfinite(differences).all():
        return float("nan")
    return float(stats.wilcoxon(differences).pvalue) if differences.any() else 1.0


def cohens_dz(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    r"""Cohen's d of paired values, :math:`d_z = \overline{x - y} / s_{x - y}`, s with n - 1.

    Returns:
        Any number, > 0 if x is larger; NaN if the differences are undefined or all the same.
    Reference: Lakens, Frontiers in Psychology 4 (2013) 863, Eq. 6.
    Example:
        >>> float(cohens_dz(np.array([1.0, 2.0, 3.0]), np.zeros(3)))
        2.0
    """
    differences, scale = _differences(x, y)
    return _per_feature(lambda d: d[0].mean(axis=0) / d[0].std(axis=0, ddof=1), differences, scale=scale)


def bootstrap_interval(
    values: np.ndarray, patients: np.ndarray, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Percentile interval of the mean over patches, from patients drawn with replacement (cluster bootstrap).

    Patches of one patient are correlated, so patients are drawn, each with all its patches.

    Args:
        values: A value per patch, such as its error (Eq. 8), (N,); NaN (undefined) ones are excluded.
        patients: Patient of each patch, (N,) of any sortable type.
        confidence: Confidence level, in (0, 1).
        resamples: Number of bootstrap samples.
        seed: Seed; equal seeds give equal intervals.
    Returns:
        The interval; NaN with the reason if fewer than two patients have a defined value, or a value is infinite.
    Raises:
        ValueError: If the lengths differ or the confidence is out of its range.
    Example:
        >>> bootstrap_interval(np.array([1.0, 1.0, 4.0, 4.0]), np.array(["A", "A", "B", "B"]))
        Interval(low=1.0, high=4.0, reason='')
    """
    values, patients = np.asarray(values, np.float64), np.asarray(patients)
    if values.ndim != 1 or values.shape != patients.shape:
        raise ValueError(f"expected one patient per value, got values {values.shape} and patients {patients.shape}")
    if not 0 < confidence < 1:
        raise ValueError(f"the confidence must be between 0 and 1, not {confidence:g}")
    defined, nan = ~np.isnan(values), float("nan")
    names, patient = np.unique(patients[defined], return_inverse=True)
    if np.isinf(values).any():
        return Interval(nan, nan, "a value is infinite")
    if len(names) < 2:
        return Interval(nan, nan, f"patients with a defined value: {len(names)}, 2 needed")
    sums, patches = np.bincount(patient, values[defined]), np.bincount(patient)  # (P,) each
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), resamples)  # (R, P)
    low, high = np.quantile((drawn @ sums) / (drawn @ patches), [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))


def _mean_squares(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean squares of values (r, n, m): between patients, between protocols, residual; (m,) each."""
    (r, n), grand = values.shape[:2], values.mean(axis=(0, 1))
    patients, protocols = values.mean(axis=0) - grand, values.mean(axis=1) - grand  # (n, m), (r, m)
    residual = values - grand - patients - protocols[:, None]
    b, j, e = r * (patients**2).sum(axis=0), n * (protocols**2).sum(axis=0), (residual**2).sum(axis=(0, 1))
    return b / (n - 1), j / (r - 1), e / ((n - 1) * (r - 1))


def _per_feature(formula: Callable, *protocols: np.ndarray, scale: np.ndarray | None = None) -> np.ndarray:
    """Applies a formula (r, n, m) -> (m,) to the m defined features; the others are NaN. `scale` as in `_defined`."""
    values = _stacked(*protocols)
    result, defined = np.full(values.shape[2:], np.nan), _defined(values, scale)
    if defined.any():
        result[defined] = formula(values[:, :, defined])
    return result[()]


def _defined(values: np.ndarray, scale: np.ndarray | None) -> np.ndarray:
    """Which features have at least 2 patients, finite values, and no constant protocol (up to rounding of `scale`)."""
    if values.shape[1] < 2:
        return np.zeros(values.shape[2:], bool)
    finite = np.isfinite(values).all(axis=(0, 1))
    values = np.where(finite, values, 0)
    scale = np.abs(values).max(axis=1) if scale is None else scale
    return finite & (np.ptp(values, axis=1) > ROUNDING * scale).all(axis=0)


def _differences(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x - y, (n,) or (n, k), and the largest magnitude of either, to which rounding is relative."""
    values = _stacked(x, y)
    with np.errstate(invalid="ignore"):  # inf - inf
        return values[0] - values[1], np.abs(values).max(axis=(0, 1), initial=0)


def _stacked(*protocols: np.ndarray) -> np.ndarray:
    """Values as (r, n) or (r, n, k) float64; ValueError for other or different shapes."""
    arrays = [np.asarray(values, np.float64) for values in protocols]
    if len({array.shape for array in arrays}) != 1 or arrays[0].ndim not in (1, 2):
        raise ValueError(f"expected (patients,) or (patients, features), the same for all, got {[a.shape for a in arrays]}")
    return np.stack(arrays)
