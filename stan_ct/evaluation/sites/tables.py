"""Tables of sites side by side, and CSV files for other software."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from stan_ct.ct.tissues import TISSUES
from stan_ct.evaluation.sites.cohort import Cohort
from stan_ct.evaluation.sites.comparison import CLASSIFIERS, Distance, FeatureComparison, SitePair, standardized_site
from stan_ct.evaluation.sites.features import AFTER, BEFORE
from stan_ct.evaluation.sites.images import ImageComparison, Mean
from stan_ct.evaluation.sites.measure import FREQUENCIES
from stan_ct.evaluation.sites.verdicts import SAME_RANKS, SIGNIFICANT, rms
from stan_ct.evaluation.statistics.agreement import Interval
from stan_ct.evaluation.statistics.separation import Separation
from stan_ct.report.sections import Cell, Table, slug

UNDEFINED = "it is undefined: constant, or too few patients"
FITTED = "ComBat was fitted to these patients, so that d is near 0 by construction: the classifier's folds are the fair test"


def noise_table(images: ImageComparison) -> Table:
    """Standard deviation of the noise of each site in each state."""
    rows = {f"{site}, {state}": (_mean(mean),) for state, sites in images.noise.items() for site, mean in sites.items()}
    caption = "Standard deviation of the noise in uniform soft tissue, HU: mean ± SD over patients, with its 95 % interval."
    return Table("Noise", caption, ("HU",), rows, "neither", decimals=1, key="noise")


def tissue_table(images: ImageComparison) -> Table:
    """Mean HU of tissues of each site in each state, and how standardization changes them."""
    rows = {f"{site}, {state}": means for state, sites in images.tissues.items() for site, means in sites.items()}
    rows |= {f"{site}, change": means for site, means in images.changes.items()}
    cells = {name: tuple(_mean(means[tissue]) for tissue in TISSUES) for name, means in rows.items()}
    caption = "Mean HU of tissues: mean ± SD over patients, with its 95 % interval. Before and after in the same voxels."
    return Table("HU of tissues", caption, tuple(TISSUES), cells, "neither", decimals=1, key="hu_of_tissues")


def summary_table(found: FeatureComparison, pair: SitePair) -> Table:
    """Distance of two sites in each state, over all features."""
    paired = all(distance.ccc is not None for distance in found.distances[pair].values())
    columns = ("median |d|", "by chance", "p", f"KS, q < {SIGNIFICANT}", *(["median CCC"] if paired else []))
    cells = {}
    for state, distance in found.distances[pair].items():
        chance = distance.median
        of_chance = [Cell(math.nan, reason=FITTED)] * 2 if chance is None else [_cell(chance.expected), _cell(chance.p)]
        d = np.abs(distance.d[np.isfinite(distance.d)])
        ccc = np.nan if distance.ccc is None else float(np.nanmedian(distance.ccc))
        cells[state] = (
            _cell(float(np.median(d)) if len(d) else np.nan),
            *of_chance,
            Cell(float((distance.q < SIGNIFICANT).sum())),
            *([_cell(ccc)] if paired else []),
        )
    caption = (
        f"Distance of {pair[0]} and {pair[1]} over {len(found.features.names)} features: the median of |Cohen's d|, what it "
        "would be if patients were dealt to the sites at random, and the share of random deals with at least as much; number "
        "of features whose distributions differ (Kolmogorov-Smirnov, Benjamini-Hochberg)."
    )
    caption += " And the median concordance (Lin) over patients who were scanned at both." if paired else ""
    decimals = {columns[3]: 0}
    title = f"Distance, {pair[0]} to {pair[1]}"
    return Table(title, caption, columns, cells, "neither", decimals=decimals, key=slug(title))


def d_table(found: FeatureComparison, pair: SitePair) -> Table:
    """Cohen's d of each feature in each state."""

    def cell(distance: Distance, f: int) -> Cell:
        return _interval(float(distance.d[f]), distance.intervals[f])

    caption = f"Cohen's d with its 95 % interval (noncentral t); above 0 if {pair[1]} has larger values. {FITTED}."
    return _by_feature(found, pair, "Cohen's d", caption, cell)


def ks_table(found: FeatureComparison, pair: SitePair) -> Table:
    """Kolmogorov-Smirnov distance of each feature in each state."""
    caption = (
        "Kolmogorov-Smirnov distance of the distributions at the two sites: 0 if they are the same, 1 if they do not overlap."
    )
    return _by_feature(found, pair, "KS distance", caption, lambda distance, f: _cell(float(distance.ks[f])))


