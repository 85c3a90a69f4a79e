"""What may change at a place of a patch, given what the source is like there: noise and edges."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stan_ct.models.judge_features import PLACES, PairFeatures, Place

TERMS = 8
"""Terms of the expectation: 1, noise, edge, their squares and product, and their cubes; the spread has the first six."""
SPREAD_TERMS = 6
EVERY = 7
"""Every so many places are fitted."""
RIDGE = 1e-2
LEAST_SPREAD = 0.05
"""Spread of what is measured at a place, at least; it is a logarithm."""
SUMMARIES = ("least", "largest", "mean", "spread")
"""What is kept of all places of a patch."""


def expectation(features: Sequence[PairFeatures]) -> np.ndarray:
    """Fits what is expected at a place.

    Args:
        features: Features of acceptable patches.
    Returns:
        Coefficients of expectation and of the logarithm of the spread, (places, `TERMS` + `SPREAD_TERMS`) float64.
    """
    return np.stack([_expectation([one.places[kind] for one in features]) for kind in range(len(PLACES))])


def _expectation(places: Sequence[Place]) -> np.ndarray:
    terms = np.concatenate([_terms(place.noise, place.edge)[:, ::EVERY] for place in places], 1).astype(np.float64).T
    found = np.concatenate([place.found[::EVERY] for place in places]).astype(np.float64)
    mean = _ridge(terms, found)
    rest, few = found - terms @ mean, terms[:, :SPREAD_TERMS]
    spread = _ridge(few, np.log(np.abs(rest) + 1e-2))
    spread[0] += 0.5 * np.log(np.mean(np.square(rest / np.exp(few @ spread))) + LEAST_SPREAD**2)
    return np.concatenate([mean, spread])


def summaries(features: PairFeatures, coefficients: np.ndarray) -> np.ndarray:
    """How far a patch is from what is expected place by place, in units of the spread there.

    Args:
        features: Features of one patch.
        coefficients: What :func:`expectation` returned.
    Returns:
        Least, largest and mean distance, and the logarithm of their spread, of each of `PLACES`, (places * 4,).
    """
    found: list[float] = []
    terms_of: dict[tuple[int, int], np.ndarray] = {}
    for place, row in zip(features.places, coefficients, strict=True):
        key = id(place.noise), id(place.edge)  # places of one size share both
        terms = terms_of[key] = terms_of[key] if key in terms_of else _terms(place.noise, place.edge)
        spread = np.maximum(np.exp(row[TERMS:] @ terms[:SPREAD_TERMS]), LEAST_SPREAD)
        distance = (place.found - row[:TERMS] @ terms) / spread
        found += [distance.min(), distance.max(), distance.mean(), np.log(distance.std() + 0.1)]
    return np.array(found)


def summary_name(number: int) -> str:
    """A number of :func:`summaries` in words.

    Example:
        >>> summary_name(1)
        'largest change of squares of 8 px'
    """
    return f"{SUMMARIES[number % len(SUMMARIES)]} {PLACES[number // len(SUMMARIES)]}"


def _terms(noise: np.ndarray, edge: np.ndarray) -> np.ndarray:
    """(`TERMS`, places)."""
    noise, edge = noise / 4 - 1, edge / 4 - 1  # about -1 to 2
    squares = noise * noise, noise * edge, edge * edge
    powers = (np.ones_like(noise), noise, edge, *squares, squares[0] * noise, squares[2] * edge)
    return np.stack(powers)


def _ridge(terms: np.ndarray, found: np.ndarray) -> np.ndarray:
    return np.linalg.solve(terms.T @ terms + RIDGE * np.eye(terms.shape[1]), terms.T @ found)
