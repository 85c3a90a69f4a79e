"""Features of regions of interest (ROI) in source, synthesized and target volumes, and the tables of them.

rows = measure_rois(
    {"source": source_hu, "stan-ct": synthesized_hu, "target": target_hu},
    read_masks("lesions.dcm", source),
    {"25 HU": partial(fixed_bin_size, bin_width=25, low=-1000)},
    ["2.5D merged"],
)
tables = roi_tables(rows)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import NamedTuple

import numpy as np

from stan_ct.evaluation.statistics.agreement import bootstrap_interval, concordance
from stan_ct.features.errors import relative_error, summarize
from stan_ct.features.first_order import HISTOGRAM, STATISTICS, histogram_features, statistics
from stan_ct.features.glcm import ALL_FEATURES
from stan_ct.features.glcm_region import AGGREGATIONS, roi_features
from stan_ct.features.mirp import FAMILIES, UNDEFINED, load_mirp, mirp_features
from stan_ct.report.sections import Cell, Table

FEWEST_ROIS = 3
"""Of two ROIs any two features agree or disagree by chance, so there is no concordance of fewer."""

FLAT = "the feature does not vary over the ROIs"
ZERO_TARGET = "the target's feature is 0"
NO_STATISTIC = {
    "coefficient_of_variation": "the mean is 0 HU",
    "quartile_coefficient_of_dispersion": "the quartiles add up to 0 HU",
    "robust_mean_absolute_deviation": "no voxel lies between the 10th and the 90th percentile",
}
"""Statistic -> why it is undefined where it is."""

ToLevels = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""HU and mask, (Z, H, W) each -> gray levels, integers; a ValueError says why a ROI has none."""

TARGET = "target"

ERRORS = (
    "Relative errors of {group} features of ROIs against the target (Eq. 8): mean ± standard deviation over {rois} ROIs. 0 is "
    "equal to the target; what is close to 0 in the target, such as the mean HU of water, has large errors."
)
INTERVALS = " In brackets, the 95 % confidence interval of the mean over {patients} patients, resampled with all their ROIs."
ONE_PATIENT = "All ROIs are of one patient, so there are no confidence intervals."
CONCORDANCE = "Concordance (Lin) of {group} features with the target over {rois} ROIs. 1 is equal to the target."


class Measure(NamedTuple):
    """A feature, and its settings: "first-order", "first-order, 25 HU", "25 HU, 3D merged", "25 HU, GLRLM, 3D merged"."""

    group: str
    feature: str


Found = dict[Measure, tuple[float, str]]
"""Measure -> its value, and a note where there is something to say."""


@dataclass(frozen=True)
class RoiRows:
    """What was measured of R ROIs in I images, M measures each.

    Attributes:
        rois: Names of the ROIs; so `images` and `measures`.
        values: (R, I, M) float64, NaN where undefined.
        voxels: (R, I) number of voxels measured, after re-segmentation.
        notes: (ROI, image, measure) -> why it is undefined, or what its mean leaves out.
        patients: (R,) the patient of each ROI; empty if all are one's.
    Raises:
        ValueError: If two ROIs have one name, or something is undefined without a note, or there is not a patient for each.
    """

    rois: tuple[str, ...]
    images: tuple[str, ...]
    measures: tuple[Measure, ...]
    values: np.ndarray
    voxels: np.ndarray
    notes: Mapping[tuple[str, str, Measure], str]
    patients: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.patients and len(self.patients) != len(self.rois):
            raise ValueError(f"expected a patient for each of {len(self.rois)} ROIs, got {len(self.patients)}")
        if len(set(self.rois)) < len(self.rois):
            raise ValueError(f"expected ROIs of different names, got {', '.join(self.rois)}")
        for r, i, m in np.argwhere(np.isnan(self.values)):
            if (key := (self.rois[r], self.images[i], self.measures[m])) not in self.notes:
                raise ValueError(f"say why, {key}: it is undefined and no reason is given")

    def of(self, roi: str, image: str) -> dict[Measure, float]:
        """The measures of a ROI in an image."""
        values = self.values[self.rois.index(roi), self.images.index(image)]
        return dict(zip(self.measures, values.tolist(), strict=True))

    def column(self, image: str, measure: Measure) -> np.ndarray:
        """A measure of all ROIs in an image, (R,)."""
        return self.values[:, self.images.index(image), self.measures.index(measure)]


