"""How far sites differ in the features of their patients, and whether biology stays: all the numbers of the page.

comparison = compare_features(SiteFeatures(names, sites, patients, before, after, {"age": age}))
comparison.separations["A", "B"]["before"]["logistic"].auc
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from stan_ct.errors import NotComparable
from stan_ct.evaluation.sites.features import (
    AFTER,
    BEFORE,
    BOTH,
    COMBAT,
    Confounding,
    Harmonized,
    SiteFeatures,
    confounding,
    harmonize,
    undefined_features,
    without,
)
from stan_ct.evaluation.statistics.agreement import Interval, concordance
from stan_ct.evaluation.statistics.distance import ByChance, adjusted, by_chance, cohens_d, d_interval, ks, median_distance
from stan_ct.evaluation.statistics.effects import (
    effect_p,
    median_stability,
    pooled_effect,
    rank_stability,
    within_site_effect,
)
from stan_ct.evaluation.statistics.separation import Classifier, Separation, tell_sites
from stan_ct.parallel import Workers

CLASSIFIERS: dict[Classifier, str] = {"logistic": "logistic regression", "svm": "support vectors (RBF)"}
"""Classifier -> its name for readers."""

MIN_PAIRS = 3
"""Least number of patients at both sites with a concordance."""

SitePair = tuple[str, str]


@dataclass(frozen=True)
class Distance:
    """Distance of two sites, feature by feature.

    Attributes:
        d: Cohen's d, (k,), > 0 if the second site has larger values.
        intervals: 95 % intervals of d; (k,).
        ks: Kolmogorov-Smirnov distance, (k,).
        q: Its p, adjusted over the features, (k,).
        ccc: Concordance over patients at both sites, (k,); None with fewer than `MIN_PAIRS`.
        pairs: Number of patients at both sites.
        median: Median of |d|, beside chance; None after ComBat, which was fitted to make it 0.
    """

    d: np.ndarray
    intervals: tuple[Interval, ...]
    ks: np.ndarray
    q: np.ndarray
    ccc: np.ndarray | None
    pairs: int
    median: ByChance | None


@dataclass(frozen=True)
class Stability:
    """Spearman's rho of features before and after over the patients of a site: each (k,), median and its interval."""

    rho: np.ndarray
    median: float
    interval: Interval


@dataclass(frozen=True)
class Effect:
    """Effect of a covariate on features in one state.

    Attributes:
        within: Spearman's rho within sites, (k,).
        q: Its p, adjusted over the features, (k,).
        pooled: Spearman's rho over all patients, as if there were no sites, (k,).
        pooled_q: Its p, adjusted, (k,).
    """

    within: np.ndarray
    q: np.ndarray
    pooled: np.ndarray
    pooled_q: np.ndarray


@dataclass(frozen=True)
class FeatureComparison:
    """Everything that was found.

    Attributes:
        features: The features that were compared.
        undefined: Feature -> why it was not.
        harmonized: Features in every state.
        distances: Pair of sites -> state -> distance.
        separations: Pair of sites -> state -> classifier -> how well it tells the sites.
        ranks: State -> site -> stability of ranks from before.
        confounding: Covariate -> how it differs between sites.
        effects: Covariate -> state -> its effects; without those of which too few are known.
        permutations: Number of permutations of each test.
        repeats: Number of repetitions of the cross-validation.
    """

    features: SiteFeatures
    undefined: Mapping[str, str]
    harmonized: Harmonized
    distances: Mapping[SitePair, Mapping[str, Distance]]
    separations: Mapping[SitePair, Mapping[str, Mapping[Classifier, Separation]]]
    ranks: Mapping[str, Mapping[str, Stability]]
    confounding: Mapping[str, Confounding]
    effects: Mapping[str, Mapping[str, Effect]]
    permutations: int
    repeats: int

    @property
    def states(self) -> tuple[str, ...]:
        """The states that were compared, in reading order."""
        return tuple(state for state in (BEFORE, AFTER, COMBAT, BOTH) if state in self.harmonized.states)