def ccc_table(found: FeatureComparison, pair: SitePair) -> Table | None:
    """Concordance of each feature over patients at both sites; None without enough of them."""
    if any(distance.ccc is None for distance in found.distances[pair].values()):
        return None
    pairs = next(iter(found.distances[pair].values())).pairs
    caption = f"Concordance (Lin) of {pair[0]} and {pair[1]} over the {pairs} patients who were scanned at both."

    def cell(distance: Distance, f: int) -> Cell:
        return _cell(np.nan if distance.ccc is None else float(distance.ccc[f]))

    return _by_feature(found, pair, "Concordance", caption, cell)


def _by_feature(
    found: FeatureComparison, pair: SitePair, what: str, caption: str, cell: Callable[[Distance, int], Cell]
) -> Table:
    distances = found.distances[pair]
    rows = {name: tuple(cell(d, f) for d in distances.values()) for f, name in enumerate(found.features.names)}
    title = f"{what}, {pair[0]} to {pair[1]}"
    return Table(title, caption, tuple(distances), rows, "neither", decimals=2, key=slug(title))


def separation_table(found: FeatureComparison, pair: SitePair) -> Table:
    """How well classifiers tell two sites in each state."""

    def cells(separation: Separation) -> tuple[Cell, Cell]:
        interval = Interval(separation.low, separation.high, separation.reason)
        return _interval(separation.auc, interval), _cell(separation.p, separation.reason or UNDEFINED)

    rows = {
        state: tuple(cell for separation in separations.values() for cell in cells(separation))
        for state, separations in found.separations[pair].items()
    }
    columns = tuple(f"{name}, {what}" for name in CLASSIFIERS.values() for what in ("AUC", "p"))
    m, n = (found.features.count(site) for site in pair)
    caption = (
        f"AUC of classifiers that tell {pair[0]} ({m} patients) and {pair[1]} ({n}) by their features, cross-validated by "
        "patient; 0.5: they cannot. In brackets, the 95 % interval."
    )
    title = f"Classifier, {pair[0]} or {pair[1]}"
    return Table(title, caption, columns, rows, "neither", key=slug(title))


def rank_table(found: FeatureComparison) -> Table | None:
    """How far patients keep their ranks within each site; None if nothing but the features before was compared."""
    rows = {}
    for state, sites in found.ranks.items():
        for site, stability in sites.items():
            if state == AFTER and not standardized_site(found, site):
                continue
            rho = stability.rho[np.isfinite(stability.rho)]
            least = float(rho.min()) if len(rho) else np.nan
            share = float(np.mean(rho >= SAME_RANKS)) if len(rho) else np.nan
            rows[f"{site}, {state}"] = (_interval(stability.median, stability.interval), _cell(least), _cell(share))
    caption = (
        "Spearman's rho of each feature with that before, over the patients of a site: median over features with its 95 % "
        f"interval over patients, least, and share of features with {SAME_RANKS} or more."
    )
    columns = ("median", "least", f"share ≥ {SAME_RANKS}")
    return Table("Ranks within sites", caption, columns, rows, "neither", key="ranks_within_sites") if rows else None


def rank_by_feature_table(found: FeatureComparison) -> Table | None:
    """How far patients keep their ranks in each feature, at the sites that were standardized; None without."""
    sites = {site: s for site, s in found.ranks.get(AFTER, {}).items() if standardized_site(found, site)}
    rows = {
        name: tuple(_cell(float(stability.rho[f])) for stability in sites.values())
        for f, name in enumerate(found.features.names)
    }
    caption = f"Spearman's rho of each feature {AFTER} with that before, over the patients of a site."
    return Table("Rank of each feature", caption, tuple(sites), rows, "neither", decimals=2, key="ranks") if sites else None


def covariate_table(found: FeatureComparison) -> Table | None:
    """How covariates differ between sites; None without covariates."""
    sites = found.features.site_names
    rows = {
        name: (
            *(_cell(c.means.get(site, np.nan), "it is not known of any patient there") for site in sites),
            _cell(c.share, "it does not vary"),
            _cell(c.p, "it does not vary"),
            Cell(float(c.known)),
        )
        for name, c in found.confounding.items()
    }
    columns = (*sites, "share explained", "p", "known")
    caption = (
        "Covariates at each site: means, the share of the variance that the sites explain (eta squared; 1: they determine it), "
        "p of a Kruskal-Wallis test, and number of scans of which it is known."
    )
    return (
        Table("Covariates and sites", caption, columns, rows, "neither", decimals={**dict.fromkeys(sites, 2), "known": 0})
        if rows
        else None
    )


