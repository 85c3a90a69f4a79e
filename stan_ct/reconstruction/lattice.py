"""Lattices: patterns that repeat every few pixels, which strided layers of a network write into a series."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from stan_ct.ct.fourier import rfft2
from stan_ct.ct.smoothing import box_mean
from stan_ct.reconstruction.checks import Finding

PERIODS = (2, 4, 8)
"""Periods in pixels of the patterns that strided layers can write: two to the number of the last halvings."""
PLACES = 4
"""Rows and columns of the places whose mean changes are compared, px."""
NEIGHBOURS = (-7, -6, -5, -4, -3, 3, 4, 5, 6, 7)
"""Distances along either axis, in bins of the spectrum, of the frequencies to which a lattice's are compared."""
MIN_PIXELS = 64 * 64
"""Slices with fewer pixels to judge than this are not judged."""
SURROUNDINGS = 16
"""Side of the square over which the size of the change is measured by which a pixel is weighted, px: whole periods."""
SMALLEST = 0.25
"""Least size of the change in those weights, HU."""
FAINTEST = 0.025
"""Height in HU of a wave that is too faint to matter: its power is added to a lattice's and to that beside."""
POWER_LIMIT = 2.0
"""How far the power at a lattice's frequencies may rise above that of its neighbours, beside chance."""
MEAN_LIMIT = 0.15
"""How far the mean change of a place may lie from that of all, beside chance, HU."""
SIGMAS = 4.0
"""How many standard deviations of the scatter without a lattice are added to the limits."""
ALIKE = 2.0
"""Factor on the scatter of means: neighbouring slices show the same edges, so that they average out less than noise."""