def measure_rois(
    images: Mapping[str, np.ndarray],
    masks: Mapping[str, np.ndarray],
    discretizations: Mapping[str, ToLevels],
    aggregations: Sequence[str],
    hu_range: tuple[float, float] | None = None,
    wider: bool = False,
) -> RoiRows:
    """Measures every ROI in every image: first-order statistics, and texture for each discretization and aggregation.

    Args:
        images: Name -> (Z, H, W) HU, all on one grid: "source", "target" and what was made of the source.
        masks: ROI -> (Z, H, W) bool; from :func:`~stan_ct.evaluation.measure.masks.read_masks`.
        discretizations: Name -> HU and mask to gray levels, such as `partial(fixed_bin_size, bin_width=25, low=-1000)`.
        aggregations: Of :data:`~stan_ct.features.glcm_region.AGGREGATIONS`.
        hu_range: Re-segmentation, HU: voxels outside [low, high] leave the ROI (IBSI); None for none.
        wider: Whether texture is that of :mod:`~stan_ct.features.mirp` too.
    Returns:
        All measures; where a ROI has none (it is empty, or has HU that a discretization does not take), NaN and a note.
    Raises:
        ValueError: If images and masks are not of one shape, an aggregation is unknown, or a voxel in a ROI is NaN.
        NotComparable: If wider features are wanted and MIRP is not installed.
    Note:
        Each image is re-segmented by its own HU, as in a study that has no other image; `voxels` shows what that changes.
    """
    shapes = {name: np.shape(array) for name, array in (*images.items(), *masks.items())}
    if len(set(shapes.values())) != 1 or not (images and masks) or any(mask.dtype != bool for mask in masks.values()):
        raise ValueError(f"expected images and masks (bool) of one shape (Z, H, W), got {shapes}")
    if unknown := set(aggregations) - set(AGGREGATIONS):
        raise ValueError(f"expected aggregations of {', '.join(AGGREGATIONS)}, got {sorted(unknown)}")
    if wider:
        load_mirp()
    low, high = hu_range or (-np.inf, np.inf)
    empty = f"no voxel of the ROI lies in [{low:g}, {high:g}] HU" if hu_range else "the mask is empty"
    found, voxels = {}, {}
    for (roi, mask), (image, hu) in product(masks.items(), images.items()):
        box = _box(mask)
        kept = mask[box] & ~((hu[box] < low) | (hu[box] > high))  # so a NaN is kept, and refused
        found[roi, image] = _measure(hu[box], kept, mask[box] if wider else None, discretizations, aggregations, empty)
        voxels[roi, image] = kept.sum()
    measures = tuple(next(iter(found.values())))
    values = np.array([[[found[roi, image][m][0] for m in measures] for image in images] for roi in masks])
    notes = {(*key, measure): note for key, of in found.items() for measure, (_, note) in of.items() if note}
    counts = np.array([[voxels[roi, image] for image in images] for roi in masks])
    return RoiRows(tuple(masks), tuple(images), measures, values, counts, notes)


