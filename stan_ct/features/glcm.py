r"""Texture features of the gray-level co-occurrence matrix (GLCM), the paper's measure (Sec. "Evaluation Metric").

The definitions are scikit-image's (`graycomatrix`, `graycoprops`), at distance 1 px and the angles 0, 45, 90 and 135
degrees, symmetric and normalized; a feature of a patch is its mean over the angles (IBSI "2D averaged", BTW3). In every
formula :math:`p_{ij}` is the probability that two neighbouring pixels have the gray levels i and j. The functions of a
matrix are the definitions; :func:`patch_features` finds the same without matrices, over 20 times as fast as scikit-image
(`python benchmarks/glcm.py`). For masked volumes see :mod:`stan_ct.features.glcm_region`.

Example:
    The image of scikit-image's documentation, 4 gray levels. Along the rows (0 degrees), level 2 is next to level 2 three
    times; as every pair counts both ways, the entry is 6. Divided by the sum, the matrix holds :math:`p_{ij}`.

    >>> from stan_ct.features.glcm_region import pair_counts
    >>> image = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [0, 2, 2, 2], [2, 2, 3, 3]])
    >>> counts = pair_counts(*neighbours(image, ANGLES[0]), n_levels=4)
    >>> counts
    array([[4, 2, 1, 0],
           [2, 4, 0, 0],
           [1, 0, 6, 1],
           [0, 0, 1, 2]])
    >>> contrast(counts / counts.sum())  # (2 * 2 * 1 + 2 * 1 * 4 + 2 * 1 * 1) / 24
    0.5833333333333333
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import ceil
from typing import Literal

import cv2
import numpy as np

from stan_ct.ct.hounsfield import SOFT_TISSUE

DISTANCE = 1
"""Distance of neighbouring pixels, px."""

ANGLES = {0: (0, 1), 45: (1, 1), 90: (1, 0), 135: (1, -1)}
"""Angle in degrees -> offset to the neighbour (rows, columns), px."""

MAX_LEVELS = 2048
"""Most gray levels that are accepted; a matrix of so many takes 32 MB."""


@dataclass(frozen=True)
class Discretization:
    """Map from HU to gray levels 0 .. levels - 1 in bins of equal width; HU outside are clipped to the end levels.

    Attributes:
        levels: Number of gray levels, 2 .. `MAX_LEVELS`.
        bin_width: Width of a bin, HU, > 0.
        low: Lower edge of level 0, HU.
        fixed: What was fixed, the "number" of levels or their "size" in HU; for reports, it changes no value.
    Raises:
        ValueError: If a number is out of its range.
    """

    levels: int
    bin_width: float
    low: float = SOFT_TISSUE[0]
    fixed: Literal["number", "size"] = field(default="number", compare=False)

    def __post_init__(self) -> None:
        if not (0 < self.bin_width < float("inf") and 2 <= self.levels <= MAX_LEVELS):
            raise ValueError(f"expected 2 to {MAX_LEVELS} gray levels of > 0 HU, got {self.levels} of {self.bin_width:g} HU")

    @classmethod
    def fixed_number(cls, levels: int = 256, low: float = SOFT_TISSUE[0], high: float = SOFT_TISSUE[1]) -> Discretization:
        """Fixed number of levels over [low, high] HU (IBSI K15C, with the range's bounds instead of the image's)."""
        return cls(levels, (high - low) / max(levels, 1), low)

    @classmethod
    def fixed_size(cls, bin_width: float = 25.0, low: float = SOFT_TISSUE[0], high: float = SOFT_TISSUE[1]) -> Discretization:
        """Levels of a fixed width in HU from `low` on; the last one contains `high` (IBSI Q3RU)."""
        return cls(ceil((high - low) / bin_width) if bin_width > 0 else 0, bin_width, low, "size")

    def to_levels(self, hu: np.ndarray) -> np.ndarray:
        """Gray levels of HU of any shape: uint8, or uint16 above 256 levels; ValueError for NaN.

        Example:
            >>> Discretization.fixed_size(25).to_levels(np.array([-2000.0, -1000.0, -975.5, -975.0, 900.0])).tolist()
            [0, 0, 0, 1, 75]
        """
        bins = np.asarray(np.subtract(hu, self.low, dtype=np.float64))
        bins /= self.bin_width
        np.clip(bins, 0, self.levels - 1, out=bins)
        if bins.size and np.isnan(bins.min()):
            raise ValueError("expected HU, got NaN: fill or mask pixels without a value")
        return bins.astype(np.uint8 if self.levels <= 256 else np.uint16)  # >= 0 here, so truncation is floor

    def __str__(self) -> str:
        high = self.low + self.levels * self.bin_width
        return f"{self.levels} levels of {self.bin_width:.4g} HU over [{self.low:g}, {high:g}] HU, HU outside in the end levels"


def neighbours(array: np.ndarray, offset: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Views of an array of any dimension: the elements that have a neighbour at `offset`, and these neighbours."""
    first = tuple(slice(max(0, -step), n - max(0, step)) for step, n in zip(offset, array.shape, strict=True))
    second = tuple(slice(max(0, step), n - max(0, -step)) for step, n in zip(offset, array.shape, strict=True))
    return array[first], array[second]


