"""How well a classifier tells two sites by the features of their patients: the AUC, cross-validated by patient.

0.5: it cannot; 1: it always can. Whatever is fitted - scaling, ComBat, the classifier - is fitted to the patients of the other
folds. Only patients of one fold are compared with each other, since the scores of two folds come from two classifiers; the
expected AUC is then 0.5 where the sites do not differ, however few the patients. Random sites say how far it strays from there.

ComBat over-corrects patients whom it was not fitted to: by the error of its locations, some of which shrinkage leaves in the
training folds, so that the classifier learns the opposite. Of random sites the AUC is then below 0.5. The AUC with ComBat is
therefore raised by what random sites lack to 0.5.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from scipy import optimize, stats
from threadpoolctl import threadpool_limits

from stan_ct.evaluation.statistics.combat import Combat, independent
from stan_ct.evaluation.statistics.distance import dealt

Classifier = Literal["logistic", "svm"]

FOLDS = 5
"""Most folds; fewer if a site has fewer patients."""


@dataclass(frozen=True)
class Separation:
    """How well the sites are told.

    Attributes:
        auc: Cross-validated AUC, in [0, 1]; NaN if undefined.
        low: Lower end of its 95 % confidence interval.
        high: Upper end.
        p: Share of random sites with an AUC at least as large, the true ones counted in.
        patients: Patients at either site.
        reason: Why it is undefined.
        excess: Factor by which the AUC of random sites varies more than that of independent scores.
        raised: By how much the AUC was raised, with ComBat; else 0.
    """

    auc: float
    low: float
    high: float
    p: float
    patients: tuple[int, int]
    reason: str = ""
    excess: float = 1.0
    raised: float = 0.0


def tell_sites(
    values: np.ndarray,
    second: np.ndarray,
    patients: np.ndarray,
    classifier: Classifier = "logistic",
    combat: bool = False,
    covariates: np.ndarray | None = None,
    repeats: int = 5,
    permutations: int = 100,
    seed: int = 0,
) -> Separation:
    """Cross-validates a classifier of two sites.

    Args:
        values: Features, (n, k), finite; constant ones do not count.
        second: Whether a row is of the second site, (n,) bool; each patient has at most one row at a site.
        patients: Patient of each row, (n,); the rows of one patient are in one fold.
        classifier: "logistic" (regression with an L2 penalty) or "svm" (support vectors, radial basis functions, which
            also see other spreads and shapes). Both with scikit-learn's default penalty.
        combat: Whether ComBat harmonizes the features, fitted to the patients of the other folds.
        covariates: Covariates whose effects ComBat keeps, (n, c).
        repeats: Number of times that the patients are dealt to folds.
        permutations: Number of random sites.
        seed: Seed.
    Returns:
        The AUC, a Wald-type score interval after Newcombe (2006), whose variance is multiplied by how much more the AUC of
        random sites varies than that of independent scores would, and a permutation p.
    """
    second = np.asarray(second, bool)
    sizes = (int((~second).sum()), int(second.sum()))
    usable = np.isfinite(values).all(axis=0) & (np.ptp(values, axis=0) > 0) if len(values) else np.zeros(0, bool)
    if min(sizes) < 2 or not usable.any():
        reason = f"a site has {min(sizes)} patients, 2 needed" if min(sizes) < 2 else "no feature varies"
        return Separation(np.nan, np.nan, np.nan, np.nan, sizes, reason)
    rng, x = np.random.default_rng(seed), np.asarray(values, np.float64)[:, usable]
    from sklearn import config_context  # takes long to import

    measure = partial(_auc, x, patients=patients, repeats=repeats, classifier=classifier, combat=combat, covariates=covariates)
    quick = config_context(assume_finite=True, skip_parameter_validation=True)
    with quick, threadpool_limits(1), warnings.catch_warnings(action="ignore"):  # of steps that did not suffice
        auc = measure(second, rng=rng)
        random = [measure(dealt(second, patients, rng), rng=rng) for _ in range(permutations)]
    p = (1 + sum(r >= auc - 1e-12 for r in random)) / (1 + len(random))
    chance = float(np.mean(random)) if combat and random else 0.5
    excess = max(1.0, float(np.mean((np.array(random) - chance) ** 2)) / auc_variance(0.5, *sizes)) if random else 1.0
    raised = float(np.clip(auc + 0.5 - chance, 0, 1))
    low, high = auc_interval(raised, *sizes, excess)
    return Separation(raised, low, high, p, sizes, excess=excess, raised=0.5 - chance)


def deal_folds(second: np.ndarray, patients: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Fold of each row, (n,): patients at random, each site spread evenly, both rows of one patient in one fold."""
    folds = min(FOLDS, int(second.sum()), int((~second).sum()))
    names, index = np.unique(patients, return_inverse=True)
    first_only, second_only = (np.bincount(index, weights=w, minlength=len(names)) == 0 for w in (second, ~second))
    stratum = np.where(first_only, 0, np.where(second_only, 2, 1))  # those at both sites between those at one
    order = np.lexsort((rng.random(len(names)), stratum))
    fold = np.empty(len(names), int)
    fold[order] = np.arange(len(names)) % folds
    return fold[index]


