"""Logs of a training: `validation.csv` (Fig. 3) and `history.csv` (Fig. 5)."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

OTHER = ("version", "step", "g", "score", "error", "hu_rmse", "spectrum_error", "tissue_bias")
"""Columns of `validation.csv` that are no errors of features; logs of earlier versions lack some."""
SOURCE = "source"
"""Value of column `g` in the row with the errors of the source itself."""


@dataclass(frozen=True)
class VersionErrors:
    """Errors of the versions of G, ascending; of several copies of G, the one with the least score.

    Attributes:
        versions: Version numbers, (V,) int.
        steps: Number of steps of G until each version, (V,) int.
        errors: Feature -> errors, (V,) float64, NaN if undefined.
        source: Feature -> error of the source; empty if it was not measured.
    """

    versions: np.ndarray
    steps: np.ndarray
    errors: Mapping[str, np.ndarray]
    source: Mapping[str, float]


@dataclass(frozen=True)
class History:
    """Batches of a training, in order; all arrays are (N,).

    Attributes:
        phase: "d" or "g".
        phases: Number of phases completed before the batch.
        attempt: Number of rollbacks of the phase so far.
        version: Number of versions of G completed before the batch.
        latent: Latent loss (Eq. 5) of the batch; NaN in D-phases, where it is not computed.
        latent_validation: Latent loss of one fixed validation batch; NaN if it was not measured.
    """

    phase: np.ndarray
    phases: np.ndarray
    attempt: np.ndarray
    version: np.ndarray
    latent: np.ndarray
    latent_validation: np.ndarray


def read_validation(path: Path | str) -> VersionErrors:
    """Reads `validation.csv`.

    Raises:
        ValueError: If the columns are not those of `validation.csv`, or no version was measured yet.
        OSError: If the file cannot be read.
    """
    columns, rows = _read(path, ("version", "step", "g", "error"))
    features = [name for name in columns if name not in OTHER]
    best: dict[int, dict[str, str]] = {}
    for row in (row for row in rows if row["g"] != SOURCE):
        version = int(row["version"])
        ranked = "score" if "score" in columns else "error"
        if version not in best or float(row[ranked]) < float(best[version][ranked]):
            best[version] = row
    if not best:
        raise ValueError(f"{path}: no version of G was measured yet")
    ordered = [best[version] for version in sorted(best)]
    source = next((row for row in rows if row["g"] == SOURCE), None)
    return VersionErrors(
        versions=np.array(sorted(best)),
        steps=np.array([int(row["step"]) for row in ordered]),
        errors={name: np.array([_number(row[name]) for row in ordered]) for name in features},
        source={name: _number(source[name]) for name in features} if source else {},
    )


def read_history(path: Path | str) -> History:
    """Reads `history.csv`.

    Raises:
        ValueError: If the columns are not those of `history.csv`, or no batch was trained yet.
        OSError: If the file cannot be read.
    """
    _, rows = _read(path, ("phase", "phases", "attempt", "version", "latent", "latent_validation"))
    if not rows:
        raise ValueError(f"{path}: no batch was trained yet")
    return History(
        phase=np.array([row["phase"] for row in rows]),
        phases=np.array([int(row["phases"]) for row in rows]),
        attempt=np.array([int(row["attempt"]) for row in rows]),
        version=np.array([int(row["version"]) for row in rows]),
        latent=np.array([_number(row["latent"]) for row in rows]),
        latent_validation=np.array([_number(row["latent_validation"]) for row in rows]),
    )


def _read(path: Path | str, needed: tuple[str, ...]) -> tuple[list[str], list[dict[str, str]]]:
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        columns = list(reader.fieldnames or ())
        if missing := [name for name in needed if name not in columns]:
            raise ValueError(f"{path}: expected the columns {', '.join(needed)}; {', '.join(missing)} missing")
        rows = list(reader)
    if rows and None in rows[-1].values():  # the last line of a running training may be incomplete
        rows.pop()
    return columns, rows


def _number(text: str) -> float:
    return float(text) if text else float("nan")
