"""Measured rows -> the tables of a study: errors (Table 1), concordance, tests, HU by tissue."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from stan_ct.evaluation.measure.measurement import MEASURES, PLACES, Measured
from stan_ct.evaluation.statistics.agreement import (
    REPRODUCIBLE,
    bootstrap_interval,
    cohens_dz,
    concordance,
    icc_agreement,
    reproducible,
    wilcoxon_fdr,
)
from stan_ct.evaluation.statistics.combat import NoCombat, combat
from stan_ct.features.errors import relative_error, summarize
from stan_ct.features.glcm import ALL_FEATURES, FEATURES
from stan_ct.report.sections import Cell, Table

REFERENCE = ("source",)
"""Rows that do not compete."""

ZERO_TARGET = "the target's feature is 0"
FLAT = "the feature does not vary over the patches, or is undefined in some"
ALIKE = "the errors differ by the same everywhere, or there are fewer than two patches"
NO_PIXELS = "no pixel of this tissue"

Rows = Mapping[str, Measured]
"""`target`, `source` and methods, by name."""


class Agreement(NamedTuple):
    """Agreement of every feature with the target over the patches, (len(MEASURES),) each: Lin's coefficient, ICC(2,1)."""

    ccc: np.ndarray
    icc: np.ndarray


def methods_of(rows: Rows) -> dict[str, Measured]:
    """All but the target."""
    return {name: row for name, row in rows.items() if name != "target"}


def errors_of(row: Measured, rows: Rows, names: tuple[str, ...] = FEATURES) -> np.ndarray:
    """Relative errors (Eq. 8) of a row's features against the target's, (N, len(names)); NaN where undefined."""
    columns = [MEASURES.index(name) for name in names]
    return relative_error(row.features[:, columns], rows["target"].features[:, columns])


def error_table(title: str, rows: Rows, patients: np.ndarray, resamples: int, seed: int) -> Table:
    """Table 1 for one source kernel: errors (Eq. 8), mean and SD over patches, confidence intervals over patients."""
    cells = {name: _error_cells(errors_of(row, rows), patients, resamples, seed) for name, row in methods_of(rows).items()}
    caption = (
        "Relative error of texture features against the target (Eq. 8): mean ± standard deviation over patches, and the "
        "95 % confidence interval of the mean, patients resampled. 0 is equal to the target."
    )
    return Table(title, caption, FEATURES, cells, reference=frozenset(REFERENCE))


def _error_cells(errors: np.ndarray, patients: np.ndarray, resamples: int, seed: int) -> tuple[Cell, ...]:
    cells = []
    for column in errors.T:
        s, interval = summarize(column), bootstrap_interval(column, patients, resamples=resamples, seed=seed)
        reason = ZERO_TARGET if s.undefined else interval.reason
        cells.append(Cell(s.mean, s.sd, interval.low, interval.high, s.n, s.undefined, reason))
    return tuple(cells)


def concordance_values(rows: Rows, with_combat: bool = True) -> tuple[dict[str, Agreement], str]:
    """Agreement of every row's features with the target's, ComBat's too; and a note where there is none of ComBat."""
    target = rows["target"].features
    values = {name: _agreement(row.features, target) for name, row in methods_of(rows).items()}
    if with_combat:
        try:
            values["ComBat (features)"] = _agreement(*combat(rows["source"].features, target))
        except NoCombat as missing:
            return values, f"No row of ComBat: {missing}."
    return values, ""


def _agreement(features: np.ndarray, target: np.ndarray) -> Agreement:
    return Agreement(concordance(features, target), icc_agreement(features, target))


def concordance_table(title: str, values: Mapping[str, Agreement], note: str = "") -> Table:
    """Per row: the share of reproducible features, of all and of texture, the mean and least coefficient, the mean ICC."""
    columns = (f"share ≥ {REPRODUCIBLE}", f"texture, share ≥ {REPRODUCIBLE}", "mean", "least", "mean ICC(2,1)")
    cells = {name: _concordance_cells(*agreement) for name, agreement in values.items()}
    caption = (
        f"Concordance (Lin) of {len(MEASURES)} features, {len(ALL_FEATURES)} of texture and the others first-order, with the "
        f"target over patches: the share of {REPRODUCIBLE} and more, the mean and the least; and the mean over features of the "
        "intraclass correlation, absolute agreement, ICC(2,1) = (B - E) / (B + E + 2 (J - E) / n), with the mean squares B "
        "between the n patches, J between image and target, and E of the residual (Shrout & Fleiss). 1 is equal to the target."
    )
    notes = ("ComBat harmonizes the features of both protocols and was fitted on these very patches; it makes no images.",)
    return Table(
        title,
        caption,
        columns,
        cells,
        better="higher",
        reference=frozenset(REFERENCE),
        notes=tuple(filter(None, (*(notes if "ComBat (features)" in cells else ()), note))),
    )


def _concordance_cells(ccc: np.ndarray, icc: np.ndarray) -> tuple[Cell, ...]:
    everything, texture = (reproducible(ccc[:end]) for end in (len(ccc), len(ALL_FEATURES)))
    defined = ccc[np.isfinite(ccc)]
    mean, least = (float(defined.mean()), float(defined.min())) if len(defined) else (np.nan, np.nan)
    shares = [Cell(s.share, n=s.n, undefined=s.undefined, reason=FLAT if s.undefined else "") for s in (everything, texture)]
    numbers = [Cell(value, n=len(defined), reason="" if len(defined) else FLAT) for value in (mean, least)]
    return (*shares, *numbers, _mean_icc(icc))


