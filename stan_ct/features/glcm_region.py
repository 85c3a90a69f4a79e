"""Texture features of a region of interest (ROI) in a volume, by the Image Biomarker Standardisation Initiative (IBSI).

The formulas are those of :mod:`stan_ct.features.glcm`; this module adds the mask and the ways of aggregating the matrices of
all slices and directions. Neighbours are 1 voxel apart (Chebyshev distance), pairs count both ways, and both voxels must lie
in the ROI. Voxel spacing is ignored: where slices are thicker than pixels, choose a 2D or 2.5D aggregation, or resample
first.

    levels = fixed_bin_size(volume_hu, mask, 25, low=-1000)
    found = roi_features(levels, mask, "3D merged")
    found.values["contrast"], found.notes.get("contrast")
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from itertools import product

import numpy as np

from stan_ct.features import glcm
from stan_ct.features.glcm import ALL_FEATURES, ANGLES, MAX_LEVELS, neighbours

Offset = tuple[int, int, int]
"""Step to a neighbour (slices, rows, columns), voxels."""

IN_PLANE: tuple[Offset, ...] = tuple((0, row, column) for row, column in ANGLES.values())
"""Offsets to half of the 8 neighbours in a slice; the other half are the same pairs."""

IN_SPACE: tuple[Offset, ...] = tuple((z, y, x) for z, y, x in product((-1, 0, 1), repeat=3) if (z, y, x) > (0, 0, 0))
"""Offsets to half of the 26 neighbours in a volume, 13."""


@dataclass(frozen=True)
class Aggregation:
    """Voxel pairs that are counted in one matrix; the features are means over the matrices.

    Attributes:
        code: Code in the IBSI reference manual.
        offsets: Offsets to the neighbours of a voxel.
        per_slice: Whether each slice has a matrix, or the volume one for all slices.
        per_direction: Whether each direction has a matrix, or all directions share one.
    """

    code: str
    offsets: tuple[Offset, ...]
    per_slice: bool
    per_direction: bool


AGGREGATIONS = {
    "2D averaged": Aggregation("BTW3", IN_PLANE, per_slice=True, per_direction=True),
    "2D slice-merged": Aggregation("SUJT", IN_PLANE, per_slice=True, per_direction=False),
    "2.5D direction-merged": Aggregation("JJUI", IN_PLANE, per_slice=False, per_direction=True),
    "2.5D merged": Aggregation("ZW7Z", IN_PLANE, per_slice=False, per_direction=False),
    "3D averaged": Aggregation("ITBB", IN_SPACE, per_slice=False, per_direction=True),
    "3D merged": Aggregation("IAZD", IN_SPACE, per_slice=False, per_direction=False),
}
"""Name -> one of IBSI's six aggregations."""


@dataclass(frozen=True)
class RoiFeatures:
    """Features of a ROI.

    Attributes:
        values: Feature of `ALL_FEATURES` -> value, NaN if undefined.
        notes: Feature -> why it is undefined, or which matrices are excluded from its mean; only for such features.
    """

    values: dict[str, float]
    notes: dict[str, str]


def fixed_bin_size(volume_hu: np.ndarray, mask: np.ndarray, bin_width: float, low: float) -> np.ndarray:
    r"""Gray levels of a fixed width in HU, :math:`\lfloor (x - low) / width \rfloor + 1` (IBSI Q3RU).

    Args:
        volume_hu: Volume, (Z, H, W) HU.
        mask: ROI, (Z, H, W) bool.
        bin_width: Width of a gray level, HU, > 0.
        low: Lower edge of level 1, HU: the lower bound of the re-segmentation, the same for all volumes to be compared.
    Returns:
        (Z, H, W) intp, >= 1 in the ROI and 0 outside it.
    Raises:
        ValueError: If a voxel of the ROI is below `low` or not finite, or the width is not > 0.
    Example:
        >>> fixed_bin_size(np.array([[[-500, -475.5, -475, 30]]]), np.array([[[True, True, True, False]]]), 25, -500).tolist()
        [[[1, 1, 2, 0]]]
    """
    hu = _in_roi(volume_hu, mask)
    if not 0 < bin_width < np.inf:
        raise ValueError(f"expected bins of > 0 HU, got {bin_width:g} HU")
    if (hu < low).any():
        raise ValueError(
            f"{(hu < low).sum()} voxels of the ROI are below {low:g} HU: exclude them from the mask, or lower `low`"
        )
    return _on_mask(np.floor((hu - low) / bin_width) + 1, mask)


