"""Measurements of all scans -> one table of features, a row for each patient at each site."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stan_ct.errors import NotComparable, UsageError
from stan_ct.evaluation.sites.covariates import read_covariates
from stan_ct.evaluation.sites.features import AFTER, BEFORE, SiteFeatures
from stan_ct.evaluation.sites.measure import Measured, measure_scan
from stan_ct.evaluation.sites.scans import Scans
from stan_ct.evaluation.sites.settings import SiteSettings
from stan_ct.parallel import Workers

VOLUME = "volume [ml]"
"""Covariate that every cohort with masks has."""


@dataclass(frozen=True)
class Cohort:
    """All that was measured.

    Attributes:
        measured: Measurements, in the order of the rows of `features`.
        features: Table of features.
        regions: Region of each row, (n,): those that are compared, joined by "+".
        notes: What is missing, in sentences.
    """

    measured: tuple[Measured, ...]
    features: SiteFeatures
    regions: tuple[str, ...]
    notes: tuple[str, ...]


def measure_cohort(scans: Scans, settings: SiteSettings, workers: int = 1) -> Cohort:
    """Measures all scans.

    Args:
        scans: The scans.
        settings: Masks, covariates and how to measure.
        workers: Number of processes.
    Raises:
        UsageError: If it is not clear which region of several to compare.
        NotComparable: If a site has no patient left.
    """
    tasks = [(scan, settings) for scan in scans.scans]
    with Workers(workers) as pool:
        results = pool.map(measure_scan, tasks, [1] * len(tasks), "measure scans")
    measured = [result for result in results if isinstance(result, Measured)]
    notes = [*scans.notes, *_failures([(scan.site, r) for (scan, _), r in zip(tasks, results, strict=True)])]
    masked = bool(settings.masks or settings.masks_beside)
    chosen, more = _drawn_region(measured, settings) if masked else _tissues(measured)
    rows = [(m, names) for m, names in zip(measured, chosen, strict=True) if names]
    notes += [*more, *(f"Site {m.scan.site}: {note}" for m, _ in rows for note in m.notes)]
    _check_sites(settings, [m for m, _ in rows], notes)
    names = [f"{region}: {f}" if not masked else f for region in rows[0][1] for f in rows[0][0].regions[region]]
    values = {
        state: np.array([[found[state] for region in regions for found in m.regions[region].values()] for m, regions in rows])
        for state in (BEFORE, AFTER)
    }
    covariates = {VOLUME: np.array([sum(m.volumes[region] for region in regions) for m, regions in rows])} if masked else {}
    if settings.covariates:
        found, left = read_covariates(settings.covariates, [m.scan.files.patient for m, _ in rows])
        covariates, notes = covariates | found, [*notes, *left]
    features = SiteFeatures(
        tuple(names),
        np.array([m.scan.site for m, _ in rows]),
        np.array([m.scan.patient for m, _ in rows]),
        values[BEFORE],
        values[AFTER] if settings.standardized else None,
        covariates,
    )
    return Cohort(tuple(m for m, _ in rows), features, tuple("+".join(regions) for _, regions in rows), tuple(notes))


def _failures(results: Sequence[tuple[str, Measured | str]]) -> list[str]:
    """A note for each site and reason why scans were not measured."""
    counts = Counter((site, result) for site, result in results if isinstance(result, str))
    return [f"Site {site}: {count} patient{'s' * (count > 1)} left out: {why}" for (site, why), count in counts.items()]


Chosen = tuple[list[tuple[str, ...]], list[str]]
"""Regions of each scan that are compared, none to leave it out; and notes."""


def _drawn_region(measured: Sequence[Measured], settings: SiteSettings) -> Chosen:
    """The region that fits the pattern, or the only one that all scans have; the largest of several that fit."""
    counts = Counter(name for m in measured for name in m.regions)
    common = sorted(name for name, count in counts.items() if count == len(measured))
    if not settings.region and len(common) > 1:
        raise UsageError(f"every patient has regions {', '.join(common)}: choose one with --region={common[0]}")
    fitting = [common if common and not settings.region else sorted(m.regions) for m in measured]
    chosen: list[tuple[str, ...]] = [
        (max(names, key=lambda n: m.volumes[n]),) if names else () for m, names in zip(measured, fitting, strict=True)
    ]
    used = Counter(name for names in chosen for name in names)
    words = ", ".join(f"{name} ({count})" for name, count in used.most_common())
    return chosen, [f"Regions of several names are compared, of each patient the largest: {words}"] if len(used) > 1 else []


def _tissues(measured: Sequence[Measured]) -> Chosen:
    """Lung and soft tissue, each if at least half of the patients have it; patients who lack one are left out."""
    counts = Counter(name for m in measured for name in m.regions)
    kept = tuple(name for name in ("lung", "soft tissue") if 2 * counts[name] >= len(measured) and counts[name])
    chosen = [kept if set(kept) <= set(m.regions) else () for m in measured]
    notes = [
        f"{name} is not compared: {counts[name]} of {len(measured)} patients have enough" for name in counts if name not in kept
    ]
    without = sum(not names for names in chosen)
    return chosen, [*notes, *([f"{without} patients without {' and '.join(kept)} are left out"] if without else [])]


def _check_sites(settings: SiteSettings, measured: Sequence[Measured], notes: Sequence[str]) -> None:
    empty = [site for site in settings.sites if all(m.scan.site != site for m in measured)]
    if empty:
        raise NotComparable(f"site {empty[0]} has no patient to compare. {'. '.join(notes)}")