def dissimilarity(p: np.ndarray) -> float:
    r"""Mean gray-level difference of neighbouring pixels, :math:`\sum_{i,j} |i-j|\,p_{ij}` (IBSI 8S9J).

    Args:
        p: Co-occurrence probabilities, (L, L) float64, >= 0, summing to 1, as for all functions below.
    Returns:
        In [0, L - 1]; 0 for a flat image.
    Example:
        >>> dissimilarity(np.array([[0.5, 0.25], [0.25, 0.0]]))
        0.5
    """
    return _mean_of_difference(0, p)


def contrast(p: np.ndarray) -> float:
    r"""Mean squared gray-level difference, :math:`\sum_{i,j} (i-j)^2\,p_{ij}`, in [0, (L - 1)^2] (IBSI ACUI).

    Example:
        >>> contrast(np.array([[0.5, 0.25], [0.25, 0.0]]))
        0.5
    """
    return _mean_of_difference(1, p)


def homogeneity(p: np.ndarray) -> float:
    r"""Closeness to the diagonal, :math:`\sum_{i,j} p_{ij} / (1 + (i-j)^2)`, in (0, 1]; 1 for a flat image (IBSI WF0Z).

    Example:
        >>> homogeneity(np.array([[0.5, 0.25], [0.25, 0.0]]))  # 0.5 + 0.5 / 2
        0.75
    """
    return _mean_of_difference(2, p)


def inverse_difference(p: np.ndarray) -> float:
    r"""As homogeneity, but not squared, :math:`\sum_{i,j} p_{ij} / (1 + |i-j|)`, in (0, 1] (IBSI IB1Z).

    Example:
        >>> inverse_difference(np.array([[0.0, 0.0, 0.5], [0.0, 0.0, 0.0], [0.5, 0.0, 0.0]]))  # 2 * 0.5 / 3
        0.3333333333333333
    """
    return _mean_of_difference(3, p)


def asm(p: np.ndarray) -> float:
    r"""Angular second moment, :math:`\sum_{i,j} p_{ij}^2`, in [1 / L^2, 1]; 1 for a flat image (IBSI 8ZQL).

    Example:
        >>> asm(np.array([[0.5, 0.5], [0.5, 0.5]]) / 2)  # four times 1 / 16
        0.25
    """
    return float(np.vdot(p, p))


def energy(p: np.ndarray) -> float:
    r"""Root of the angular second moment, :math:`\sqrt{\sum_{i,j} p_{ij}^2}`, in [1 / L, 1] (root of IBSI 8ZQL)."""
    return asm(p) ** 0.5


def joint_entropy(p: np.ndarray) -> float:
    r"""Disorder of the pairs, :math:`-\sum_{i,j} p_{ij} \log_2 p_{ij}`, in [0, 2 log2(L)] bits; 0 if flat (IBSI TU9B).

    Example:
        >>> joint_entropy(np.array([[0.5, 0.25], [0.25, 0.0]]))  # 0.5 * 1 + 2 * 0.25 * 2
        1.5
    """
    return _entropy(p[p > 0])


def correlation(p: np.ndarray) -> float:
    r"""Linear correlation of neighbouring gray levels, :math:`\sum_{i,j} p_{ij} (i-\mu_i)(j-\mu_j) / (\sigma_i \sigma_j)`.

    Returns:
        In [-1, 1]; 1 for a flat image, as in scikit-image (its sigma is 0, so the formula says nothing). IBSI NI2N.
    Example:
        >>> correlation(np.array([[0.5, 0.0], [0.0, 0.5]]))
        1.0
    """
    levels, of_i, of_j = np.arange(len(p), dtype=np.float64), p.sum(axis=1), p.sum(axis=0)
    i, j = levels - levels @ of_i, levels - levels @ of_j
    sigma_i, sigma_j = np.sqrt(i**2 @ of_i), np.sqrt(j**2 @ of_j)
    return float(i @ p @ j / (sigma_i * sigma_j)) if min(sigma_i, sigma_j) > 1e-15 else 1.0


def _entropy(p: np.ndarray) -> float:
    return 0.0 - float(p @ np.log2(p))  # 0.0 -: no -0.0


def _mean_of_difference(column: int, p: np.ndarray) -> float:
    i, j = np.nonzero(p)
    return float(_of_difference(len(p))[np.abs(i - j), column] @ p[i, j])


@lru_cache(maxsize=4)
def _of_difference(n_levels: int) -> np.ndarray:
    """Weights by difference d = |i - j|, (L, 4): d, d^2, 1 / (1 + d^2) and 1 / (1 + d)."""
    d = np.arange(n_levels, dtype=np.float64)
    return np.stack([d, d**2, 1 / (1 + d**2), 1 / (1 + d)], axis=1)


