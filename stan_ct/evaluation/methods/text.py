"""The methods paragraph of a report, item by item of the CLEAR and IBSI reporting guidelines.

It states what the record holds and nothing else, including what was not done. Item numbers: CLEAR 1.0 (Kocak et al., Insights
into Imaging 14 (2023) 75); IBSI reference manual, chapter "Radiomics reporting guidelines and nomenclature".
"""

from __future__ import annotations

from dataclasses import dataclass

from stan_ct.ct.hounsfield import SOFT_TISSUE
from stan_ct.evaluation.measure.image_quality import REGION, REGIONS
from stan_ct.evaluation.methods.facts import (
    AGGREGATIONS,
    DISCRETIZATIONS,
    KINDS,
    Bootstrap,
    Concordance,
    PairedTests,
    Patches,
    Record,
    Regions,
)
from stan_ct.evaluation.statistics.image_quality import LUNG_AREA
from stan_ct.features import glcm_region as roi
from stan_ct.features.glcm import ANGLES, DISTANCE, IBSI

PHANTOM = (
    "The definitions of the features are those that the test suite of stan-ct compares with the published values of IBSI's "
    "digital phantom; this report did not repeat that comparison."
)


@dataclass(frozen=True)
class Statement:
    """Part of the methods, with the items of the guidelines that it answers."""

    heading: str
    text: str
    items: str


def methods_text(record: Record) -> str:
    """Methods as text, a paragraph per statement."""
    return "\n\n".join(f"**{s.heading}.** {s.text} ({s.items})" for s in statements(record))


def statements(record: Record) -> tuple[Statement, ...]:
    """Methods, item by item."""
    return (
        Statement("Data", _data(record), "CLEAR 13, 15; IBSI 8"),
        Statement("Image interpolation", _interpolation(record), "CLEAR 22; IBSI 50a, 51"),
        Statement("Regions of interest", _regions(record.regions), "CLEAR 19; IBSI 48c, 55"),
        Statement("Discretization", _discretization(record), "CLEAR 23; IBSI 56a-c"),
        Statement("Texture features", _features(record), "CLEAR 24-27; IBSI 57, 58, 62-65"),
        Statement("Error", _error(record.errors), "CLEAR 39"),
        Statement("Image quality", _quality(record.quality), "CLEAR 39"),
        Statement("Statistics", _statistics(record), "CLEAR 40, 41"),
        Statement("Undefined values", _undefined(record), "CLEAR 29"),
        Statement("Software", _software(record), "CLEAR 25; IBSI 59, 61"),
    )


def _data(record: Record) -> str:
    kinds = {KINDS[data.real] for data in record.data}
    kind = kinds.pop() if len(kinds) == 1 else f"partly {', partly '.join(sorted(kinds))}"
    sets = "; ".join(
        f"{d.description} ({KINDS[d.real]}; {_count(d.patients, 'patient')}{slices})"
        for d in record.data
        for slices in ["" if d.slices is None else f", {_count(d.slices, 'slice')}"]
    )
    split = record.split or "How the patients were separated from those of training was not recorded"
    return f"The CT images are {kind}: {sets}. {split}."


def _interpolation(record: Record) -> str:
    if record.interpolation:
        return f"Images were interpolated: {record.interpolation}."
    return "No image interpolation was applied; features were calculated in the pixels of the reconstruction."


def _regions(regions: Patches | Regions) -> str:
    if isinstance(regions, Patches):
        return (
            f"Nothing was segmented. The regions are {_count(regions.count, 'square patch', 'es')} of {regions.size} x "
            f"{regions.size} pixels (the whole of a smaller slice) with a stride of {regions.stride} pixels, the last row and "
            "column moved back to the border, in which at least "
            f"{100 * regions.min_soft_tissue:g}% of the source's pixels are soft tissue, {_range(SOFT_TISSUE)}. All images "
            "have the same patches. They were not re-segmented."
        )
    cut = f"cut to {_range(regions.resegmentation)}" if regions.resegmentation else "not re-segmented"
    return f"{_count(regions.count, 'region')}, segmented as follows: {regions.segmentation}. They were {cut}."


def _discretization(record: Record) -> str:
    sets = "; ".join(
        f"{name} ({code}), {g.levels} gray levels of {g.bin_width:.4g} HU over {_range((g.low, g.high))}"
        for g in record.gray_levels
        for name, code in [DISCRETIZATIONS[g.by]]
    )
    return (
        f"{sets[:1].upper()}{sets[1:]}. The edges are the same in all images and regions; HU outside count to the end levels."
    )


