"""One sentence for each question, which says what was found, and what cannot be told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from stan_ct.evaluation.sites.comparison import CLASSIFIERS, FeatureComparison, SitePair, Stability, standardized_site
from stan_ct.evaluation.sites.features import AFTER, BEFORE, BOTH, COMBAT
from stan_ct.evaluation.sites.images import ImageComparison
from stan_ct.evaluation.statistics.distance import ByChance
from stan_ct.evaluation.statistics.effects import MIN_PATIENTS
from stan_ct.evaluation.statistics.separation import Separation, patients_needed
from stan_ct.report.blocks import Level, Status

CANNOT, WIDE = 0.6, 0.8
"""A classifier cannot tell the sites if its AUC is at most `CANNOT` and its interval holds 0.5 and ends below `WIDE`."""

HALF_WIDTH = 0.15
"""Half width of an interval around an AUC of 0.5 that tells enough."""

SAME_RANKS, LOW_RANKS = 0.95, 0.8
"""Ranks stay if Spearman's rho is at least `SAME_RANKS` and its interval begins at `LOW_RANKS` or above."""

HU_LIMIT, BONE_LIMIT = 5.0, 40.0
"""Largest change of the mean HU of a tissue, and of bone, as in the quality control of a series."""

EFFECT_LIMIT = 0.1
"""Largest root mean square change of effects (Spearman's rho) that counts as none."""

SIGNIFICANT = 0.05

FEW = 15
"""Patients at a site below which the absence of a difference is not shown, and the page says so."""


@dataclass(frozen=True)
class Verdict:
    """A question, a traffic light and a sentence."""

    question: str
    status: Status
    sentence: str


def verdicts(found: FeatureComparison, images: ImageComparison | None = None) -> list[Verdict]:
    """All verdicts, in the order of the page."""
    result = []
    for pair in found.features.site_pairs:
        if images:
            result.append(_noise(images, pair))
        result.append(_distance(found, pair))
        result += [_separation(found, pair, state) for state in found.states]
    if images and images.changes:
        result.append(_hu(images))
    result += [_ranks(found, state) for state in found.states if state in (AFTER, BOTH)]
    result += [verdict for name in found.confounding for verdict in _covariate(found, name)]
    return result


def few_deals(m: int, n: int) -> bool:
    """Whether there are so few ways to deal patients to two sites that no difference of them could be significant."""
    from math import comb

    return comb(m + n, m) * SIGNIFICANT < 2


def _noise(images: ImageComparison, pair: SitePair) -> Verdict:
    question, shapes = f"Is the noise of {_and(pair)} alike?", images.shapes[pair]
    sizes = [len(images.powers[BEFORE][site]) for site in pair]
    if any(np.isnan(s.found) for s in shapes.values()):
        return Verdict(question, Status("neutral", "not known"), "A site has no uniform region to measure noise in.")
    words = [f"{state} {s.found:.2f} (by chance {s.expected:.2f}, p = {s.p:.3f})" for state, s in shapes.items()]
    sentence = f"The shapes of the noise spectra differ by (rms, natural logarithm of amplitude): {'; '.join(words)}."
    return Verdict(question, _alike(shapes[images.states[-1]], *sizes), sentence)


def _alike(found: ByChance, m: int, n: int) -> Status:
    if few_deals(m, n):
        return Status("neutral", "too few patients")
    if found.p < SIGNIFICANT:
        return Status("caution", "more than chance")
    return Status("neutral", "cannot be told") if min(m, n) < FEW else Status("good", "no more than chance")


def _hu(images: ImageComparison) -> Verdict:
    worst = {
        (site, tissue): abs(mean.mean) / (BONE_LIMIT if tissue == "bone" else HU_LIMIT)
        for site, tissues in images.changes.items()
        for tissue, mean in tissues.items()
        if not np.isnan(mean.mean)
    }
    question = "Do the HU of tissues stay?"
    if not worst:
        return Verdict(question, Status("neutral", "not known"), "No scan has enough of any tissue.")
    site, tissue = max(worst, key=lambda key: worst[key])
    status = Status("good", "they stay") if worst[site, tissue] <= 1 else Status("bad", "they change")
    mean = images.changes[site][tissue].mean
    limit = f"{HU_LIMIT:g} HU ({BONE_LIMIT:g} in bone)"
    sentence = (
        f"Standardization changes the mean of {tissue} at site {site} by {mean:+.1f} HU, the most "
        f"of all beside its limit, {limit}."
    )
    return Verdict(question, status, sentence)