def _box(mask: np.ndarray) -> tuple[slice, ...]:
    """The box around a ROI; of an empty one a voxel."""
    marked = [np.flatnonzero(mask.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    return tuple(slice(index[0], index[-1] + 1) if len(index) else slice(0, 1) for index in marked)


def _measure(
    hu: np.ndarray,
    mask: np.ndarray,
    outline: np.ndarray | None,
    discretizations: Mapping[str, ToLevels],
    aggregations: Sequence[str],
    empty: str,
) -> Found:
    """All measures of a ROI in an image; `empty` says why it has no voxel, where it has none.

    With the ROI before re-segmentation, `outline`, wider features too.
    """
    values = (
        {f: value[0] for f, value in statistics(hu[mask][None]).items()} if mask.any() else dict.fromkeys(STATISTICS, np.nan)
    )
    reasons = NO_STATISTIC if mask.any() else dict.fromkeys(STATISTICS, empty)
    found = {Measure("first-order", f): (float(x), reasons[f] if np.isnan(x) else "") for f, x in values.items()}
    for name, to_levels in discretizations.items():
        try:
            if not mask.any():
                raise ValueError(empty)
            found |= _of_levels(name, to_levels(hu, mask), mask, outline, aggregations)
        except ValueError as error:
            groups = {f"first-order, {name}": HISTOGRAM} | {f"{name}, {a}": ALL_FEATURES for a in aggregations}
            wider = {} if outline is None else FAMILIES
            groups |= {f"{name}, {family}, {a}": names.values() for a in aggregations for family, names in wider.items()}
            found |= {Measure(group, f): (np.nan, str(error)) for group, features in groups.items() for f in features}
    return found


def _of_levels(
    name: str, levels: np.ndarray, mask: np.ndarray, outline: np.ndarray | None, aggregations: Sequence[str]
) -> Found:
    """Histogram and texture in the gray levels of one discretization."""
    histogram = histogram_features(levels[mask][None])
    found = {Measure(f"first-order, {name}", f): (float(value[0]), "") for f, value in histogram.items()}
    for aggregation in aggregations:
        texture = roi_features(levels, mask, aggregation)
        found |= {Measure(f"{name}, {aggregation}", f): (texture.values[f], texture.notes.get(f, "")) for f in ALL_FEATURES}
        for family, values in (mirp_features(levels, mask, outline, aggregation) if outline is not None else {}).items():
            group = f"{name}, {family}, {aggregation}"
            found |= {Measure(group, f): (x, UNDEFINED if np.isnan(x) else "") for f, x in values.items()}
    return found


def join(parts: Mapping[str, RoiRows], patients: Mapping[str, str]) -> RoiRows:
    """The ROIs of several series as one, named "series, ROI"; `patients` says of which patient a series is.

    Raises:
        ValueError: If they were not measured alike.
    """
    first, *others = parts.values()
    if any((part.images, part.measures) != (first.images, first.measures) for part in others):
        raise ValueError("expected the same images, discretizations and aggregations for all series")
    return RoiRows(
        tuple(f"{series}, {roi}" for series, part in parts.items() for roi in part.rois),
        first.images,
        first.measures,
        np.concatenate([part.values for part in parts.values()]),
        np.concatenate([part.voxels for part in parts.values()]),
        {(f"{s}, {roi}", *of): note for s, part in parts.items() for (roi, *of), note in part.notes.items()},
        tuple(patients[series] for series, part in parts.items() for _ in part.rois),
    )


def roi_tables(rows: RoiRows, title: str = "ROIs", resamples: int = 10_000, seed: int = 0) -> list[Table]:
    """Tables for each group of measures: errors and concordance, where there is a target, and the values of every ROI.

    Errors have confidence intervals over patients, of so many `resamples`, where there are two patients or more.
    """
    groups = dict.fromkeys(measure.group for measure in rows.measures)
    tables = []
    if TARGET in rows.images:
        patients = len(set(rows.patients))
        error = partial(_error, resamples=resamples, seed=seed) if patients > 1 else _error
        caption, notes = (ERRORS + INTERVALS.format(patients=patients), ()) if patients > 1 else (ERRORS, (ONE_PATIENT,))
        tables += [_compared(rows, group, f"{title}, errors", caption, error, "lower", notes) for group in groups]
        tables += [_compared(rows, group, f"{title}, concordance", CONCORDANCE, _concordance, "higher") for group in groups]
    return [*tables, *(_values(rows, group, f"{title}, values") for group in groups)]


def _compared(
    rows: RoiRows, group: str, title: str, caption: str, cell: Callable[..., Cell], better: str, notes: tuple[str, ...] = ()
) -> Table:
    """Images by features of a group, each image compared with the target."""
    measures = [m for m in rows.measures if m.group == group]
    cells = {image: tuple(cell(rows, image, m) for m in measures) for image in rows.images if image != TARGET}
    columns, reference = tuple(m.feature for m in measures), frozenset({"source"} & set(cells))
    caption = caption.format(rois=len(rows.rois), group=group)
    return Table(f"{title}, {group}", caption, columns, cells, better=better, reference=reference, notes=notes)


def _error(rows: RoiRows, image: str, measure: Measure, resamples: int = 0, seed: int = 0) -> Cell:
    """The mean error; its interval over patients where there are `resamples`."""
    errors = relative_error(rows.column(image, measure), rows.column(TARGET, measure))
    s, reason = summarize(errors), _why(rows, image, measure, np.isnan(errors))
    if not resamples:
        return Cell(s.mean, s.sd, n=s.n, undefined=s.undefined, reason=reason)
    interval = bootstrap_interval(errors, np.array(rows.patients), resamples=resamples, seed=seed)
    return Cell(s.mean, s.sd, interval.low, interval.high, s.n, s.undefined, "; ".join(filter(None, (reason, interval.reason))))


def _concordance(rows: RoiRows, image: str, measure: Measure) -> Cell:
    both = np.stack([rows.column(image, measure), rows.column(TARGET, measure)])  # (2, R)
    without = np.isnan(both).any(axis=0)
    n, reason = int((~without).sum()), _why(rows, image, measure, without)
    value = float(concordance(*both[:, ~without])) if n >= FEWEST_ROIS else np.nan
    none = f"ROIs that have the feature: {n}, {FEWEST_ROIS} needed" if n < FEWEST_ROIS else FLAT if np.isnan(value) else ""
    return Cell(value, n=n, undefined=len(without) - n, reason="; ".join(filter(None, (none, reason))))


def _why(rows: RoiRows, image: str, measure: Measure, without: np.ndarray) -> str:
    """Why some ROIs, (R,) bool, cannot be compared with the target: every reason once."""
    reasons = []
    for roi in np.array(rows.rois)[without]:
        notes = [rows.notes[roi, i, measure] for i in (image, TARGET) if np.isnan(rows.of(roi, i)[measure])]
        reasons += notes or [ZERO_TARGET]
    return "; ".join(dict.fromkeys(reasons))


def _values(rows: RoiRows, group: str, title: str) -> Table:
    measures = [m for m in rows.measures if m.group == group]
    cells = {}
    for (r, roi), (i, image) in product(enumerate(rows.rois), enumerate(rows.images)):
        values = rows.of(roi, image)
        numbers = [Cell(values[m], reason=rows.notes.get((roi, image, m), "")) for m in measures]
        cells[f"{roi}, {image}"] = (Cell(float(rows.voxels[r, i])), *numbers)
    caption = f"Features of every ROI in every image ({group}), and the voxels that were measured."
    columns = ("voxels", *(m.feature for m in measures))
    return Table(f"{title}, {group}", caption, columns, cells, better="neither", decimals={"voxels": 0})
