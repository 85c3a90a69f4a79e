"""Slices beside a slice, which a generator may see too (2.5 D): which they are, and what records call them."""

from __future__ import annotations

from collections.abc import Container, Sequence

import numpy as np

from stan_ct.dicom.plausibility import GAP, usual_step
from stan_ct.patches.pairs import SeriesPair

Adjacent = tuple[tuple[int, ...], ...]
"""For each slice, the numbers of the slices before and after it, in the order of `offsets`."""


def offsets(count: int) -> list[int]:
    """Offsets of the adjacent slices, `count` before and as many after: -1, 1; -2, -1, 1, 2; and so on."""
    return [offset for offset in range(-count, count + 1) if offset]


def image_names(count: int) -> list[str]:
    """Names of the adjacent slices among the images of a record, such as `adjacent-1`."""
    return [f"adjacent{offset:+d}" for offset in offsets(count)]


def adjacent_slices(locations: Sequence[float], count: int) -> np.ndarray:
    """Finds the slices before and after each slice of a series; where there is none, the last one on that side is repeated.

    Args:
        locations: (Z,) positions of the slices along their normal, ascending, mm.
        count: Number of slices on either side.
    Returns:
        (Z, 2 count) int, numbers of slices in the order of `offsets`.
    """
    distances, usual = np.diff(np.asarray(locations, np.float64)), usual_step(locations)
    near = distances < GAP * (np.inf if usual is None else usual)
    numbers = np.arange(len(locations))
    before = numbers - np.concatenate([[False], near])
    after = numbers + np.concatenate([near, [False]])
    columns: dict[int, np.ndarray] = {0: numbers}
    for step in range(1, count + 1):
        columns[-step], columns[step] = before[columns[1 - step]], after[columns[step - 1]]
    return np.stack([columns[offset] for offset in offsets(count)], axis=1) if count else np.zeros((len(numbers), 0), int)


def adjacent_in_pair(pair: SeriesPair, count: int, usable: Container[int]) -> Adjacent:
    """Numbers of the source's slices adjacent to each slice of a pair.

    Args:
        pair: Source and target; its own slices are usable.
        count: Number of slices on either side.
        usable: Numbers of the slices of the source that may be seen.
    """
    instances = pair.source.instances
    numbers = [z for z in range(len(instances)) if z in usable]
    found = adjacent_slices([instances[z].location for z in numbers], count)
    rank = {z: n for n, z in enumerate(numbers)}
    return tuple(tuple(numbers[n] for n in found[rank[z]]) for z, _ in pair.slices)
