r"""Texture features of the gray-level co-occurrence matrix (GLCM), the paper's measure (Sec. "Evaluation Metric").

The definitions are scikit-image's (`graycomatrix`, `graycoprops`), at distance 1 px and the angles 0, 45, 90 and 135
degrees, symmetric and normalized; a feature of a patch is its mean over the angles (IBSI "2D averaged", BTW3). In every
formula :math:`p_{ij}` is the probability that two neighbouring pixels have the gray levels i and j.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil

import numpy as np

from stan_ct.ct.hounsfield import SOFT_TISSUE

DISTANCE = 1
"""Distance of neighbouring pixels, px."""

ANGLES = {0: (0, 1), 45: (1, 1), 90: (1, 0), 135: (1, -1)}
"""Angle in degrees -> offset to the neighbour (rows, columns), px."""

MAX_LEVELS = 2048
"""A matrix of so many gray levels takes 32 MB; more are refused."""


@dataclass(frozen=True)
class Discretization:
    """HU -> gray levels 0 .. levels - 1, equal bins from `low` on; HU outside are clipped into the end levels.

    Attributes:
        levels: Number of gray levels, 2 .. `MAX_LEVELS`, else ValueError.
        bin_width: HU per gray level, > 0, else ValueError.
        low: Lower edge of level 0, HU.
    """

    levels: int
    bin_width: float
    low: float = SOFT_TISSUE[0]

    def __post_init__(self) -> None:
        if not (0 < self.bin_width < float("inf") and 2 <= self.levels <= MAX_LEVELS):
            raise ValueError(f"expected 2 to {MAX_LEVELS} gray levels of > 0 HU, got {self.levels} of {self.bin_width:g} HU")

    @classmethod
    def fixed_number(cls, levels: int = 256, low: float = SOFT_TISSUE[0], high: float = SOFT_TISSUE[1]) -> Discretization:
        """A fixed number of levels over [low, high] HU (IBSI K15C, with the bounds of the range for those of the image)."""
        return cls(levels, (high - low) / max(levels, 1), low)

    @classmethod
    def fixed_size(cls, bin_width: float = 25.0, low: float = SOFT_TISSUE[0], high: float = SOFT_TISSUE[1]) -> Discretization:
        """Levels of a fixed size in HU that start at `low`; the last one holds `high` (IBSI Q3RU)."""
        return cls(ceil((high - low) / bin_width) if bin_width > 0 else 0, bin_width, low)

    def to_levels(self, hu: np.ndarray) -> np.ndarray:
        """HU of any shape -> gray levels, intp, same shape.

        Example:
            >>> Discretization.fixed_size(25).to_levels(np.array([-2000.0, -1000.0, -975.5, -975.0, 900.0])).tolist()
            [0, 0, 0, 1, 75]
        """
        bins = (np.asarray(hu, np.float64) - self.low) / self.bin_width
        return np.clip(bins, 0, self.levels - 1).astype(np.intp)  # >= 0 here, so truncation is floor

    def __str__(self) -> str:
        high = self.low + self.levels * self.bin_width
        return f"{self.levels} levels of {self.bin_width:.4g} HU over [{self.low:g}, {high:g}] HU, HU outside in the end levels"


def glcm(levels_image: np.ndarray, n_levels: int) -> np.ndarray:
    """Co-occurrence probabilities of gray levels at distance 1, one matrix per angle of `ANGLES`.

    Args:
        levels_image: Gray levels, (H, W) integer in [0, n_levels), H and W >= 2.
        n_levels: Number of gray levels L.
    Returns:
        (4, L, L) float64, each matrix symmetric and summing to 1.
    Raises:
        ValueError: If the image is no such image.
    Example:
        >>> 4 * glcm(np.array([[0, 0], [1, 2]]), 3)[0]  # to the right: 0-0 and 1-2, each counted both ways
        array([[2., 0., 0.],
               [0., 0., 1.],
               [0., 1., 0.]])
    """
    image = np.asarray(levels_image)
    if image.ndim != 2 or min(image.shape) < 2 or image.dtype.kind not in "iu":
        raise ValueError(f"expected gray levels as integers in 2 x 2 pixels or more, got {image.dtype} of shape {image.shape}")
    if image.min() < 0 or image.max() >= n_levels:
        raise ValueError(f"expected gray levels 0..{n_levels - 1}, got {image.min()}..{image.max()}")
    image = image.astype(np.intp, copy=False)
    first = image * n_levels
    matrices = np.empty((len(ANGLES), n_levels, n_levels))
    for matrix, (rows, columns) in zip(matrices, ANGLES.values(), strict=True):
        pairs = _crop(first, rows, columns) + _crop(image, -rows, -columns)  # i * L + j, one per pair of neighbours
        counts = np.bincount(pairs.ravel(), minlength=n_levels**2).reshape(n_levels, n_levels)
        np.add(counts, counts.T, out=matrix)
        matrix /= 2 * pairs.size
    return matrices


def _crop(image: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """The pixels whose neighbour at (rows, columns) lies in the image too."""
    height, width = image.shape
    return image[max(0, -rows) : height - max(0, rows), max(0, -columns) : width - max(0, columns)]


def dissimilarity(p: np.ndarray) -> float:
    r"""Mean gray-level difference of neighbouring pixels, :math:`\sum_{i,j} |i-j|\,p_{ij}`.

    Args:
        p: Co-occurrence probabilities, (L, L) float64, >= 0, summing to 1; so in all features.
    Returns:
        Gray levels, in [0, L - 1]; 0 for a flat image.
    Reference: paper Sec. "Evaluation Metric"; IBSI 8S9J.
    Example:
        >>> dissimilarity(np.array([[0.5, 0.25], [0.25, 0.0]]))
        0.5
    """
    return float(np.vdot(_weights(len(p))[0], p))


def contrast(p: np.ndarray) -> float:
    r"""Mean squared gray-level difference of neighbouring pixels, :math:`\sum_{i,j} (i-j)^2\,p_{ij}`.

    Returns:
        Gray levels squared, in [0, (L - 1)^2]; 0 for a flat image.
    Reference: paper Sec. "Evaluation Metric"; IBSI ACUI.
    Example:
        >>> contrast(np.array([[0.5, 0.25], [0.25, 0.0]]))
        0.5
    """
    return float(np.vdot(_weights(len(p))[1], p))


def homogeneity(p: np.ndarray) -> float:
    r"""Closeness of the matrix to its diagonal, :math:`\sum_{i,j} p_{ij} / (1 + (i-j)^2)`.

    Returns:
        In (0, 1]; 1 for a flat image.
    Reference: paper Sec. "Evaluation Metric"; IBSI WF0Z (inverse difference moment).
    Example:
        >>> homogeneity(np.array([[0.5, 0.25], [0.25, 0.0]]))  # 0.5 + 0.5 / 2
        0.75
    """
    return float(np.vdot(_weights(len(p))[2], p))


def energy(p: np.ndarray) -> float:
    r"""Root of the angular second moment, :math:`\sqrt{\sum_{i,j} p_{ij}^2}`.

    Returns:
        In [1 / L, 1]; 1 for a flat image.
    Reference: paper Sec. "Evaluation Metric"; root of IBSI 8ZQL.
    Example:
        >>> energy(np.array([[0.5, 0.5], [0.5, 0.5]]) / 2)  # four times 1 / 16, and the root
        0.5
    """
    return float(np.sqrt(np.vdot(p, p)))


def correlation(p: np.ndarray) -> float:
    r"""Linear correlation of neighbouring gray levels, :math:`\sum_{i,j} p_{ij} (i-\mu_i)(j-\mu_j) / (\sigma_i \sigma_j)`.

    Returns:
        In [-1, 1]; 1 for a flat image, as in scikit-image (its sigma is 0, so the formula says nothing).
    Reference: paper Sec. "Evaluation Metric"; IBSI NI2N.
    Example:
        >>> correlation(np.array([[0.5, 0.0], [0.0, 0.5]]))
        1.0
    """
    levels = np.arange(len(p), dtype=np.float64)
    of_i, of_j = p.sum(axis=1), p.sum(axis=0)
    i, j = levels - levels @ of_i, levels - levels @ of_j
    sigma_i, sigma_j = np.sqrt(i**2 @ of_i), np.sqrt(j**2 @ of_j)
    if min(sigma_i, sigma_j) < 1e-15:
        return 1.0
    return float(i @ p @ j / (sigma_i * sigma_j))


@lru_cache(maxsize=4)
def _weights(n_levels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """|i - j|, (i - j)^2 and 1 / (1 + (i - j)^2), each (L, L)."""
    levels = np.arange(n_levels, dtype=np.float64)
    difference = np.abs(levels[:, None] - levels)
    return difference, difference**2, 1 / (1 + difference**2)


_FUNCTIONS = (dissimilarity, contrast, homogeneity, energy, correlation)

FEATURES = tuple(function.__name__ for function in _FUNCTIONS)
"""The paper's five features, in the order of :func:`features`."""


def features(patch_hu: np.ndarray, discretization: Discretization) -> np.ndarray:
    """The five features of a patch of HU, (H, W): (5,) float64 in the order of `FEATURES`, means over the four angles."""
    matrices = glcm(discretization.to_levels(patch_hu), discretization.levels)
    return np.mean([[feature(p) for feature in _FUNCTIONS] for p in matrices], axis=0)