def fixed_bin_number(volume_hu: np.ndarray, mask: np.ndarray, n_levels: int) -> np.ndarray:
    r"""Fixed number of gray levels over the ROI's range, :math:`\lfloor N (x - \min) / (\max - \min) \rfloor + 1` (IBSI K15C).

    Args:
        volume_hu: Volume, (Z, H, W) HU.
        mask: ROI, (Z, H, W) bool.
        n_levels: Number of gray levels N, >= 2.
    Returns:
        (Z, H, W) intp, 1 .. N in the ROI (the maximum has N; 1 throughout if all voxels are equal) and 0 outside it.
    Raises:
        ValueError: If a voxel of the ROI is not finite, or N < 2.
    Example:
        >>> fixed_bin_number(np.array([[[0.0, 49.0, 50.0, 100.0]]]), np.ones((1, 1, 4), bool), 2).tolist()
        [[[1, 1, 2, 2]]]
    """
    hu = _in_roi(volume_hu, mask)
    if n_levels < 2:
        raise ValueError(f"expected 2 gray levels or more, got {n_levels}")
    if not hu.size or hu.min() == hu.max():
        return _on_mask(np.ones_like(hu), mask)
    return _on_mask(np.minimum(np.floor(n_levels * (hu - hu.min()) / (hu.max() - hu.min())) + 1, n_levels), mask)


