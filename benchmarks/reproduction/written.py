"""Claims about written series (Table 2) and about how training went (Figs. 3 and 5)."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from reproduction.claims import AGREEING, LARGEST_BIAS, LARGEST_ERROR, Claim, at_least, interval, unanimous
from reproduction.intervals import NO, YES, Sums, draw_patients, estimate, verdict
from stan_ct.evaluation.measure.series import Measurement, SeriesSettings, measure_series
from stan_ct.evaluation.table_2 import folder_name
from stan_ct.evaluation.tables.errors import errors_of
from stan_ct.features.glcm import FEATURES
from stan_ct.reconstruction.settings import PAPER_ROWS

SUBJECT = "written_dicom"
"""Subject of the tables of series in the keys of a report."""


def measure_ways(source: Path, target: Path, table_2: Path, workers: int = 1) -> Measurement:
    """Measures the paper's rows of Table 2, in the folder of its report."""
    made = {row: table_2 / "table_2" / folder_name(row) / "series" for row in PAPER_ROWS}
    return measure_series(SeriesSettings(source, made, target), workers=workers)


def units_claim(measured: Measurement) -> Claim:
    """Each quality control unit lowers the contrast error: paired differences over patients, one model."""
    place = FEATURES.index("contrast")
    errors = np.stack([errors_of(measured.rows[row], measured.rows)[:, place] for row in PAPER_ROWS])  # (4, N)
    _, patient = np.unique(measured.patients, return_inverse=True)
    values = np.stack([np.bincount(patient, np.where(np.isfinite(row), row, 0)) for row in errors])  # (4, P)
    weights = np.stack([np.bincount(patient, np.isfinite(row)) for row in errors])
    sums = Sums(values.T[None], weights.T[None])
    draws = draw_patients(values.shape[1])
    drawn, means = sums.means(draws), sums.means(np.ones((1, draws.shape[1])))[0]
    steps = estimate(np.diff(means), np.diff(drawn), seeded=False)
    told = " → ".join(f"{value:.3f}" for value in means[0])
    shown = ", ".join(
        f"{other} {mean:+.3f}{interval(low, high, 3, '+')}"
        for (_, other), mean, low, high in zip(pairwise(PAPER_ROWS), steps.mean, steps.low, steps.high, strict=True)
    )
    said = "Each quality control unit lowers the contrast error (paper: .727 → .485 → .334 → .201)"
    return Claim(said, at_least(len(steps.mean), steps.below()), f"{told}: {shown}")


def written_claims(report: Path, names: Sequence[str]) -> list[Claim]:
    """Goals of the written series of some rows, from the report of Table 2; intervals over patients, one model each."""
    sections = json.loads((report / "report.json").read_text())["sections"]
    tables = {section["key"]: section["rows"] for section in sections if section["kind"] == "table"}
    return [claim for name in names if name in tables[f"errors_{SUBJECT}"] for claim in _written(tables, name)]


def _written(tables: Mapping[str, Any], name: str) -> list[Claim]:
    errors = [tables[f"errors_{SUBJECT}"][name][feature] for feature in FEATURES]
    below = [verdict(*_ends(cell), LARGEST_ERROR) for cell in errors]
    numbers = ", ".join(
        f"{feature} {_number(cell, 'mean'):.3f}{interval(*_ends(cell), 3)}"
        for feature, cell in zip(FEATURES, errors, strict=True)
    )
    share = _number(next(iter(tables[f"concordance_{SUBJECT}"][name].values())), "mean")
    cells = {column: cell for column, cell in tables[f"hu_{SUBJECT}"][name].items() if column.startswith("bias")}
    biases = {column.removeprefix("bias, "): _number(cell, "mean") for column, cell in cells.items()}
    largest = np.nanmax(np.abs(list(biases.values())))
    told = ", ".join(f"{tissue} {value:+.1f}" for tissue, value in biases.items())
    agreeing = f"{name}: CCC ≥ 0.85 for {100 * AGREEING:g} % of features"
    return [
        Claim(f"{name}: errors at most {LARGEST_ERROR}", at_least(len(FEATURES), below), numbers),
        Claim(agreeing, YES if share >= AGREEING else NO, f"{100 * share:.0f} %"),
        Claim(f"{name}: bias at most {LARGEST_BIAS:g} HU in every tissue", YES if largest <= LARGEST_BIAS else NO, told),
    ]


def _number(cell: Mapping[str, Any], name: str) -> float:
    """A number of a cell of `report.json`, in which null is NaN."""
    return np.nan if cell.get(name) is None else float(cell[name])


def _ends(cell: Mapping[str, Any]) -> tuple[float, float]:
    """Ends of the interval of a cell; NaN if it has none."""
    return _number(cell, "low"), _number(cell, "high")


def first_versions_claim(name: str, folders: Mapping[int, Path]) -> Claim:
    """The first version of G is better than the source on validation patches, seed by seed."""
    curves = [_column(folder / "validation.csv", "error") for folder in folders.values()]
    told = "; ".join(f"{c[0]:.3f} → {c[1]:.3f}, best {min(c[1:]):.3f}" for c in curves if len(c) > 1)
    found = [c[1] < c[0] for c in curves if len(c) > 1]
    return Claim(f"{name}: the first version of G is better than its input (Fig. 3)", unanimous(found), told)


def latent_claim(name: str, folders: Mapping[int, Path]) -> Claim:
    """The latent loss on a fixed validation batch falls in G-phases alone (Fig. 5), seed by seed."""
    changes = [latent_changes(folder / "history.csv") for folder in folders.values()]
    told = "; ".join(f"{change['g']:+.2g} in a G-phase, {change['d']:+.2g} in a D-phase" for change in changes)
    found = [change["g"] < 0 <= change["d"] + 1e-9 for change in changes]
    return Claim(f"{name}: the latent loss falls in G-phases alone (Fig. 5)", unanimous(found), told)


def latent_changes(history: Path) -> dict[str, float]:
    """Mean change of the latent loss on a fixed validation batch over the phases of each kind."""
    phases: dict[tuple[str, str], list[float]] = {}
    with history.open() as file:
        for line in csv.DictReader(file):
            if line["latent_validation"]:
                phases.setdefault((line["phases"], line["phase"]), []).append(float(line["latent_validation"]))
    changes: dict[str, list[float]] = {"g": [], "d": []}
    for (_, kind), values in phases.items():
        changes[kind].append(values[-1] - values[0])
    return {kind: float(np.mean(values)) if values else 0.0 for kind, values in changes.items()}


def _column(path: Path, name: str) -> list[float]:
    with path.open() as file:
        return [float(line[name]) for line in csv.DictReader(file)]
