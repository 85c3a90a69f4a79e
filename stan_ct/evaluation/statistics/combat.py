"""ComBat, which harmonizes features instead of images: location and scale of each batch (site, protocol) are removed.

model = Combat.fit(features, sites, age[:, None])
harmonized = model.apply(features, sites, age[:, None])

It can be fitted to some patients and applied to others, as a fair test needs. Location and scale of a batch are shrunk towards
their means over features by parametric empirical Bayes. Small and odd data have their own rules: see :meth:`Combat.fit`.
Reference: Johnson, Li and Rabinovic, Biostatistics 8 (2007) 118-127; Fortin et al., NeuroImage 167 (2018) 104-120.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stan_ct.evaluation.statistics.agreement import ROUNDING

CONVERGED, MOST_STEPS = 1e-6, 1000
"""Largest change in the last step of empirical Bayes, and most steps."""


@dataclass(frozen=True)
class Combat:
    """A fitted ComBat; B batches, k features, c covariates.

    Attributes:
        batches: Names of the batches, sorted, (B,).
        grand_mean: Mean of each feature over batches, weighted by their size, (k,).
        effects: Effect of each covariate on each feature, (c, k).
        scale: Standard deviation of the residuals, (k,).
        location: Location of each batch, shrunk, in units of `scale`, (B, k).
        spread: Variance of each batch, shrunk, in units of `scale` squared, (B, k).
        fitted: Features that are harmonized, (k,) bool; the others come back unchanged.
        notes: What was done otherwise than usual, in sentences.
    """

    batches: np.ndarray
    grand_mean: np.ndarray
    effects: np.ndarray
    scale: np.ndarray
    location: np.ndarray
    spread: np.ndarray
    fitted: np.ndarray
    notes: tuple[str, ...] = ()

    @classmethod
    def fit(cls, values: np.ndarray, batches: np.ndarray, covariates: np.ndarray | None = None) -> Combat:
        """Estimates location and scale of each batch.

        A feature that is constant in a batch of several patients, up to rounding, or undefined in a patient is left as it
        is. A batch of one patient has a location but no scale of its own. Of a single feature nothing can be borrowed from
        others, so that its estimates are not shrunk.

        Args:
            values: Features, (n, k).
            batches: Batch of each row, (n,), of any sortable type, at least two different ones.
            covariates: Numbers whose effects are kept, (n, c); None for none.
        Raises:
            ValueError: If shapes do not fit, there is one batch, a covariate is not finite, or covariates and batches are
                collinear (:func:`independent`), or leave no degree of freedom.
        """
        values, names, index, more = _checked(values, batches, covariates)
        if len(names) < 2:
            raise ValueError(f"ComBat expects two batches or more, got {len(names)}")
        design = np.hstack([np.eye(len(names))[index], more])  # (n, B + c)
        if independent(batches, more).sum() < more.shape[1]:
            raise ValueError("the covariates are collinear with the batches or each other: leave out those that are")
        if len(values) <= design.shape[1]:
            raise ValueError(f"{len(values)} rows cannot tell {len(names)} batches and {more.shape[1]} covariates apart")
        sizes = np.bincount(index)
        fitted = _varies(values, index, sizes)
        x = np.where(fitted, values, 0.0)
        found = np.linalg.lstsq(design, x, rcond=None)[0]  # (B + c, k)
        effects, grand_mean = found[len(names) :], sizes / len(values) @ found[: len(names)]
        scale = np.sqrt(np.mean((x - design @ found) ** 2, axis=0))
        scale[~fitted | (scale == 0)] = 1.0
        z = (x - grand_mean - more @ effects) / scale
        shrinks = int(fitted.sum()) > 1
        location, spread = np.zeros((len(names), x.shape[1])), np.ones((len(names), x.shape[1]))
        for b in range(len(names)):
            location[b, fitted], spread[b, fitted] = _estimates(z[index == b][:, fitted], shrinks)
        alone = [str(name) for name, size in zip(names, sizes, strict=True) if size == 1]
        notes = [f"{', '.join(alone)}: one patient, so the location was adjusted but not the scale"] if alone else []
        notes += [] if shrinks or not fitted.any() else ["one feature, so that nothing was shrunk (no empirical Bayes)"]
        notes += [f"{(~fitted).sum()} features constant at a site or undefined, left unchanged"] if not fitted.all() else []
        return cls(names, grand_mean, effects, scale, location, spread, fitted, tuple(notes))

    def apply(self, values: np.ndarray, batches: np.ndarray, covariates: np.ndarray | None = None) -> np.ndarray:
        """Harmonizes features, of the rows that were fitted or of others.

        Args:
            values: Features, (m, k).
            batches: Batch of each row, (m,), all among those that were fitted.
            covariates: The covariates that were fitted, (m, c).
        Returns:
            (m, k) float64.
        Raises:
            ValueError: If shapes do not fit, or a batch was not fitted.
        """
        values, _, _, more = _checked(values, batches, covariates)
        if unknown := set(np.asarray(batches).tolist()) - set(self.batches.tolist()):
            raise ValueError(f"ComBat was fitted to batches {self.batches.tolist()}, not to {sorted(unknown)}")
        if (more.shape[1], values.shape[1]) != self.effects.shape:
            expected = f"{self.effects.shape[1]} features and {self.effects.shape[0]} covariates"
            raise ValueError(f"expected {expected}, as were fitted, got {values.shape[1]} and {more.shape[1]}")
        index = np.searchsorted(self.batches, batches)
        expected_here = self.grand_mean + more @ self.effects
        z = (values - expected_here) / self.scale
        harmonized = (z - self.location[index]) / np.sqrt(self.spread[index]) * self.scale + expected_here
        return np.where(self.fitted, harmonized, values)


def independent(batches: np.ndarray, covariates: np.ndarray) -> np.ndarray:
    """Which covariates neither the batches nor the covariates before them determine, (c,) bool.

    A covariate that is constant in every batch cannot be told from a difference of the batches.

    Example:
        >>> independent(np.array(["A", "A", "B", "B"]), np.array([[1.0, 0.0], [2.0, 0.0], [3.0, 1.0], [5.0, 1.0]]))
        array([ True, False])
    """
    _, index = np.unique(batches, return_inverse=True)
    known, kept = np.eye(index.max() + 1)[index], []
    for column in np.asarray(covariates, np.float64).T:
        centred = column - column.mean()
        residual = centred - known @ np.linalg.lstsq(known, centred, rcond=None)[0]
        kept.append(bool(residual @ residual > 1e-10 * max(centred @ centred, np.finfo(float).tiny)))
        known = np.column_stack([known, centred]) if kept[-1] else known
    return np.array(kept, bool)


def combat(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Removes location and scale of two protocols from features of the same patches.

    ComBat is fitted to the patches that it is tested on, of both protocols, as it is used in studies.

    Args:
        source: Features of the patches in one protocol, (N, k).
        target: Features of the same patches in the other protocol, (N, k).
    Returns:
        Harmonized source and target features, (N, k) float64; features that are constant in a protocol, or undefined (NaN) in
        a patch, are unchanged.
    """
    both = np.concatenate([source, target]).astype(np.float64)  # (2 N, k)
    if len(source) < 2:
        return both[: len(source)], both[len(source) :]
    protocols = np.repeat([0, 1], [len(source), len(target)])
    harmonized = Combat.fit(both, protocols).apply(both, protocols)
    return harmonized[: len(source)], harmonized[len(source) :]