@dataclass(frozen=True)
class Lattice:
    """Power of regular patterns in the change of a slice, or the sum over slices; see :func:`measure_lattice`.

    Attributes:
        power: Power of the weighted change at each frequency of a lattice, (frequencies,).
        around: Mean power of the frequencies beside it along columns and along rows, (2, frequencies).
        sums: Sum of the weighted change over the pixels of each place (row mod `PLACES`, column mod `PLACES`).
        weights: Sum of the weights over the same pixels, 1 / HU.
        num_slices: Number of slices that are judged.
    """

    power: np.ndarray
    around: np.ndarray
    sums: np.ndarray
    weights: np.ndarray
    num_slices: int

    def __add__(self, other: Lattice) -> Lattice:
        names = ("power", "around", "sums", "weights", "num_slices")
        return Lattice(*(getattr(self, name) + getattr(other, name) for name in names))

    @property
    def beside(self) -> np.ndarray:
        """Power that would be there without a lattice; edges of anatomy along an axis make a streak in the spectrum."""
        return self.around.max(0)

    @property
    def ratios(self) -> dict[int, float]:
        """Period -> mean over its frequencies of power over that beside: 1 up to chance where there is no lattice."""
        if not self.num_slices:
            return dict.fromkeys(PERIODS, 1.0)
        found = (self.power + self._faint) / (self.beside + self._faint)
        return {period: float(found[period == _PERIOD].mean()) for period in PERIODS}

    @property
    def ratio_limits(self) -> dict[int, float]:
        r"""Period -> largest ratio that is no finding.

        Without a lattice the mean ratio of :math:`n` frequencies over :math:`Z` slices scatters by at most
        :math:`\sqrt{2 / n Z}`; the limit is `POWER_LIMIT` plus `SIGMAS` times that, 2.8 for period 2 in 18 slices, 5.3 in one.
        """
        frequencies = {period: int(np.sum(period == _PERIOD)) for period in PERIODS}
        return {p: POWER_LIMIT + SIGMAS * math.sqrt(2 / (n * max(self.num_slices, 1))) for p, n in frequencies.items()}

    @property
    def means(self) -> np.ndarray:
        """Mean change of the pixels of each place minus that of all, (`PLACES`, `PLACES`) HU; NaN without a pixel."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.sums / self.weights - self.sums.sum() / self.weights.sum()

    @property
    def largest_mean(self) -> float:
        """Largest of `means`, without its sign, HU; 0 if nothing is judged."""
        return float(np.nanmax(np.abs(self.means))) if self.num_slices else 0.0

    @property
    def mean_limit(self) -> float:
        """Largest mean that is no finding, HU: `MEAN_LIMIT` plus `SIGMAS` standard deviations, from the power beside it."""
        scatter = math.sqrt(self.beside[_PERIOD <= PLACES].sum()) / max(float(self.weights.sum()), 1e-9)
        return MEAN_LIMIT + SIGMAS * ALIKE * scatter

    @property
    def _faint(self) -> float:
        return (FAINTEST * self.weights.sum()) ** 2 / self.num_slices


def measure_lattice(change: np.ndarray, mask: np.ndarray) -> Lattice:
    r"""Measures the regular patterns in the change of one slice.

    A pattern of period :math:`p` lies at the frequencies :math:`(i / p, j / p)` of the spectrum, in cycles per pixel; noise and
    anatomy have no reason to prefer these to their neighbours. Each frequency counts for its smallest period alone. Pixels are
    weighted by one over the local size of the change, lest edges of anatomy drown what is written on tissue.

    Args:
        change: Output minus what the network was given, (H, W) HU; minus the source, a sharpening filter between them hides
            weak patterns.
        mask: Pixels that count, (H, W) bool.
    Example:
        >>> change = np.random.default_rng(0).normal(0, 1, (512, 512))
        >>> change[::2, ::2] += 1
        >>> found = measure_lattice(change, np.ones((512, 512), bool))
        >>> {period: round(ratio, -2) for period, ratio in found.ratios.items()}
        {2: 100.0, 4: 0.0, 8: 0.0}
        >>> found.means[:2, :2].round(1).tolist()
        [[0.7, -0.2], [-0.2, -0.3]]
    """
    change, mask = (image[: _whole(image.shape[0]), : _whole(image.shape[1])] for image in (change, mask))
    if mask.sum() < MIN_PIXELS:
        return no_lattice()
    change = np.where(mask, change, 0).astype(np.float64)
    share, square = (box_mean(image, SURROUNDINGS) for image in (mask.astype(float), change**2))
    weights = mask / np.sqrt(square / np.maximum(share, 1e-3) + SMALLEST**2)
    weighted = (change - (change * weights).sum() / weights.sum()) * weights
    height, width = weighted.shape
    power = np.square(np.abs(rfft2(weighted)[_bins(height, width)]))
    down, across = np.split(power[:, 1:], 2, axis=1)
    blocks = (height // PLACES, PLACES, width // PLACES, PLACES)
    sums, weights = (image.reshape(blocks).sum((0, 2)) for image in (weighted, weights))
    return Lattice(power[:, 0], np.stack([down.mean(1), across.mean(1)]), sums, weights, 1)


def no_lattice() -> Lattice:
    """What is measured where no pixel is judged; the start of a sum over slices."""
    frequencies, places = len(_PERIOD), np.zeros((PLACES, PLACES))
    return Lattice(np.zeros(frequencies), np.zeros((2, frequencies)), places, places, 0)


def lattice_findings(lattice: Lattice) -> list[Finding]:
    """The period whose power stands out most, or else the place whose mean does, if it is beyond its limit."""
    ratios, limits = lattice.ratios, lattice.ratio_limits
    worst = max(PERIODS, key=lambda period: ratios[period] / limits[period])
    if ratios[worst] > limits[worst]:
        return [Finding("lattice", round(ratios[worst], 2), round(limits[worst], 2), f"period {worst} px")]
    mean, limit = lattice.largest_mean, lattice.mean_limit
    if mean > limit:
        row, column = np.unravel_index(np.nanargmax(np.abs(lattice.means)), lattice.means.shape)
        detail = f"row mod {PLACES} = {row}, column mod {PLACES} = {column}"
        return [Finding("lattice_mean", round(mean, 3), round(limit, 3), detail)]
    return []


def _whole(number: int) -> int:
    """The largest multiple of the longest period up to a number: there lattices fall on bins of the spectrum."""
    return number - number % max(PERIODS)


@lru_cache(maxsize=4)
def _bins(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns in the half of a spectrum of each frequency, those beside it downwards, and those across.

    Frequencies in the half that is not kept have the power of their negatives.
    """
    at = np.array(_FREQUENCIES) * (height, width) // max(PERIODS)
    none, away = np.zeros(len(NEIGHBOURS), int), np.array(NEIGHBOURS)
    rows = at[:, :1] + np.concatenate([[0], away, none])
    columns = (at[:, 1:] + np.concatenate([[0], none, away])) % width
    mirrored = columns > width // 2
    return np.where(mirrored, -rows, rows) % height, np.where(mirrored, width - columns, columns)


def _frequencies() -> Iterator[tuple[int, int, int]]:
    """Period, and frequency along rows and columns in cycles per longest period, of every frequency but the mean."""
    longest = max(PERIODS)
    for i, j in np.ndindex(longest, longest):
        if (i, j) != (0, 0):
            yield longest // math.gcd(i, j, longest), i, j


_PERIOD = np.array([period for period, _, _ in _frequencies()])
_FREQUENCIES = [(i, j) for _, i, j in _frequencies()]
