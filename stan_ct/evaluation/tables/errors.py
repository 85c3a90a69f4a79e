"""Tables of texture errors: Table 1 (Eq. 8), their tests, and features before and after where there is no target."""

from __future__ import annotations

import numpy as np

from stan_ct.evaluation.measure.measurement import MEASURES, Measured
from stan_ct.evaluation.statistics.agreement import bootstrap_interval, cohens_dz, wilcoxon_fdr
from stan_ct.evaluation.tables.rows import REFERENCE, TARGET, ZERO_TARGET, Rows, compared_rows
from stan_ct.features.errors import relative_error, summarize
from stan_ct.features.glcm import ALL_FEATURES, FEATURES
from stan_ct.report.sections import Cell, Table, slug

SAME_DIFFERENCE = "the errors differ by the same everywhere, or there are fewer than two patches"


def errors_of(row: Measured, rows: Rows, names: tuple[str, ...] = FEATURES) -> np.ndarray:
    """Relative errors (Eq. 8) of a row's features against the target's, (N, len(names)); NaN where undefined."""
    columns = [MEASURES.index(name) for name in names]
    return relative_error(row.features[:, columns], rows[TARGET].features[:, columns])


def error_table(heading: str, subject: str, rows: Rows, patients: np.ndarray, resamples: int, seed: int) -> Table:
    """Errors (Eq. 8) of the five features: mean and standard deviation over patches, confidence intervals over patients.

    Args:
        heading: Start of the title, such as "Table 1".
        subject: What was measured, such as "BL57 to BL64": the rest of the title, and of the key.
        rows: Measurements.
        patients: Patient of each patch, (N,).
        resamples: Number of bootstrap samples of patients.
        seed: Seed of the bootstrap.
    """
    cells = {name: _error_cells(errors_of(row, rows), patients, resamples, seed) for name, row in compared_rows(rows).items()}
    caption = (
        "Relative error of texture features against the target (Eq. 8): mean ± standard deviation over patches, and the "
        "95 % confidence interval of the mean, patients resampled. 0 is equal to the target."
    )
    return Table(f"{heading}, {subject}", caption, FEATURES, cells, reference=REFERENCE, key=f"errors_{slug(subject)}")


def _error_cells(errors: np.ndarray, patients: np.ndarray, resamples: int, seed: int) -> tuple[Cell, ...]:
    cells = []
    for column in errors.T:
        s, interval = summarize(column), bootstrap_interval(column, patients, resamples=resamples, seed=seed)
        reason = ZERO_TARGET if s.undefined else interval.reason
        cells.append(Cell(s.mean, s.sd, interval.low, interval.high, s.n, s.undefined, reason))
    return tuple(cells)


def comparison_table(subject: str, rows: Rows, ours: str) -> Table | None:
    """Errors of one row against those of every other, patch by patch: effect size, and q of Wilcoxon's test.

    None if there is nothing to compare with.
    """
    others = {name: row for name, row in compared_rows(rows).items() if name != ours}
    if ours not in rows or not others:
        return None
    own = errors_of(rows[ours], rows)
    defined = np.isfinite(own).all(axis=1)  # a matter of the target, so the same in all rows
    cells = {name: _test_cells(errors_of(row, rows)[defined], own[defined]) for name, row in others.items()}
    columns = tuple(f"{feature}, {number}" for feature in FEATURES for number in ("d", "q"))
    caption = (
        f"Errors of each row minus those of {ours}, over patches: Cohen's d of the differences (positive where {ours} has the "
        "smaller error), and q, the p of Wilcoxon's signed-rank test adjusted for the five features (Benjamini-Hochberg)."
    )
    notes = ["Patches of a patient are alike, so q understates what chance can do; the confidence intervals go by patients."]
    if not defined.all():
        notes.append(f"{(~defined).sum():,} of {len(defined):,} patches are excluded: {ZERO_TARGET}.")
    return Table(
        f"Tests, {subject}",
        caption,
        columns,
        cells,
        better="neither",
        reference=REFERENCE & set(cells),
        notes=tuple(notes),
        key=f"tests_{slug(subject)}",
    )


def _test_cells(others: np.ndarray, own: np.ndarray) -> tuple[Cell, ...]:
    """Effect size and q of each feature, from the errors of two rows, (N, features) each."""
    effects, tests = cohens_dz(others, own), wilcoxon_fdr(others, own)
    numbers = [float(value) for pair in zip(effects, tests.q, strict=True) for value in pair]
    return tuple(Cell(number, n=len(own), reason="" if np.isfinite(number) else SAME_DIFFERENCE) for number in numbers)


def change_table(rows: Rows) -> Table:
    """Texture features before and after, for series without a target: mean and standard deviation over patches."""
    columns = [MEASURES.index(name) for name in ALL_FEATURES]
    cells = {name: tuple(_feature_cell(row.features[:, column]) for column in columns) for name, row in rows.items()}
    caption = "Texture features of the source and of what was made of it: mean ± standard deviation over patches."
    title, key = "Features before and after", "features_before_and_after"
    return Table(title, caption, ALL_FEATURES, cells, better="neither", reference=REFERENCE, key=key)


def _feature_cell(values: np.ndarray) -> Cell:
    s = summarize(values)
    return Cell(s.mean, s.sd, n=s.n, undefined=s.undefined, reason="undefined for a flat patch" if s.undefined else "")