def _mean_icc(icc: np.ndarray) -> Cell:
    s = summarize(icc)
    return Cell(s.mean, n=s.n, undefined=s.undefined, reason=FLAT if s.undefined else "")


def feature_table(title: str, values: Mapping[str, Agreement], features: tuple[str, ...] = MEASURES) -> Table:
    """The coefficient of every feature, which the table above sums up; or of the first ones."""
    cells = {
        name: tuple(Cell(float(c), reason="" if np.isfinite(c) else FLAT) for c in agreement.ccc[: len(features)])
        for name, agreement in values.items()
    }
    caption = "Concordance (Lin) with the target, feature by feature."
    return Table(title, caption, features, cells, better="higher", reference=frozenset(REFERENCE), decimals=2)


def comparison_table(title: str, rows: Rows, ours: str) -> Table | None:
    """Errors of one row against those of every other, patch by patch: q of Wilcoxon's test and the size of the effect.

    None where there is nothing to compare with.
    """
    others = {name: row for name, row in methods_of(rows).items() if name != ours}
    if ours not in rows or not others:
        return None
    mine = errors_of(rows[ours], rows)
    defined = np.isfinite(mine).all(axis=1)  # undefined is the target's part, so it is the same in all rows
    cells = {name: _test_cells(errors_of(row, rows)[defined], mine[defined]) for name, row in others.items()}
    columns = tuple(f"{feature}, {number}" for feature in FEATURES for number in ("d", "q"))
    caption = (
        f"Errors of each row minus those of {ours}, over patches: Cohen's d of the differences (positive where {ours} has the "
        "smaller error), and q, the p of Wilcoxon's signed-rank test adjusted for the five features (Benjamini-Hochberg)."
    )
    notes = ["Patches of a patient are alike, so q understates what chance can do; the confidence intervals go by patients."]
    if not defined.all():
        notes.append(f"{(~defined).sum():,} of {len(defined):,} patches are left out: {ZERO_TARGET}.")
    reference = frozenset(REFERENCE) & set(cells)
    return Table(title, caption, columns, cells, better="neither", reference=reference, notes=tuple(notes))


def _test_cells(theirs: np.ndarray, mine: np.ndarray) -> tuple[Cell, ...]:
    """Size of the effect and q of each feature, of errors (N, features)."""
    effects, tests = cohens_dz(theirs, mine), wilcoxon_fdr(theirs, mine)
    numbers = [float(value) for pair in zip(effects, tests.q, strict=True) for value in pair]
    return tuple(Cell(number, n=len(mine), reason="" if np.isfinite(number) else ALIKE) for number in numbers)


def hu_table(title: str, rows: Rows) -> Table:
    """Differences to the target in HU: bias by tissue, and the mean magnitude and root mean square over soft tissue."""
    columns = (*(f"bias, {place}" for place in PLACES[1:]), "MAE", "RMSE")
    cells = {name: _hu_cells(row.hu.sum(axis=0)) for name, row in methods_of(rows).items()}
    caption = (
        "Differences to the target in HU: mean by tissue (the smoothed target says which is which), and mean magnitude and "
        "root mean square wherever the source is in the soft-tissue range."
    )
    better = {"MAE": "lower", "RMSE": "lower"}
    return Table(title, caption, columns, cells, better=better, reference=frozenset(REFERENCE), decimals=1)


def _hu_cells(sums: np.ndarray) -> tuple[Cell, ...]:
    """(len(PLACES), 4) pixels and sums -> cells."""

    def ratio(numerator: float, pixels: float) -> Cell:
        value = numerator / pixels if pixels else np.nan
        return Cell(float(value), n=int(pixels), reason="" if pixels else NO_PIXELS)

    pixels, _, magnitudes, squares = sums[0]
    biases = [ratio(difference, number) for number, difference, _, _ in sums[1:]]
    square = ratio(squares, pixels)
    return (*biases, ratio(magnitudes, pixels), replace(square, mean=square.mean**0.5))


def change_table(title: str, rows: Rows) -> Table:
    """Texture features before and after, where there is no target: mean and standard deviation over patches."""
    columns = [MEASURES.index(name) for name in ALL_FEATURES]
    cells = {name: tuple(_feature_cell(row.features[:, column]) for column in columns) for name, row in rows.items()}
    caption = "Texture features of the source and of what was made of it: mean ± standard deviation over patches."
    return Table(title, caption, ALL_FEATURES, cells, better="neither", reference=frozenset(REFERENCE))


def _feature_cell(values: np.ndarray) -> Cell:
    s = summarize(values)
    return Cell(s.mean, s.sd, n=s.n, undefined=s.undefined, reason="undefined for a flat patch" if s.undefined else "")


def undefined(tables: Iterable[Table]) -> Counter:
    """Reason -> how many values of tables are undefined: those that an average leaves out, or else the cell itself."""
    cells = [cell for table in tables for row in table.rows.values() for cell in row]
    counts = Counter()
    for cell in cells:
        counts[cell.reason] += cell.undefined or int(np.isnan(cell.mean))
    return +counts


def file_part(name: str) -> str:
    """A name as part of a file name: letters and digits.

    Example:
        >>> file_part("w/ real/fake check")
        'w_real_fake_check'
    """
    return "_".join(re.findall(r"[A-Za-z0-9]+", name))
