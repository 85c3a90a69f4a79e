"""Covariates of patients, such as age and outcome, from a CSV file."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stan_ct.dicom.grouping import comparable_id
from stan_ct.errors import NotComparable

PATIENT = ("patient_id", "patientid", "patient", "id")
"""Names of the column of Patient IDs, in lower case; the first that is found counts."""

MOST_CLASSES = 5
"""Most different words in a column that is no number."""

UNKNOWN = {"", "na", "n/a", "nan", "none", "unknown", "?"}
"""What stands for a value that is not known, in lower case."""


def read_covariates(path: Path, patients: Sequence[str]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Reads the covariates of patients.

    Args:
        path: CSV with a line for each patient: a column `patient_id`, others numbers or words. Patients who are not asked for
            may be among them.
        patients: Patient ID of each row of the result, (n,).
    Returns:
        Name -> (n,) float64, NaN where it is not known: numbers as they are; of two words, 1 for the second in alphabetical
        order, "sex: M"; of more, one covariate for each word but the first. And notes on what was left out.
    Raises:
        FileNotFoundError: If there is no such file.
        NotComparable: If it has no column of Patient IDs, a patient has two lines, or none of the patients has one.
    """
    with open(path, newline="", encoding="utf-8-sig") as file:
        sample = file.read()
    lines = sample.splitlines()
    rows = list(csv.DictReader(lines, delimiter=";" if lines and lines[0].count(";") > lines[0].count(",") else ","))
    names = list(rows[0]) if rows else []
    column = next((name for known in PATIENT for name in names if name and name.strip().lower() == known), None)
    if column is None:
        raise NotComparable(f"{path} has columns {', '.join(map(str, names)) or 'none'}, expected one named patient_id")
    of: dict[str, dict[str, str]] = {}
    for row in rows:
        patient = comparable_id((row[column] or "").strip())
        if patient in of:
            raise NotComparable(f"{path} has two lines for patient {row[column]}, expected one")
        of[patient] = row
    mine = [of.get(comparable_id(patient)) for patient in patients]
    if not any(mine):
        raise NotComparable(
            f"{path} has no line for any of the {len(set(patients))} patients, such as {patients[0]}: expected their Patient "
            f"IDs (0010,0020) in column {column}"
        )
    found: dict[str, np.ndarray] = {}
    notes = []
    without = sorted({patient for patient, row in zip(patients, mine, strict=True) if row is None})
    notes += [f"{len(without)} patients have no line in the table of covariates"] if without else []
    for name in names:
        if name and name != column:
            texts = [((row or {}).get(name) or "").strip() for row in mine]
            columns = _numbers(name.strip(), ["" if text.lower() in UNKNOWN else text for text in texts])
            notes += [] if columns else [f"{name} is left out: neither numbers nor {MOST_CLASSES} words or fewer"]
            found |= columns
    return found, notes


def _numbers(name: str, texts: Sequence[str]) -> dict[str, np.ndarray]:
    """The covariates of one column; empty if it holds too many different words, or nothing."""
    known = [text for text in texts if text]
    try:
        return {name: np.array([float(text) if text else math.nan for text in texts])} if known else {}
    except ValueError:
        words = sorted(set(known))
    if len(words) > MOST_CLASSES:
        return {}
    return {f"{name}: {word}": np.array([float(t == word) if t else math.nan for t in texts]) for word in words[1:]}
