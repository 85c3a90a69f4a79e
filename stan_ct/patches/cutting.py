"""Soft-tissue patches of paired slices: how many a slice can hold, where they lie, and cutting them out.

These functions run in worker processes: they take series and settings, and hold one slice at a time in memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from stan_ct.ct.filters import RadialFilter
from stan_ct.dicom.refusal import Refusal, Refused
from stan_ct.dicom.series import Series, SeriesFiles, load_series
from stan_ct.patches.adjacent import Adjacent
from stan_ct.patches.fusion import extract, pad_to
from stan_ct.patches.pairs import PairingError, SeriesPair
from stan_ct.patches.sampling import PATCH_SIZE, Patch, RectangleSums, SamplingRule
from stan_ct.patches.tfrecord import write_records

TRIES = 8
"""Random sides tried for each patch before a slice is given up."""


@dataclass(frozen=True)
class Shard:
    """One file of records, cut from one pair of series.

    Attributes:
        path: The file to write.
        pair: Source and target series, and their pairs of slices.
        counts: Number of patches to cut from each pair of slices.
        seed: Seed of the patches' locations.
        margin: Width of the border around each patch, pixels at the patch's scale.
        resized: Whether patches are 100..256 pixels wide and resized to 256, or 256 at native scale.
        front_end: Filter of the source slices, whose patches are stored beside the source's own; None for no filter.
        adjacent: For each pair of slices, the numbers of the adjacent source slices that are stored too; empty for none.
    """

    path: Path
    pair: SeriesPair
    counts: tuple[int, ...]
    seed: int
    margin: int = 0
    resized: bool = False
    front_end: RadialFilter | None = None
    adjacent: Adjacent = ()

    @property
    def num_images(self) -> int:
        """Number of images in a record: source, filtered source where there is a front end, target, adjacent slices."""
        return (2 if self.front_end is None else 3) + (len(self.adjacent[0]) if self.adjacent else 0)


def load_slice(files: SeriesFiles, z: int) -> Series:
    """Loads one slice of a series, as a series.

    Args:
        files: The series.
        z: Index of the slice.
    Raises:
        PairingError: If it cannot be read.
    """
    try:
        return load_series(SeriesFiles((files.instances[z],), files.grid), workers=1)
    except Refused as refused:
        path = files.instances[z].path
        raise PairingError(
            f"cannot read {path} ({refused.reason}): remove these slices or export the series again"
        ) from refused


@dataclass(frozen=True)
class Survey:
    """What is known of the slices of a series before anything is cut.

    Attributes:
        digests: Slice z -> digest of its pixels; "" if they are all equal.
        capacities: Slice z -> number of patches that it can hold.
        refused: Slice z -> why it cannot be read.
    """

    digests: dict[int, str]
    capacities: dict[int, int]
    refused: dict[int, Refusal]


def survey(files: SeriesFiles, slices: Sequence[int], resized: bool) -> Survey:
    """Surveys slices before anything is cut.

    Args:
        files: A series.
        slices: Indices of the slices.
        resized: Whether sides are 100..256 pixels or 256.
    """
    found = Survey({}, {}, {})
    for z in slices:
        instance = files.instances[z]
        try:
            series = load_series(SeriesFiles((instance,), files.grid), workers=1)
        except Refused as refused:
            found.refused[z] = Refusal(refused.reason, refused.found, (instance.path,), files.uid)
            continue
        hu = series.volume[0]
        found.digests[z] = hashlib.sha256(np.rint(hu).astype("<i4")).hexdigest() if np.ptp(hu) else ""
        found.capacities[z] = capacity(_soft_tissue(series), resized)
    return found


def cut_shard(shard: Shard) -> int:
    """Cuts and writes the records of a shard; returns their number."""
    return write_records(shard.path, _examples(shard))


def _examples(shard: Shard) -> Iterator[np.ndarray]:
    """(K, S, S) int16 HU, S = 256 + 2 margin: source, filtered source where there is a front end, target, adjacent slices."""
    rng = np.random.default_rng(shard.seed)
    seen = _seen_slices(shard)
    adjacent = shard.adjacent or ((),) * len(shard.counts)
    for (z, t), count, beside in zip(shard.pair.slices, shard.counts, adjacent, strict=True):
        if not count:
            continue
        source, target = load_slice(shard.pair.source, z), load_slice(shard.pair.target, t)
        images = [pad_to(series.volume[0], PATCH_SIZE, PATCH_SIZE) for series in (source, target)]
        if shard.front_end is not None:
            images.insert(1, seen(z))
        images += map(seen, beside)
        for patch in sample_patches(_soft_tissue(source), count, shard.resized, rng):
            patches = np.concatenate([cut(image, patch, shard.margin) for image in images])
            yield np.clip(np.rint(patches), -32768, 32767).astype(np.int16)


def _seen_slices(shard: Shard) -> Callable[[int], np.ndarray]:
    """Function of the number of a source slice that returns it as generators see it: filtered where there is a front end."""

    @lru_cache(maxsize=shard.num_images)
    def seen(z: int) -> np.ndarray:
        series = load_slice(shard.pair.source, z)
        if shard.front_end is None:
            return pad_to(series.volume[0], PATCH_SIZE, PATCH_SIZE)
        whole = pad_to(continued(series), PATCH_SIZE, PATCH_SIZE)
        return shard.front_end(whole, shard.pair.source.pixel_spacing)

    return seen


def continued(series: Series) -> np.ndarray:
    """The only slice of a series, continued beyond its field of view as filters are to see it, (H, W) HU."""
    return series.slice(0).continued


def cut(image: np.ndarray, patch: Patch, margin: int) -> np.ndarray:
    """Cuts one patch with a border around it, at a side of 256 + 2 margin.

    Args:
        image: (H, W) HU, each at least 256.
        patch: Location of the patch, a square.
        margin: Pixels around the patch once it has 256 pixels a side. At the border of the slice the window is moved
            inside; a slice that is too small for it is continued by reflection (`plan.check_margin` refuses this where
            the slice holds a patch).
    Returns:
        (1, S, S) float32 HU.
    """
    around = round(patch.height * margin / PATCH_SIZE)
    side = patch.height + 2 * around
    row, column = (
        min(max(corner - around, 0), max(n - side, 0)) for corner, n in zip((patch.row, patch.column), image.shape, strict=True)
    )
    return extract(pad_to(image, side, side), [Patch(row, column, side, side)], PATCH_SIZE + 2 * margin)


def capacity(soft_tissue: np.ndarray, resized: bool, rule: SamplingRule | None = None) -> int:
    """Lower bound on the number of distinct soft-tissue patches in a slice.

    Args:
        soft_tissue: (H, W) bool, each at least 256.
        resized: Whether sides are random, of which five are then counted.
        rule: The numbers of Step 1.
    """
    low, high = (rule or SamplingRule()).sides
    sides = np.linspace(low, high, 5).round().astype(int).tolist() if resized else [PATCH_SIZE]
    sums = RectangleSums(soft_tissue)
    return sum(int(np.count_nonzero(_accepted(sums, soft_tissue.shape, side, rule))) for side in sides)


def sample_patches(
    soft_tissue: np.ndarray, count: int, resized: bool, rng: np.random.Generator, rule: SamplingRule | None = None
) -> list[Patch]:
    """Samples distinct random soft-tissue patches.

    Sides are uniform in `rule.sides` (or 256), and corners uniform among those at which at least `rule.min_soft_tissue`
    of the patch is soft tissue.

    Args:
        soft_tissue: (H, W) bool, each at least 256.
        count: Number of patches.
        resized: Whether sides are random, or 256.
        rng: Source of randomness.
        rule: The numbers of Step 1.
    Returns:
        The patches; fewer than `count` where the slice does not hold that many.
    """
    sums, shape = RectangleSums(soft_tissue), soft_tissue.shape
    width = shape[1] - PATCH_SIZE + 1
    if not resized:
        corners = np.flatnonzero(_accepted(sums, shape, PATCH_SIZE, rule))
        chosen = rng.choice(corners, min(count, corners.size), replace=False).tolist()
        return [Patch(c // width, c % width, PATCH_SIZE, PATCH_SIZE) for c in chosen]
    low, high = (rule or SamplingRule()).sides
    found: dict[Patch, None] = {}
    for _ in range(TRIES * count):
        side = int(rng.integers(low, high + 1))
        corners = np.flatnonzero(_accepted(sums, shape, side, rule))
        if corners.size:
            row, column = divmod(int(rng.choice(corners)), shape[1] - side + 1)
            found[Patch(row, column, side, side)] = None
        if len(found) == count:
            break
    return list(found)


def _accepted(sums: RectangleSums, shape: tuple[int, int], side: int, rule: SamplingRule | None) -> np.ndarray:
    """Whether the patch with its corner at a pixel is a soft-tissue patch, (H - side + 1, W - side + 1) bool."""
    rows, columns = np.ogrid[: shape[0] - side + 1, : shape[1] - side + 1]
    return sums(rows, columns, side, side) >= (rule or SamplingRule()).min_soft_tissue * side * side


def _soft_tissue(series: Series) -> np.ndarray:
    """Soft-tissue mask of a slice, padded to the size of a patch."""
    return pad_to(series.soft_tissue(0), PATCH_SIZE, PATCH_SIZE)


def distribute(total: int, capacities: Sequence[int]) -> list[int]:
    """Distributes a total evenly; what exceeds one capacity goes to the others.

    Args:
        total: Number to distribute, >= 0.
        capacities: Largest share of each, >= 0.
    Returns:
        The shares, whose sum is `total`, or the sum of the capacities if that is less.
    Example:
        >>> distribute(10, [1, 9, 9]), distribute(5, [1, 1, 1]), distribute(2, [5, 5, 5, 5])
        ([1, 4, 5], [1, 1, 1], [0, 1, 0, 1])
    """
    limit = np.asarray(capacities, np.int64).reshape(-1)
    low, high = 0, int(limit.max(initial=0))  # the largest level at which all shares together are not too many
    while low < high:
        level = (low + high + 1) // 2
        low, high = (level, high) if np.minimum(limit, level).sum() <= total else (low, level - 1)
    shares = np.minimum(limit, low)
    more = np.flatnonzero(limit > low)
    rest = min(int(total - shares.sum()), more.size)
    if rest:
        shares[more[(np.arange(1, rest + 1) * more.size - 1) // rest]] += 1  # spread, not all at the start
    return shares.tolist()
