"""Intervals over seeds and patients.

Every seed is tested on the same patients, so that patients are drawn once for all seeds (with replacement, each with all its
patches) and the mean over the seeds follows each draw. The scatter between seeds enters as Student's t with one degree of
freedom fewer than seeds: three values drawn with replacement would cover the mean of all seeds in three cases of four, not in
95 of 100. Differences are paired: of the same patients, and of the same seed, which orders the patches alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 10_000
"""Number of draws of patients."""

YES, NO, OPEN = "yes", "**no**", "not told apart"


@dataclass(frozen=True)
class Sums:
    """Sums over the patches of each patient, one for each seed; a mean is a quotient of both, after patients are added up.

    Attributes:
        values: Sums of K quantities, (S, P, K) float64.
        weights: What they are to be divided by, such as numbers of patches or pixels, (S, P, K) float64.
    """

    values: np.ndarray
    weights: np.ndarray

    def means(self, draws: np.ndarray) -> np.ndarray:
        """Means of patients drawn so many times each, (R, P): (R, S, K); NaN where nothing is left to divide by."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.einsum("rp,spk->rsk", draws, self.values) / np.einsum("rp,spk->rsk", draws, self.weights)


@dataclass(frozen=True)
class Estimate:
    """Mean of K quantities over seeds and patients, and the ends of their 95 % intervals, (K,) each; NaN if there is none."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def below(self, limit: float = 0.0) -> list[str]:
        """Whether each quantity is below a limit: `YES`, `NO`, or `OPEN` where the interval holds the limit."""
        return [verdict(low, high, limit) for low, high in zip(self.low, self.high, strict=True)]


def verdict(low: float, high: float, limit: float = 0.0) -> str:
    """Whether what lies in an interval is below a limit; `OPEN` where the interval holds it, or is none."""
    return YES if high < limit else NO if low > limit else OPEN


def draw_patients(num_patients: int, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """How often each patient is drawn: (R, P); everybody once where there is one patient only."""
    if num_patients < 2:
        return np.ones((1, num_patients))
    return np.random.default_rng(seed).multinomial(num_patients, np.full(num_patients, 1 / num_patients), resamples)


def estimate(seeds: np.ndarray, drawn: np.ndarray, seeded: bool = True, seed: int = 0) -> Estimate:
    """Mean with its 95 % interval.

    Args:
        seeds: Value of every seed, all patients together, (S, K).
        drawn: Values of every seed for draws of patients, (R, S, K); R is 1 where there is one patient.
        seeded: Whether another seed would give another value; if so, one seed gives no interval.
        seed: Seed of Student's t.
    """
    mean, num_seeds = seeds.mean(axis=0), len(seeds)
    if (seeded and num_seeds < 2) or (not seeded and len(drawn) < 2):
        return Estimate(mean, *np.full((2, *mean.shape), np.nan))
    values = drawn.mean(axis=1)  # (R, K)
    if seeded:
        t = np.random.default_rng(seed).standard_t(num_seeds - 1, (RESAMPLES if len(values) == 1 else len(values), 1))
        values = values + t * seeds.std(axis=0, ddof=1) / np.sqrt(num_seeds)
    ends = (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2
    return Estimate(mean, *np.quantile(values, ends, axis=0))
