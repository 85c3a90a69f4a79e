"""Tables of agreement: concordance of features with the target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from stan_ct.evaluation.measure.measurement import MEASURES
from stan_ct.evaluation.statistics.agreement import REPRODUCIBLE, concordance, icc_agreement, reproducible
from stan_ct.evaluation.statistics.combat import combat
from stan_ct.evaluation.tables.rows import REFERENCE, SOURCE, TARGET, Rows, compared_rows
from stan_ct.features.errors import summarize
from stan_ct.features.glcm import ALL_FEATURES
from stan_ct.report.sections import Cell, Table, slug

FLAT = "the feature does not vary over the patches, or is undefined in some"

COMBAT = "ComBat (features)"
"""Row of the method that harmonizes features, not images."""


class FeatureAgreement(NamedTuple):
    """Agreement of every feature with the target over the patches, (len(MEASURES),) each: Lin's coefficient, ICC(2,1)."""

    ccc: np.ndarray
    icc: np.ndarray


def feature_agreement(rows: Rows, with_combat: bool = True) -> dict[str, FeatureAgreement]:
    """Agreement of every row's features with the target's, with a row for ComBat unless told otherwise."""
    target = rows[TARGET].features
    values = {name: _agreement(row.features, target) for name, row in compared_rows(rows).items()}
    if with_combat:
        values[COMBAT] = _agreement(*combat(rows[SOURCE].features, target))
    return values


def _agreement(features: np.ndarray, target: np.ndarray) -> FeatureAgreement:
    return FeatureAgreement(concordance(features, target), icc_agreement(features, target))


def concordance_table(subject: str, values: Mapping[str, FeatureAgreement]) -> Table:
    """Share of reproducible features, of all and of texture; mean and least coefficient; mean ICC."""
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
        f"Concordance, {subject}",
        caption,
        columns,
        cells,
        better="higher",
        reference=REFERENCE,
        key=f"concordance_{slug(subject)}",
        notes=notes if COMBAT in cells else (),
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


def feature_table(subject: str, values: Mapping[str, FeatureAgreement], features: tuple[str, ...] = MEASURES) -> Table:
    """Concordance of each feature, which the table above summarizes; of the first ones of `MEASURES` if `features` says so."""
    cells = {
        name: tuple(Cell(float(c), reason="" if np.isfinite(c) else FLAT) for c in agreement.ccc[: len(features)])
        for name, agreement in values.items()
    }
    caption = "Concordance (Lin) with the target, feature by feature."
    title, key = f"Concordance by feature, {subject}", f"concordance_by_feature_{slug(subject)}"
    return Table(title, caption, features, cells, better="higher", reference=REFERENCE, decimals=2, key=key)