def effect_table(found: FeatureComparison, name: str) -> Table:
    """Effects of a covariate in each state."""
    before = found.effects[name][BEFORE]
    rows = {
        state: (
            Cell(float((effect.q < SIGNIFICANT).sum())),
            Cell(float((effect.pooled_q < SIGNIFICANT).sum())),
            _cell(rms(effect.within - before.within)),
            _cell(rms(effect.pooled - before.within)),
        )
        for state, effect in found.effects[name].items()
    }
    columns = ("within sites", "pooled", "change within sites", "pooled against within sites")
    caption = (
        f"Effects of {name} on {len(found.features.names)} features (Spearman's rho): number with q < {SIGNIFICANT} within "
        "sites, and pooled over sites as if there were none; rms change of rho within sites from before; rms difference of the "
        "pooled rho from that within sites before, which the sites cannot feign."
    )
    decimals = dict.fromkeys(columns[:2], 0)
    return Table(f"Effect of {name}", caption, columns, rows, "neither", decimals=decimals, key=slug(f"effect of {name}"))


def features_csv(found: FeatureComparison, cohort: Cohort | None, identifiers: bool) -> str:
    """A line for each patient, site and state: covariates and features in full precision."""
    features = found.features
    labels = patient_labels(features.patients, identifiers)
    header = ["site", "patient", *(("region", "kernel", "slice_thickness") if cohort else ()), "state"]
    lines = []
    for i, (site, label) in enumerate(zip(features.sites.tolist(), labels, strict=True)):
        about = []
        if cohort:
            scan = cohort.measured[i].scan
            about = [cohort.regions[i], scan.files.kernel, _number(scan.files.slice_thickness)]
        for state, values in found.harmonized.states.items():
            numbers = [*(float(c[i]) for c in features.covariates.values()), *values[i].tolist()]
            lines.append([site, label, *about, state, *map(_number, numbers)])
    return to_csv([*header, *features.covariates, *map(slug, features.names)], lines)


def noise_csv(cohort: Cohort, states: Sequence[str], identifiers: bool) -> str:
    """A line for each patient, site, state and frequency: noise power."""
    labels = patient_labels(cohort.features.patients, identifiers)
    lines = [
        [m.scan.site, label, state, _number(float(frequency)), _number(float(power))]
        for m, label in zip(cohort.measured, labels, strict=True)
        for state in states
        for frequency, power in zip(FREQUENCIES, m.noise[state], strict=True)
        if np.isfinite(power)
    ]
    return to_csv(["site", "patient", "state", "frequency_lp_per_cm", "noise_power_hu2_mm2"], lines)


def effects_csv(found: FeatureComparison) -> str:
    """A line for each covariate, state and feature: its effects."""
    lines = [
        [name, state, feature, *(_number(float(v[f])) for v in (e.within, e.q, e.pooled, e.pooled_q))]
        for name, states in found.effects.items()
        for state, e in states.items()
        for f, feature in enumerate(found.features.names)
    ]
    return to_csv(["covariate", "state", "feature", "rho_within_sites", "q_within_sites", "rho_pooled", "q_pooled"], lines)


def patient_labels(patients: np.ndarray, identifiers: bool) -> list[str]:
    """Patient IDs, or a number that stands for each; the same for a patient at several sites."""
    names = sorted(set(patients.tolist()))
    return patients.tolist() if identifiers else [f"P{names.index(p) + 1:03d}" for p in patients.tolist()]


def to_csv(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Text of a CSV file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(lines)
    return text.getvalue()


def _number(value: float) -> str:
    return "" if math.isnan(value) else repr(value)


def _cell(value: float, reason: str = UNDEFINED) -> Cell:
    return Cell(value, reason=reason if math.isnan(value) else "")


def _interval(value: float, interval: Interval) -> Cell:
    undefined = math.isnan(value) or math.isnan(interval.low)
    return Cell(value, low=interval.low, high=interval.high, reason=(interval.reason or UNDEFINED) if undefined else "")


def _mean(mean: Mean) -> Cell:
    sd = None if math.isnan(mean.sd) else mean.sd
    return Cell(mean.mean, sd, mean.interval.low, mean.interval.high, mean.n, reason=mean.interval.reason)