def _in_roi(volume: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Values of the ROI, (n,) float64, all finite."""
    volume, mask = np.asarray(volume), np.asarray(mask)
    if volume.ndim != 3 or mask.shape != volume.shape or mask.dtype != bool:
        raise ValueError(
            f"expected a volume (Z, H, W) and a mask of that shape, bool; got {volume.dtype} of shape {volume.shape} and "
            f"{mask.dtype} of shape {mask.shape}"
        )
    values = volume[mask].astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"{(~np.isfinite(values)).sum()} voxels of the ROI are not finite: exclude them from the mask")
    return values


def _on_mask(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    volume = np.zeros(np.shape(mask), np.intp)
    volume[mask] = values
    return volume


def roi_features(levels: np.ndarray, mask: np.ndarray, aggregation: str = "3D merged") -> RoiFeatures:
    """Texture features of a ROI.

    Args:
        levels: Gray levels, (Z, H, W) integer; from :func:`fixed_bin_size`, :func:`fixed_bin_number` or
            :meth:`~stan_ct.features.glcm.Discretization.to_levels`. Adding a number to all changes nothing.
        mask: (Z, H, W) bool, the ROI.
        aggregation: One of `AGGREGATIONS`.
    Returns:
        All of `ALL_FEATURES`. Matrices without a pair do not count. Undefined, with a note: all features of a ROI without
        neighbours, and the correlation of one gray level; if some of several matrices have one gray level, the mean is over
        the others.
    Raises:
        ValueError: If `levels` or `mask` has the wrong shape or type, the aggregation is unknown, or the ROI spans more than
            `MAX_LEVELS` gray levels.
    """
    if aggregation not in AGGREGATIONS:
        raise ValueError(f"expected an aggregation of {', '.join(AGGREGATIONS)}, got {aggregation!r}")
    in_roi = _in_roi(levels, mask)
    if np.asarray(levels).dtype.kind not in "iu":
        raise ValueError(f"expected gray levels as integers, got {np.asarray(levels).dtype}: discretize HU first")
    if not in_roi.size:
        return _undefined("the mask is empty")
    lowest, n_levels = int(in_roi.min()), int(in_roi.max() - in_roi.min()) + 1
    if n_levels > MAX_LEVELS:
        raise ValueError(f"the ROI spans {n_levels} gray levels, at most {MAX_LEVELS} are counted: choose wider bins")
    box = _bounding_box(mask)
    counts = _matrices(
        np.asarray(levels)[box].astype(np.intp) - lowest, np.asarray(mask)[box], n_levels, AGGREGATIONS[aggregation]
    )
    rows = np.array([_features(matrix) for matrix in counts if matrix.any()])
    return _mean(rows) if len(rows) else _undefined("no two voxels of the ROI are neighbours")


def _undefined(reason: str) -> RoiFeatures:
    return RoiFeatures(dict.fromkeys(ALL_FEATURES, np.nan), dict.fromkeys(ALL_FEATURES, reason))


def _bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    return tuple(slice(index.min(), index.max() + 1) for index in np.nonzero(mask))


def _matrices(levels: np.ndarray, mask: np.ndarray, n_levels: int, aggregation: Aggregation) -> Iterator[np.ndarray]:
    """Pair counts, (L, L) each: a matrix for each slice and direction, as the aggregation says."""
    slices = [slice(z, z + 1) for z in range(len(levels))] if aggregation.per_slice else [slice(None)]
    groups = [(offset,) for offset in aggregation.offsets] if aggregation.per_direction else [aggregation.offsets]
    for z, group in product(slices, groups):
        yield reduce(np.add, (_counts(levels[z], mask[z], offset, n_levels) for offset in group))


def _counts(levels: np.ndarray, mask: np.ndarray, offset: Offset, n_levels: int) -> np.ndarray:
    first, second = neighbours(levels, offset)
    both = np.logical_and(*neighbours(mask, offset))
    return pair_counts(first[both], second[both], n_levels)


def pair_counts(first: np.ndarray, second: np.ndarray, n_levels: int) -> np.ndarray:
    """Co-occurrence counts of gray levels in [0, L) and of their neighbours' levels: (L, L) int64, symmetric.

    Example:
        >>> pair_counts(*neighbours(np.array([[0, 0], [1, 2]]), (0, 1)), 3)  # 0-0 and 1-2, each counted both ways
        array([[2, 0, 0],
               [0, 0, 1],
               [0, 1, 0]])
    """
    pairs = np.ravel(first).astype(np.intp) * n_levels + np.ravel(second)
    counts = np.bincount(pairs, minlength=n_levels**2).reshape(n_levels, n_levels)
    return counts + counts.T


def _features(counts: np.ndarray) -> list[float]:
    """`ALL_FEATURES` of a matrix of counts; the correlation of a single gray level is NaN."""
    p = counts / counts.sum()
    values = {name: getattr(glcm, name)(p) for name in ALL_FEATURES}
    if np.count_nonzero(counts.any(axis=0)) == 1:
        values["correlation"] = np.nan
    return list(values.values())


def _mean(rows: np.ndarray) -> RoiFeatures:
    """Means of the defined values over matrices, (M, 8)."""
    undefined = dict(zip(ALL_FEATURES, np.isnan(rows).sum(axis=0), strict=True))
    values = {
        name: float(np.nanmean(column)) if undefined[name] < len(rows) else np.nan
        for name, column in zip(ALL_FEATURES, rows.T, strict=True)
    }
    reason = "all neighbours in the ROI have one gray level, so their standard deviation is 0"
    some = "{} of {} matrices (slices or directions) have one gray level and are excluded from the mean"
    notes = {name: reason if n == len(rows) else some.format(n, len(rows)) for name, n in undefined.items() if n}
    return RoiFeatures(values, notes)