def _features(record: Record) -> str:
    names = ", ".join(_feature(name) for name in record.features)
    way, words = roi.AGGREGATIONS[record.aggregation], AGGREGATIONS[record.aggregation]
    in_space = way.offsets == roi.IN_SPACE
    directions = f"{len(roi.IN_SPACE)} directions in space" if in_space else f"angles {_angles()} degrees"
    flat = " The correlation of a flat region is 1 by definition." if "correlation" in record.features else ""
    return (
        f"{_count(len(record.features), 'feature')} of the gray-level co-occurrence matrix, of images without further filter: "
        f"{names}. Matrices are symmetric and normalized, distance {DISTANCE} pixel (Chebyshev), {directions}, no distance "
        f"weighting; aggregation {record.aggregation} ({way.code}): features are {words}.{flat}"
    )


def _feature(name: str) -> str:
    ibsi, code = IBSI[name]
    return f"{name} ({code})" if ibsi == name else f"{name} ({ibsi}, {code})"


def _angles() -> str:
    return ", ".join(map(str, ANGLES))


def _error(errors: bool) -> str:
    if not errors:
        return "No errors against a target were calculated."
    return (
        "The error of a feature is relative to the target's (Eq. 8), |feature of the image - feature of the target| / |feature "
        "of the target|, in each region, then averaged over the regions, with the standard deviation (n - 1)."
    )


def _quality(quality: bool) -> str:
    if not quality:
        return "Noise, emphysema index, PSNR and SSIM of the images were not measured."
    return (
        f"PSNR and SSIM (Gaussian windows of 1.5 pixels, Wang et al. 2004) were calculated slice by slice where the source is "
        f"soft tissue, of HU clipped to {_range(SOFT_TISSUE)}; the emphysema index LAA-950 is the percentage of lung, air of "
        f"at least {LUNG_AREA:g} cm^2 within the body in a slice of the target, that is below -950 HU. Noise was measured in "
        f"at most {REGIONS} uniform regions of {REGION} x {REGION} pixels a slice, found in the target: the standard deviation "
        "around a trend of second order, the mean frequency of its power spectrum P, and the error of P, the sum of |P - P of "
        "the target| over the sum of the target's, over frequencies weighted by area. The MTF, which takes a phantom, was not "
        "measured."
    )


def _statistics(record: Record) -> str:
    return " ".join([_intervals(record.bootstrap), _agreement(record.concordance), _tests(record.tests)])


def _intervals(bootstrap: Bootstrap | None) -> str:
    if bootstrap is None:
        return "No confidence intervals were calculated."
    return (
        f"Confidence intervals of {100 * bootstrap.confidence:g}% are percentiles of {bootstrap.resamples:,} bootstrap samples "
        f"of patients, each with all its regions (seed {bootstrap.seed})."
    )


def _agreement(concordance: Concordance | None) -> str:
    if concordance is None:
        return "No concordance was calculated."
    return (
        f"Agreement is Lin's concordance correlation coefficient over {concordance.over} (variances divided by n); a feature "
        f"of {concordance.threshold:g} or more counts as reproducible. Beside it stands the intraclass correlation of "
        "absolute agreement, ICC(2,1) (two-way random effects, one measurement)."
    )


def _tests(tests: PairedTests | None) -> str:
    if tests is None:
        return "No hypothesis was tested."
    values = _count(tests.adjusted_together, "p value")
    return (
        f"{_capital(tests.comparison)} were compared by the two-sided Wilcoxon signed-rank test, {values} adjusted together "
        "for the false discovery rate (Benjamini-Hochberg)."
    )


def _undefined(record: Record) -> str:
    undefined = "; ".join(f"{count:,} because {reason}" for reason, count in record.undefined.items() if count)
    excluded = "; ".join(f"{count:,} {reason}" for reason, count in record.excluded.items() if count)
    first = f"Undefined, not averaged and not replaced: {undefined}." if undefined else "No value was undefined."
    return f"{first} Excluded: {excluded}." if excluded else f"{first} Nothing was excluded."


def _software(record: Record) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    return f"{versions}. {PHANTOM}"


def _range(hu: tuple[float, float]) -> str:
    return f"[{hu[0]:g}, {hu[1]:g}] HU"


def _count(number: int, noun: str, plural: str = "s") -> str:
    return f"{number:,} {noun}{plural if number != 1 else ''}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
