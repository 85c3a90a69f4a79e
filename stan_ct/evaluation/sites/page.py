"""The page of sites side by side: verdicts first, then what they rest on, then how it was done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stan_ct.evaluation.sites import tables
from stan_ct.evaluation.sites.cohort import Cohort
from stan_ct.evaluation.sites.comparison import CLASSIFIERS, FeatureComparison, SitePair
from stan_ct.evaluation.sites.features import AFTER, BOTH, COMBAT
from stan_ct.evaluation.sites.images import ImageComparison
from stan_ct.evaluation.sites.verdicts import FEW, Verdict, verdicts
from stan_ct.evaluation.statistics.effects import MIN_PATIENTS
from stan_ct.evaluation.statistics.separation import FOLDS
from stan_ct.report.blocks import Group, Listing, Notice, Text
from stan_ct.report.sections import FigureSection, Section

if TYPE_CHECKING:
    from stan_ct.evaluation.sites.settings import SiteSettings


def sections(
    found: FeatureComparison, cohort: Cohort | None, images: ImageComparison | None, settings: SiteSettings | None
) -> list[Section]:
    """All sections of the page.

    Args:
        found: Comparison of features.
        cohort: The scans; None if features alone were given.
        images: Comparison of noise and HU; None as well.
        settings: How features were measured; None as well.
    """
    notes = [*(cohort.notes if cohort else ()), *found.harmonized.notes]
    result: list[Section] = [_verdicts(verdicts(found, images)), *_cannot(found)]
    result += [_scans(cohort)] if cohort else []
    result += [Group("Notes", tuple(Notice("neutral", note) for note in notes))] if notes else []
    result += _images(images) if images else []
    for pair in found.features.site_pairs:
        title = f"{pair[0]} to {pair[1]}"
        caption = f"Cohen's d of each feature, {title}, with 95 % intervals; 0: no difference. {tables.FITTED}."
        classifiers = {
            state: {CLASSIFIERS[name]: s for name, s in each.items()} for state, each in found.separations[pair].items()
        }
        ccc = tables.ccc_table(found, pair)
        result += [
            tables.summary_table(found, pair),
            _distance_figure(found, pair, f"Distance by feature, {title}", caption),
            tables.separation_table(found, pair),
            _auc_figure(classifiers, title),
            tables.d_table(found, pair),
            tables.ks_table(found, pair),
            *([ccc] if ccc else []),
        ]
    result += _biology(found)
    return [*result, Text("Methods", methods(found, cohort, settings))]


def _verdicts(found: Sequence[Verdict]) -> Group:
    rows = tuple((verdict.question, verdict.status, verdict.sentence) for verdict in found)
    return Group("Verdicts", (Listing(("Question", "Answer", "What was found"), rows),))


def _cannot(found: FeatureComparison) -> list[Section]:
    """What these data cannot show."""
    sizes = {site: found.features.count(site) for site in found.features.site_names}
    few = {site: n for site, n in sizes.items() if n < FEW}
    lines = []
    if few:
        who = ", ".join(f"{site} has {n}" for site, n in few.items())
        lines.append(
            f"Patients are few ({who}). That sites cannot be told apart takes more: absence of a difference is not shown by an "
            "interval that reaches from chance to near certainty."
        )
    if any(n < MIN_PATIENTS for n in sizes.values()):
        lines.append(f"Ranks within a site of fewer than {MIN_PATIENTS} patients say nothing.")
    if not found.confounding:
        lines.append("Whether biology stays: no covariates were given (--covariates), so that only ranks can be compared.")
    collinear = [name for name, c in found.confounding.items() if c.collinear]
    if collinear:
        lines.append(f"The effect of {', '.join(collinear)}: it cannot be told from that of the sites.")
    if found.undefined:
        why = "; ".join(f"{name}: {reason}" for name, reason in found.undefined.items())
        lines.append(f"Features that are not compared: {len(found.undefined)} ({why}).")
    return [Group("What cannot be told", tuple(Notice("caution", line) for line in lines))] if lines else []


def _scans(cohort: Cohort) -> Group:
    columns = ("Site", "Patients", "Kernel and thickness", "Pixel spacing [mm]", "Scanners", "Tube current [mA]")
    rows = []
    for site in cohort.features.site_names:
        files = [m.scan.files for m in cohort.measured if m.scan.site == site]
        scanners = sorted(
            {f"{f.first.get('Manufacturer', '?')} {f.first.get('ManufacturerModelName', '')}".strip() for f in files}
        )
        spacings = sorted({round(f.pixel_spacing[0], 3) for f in files})
        currents = sorted(float(c) for f in files if (c := f.first.get("XRayTubeCurrent")) not in (None, ""))
        protocols = sorted({m.scan.protocol for m in cohort.measured if m.scan.site == site})
        rows.append(
            (
                site,
                str(len(files)),
                "; ".join(protocols),
                f"{spacings[0]:g} to {spacings[-1]:g}" if len(spacings) > 1 else f"{spacings[0]:g}",
                "; ".join(scanners),
                f"{currents[0]:g} to {currents[-1]:g}" if currents else "not stated",
            )
        )
    return Group("Scans", (Listing(columns, tuple(rows)),))


def _images(images: ImageComparison) -> list[Section]:
    from stan_ct.evaluation.sites.figures import noise_figure, tissue_figure

    spectra = (
        "Noise spectra in uniform soft tissue of each patient, before and after in the same places: median over patients, "
        "and bands from the 10th to the 90th percentile, or from the smallest to the largest of fewer than ten."
    )
    tissues = "Mean HU of tissues, with 95 % intervals over patients."
    return [
        FigureSection("Noise spectra", spectra, noise_figure(images)),
        tables.noise_table(images),
        FigureSection("Tissues", tissues, tissue_figure(images)),
        tables.tissue_table(images),
    ]


def _distance_figure(found: FeatureComparison, pair: SitePair, name: str, caption: str) -> FigureSection:
    from stan_ct.evaluation.sites.figures import distance_figure

    return FigureSection(name, caption, distance_figure(found, pair))


def _auc_figure(classifiers: dict, title: str) -> FigureSection:
    from stan_ct.evaluation.sites.figures import separation_figure

    caption = (
        "Cross-validated AUC of two classifiers in every state, with 95 % intervals. Dashed: 0.5, the sites cannot be told."
    )
    return FigureSection(f"Classifiers, {title}", caption, separation_figure(classifiers))


def _biology(found: FeatureComparison) -> list[Section]:
    from stan_ct.evaluation.sites.figures import effect_figure, rank_figure

    result: list[Section] = []
    ranks, covariates = tables.rank_table(found), tables.covariate_table(found)
    if ranks:
        caption = "Spearman's rho of each feature with that before, over the patients of a site: a mark per feature."
        by_feature = tables.rank_by_feature_table(found)
        result += [ranks, FigureSection("Ranks by feature", caption, rank_figure(found)), *([by_feature] if by_feature else [])]
    result += [covariates] if covariates else []
    for name in found.effects:
        caption = (
            f"Effect of {name} on each feature: pooled over sites as if there were none, in every state, against within sites "
            "before, which no difference of the sites can feign. On the diagonal, pooling shows what is true within sites."
        )
        result += [tables.effect_table(found, name), FigureSection(f"Effects of {name}", caption, effect_figure(found, name))]
    return result


def methods(found: FeatureComparison, cohort: Cohort | None, settings: SiteSettings | None) -> str:
    """How it was done, for the methods section of a paper."""
    features = found.features
    sizes = ", ".join(f"{features.count(site)} at {site}" for site in features.site_names)
    parts = [f"{len(features.names)} features of {len(features.sites)} scans were compared ({sizes})."]
    if settings:
        low, high = settings.hu_range
        where = (
            "of the regions drawn"
            if settings.masks or settings.masks_beside
            else "of lung and of soft tissue, found in slices smoothed by 2 pixels,"
        )
        parts.append(
            f"Features {where} within [{low:g}, {high:g}] HU before and after: first-order statistics; histogram and "
            f"co-occurrence of gray levels of {settings.bin_width:g} HU from {low:g} HU on (IBSI Q3RU), distance 1, "
            f"{settings.aggregation}. No image was interpolated. Noise and HU of "
            f"tissues: up to {settings.slices} evenly spaced slices of each series."
        )
    combat = COMBAT in found.states or BOTH in found.states
    kept = f", keeping the effects of {', '.join(found.harmonized.kept)}" if found.harmonized.kept else ", without covariates"
    parts.append(
        "Distance: Cohen's d with the pooled standard deviation and intervals from the noncentral t distribution; the median "
        "of |d| against patients dealt to the sites at random."
    )
    parts.append(
        f"Classifiers: {' and '.join(CLASSIFIERS.values())} (scikit-learn's default penalty), cross-validated by patient in up "
        f"to {FOLDS} folds, {found.repeats} times; features were scaled{' and ComBat was fitted' if combat else ''} within the "
        "training folds. Only patients of one fold are compared with each other, so that the expected AUC without a difference "
        "is 0.5 for any number of patients. Intervals: score intervals (Newcombe 2006, method 5), their variance multiplied by "
        f"that of the AUC of {found.permutations} random deals over the formula's, where it is larger; p from the same deals."
    )
    if combat:
        parts.append(
            f"ComBat: parametric empirical Bayes (Johnson 2007){kept}. It over-corrects patients whom it was not fitted to, so "
            "that random deals have an AUC below 0.5; AUCs with ComBat are raised by what these lack to 0.5. For distances, "
            "ranks, effects and the CSV files it was fitted to all patients, as studies do; this makes distances near 0 by "
            "construction."
        )
    parts.append(
        "Ranks and effects: Spearman's rho over ranks within sites; its intervals by Fisher's transformation (Bonett and "
        "Wright 2000); q by Benjamini and Hochberg over the features."
    )
    parts.append("After standardization, features were measured in the same voxels." if AFTER in found.states else "")
    return "\n\n".join(part for part in parts if part)