def compare_features(
    features: SiteFeatures, repeats: int = 5, permutations: int = 100, seed: int = 0, workers: int = 1
) -> FeatureComparison:
    """Compares sites by the features of their patients.

    Args:
        features: The features; those that are undefined in a scan, or the same in all, are left out.
        repeats: Number of times that the patients are dealt to folds.
        permutations: Number of permutations of each classifier's test; five times as many of the others.
        seed: Seed.
        workers: Number of processes.
    Raises:
        NotComparable: If no feature is left.
    """
    undefined = undefined_features(features)
    kept = without(features, undefined)
    if not kept.names:
        raise NotComparable(f"no feature can be compared: {'; '.join(f'{n}: {why}' for n, why in list(undefined.items())[:4])}")
    harmonized = harmonize(kept)
    states = harmonized.states
    distances = {}
    for pair in kept.site_pairs:
        rows = np.isin(kept.sites, pair)
        second, patients = kept.sites[rows] == pair[1], kept.patients[rows]
        measure = partial(_distance, second=second, patients=patients, permutations=5 * permutations, seed=seed)
        distances[pair] = {state: measure(state, values[rows]) for state, values in states.items()}
    separations = _separations(kept, harmonized, (repeats, permutations, seed), workers)
    ranks = {state: _ranks(kept, states[state]) for state in states if state != BEFORE}
    found = {name: confounding(values, kept.sites) for name, values in kept.covariates.items()}
    effects = {name: effect for name in found if (effect := _effects(kept, states, name))}
    return FeatureComparison(kept, undefined, harmonized, distances, separations, ranks, found, effects, permutations, repeats)


def _distance(
    state: str, values: np.ndarray, second: np.ndarray, patients: np.ndarray, permutations: int, seed: int
) -> Distance:
    x, y = values[~second], values[second]
    d, (distance, p) = cohens_d(x, y), ks(x, y)
    intervals = tuple(d_interval(float(each), len(x), len(y)) for each in d)
    both = sorted(set(patients[~second]) & set(patients[second]))
    of = [dict(zip(patients[group], values[group], strict=True)) for group in (~second, second)]
    ccc = concordance(*(np.stack([rows[patient] for patient in both]) for rows in of)) if len(both) >= MIN_PAIRS else None
    fitted = state in (COMBAT, BOTH)
    median = None if fitted else by_chance(partial(median_distance, values), second, patients, permutations, seed)
    return Distance(d, intervals, distance, adjusted(p), ccc, len(both), median)


def _separations(
    features: SiteFeatures, harmonized: Harmonized, options: tuple[int, int, int], workers: int
) -> dict[SitePair, dict[str, dict[Classifier, Separation]]]:
    """How well each classifier tells two sites in each state; ComBat is fitted anew within each training fold."""
    covariates = [features.covariates[name] for name in harmonized.kept]
    more = np.column_stack(covariates) if covariates else None
    keys = [(pair, state, name) for pair in features.site_pairs for state in harmonized.states for name in CLASSIFIERS]
    tasks = []
    for pair, state, name in keys:
        rows = np.isin(features.sites, pair)
        values = harmonized.states[AFTER if state in (AFTER, BOTH) else BEFORE][rows]
        who = (features.sites[rows] == pair[1], features.patients[rows])
        tasks.append((values, *who, name, state in (COMBAT, BOTH), None if more is None else more[rows], *options))
    with Workers(workers) as pool:
        results = pool.map(tell_sites, tasks, [1] * len(tasks), "tell sites")
    found: dict[SitePair, dict[str, dict[Classifier, Separation]]] = {}
    for (pair, state, name), separation in zip(keys, results, strict=True):
        found.setdefault(pair, {}).setdefault(state, {})[name] = separation
    return found


def _ranks(features: SiteFeatures, values: np.ndarray) -> dict[str, Stability]:
    found = {}
    for site in features.site_names:
        before, after = features.before[features.sites == site], values[features.sites == site]
        found[site] = Stability(rank_stability(before, after), *median_stability(before, after))
    return found


def standardized_site(found: FeatureComparison, site: str) -> bool:
    """Whether the features of a site are others after standardization than before."""
    here, states = found.features.sites == site, found.harmonized.states
    return AFTER in states and bool((states[AFTER] != states[BEFORE])[here].any())


def _effects(features: SiteFeatures, states: Mapping[str, np.ndarray], name: str) -> dict[str, Effect]:
    """Effects of a covariate in every state; empty if too few are known, or it does not vary within a site."""
    covariate = features.covariates[name]
    known = np.isfinite(covariate)
    sites, x = features.sites[known], covariate[known]
    groups = len(set(sites.tolist()))
    if known.sum() < groups + 3 or all(np.ptp(x[sites == site]) == 0 for site in set(sites.tolist())):
        return {}
    found = {}
    for state, values in states.items():
        within, pooled = within_site_effect(values[known], x, sites), pooled_effect(values[known], x)
        p = effect_p(within, len(x), groups), effect_p(pooled, len(x), 1)
        found[state] = Effect(within, adjusted(p[0]), pooled, adjusted(p[1]))
    return found