FEATURES = ("dissimilarity", "contrast", "homogeneity", "energy", "correlation")
"""The paper's five features, in the order of :func:`features`."""

IBSI = {
    "dissimilarity": ("dissimilarity", "8S9J"),
    "contrast": ("contrast", "ACUI"),
    "homogeneity": ("inverse difference moment", "WF0Z"),
    "energy": ("square root of angular second moment", "8ZQL"),
    "correlation": ("correlation", "NI2N"),
    "asm": ("angular second moment", "8ZQL"),
    "inverse_difference": ("inverse difference", "IB1Z"),
    "joint_entropy": ("joint entropy", "TU9B"),
}
"""Feature -> its name and code in the IBSI reference manual."""

ALL_FEATURES = tuple(IBSI)
"""The paper's five, then three more, in the order of :func:`patch_features`."""


def features(patch_hu: np.ndarray, discretization: Discretization) -> np.ndarray:
    """Five features of a patch, (H, W) HU: (5,) float64 in the order of `FEATURES`, means over the four angles.

    Raises:
        ValueError: If the patch is smaller than 2 x 2 pixels or holds NaN.
    """
    return _features(patch_hu, discretization, with_entropy=False)[: len(FEATURES)]


def patch_features(patches_hu: np.ndarray, discretization: Discretization) -> np.ndarray:
    """All features of patches, (N, H, W) HU: (N, 8) float64, columns as `ALL_FEATURES`, means over the four angles.

    Raises:
        ValueError: If `patches_hu` is not (N, H, W), the patches are smaller than 2 x 2 pixels, or a pixel is NaN.
    """
    if np.ndim(patches_hu) != 3:
        raise ValueError(f"expected patches (N, H, W), got shape {np.shape(patches_hu)}")
    return np.reshape([_features(patch, discretization) for patch in patches_hu], (-1, len(ALL_FEATURES)))


def _features(patch_hu: np.ndarray, discretization: Discretization, with_entropy: bool = True) -> np.ndarray:
    image = discretization.to_levels(patch_hu)
    if image.ndim != 2 or min(image.shape) < 2:
        raise ValueError(f"expected a patch of 2 x 2 pixels or more, got shape {image.shape}")
    angles = [neighbours(image, offset) for offset in ANGLES.values()]
    return np.mean([_of_angle(*pair, discretization.levels, with_entropy) for pair in angles], axis=0)


def _of_angle(first: np.ndarray, second: np.ndarray, n_levels: int, with_entropy: bool) -> tuple[float, ...]:
    """`ALL_FEATURES` by sums over unordered pairs of pixels and their neighbours, (h, w) unsigned levels each."""
    low, high, n = np.minimum(first, second), np.maximum(first, second), first.size
    pairs, equal, differences = _count_pairs(low, high, n_levels)
    steps = differences / n  # (L,): probability of each |i - j|
    dissimilar, squared, homogeneous, inverse = steps @ _of_difference(n_levels)
    sum_ = sum(round(cv2.norm(levels, cv2.NORM_L1)) for levels in (low, high))
    squares = sum(round(cv2.norm(levels, cv2.NORM_L2SQR)) for levels in (low, high))
    scatter = 2 * n * squares - sum_**2  # 4 n^2 variance, an exact integer: 0 where the image is flat
    correlated = 1 - 2 * n**2 * squared / scatter if scatter else 1.0  # E (i - j)^2 = 2 variance - 2 covariance
    moment = (cv2.norm(pairs, cv2.NORM_L2SQR) + equal @ equal) / (2 * n**2)  # i < j stands for half p_ij, half p_ji
    entropy = _entropy(pairs[pairs > 0] / np.float64(n)) + 1 - steps[0] if with_entropy else np.nan  # 1 bit: i, j or j, i
    return dissimilar, squared, homogeneous, moment**0.5, correlated, moment, inverse, entropy


def _count_pairs(low: np.ndarray, high: np.ndarray, n_levels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts of each unordered pair of levels (zeros may be missing), of each equal pair, and of each difference, (L,)."""
    if low.dtype == np.uint8 and low.size < 2**24:  # OpenCV counts in float32, exact up to there
        counts = cv2.calcHist([low, high], [0, 1], None, [n_levels] * 2, [0, n_levels] * 2).ravel()  # 0 below the diagonal, so
        differences = counts[:-1].reshape(n_levels - 1, -1).sum(axis=0)[:-1]  # in rows of L + 1 a column is a diagonal
        differences[0] += counts[-1]
        return counts, counts[:: n_levels + 1].astype(np.float64), differences.astype(np.float64)
    found, counts = np.unique(low.astype(np.uint32) << 16 | high, return_counts=True)
    d = (found & 0xFFFF) - (found >> 16)
    return counts.astype(np.float64), counts[d == 0].astype(np.float64), np.bincount(d, counts, minlength=n_levels)