def _checked(
    values: np.ndarray, batches: np.ndarray, covariates: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Features, names of the batches, their index in each row, and covariates (n, c), all of fitting shapes."""
    values = np.asarray(values, np.float64)
    more = np.empty((len(values), 0)) if covariates is None else np.asarray(covariates, np.float64)
    if values.ndim != 2 or np.shape(batches) != values.shape[:1] or more.ndim != 2 or len(more) != len(values):
        raise ValueError(
            f"expected features (n, k), batches (n,) and covariates (n, c), got {values.shape}, {np.shape(batches)} and "
            f"{more.shape}"
        )
    if not np.isfinite(more).all():
        raise ValueError("expected covariates that every row has, got some that are not finite: leave the rows or them out")
    names, index = np.unique(batches, return_inverse=True)
    return values, names, index, more


def _varies(values: np.ndarray, index: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Which features are finite, and not constant in a batch of several rows, (k,) bool."""
    finite = np.isfinite(values).all(axis=0)
    x = np.where(finite, values, 0.0)
    several = [x[index == b] for b in np.flatnonzero(sizes > 1)]
    moves = [np.ptp(rows, axis=0) > ROUNDING * np.abs(rows).max(axis=0) for rows in several]
    return finite & (np.all(moves, axis=0) if moves else False)


def _estimates(z: np.ndarray, shrinks: bool) -> tuple[np.ndarray, np.ndarray]:
    """Location and variance of one batch, (k,) each, from its standardized features (n, k)."""
    n, mean = len(z), z.mean(axis=0)
    variance = z.var(axis=0, ddof=1) if n > 1 else np.ones_like(mean)
    if not shrinks:
        return mean, variance
    centre, between = mean.mean(), mean.var(ddof=1)
    m, s2 = variance.mean(), variance.var(ddof=1)
    if s2 <= ROUNDING * m**2:  # one patient, or the same variance of every feature: nothing to shrink
        return (n * between * mean + variance * centre) / (n * between + variance), variance
    a, b = (2 * s2 + m**2) / s2, (m * s2 + m**3) / s2
    location, spread = mean, variance
    for _ in range(MOST_STEPS):
        former = location, spread
        location = (n * between * mean + spread * centre) / (n * between + spread)
        spread = (0.5 * ((z - location) ** 2).sum(axis=0) + b) / (n / 2 + a - 1)
        change = max(np.abs(location - former[0]).max(), np.abs(spread / former[1] - 1).max())
        if change < CONVERGED:
            break
    return location, spread
