"""Measurements of every row and seed on the test patches of a data set, as means with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reproduction.intervals import Estimate, Sums, draw_patients, estimate
from stan_ct.ct.tissues import TISSUES
from stan_ct.evaluation.measure.measurement import Measured
from stan_ct.evaluation.measure.patches import PatchSet, measure_methods, read_test_patches
from stan_ct.evaluation.statistics.agreement import reproducible
from stan_ct.evaluation.table_1 import load_method
from stan_ct.evaluation.tables.agreement import feature_agreement
from stan_ct.evaluation.tables.errors import errors_of
from stan_ct.evaluation.tables.rows import SOURCE, TARGET
from stan_ct.features.glcm import FEATURES, Discretization

MEAN, RMSE = "mean of five", "HU RMSE"
BIASES = tuple(f"bias, {tissue}" for tissue in TISSUES)
QUANTITIES = (*FEATURES, MEAN, RMSE, *BIASES)
"""What is measured of a row: errors (Eq. 8), their mean, the root mean square difference, and the mean one by tissue."""


@dataclass(frozen=True)
class RowResult:
    """A row of Table 1, measured.

    Attributes:
        seeds: Its seeds; empty if it has none.
        values: `QUANTITIES` of every seed, all patients together, (S, K).
        drawn: The same for draws of patients, (R, S, K).
        agreeing: Share of features that agree with the target, by seed, (S,).
    """

    seeds: tuple[int, ...]
    values: np.ndarray
    drawn: np.ndarray
    agreeing: np.ndarray

    def estimate(self) -> Estimate:
        """Mean over seeds and patients with its interval."""
        return estimate(self.values, self.drawn, bool(self.seeds))

    def of(self, seeds: Sequence[int]) -> RowResult:
        """The row with some of its seeds only; a row without seeds is the same for all."""
        if not self.seeds or tuple(seeds) == self.seeds:
            return self
        places = [self.seeds.index(seed) for seed in seeds]
        return RowResult(tuple(seeds), self.values[places], self.drawn[:, places], self.agreeing[places])


@dataclass(frozen=True)
class Results:
    """Every row on the test patches of one source kernel.

    Attributes:
        title: Source and standard, such as "BR40 to BL64, 1 mm".
        kernel: Kernel of the source.
        num_patches: Number of test patches.
        num_patients: Number of their patients.
        rows: Name -> row, the source first.
    """

    title: str
    kernel: str
    num_patches: int
    num_patients: int
    rows: Mapping[str, RowResult]

    def difference(self, one: str, other: str) -> Estimate:
        """One row minus another with its interval: of the same patients and, where both are trained, of the same seeds."""
        first, second = self.rows[one], self.rows[other]
        if first.seeds and second.seeds:
            common = [seed for seed in first.seeds if seed in second.seeds]
            first, second = first.of(common), second.of(common)
        seeded = bool(first.seeds or second.seeds)
        return estimate(first.values - second.values, first.drawn - second.drawn, seeded)


def measure(
    name: str, records: Path, models: Mapping[str, Mapping[int | None, Path]], cache: Path, workers: int = 1
) -> list[Results]:
    """Measures every row on every source kernel of a folder of records; what the cache holds is not measured again.

    Args:
        name: What the titles add to the kernels; may be empty.
        records: Folder of records.
        models: Row -> seed, or None -> model folder.
        cache: Folder of measurements.
        workers: Number of processes that measure.
    """
    found = []
    for test in read_test_patches(records):
        methods = [
            load_method(f"{row}, seed {seed}", folder) for row, folders in models.items() for seed, folder in folders.items()
        ]
        rows = measure_methods(test, methods, Discretization.fixed_number(), cache, workers)
        found.append(results_of(name, test, rows, models))
    return found


def results_of(
    name: str, test: PatchSet, rows: Mapping[str, Measured], models: Mapping[str, Mapping[int | None, Path]]
) -> Results:
    """Means and draws of the measurements of `measure_methods`, whose rows are named "ROW, seed SEED"."""
    _, patient = np.unique(test.patients, return_inverse=True)
    draws = draw_patients(int(patient.max()) + 1)
    sums = {row: _sums([measured], rows[TARGET], patient) for row, measured in rows.items() if row == SOURCE}
    seeds: dict[str, tuple[int, ...]] = {SOURCE: ()}
    shares = {SOURCE: _agreeing([rows[SOURCE]], rows[TARGET])}
    for row, folders in models.items():
        measured = [rows[f"{row}, seed {seed}"] for seed in folders]
        sums[row], shares[row] = _sums(measured, rows[TARGET], patient), _agreeing(measured, rows[TARGET])
        seeds[row] = tuple(seed for seed in folders if seed is not None)
    everybody = np.ones((1, draws.shape[1]))
    made = {
        row: RowResult(seeds[row], _derived(s.means(everybody))[0], _derived(s.means(draws)), shares[row])
        for row, s in sums.items()
    }
    title = ", ".join(filter(None, (f"{test.kernel} to {test.target_kernel}", name)))
    return Results(title, test.kernel, len(patient), draws.shape[1], made)


def _sums(seeds: Sequence[Measured], target: Measured, patient: np.ndarray) -> Sums:
    """Sums by seed and patient of errors, squared differences and differences by tissue."""
    parts = [_by_patient(measured, target, patient) for measured in seeds]
    values, weights = zip(*parts, strict=True)
    return Sums(np.stack(values), np.stack(weights))


def _by_patient(measured: Measured, target: Measured, patient: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums and weights of the patches of each patient, (P, K) each."""
    errors = errors_of(measured, {TARGET: target})  # (N, 5)
    defined = np.isfinite(errors)
    pixels, difference, _, square = np.moveaxis(measured.hu, -1, 0)  # (N, places) each
    values = np.column_stack([np.where(defined, errors, 0), square[:, :1], difference[:, 1:]])
    weights = np.column_stack([defined, pixels[:, :1], pixels[:, 1:]])
    return _added(values, patient), _added(weights, patient)


def _added(values: np.ndarray, patient: np.ndarray) -> np.ndarray:
    return np.stack([np.bincount(patient, column) for column in values.T], axis=1)


def _derived(means: np.ndarray) -> np.ndarray:
    """`QUANTITIES` from means of errors, squared differences and differences by tissue, (..., K)."""
    errors, square, biases = np.split(means, [len(FEATURES), len(FEATURES) + 1], axis=-1)
    return np.concatenate([errors, errors.mean(axis=-1, keepdims=True), np.sqrt(square), biases], axis=-1)


def _agreeing(seeds: Sequence[Measured], target: Measured) -> np.ndarray:
    """Share of features that agree with the target, by seed."""
    rows = {str(number): measured for number, measured in enumerate(seeds)}
    rows |= {TARGET: target}
    agreement = feature_agreement(rows, with_combat=False)
    return np.array([reproducible(agreement[name].ccc).share for name in map(str, range(len(seeds)))])