def _distance(found: FeatureComparison, pair: SitePair) -> Verdict:
    distances = found.distances[pair]
    medians = {state: d.median for state, d in distances.items() if d.median is not None}
    question = f"Do the features of {_and(pair)} differ?"
    m, n = (found.features.count(site) for site in pair)
    if any(np.isnan(median.found) for median in medians.values()):
        return Verdict(question, Status("neutral", "too few patients"), "Cohen's d needs two patients at each site.")
    words = [f"{state} {d.found:.2f} (by chance {d.expected:.2f}, p = {d.p:.3f})" for state, d in medians.items()]
    many = len(found.features.names)
    sure = {state: sum(1 for i in distances[state].intervals if i.low > 0 or i.high < 0) for state in medians}
    counts = ", ".join(f"{state} {count}" for state, count in sure.items())
    sentence = (
        f"Median |d| over {many} features: {'; '.join(words)}. Intervals that exclude 0: {counts} of {many}, about "
        f"{many * SIGNIFICANT:.1f} by chance."
    )
    blamed = [name for name, c in found.confounding.items() if c.confounded]
    sentence += f" Some of it may be {', '.join(blamed)}, which also differs between the sites." if blamed else ""
    return Verdict(question, _alike(medians[AFTER if AFTER in medians else BEFORE], m, n), sentence)


def _separation(found: FeatureComparison, pair: SitePair, state: str) -> Verdict:
    question = f"Can a classifier tell {_and(pair)}, {state}?"
    separations = found.separations[pair][state]
    if reason := next((s.reason for s in separations.values() if s.reason), ""):
        return Verdict(question, Status("neutral", "not known"), f"It cannot be tried: {reason}.")
    words = [
        f"{CLASSIFIERS[name]}: AUC {s.auc:.2f} [{s.low:.2f}, {s.high:.2f}], p = {s.p:.3f}" for name, s in separations.items()
    ]
    excess = max(s.excess for s in separations.values())
    sizes = " + ".join(map(str, next(iter(separations.values())).patients))
    kinds = [kind(s) for s in separations.values()]
    sentence = f"Cross-validated over {sizes} patients, {'; '.join(words)}."
    if "can" in kinds:
        return Verdict(question, Status("caution", "it can"), sentence)
    if kinds == ["cannot"] * len(kinds):
        return Verdict(question, Status("good", "it cannot"), sentence)
    needed = patients_needed(excess, HALF_WIDTH)
    more = f" This leaves both open: to know an AUC of 0.5 to +- {HALF_WIDTH} takes about {needed} patients at each site."
    return Verdict(question, Status("neutral", "cannot be told"), sentence + more)


def kind(separation: Separation) -> str:
    """ "can", "cannot", or "unknown" if the interval leaves both open."""
    if separation.low > 0.5 and separation.p < SIGNIFICANT:
        return "can"
    return "cannot" if separation.auc <= CANNOT and separation.high < WIDE else "unknown"


