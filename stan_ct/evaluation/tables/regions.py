"""Tables of regions of interest: errors against the target, concordance with it, and the features of each region.

tables = roi_tables(measure_rois(...))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product

import numpy as np

from stan_ct.evaluation.measure.region_features import Loss, Measure, RoiRows
from stan_ct.evaluation.statistics.agreement import bootstrap_interval, concordance
from stan_ct.evaluation.tables.rows import SOURCE, TARGET, ZERO_TARGET
from stan_ct.features.errors import relative_error, summarize
from stan_ct.report.sections import Cell, Table, slug

MIN_ROIS = 3
"""Least number of ROIs with a concordance: any feature of two ROIs agrees or disagrees by chance."""

FLAT = "the feature does not vary over the ROIs"

ERRORS = (
    "Relative errors of {group} features of ROIs against the target (Eq. 8): mean ± standard deviation over {rois} ROIs. 0 is "
    "equal to the target; what is close to 0 in the target, such as the mean HU of water, has large errors."
)
INTERVALS = " In brackets, the 95 % confidence interval of the mean over {patients} patients, resampled with all their ROIs."
ONE_PATIENT = "All ROIs are of one patient, so there are no confidence intervals."
CONCORDANCE = "Concordance (Lin) of {group} features with the target over {rois} ROIs. 1 is equal to the target."


def roi_tables(rows: RoiRows, title: str = "ROIs", resamples: int = 10_000, seed: int = 0) -> list[Table]:
    """Tables of each group of measures: errors and concordance if there is a target, and the values of every ROI.

    Args:
        rows: Measurements of the ROIs.
        title: Start of the titles, and of the keys.
        resamples: Number of bootstrap samples of patients; with one patient, errors have no confidence intervals.
        seed: Seed of the bootstrap.
    """
    groups = dict.fromkeys(measure.group for measure in rows.measures)
    tables = []
    if TARGET in rows.images:
        patients = len(set(rows.patients))
        error = partial(_error, resamples=resamples, seed=seed) if patients > 1 else _error
        caption, notes = (ERRORS + INTERVALS.format(patients=patients), ()) if patients > 1 else (ERRORS, (ONE_PATIENT,))
        tables += [_compared(rows, group, f"{title}, errors", caption, error, notes) for group in groups]
        agreement = f"{title}, concordance"
        tables += [_compared(rows, group, agreement, CONCORDANCE, _concordance, better="higher") for group in groups]
    return [*tables, *(_values(rows, group, f"{title}, values") for group in groups)]


def voxel_table(rows: RoiRows, title: str = "ROIs") -> Table:
    """Voxels of every ROI: drawn, on slices that not all images have, outside the HU range, and measured."""
    cells, notes = {}, []
    for roi, drawn, measured in zip(rows.rois, rows.drawn.tolist(), rows.voxels.tolist(), strict=True):
        lost = sum(loss.voxels for loss in rows.lost.get(roi, ()))
        cells[roi] = tuple(Cell(float(number)) for number in (drawn, lost, drawn - lost - measured, measured))
        notes += [loss_sentence(rows, roi)] if lost else []
    columns = ("drawn", "on missing slices", "outside the HU range", "measured")
    caption = "Voxels of every ROI, the same in every image."
    return Table(
        f"{title}, voxels", caption, columns, cells, "neither", decimals=0, notes=tuple(notes), key=slug(f"{title} voxels")
    )


def loss_sentence(rows: RoiRows, roi: str) -> str:
    """Says of a ROI how many voxels lie on missing slices, why, and where along the normal."""
    reasons: dict[str, list[Loss]] = {}
    for loss in rows.lost[roi]:
        reasons.setdefault(loss.reason, []).append(loss)
    parts = [
        f"{reason} at {', '.join(f'{loss.location:g}' for loss in losses)} mm ({_voxels(losses)})"
        for reason, losses in reasons.items()
    ]
    lost, drawn = sum(loss.voxels for loss in rows.lost[roi]), rows.drawn[rows.rois.index(roi)]
    return f"{roi}: {lost:,} of {drawn:,} voxels are measured in no image: {'; '.join(parts)}"


def _voxels(losses: Sequence[Loss]) -> str:
    count = sum(loss.voxels for loss in losses)
    return f"{count:,} voxel{'s' if count != 1 else ''}"


def _compared(
    rows: RoiRows,
    group: str,
    title: str,
    caption: str,
    cell: Callable[..., Cell],
    notes: tuple[str, ...] = (),
    better: str = "lower",
) -> Table:
    """Images by features of a group, each image compared with the target."""
    measures = [m for m in rows.measures if m.group == group]
    cells = {image: tuple(cell(rows, image, m) for m in measures) for image in rows.images if image != TARGET}
    columns, reference = tuple(m.feature for m in measures), frozenset({SOURCE} & set(cells))
    caption = caption.format(rois=len(rows.rois), group=group)
    title = f"{title}, {group}"
    return Table(title, caption, columns, cells, better=better, reference=reference, notes=notes, key=slug(title))


def _error(rows: RoiRows, image: str, measure: Measure, resamples: int = 0, seed: int = 0) -> Cell:
    """Mean error, with a confidence interval over patients if `resamples` is not 0."""
    errors = relative_error(rows.column(image, measure), rows.column(TARGET, measure))
    s, reason = summarize(errors), _why(rows, image, measure, np.isnan(errors))
    if not resamples:
        return Cell(s.mean, s.sd, n=s.n, undefined=s.undefined, reason=reason)
    interval = bootstrap_interval(errors, np.array(rows.patients), resamples=resamples, seed=seed)
    return Cell(s.mean, s.sd, interval.low, interval.high, s.n, s.undefined, "; ".join(filter(None, (reason, interval.reason))))


def _concordance(rows: RoiRows, image: str, measure: Measure) -> Cell:
    both = np.stack([rows.column(image, measure), rows.column(TARGET, measure)])  # (2, R)
    undefined = np.isnan(both).any(axis=0)
    n, reason = int((~undefined).sum()), _why(rows, image, measure, undefined)
    value = float(concordance(*both[:, ~undefined])) if n >= MIN_ROIS else np.nan
    none = f"ROIs that have the feature: {n}, {MIN_ROIS} needed" if n < MIN_ROIS else FLAT if np.isnan(value) else ""
    return Cell(value, n=n, undefined=len(undefined) - n, reason="; ".join(filter(None, (none, reason))))


def _why(rows: RoiRows, image: str, measure: Measure, undefined: np.ndarray) -> str:
    """Reasons why some ROIs, (R,) bool, cannot be compared with the target, each once."""
    reasons = []
    for roi in np.array(rows.rois)[undefined]:
        notes = [rows.notes[roi, i, measure] for i in (image, TARGET) if np.isnan(rows.of(roi, i)[measure])]
        reasons += notes or [ZERO_TARGET]
    return "; ".join(dict.fromkeys(reasons))


def _values(rows: RoiRows, group: str, title: str) -> Table:
    measures = [m for m in rows.measures if m.group == group]
    cells = {}
    for (r, roi), image in product(enumerate(rows.rois), rows.images):
        values = rows.of(roi, image)
        numbers = [Cell(values[m], reason=rows.notes.get((roi, image, m), "")) for m in measures]
        cells[f"{roi}, {image}"] = (Cell(float(rows.voxels[r])), *numbers)
    caption = f"Features of every ROI in every image ({group}), and the voxels that were measured."
    columns = ("voxels", *(m.feature for m in measures))
    title = f"{title}, {group}"
    return Table(title, caption, columns, cells, better="neither", decimals={"voxels": 0}, key=slug(title))
