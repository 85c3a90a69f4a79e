"""Features of the patients of several sites, before and after standardization, and what ComBat makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from stan_ct.errors import NotComparable
from stan_ct.evaluation.statistics.agreement import ROUNDING
from stan_ct.evaluation.statistics.combat import Combat, independent

BEFORE, AFTER, COMBAT, BOTH = "before", "after standardization", "ComBat", "standardization + ComBat"
"""States in which features are compared."""

PER_COEFFICIENT = 3
"""Least number of patients for each site and covariate that ComBat fits; with fewer, covariates are left out."""


@dataclass(frozen=True)
class SiteFeatures:
    """Features of n patients, k features each; one row for each patient at each site.

    Attributes:
        names: Names of the features, (k,).
        sites: Site of each row, (n,) str; the order of the sites is that of their first rows.
        patients: Patient of each row, (n,) str; one who was scanned at two sites has a row for each.
        before: Features of the scans, (n, k).
        after: Features of the standardized scans, (n, k); None without.
        covariates: Name -> number of each row, (n,) float, NaN where it is not known: volume, age, outcome ...
    Raises:
        NotComparable: If shapes do not fit, there is one site, or a patient has two rows at a site.
    """

    names: tuple[str, ...]
    sites: np.ndarray
    patients: np.ndarray
    before: np.ndarray
    after: np.ndarray | None = None
    covariates: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = (len(self.sites), len(self.names))
        arrays = {"before": self.before, **({} if self.after is None else {"after": self.after})}
        wrong = {name: np.shape(array) for name, array in arrays.items() if np.shape(array) != shape}
        wrong |= {name: np.shape(a) for name, a in {"patients": self.patients, **self.covariates}.items() if len(a) != shape[0]}
        if wrong:
            raise NotComparable(f"expected features of shape {shape} and {shape[0]} patients and covariates, got {wrong}")
        rows = list(zip(np.asarray(self.sites).tolist(), np.asarray(self.patients).tolist(), strict=True))
        if len(set(rows)) < len(rows):
            twice = next(row for row in rows if rows.count(row) > 1)
            raise NotComparable(f"patient {twice[1]} has two rows at site {twice[0]}, expected one: choose a scan or a region")
        if len(self.site_names) < 2:
            raise NotComparable(f"expected two sites or more, got {', '.join(self.site_names) or 'none'}")

    @property
    def site_names(self) -> tuple[str, ...]:
        """The sites, in the order of their first rows."""
        return tuple(dict.fromkeys(np.asarray(self.sites).tolist()))

    @property
    def site_pairs(self) -> tuple[tuple[str, str], ...]:
        """Every two sites."""
        return tuple(combinations(self.site_names, 2))

    def count(self, site: str) -> int:
        """Number of patients at a site."""
        return int((self.sites == site).sum())


def undefined_features(features: SiteFeatures) -> dict[str, str]:
    """Feature -> why it is not compared: not defined in every scan, or the same in all of them."""
    found = {}
    for f, name in enumerate(features.names):
        states = [features.before[:, f], *([] if features.after is None else [features.after[:, f]])]
        undefined = max(int((~np.isfinite(values)).sum()) for values in states)
        if undefined:
            found[name] = f"undefined in {undefined} of {len(features.sites)} scans"
        elif any(np.ptp(values) <= ROUNDING * np.abs(values).max() for values in states):
            found[name] = "the same in all scans"
    return found


def without(features: SiteFeatures, names: Mapping[str, str]) -> SiteFeatures:
    """The features but some."""
    keep = [name not in names for name in features.names]
    after = None if features.after is None else features.after[:, keep]
    kept = tuple(name for name in features.names if name not in names)
    return SiteFeatures(kept, features.sites, features.patients, features.before[:, keep], after, features.covariates)


@dataclass(frozen=True)
class Confounding:
    """How a covariate differs between sites.

    Attributes:
        known: Number of rows whose covariate is known.
        share: Share of the covariate's variance that the sites explain (eta squared), in [0, 1]; NaN if it is constant.
        p: p value of a Kruskal-Wallis test between the sites.
        collinear: Whether the sites determine it: its effect and theirs cannot be told apart.
        means: Site -> mean.
    """

    known: int
    share: float
    p: float
    collinear: bool
    means: Mapping[str, float]

    @property
    def confounded(self) -> bool:
        """Whether it differs between the sites by more than chance, or explains much of them."""
        return self.collinear or self.p < 0.05 or self.share > 0.5


def confounding(values: np.ndarray, sites: np.ndarray) -> Confounding:
    """How a covariate, (n,), differs between sites, (n,); unknown values do not count."""
    from scipy import stats

    known = np.isfinite(values)
    x, where = np.asarray(values, np.float64)[known], np.asarray(sites)[known]
    groups = {str(site): x[where == site] for site in dict.fromkeys(where.tolist())}
    means = {site: float(group.mean()) for site, group in groups.items()}
    if len(groups) < 2 or np.ptp(x) == 0:
        return Confounding(len(x), np.nan, np.nan, collinear=True, means=means)
    between = sum(len(g) * (g.mean() - x.mean()) ** 2 for g in groups.values())
    share = float(between / ((x - x.mean()) ** 2).sum())
    p = float(stats.kruskal(*groups.values()).pvalue)
    return Confounding(len(x), share, p, not independent(where, x[:, None])[0], means)


@dataclass(frozen=True)
class Harmonized:
    """Features in every state.

    Attributes:
        states: State -> features, (n, k).
        kept: Covariates whose effects ComBat kept.
        notes: What was done, in sentences.
    """

    states: Mapping[str, np.ndarray]
    kept: tuple[str, ...]
    notes: tuple[str, ...]


def harmonize(features: SiteFeatures) -> Harmonized:
    """Adds ComBat, fitted to all patients, to the features before and after standardization."""
    kept, notes = combat_covariates(features)
    more = np.column_stack([features.covariates[name] for name in kept]) if kept else None
    states = {BEFORE: features.before}
    if features.after is not None:
        states[AFTER] = features.after
    for state, made in ((BEFORE, COMBAT), (AFTER, BOTH)):
        if state not in states:
            continue
        try:
            model = Combat.fit(states[state], features.sites, more)
        except ValueError as error:
            notes = (*notes, f"No {made}: {error}")
            continue
        states[made] = model.apply(states[state], features.sites, more)
        notes = (*notes, *(f"{made}: {note}" for note in model.notes))
    return Harmonized(states, kept, notes)


def combat_covariates(features: SiteFeatures) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Covariates whose effects ComBat can keep, and notes on those that it cannot."""
    kept: list[str] = []
    notes: list[str] = []
    for name, values in features.covariates.items():
        columns = np.column_stack([*(features.covariates[each] for each in kept), values])
        if not np.isfinite(values).all():
            notes.append(f"ComBat does not keep {name}: it is unknown in {(~np.isfinite(values)).sum()} scans")
        elif not independent(features.sites, columns)[-1]:
            notes.append(f"ComBat cannot keep {name}: the sites, or other covariates, determine it")
        elif len(values) < PER_COEFFICIENT * (len(features.site_names) + len(kept) + 1):
            notes.append(f"ComBat does not keep {name}: {len(values)} scans are too few to estimate its effect too")
        else:
            kept.append(name)
    return tuple(kept), tuple(notes)