def _ranks(found: FeatureComparison, state: str) -> Verdict:
    question = f"Do patients keep their ranks within a site, {state}?"
    words, judged = [], []
    for site, stability in found.ranks[state].items():
        if np.isnan(stability.median):
            words.append(f"{site}: {found.features.count(site)} patients, {MIN_PATIENTS} needed")
            continue
        rho = stability.rho[np.isfinite(stability.rho)]
        if state == AFTER and not standardized_site(found, site):
            words.append(f"{site}: not standardized")
            continue
        judged.append(stability)
        share, least = int((rho >= SAME_RANKS).sum()), found.features.names[int(np.nanargmin(stability.rho))]
        interval = f"[{stability.interval.low:.2f}, {stability.interval.high:.2f}]"
        named = f", the least {rho.min():.2f} ({least})" if share < len(rho) else ""
        words.append(
            f"{site}: median {stability.median:.3f} {interval}, {share} of {len(rho)} features at {SAME_RANKS} or more{named}"
        )
    sentence = f"Spearman's rho of features with those before. {'; '.join(words)}."
    if not judged:
        return Verdict(question, Status("neutral", "not known"), sentence)
    kinds = {ranks_kind(stability) for stability in judged}
    if kinds == {"stay"}:
        return Verdict(question, Status("good", "they do"), sentence)
    why = " Features of noise change their order with any kernel: patients scanned with both would show how much must."
    if "change" in kinds:
        return Verdict(question, Status("caution", "not all"), sentence + why)
    return Verdict(question, Status("neutral", "cannot be told"), f"{sentence} Patients are too few to say.{why}")


def ranks_kind(stability: Stability) -> str:
    """ "stay", "change", or "unknown" if the interval leaves both open."""
    interval = stability.interval
    if stability.median >= SAME_RANKS and interval.low >= LOW_RANKS:
        return "stay"
    return "change" if interval.high < SAME_RANKS else "unknown"


def _covariate(found: FeatureComparison, name: str) -> Iterator[Verdict]:
    """Whether its effect stays, and whether it is confounded with the sites."""
    confounding = found.confounding[name]
    means = ", ".join(f"{site} {mean:.4g}" for site, mean in confounding.means.items())
    if confounding.collinear:
        sentence = f"{name} is confounded with site (means {means}): its effect and that of the sites cannot be told apart."
        yield Verdict(f"Is {name} apart from site?", Status("bad", "confounded"), sentence)
        return
    if confounding.confounded:
        sentence = (
            f"{name} differs between the sites (means {means}; they explain {confounding.share:.0%} of it, p = "
            f"{confounding.p:.3f}): what is taken from the sites may be taken from {name}, by which a classifier may tell them."
        )
        yield Verdict(f"Is {name} apart from site?", Status("caution", "partly confounded"), sentence)
    if name in found.effects:
        yield from (_effect(found, name, state) for state in found.states if state != BEFORE)


def _effect(found: FeatureComparison, name: str, state: str) -> Verdict:
    question = f"Does the effect of {name} stay, {state}?"
    before, after = found.effects[name][BEFORE], found.effects[name][state]
    seen = before.q < SIGNIFICANT
    change = rms(after.within - before.within)
    pooled = (
        f"pooled over sites, effects are {rms(before.pooled - before.within):.2f} (rms) from those within sites before and "
    )
    pooled += f"{rms(after.pooled - before.within):.2f} {state}"
    if not seen.any():
        sentence = f"No feature goes with {name} within sites (q < {SIGNIFICANT}), so that there is nothing to lose; {pooled}."
        return Verdict(question, Status("neutral", "none was seen"), sentence)
    kept = seen & (after.q < SIGNIFICANT) & (np.sign(after.within) == np.sign(before.within))
    sentence = (
        f"Within sites, {seen.sum()} of {len(seen)} features go with {name} before (q < {SIGNIFICANT}), {kept.sum()} of these "
        f"{state}; rho changes by {change:.2f} (rms); {pooled}."
    )
    sentence += (
        " ComBat was told to keep it, which is no evidence for it."
        if name in found.harmonized.kept and state in (COMBAT, BOTH)
        else ""
    )
    stays = change <= EFFECT_LIMIT and kept.sum() >= 0.9 * seen.sum()
    level: Level = "good" if stays else "caution"
    return Verdict(question, Status(level, "it stays" if stays else "it changes"), sentence)


def rms(values: np.ndarray) -> float:
    """Root mean square of the defined values; NaN without any."""
    known = values[np.isfinite(values)]
    return float(np.sqrt(np.mean(known**2))) if len(known) else np.nan


def _and(pair: SitePair) -> str:
    return " and ".join(pair)