def _auc(
    x: np.ndarray,
    second: np.ndarray,
    patients: np.ndarray,
    repeats: int,
    classifier: Classifier,
    combat: bool,
    covariates: np.ndarray | None,
    rng: np.random.Generator,
) -> float:
    """Share of pairs of patients of the two sites and one fold whose scores are in the right order, ties half."""
    right = pairs = 0.0
    for _ in range(repeats):
        fold = deal_folds(second, patients, rng)
        for f in range(fold.max() + 1):
            test = fold == f
            scores = _scores(x, second, test, classifier, combat, covariates)
            difference = scores[second[test]][:, None] - scores[~second[test]]
            right += (difference > 0).sum() + 0.5 * (difference == 0).sum()
            pairs += difference.size
    return float(right / pairs)


def _scores(
    x: np.ndarray,
    second: np.ndarray,
    test: np.ndarray,
    classifier: Classifier,
    combat: bool,
    covariates: np.ndarray | None,
) -> np.ndarray:
    """Scores of the test rows by a classifier that has not seen them."""
    known, unknown = x[~test], x[test]
    if combat:
        known, unknown = _harmonized(known, unknown, second, test, covariates)
    mean, scale = known.mean(axis=0), known.std(axis=0)
    varies = scale > 1e-12 * np.maximum(np.abs(known).max(axis=0), np.finfo(float).tiny)
    if not varies.any():
        return np.zeros(len(unknown))
    known, unknown = ((part[:, varies] - mean[varies]) / scale[varies] for part in (known, unknown))
    return _fitted(classifier, known, second[~test]).decision_function(unknown)


def _harmonized(
    known: np.ndarray, unknown: np.ndarray, second: np.ndarray, test: np.ndarray, covariates: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Both parts, by ComBat fitted to the known one; covariates that its patients cannot tell from the sites are left out."""
    more = np.empty((len(test), 0)) if covariates is None else covariates
    more = more[:, independent(second[~test], more[~test])] if more.shape[1] else more
    if len(known) <= 2 + more.shape[1]:
        more = more[:, :0]
    if len(known) <= 2:
        return known, unknown
    model = Combat.fit(known, second[~test], more[~test])
    return model.apply(known, second[~test], more[~test]), model.apply(unknown, second[test], more[test])


def _fitted(classifier: Classifier, x: np.ndarray, y: np.ndarray) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import SVC

    model = LogisticRegression(solver="liblinear", random_state=0) if classifier == "logistic" else SVC(gamma="scale")
    return model.fit(x, y)


def auc_variance(auc: float, m: int, n: int) -> float:
    """Variance of the AUC of m and n independent scores of exponential type (Hanley & McNeil 1982, as Newcombe has it)."""
    excess = ((m + n) / 2 - 1) * ((1 - auc) / (2 - auc) + auc / (1 + auc))
    return auc * (1 - auc) * (1 + excess) / (m * n)


def auc_interval(auc: float, m: int, n: int, excess: float = 1.0, confidence: float = 0.95) -> tuple[float, float]:
    """Score interval of an AUC: the values from which it lies no more than z standard errors.

    Args:
        auc: The AUC.
        m: Number of patients at one site.
        n: Number of patients at the other.
        excess: Factor of the variance.
        confidence: Confidence level, in (0, 1).
    Returns:
        Lower and upper end, in [0, 1]; not a point even where the AUC is 0 or 1.
    Reference: Newcombe, Statistics in Medicine 25 (2006) 559-573, method 5.
    Example:
        >>> [round(end, 2) for end in auc_interval(0.5, 25, 25)], [round(end, 2) for end in auc_interval(1.0, 4, 4)]
        ([0.35, 0.65], [0.58, 1.0])
    """
    z = stats.norm.ppf((1 + confidence) / 2)

    def outside(theta: float) -> float:
        return float((auc - theta) ** 2 - z**2 * excess * auc_variance(theta, m, n))

    near = 1e-9  # at 0 and 1 the formula has no variance
    low = optimize.brentq(outside, 0.0, auc - near) if auc > near else 0.0
    high = optimize.brentq(outside, auc + near, 1.0) if auc < 1 - near else 1.0
    return float(low), float(high)


def patients_needed(excess: float, half_width: float) -> int:
    """Patients at each of two equal sites for an interval of +- `half_width` around an AUC of 0.5.

    Example:
        >>> patients_needed(1.0, 0.15)
        29
    """
    z = stats.norm.ppf(0.975)
    return next(n for n in range(2, 100_000) if z**2 * excess * auc_variance(0.5, n, n) <= half_width**2)
