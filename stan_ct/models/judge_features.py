"""What the judge of check 2 measures on a source patch and what was made of it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from stan_ct.ct.fourier import rfft2
from stan_ct.ct.smoothing import box_mean
from stan_ct.patches.sampling import PATCH_SIZE

RANGE = (-1024.0, 1500.0)
"""HU that are judged; what lies outside is clipped."""
BANDS = 24
"""Bands of equal width from frequency 0 to the corner of the spectrum."""
LEAST_GAIN = 0.05
"""Gain at least, whose logarithm is a feature."""
LEAST_REST = 1e-3
"""Share of the source's power that is added to what it does not explain."""
SQUARES = (8, 16, 32)
"""Sides of the squares whose mean change is judged, px; they overlap by half."""
TEXTURE_SIDE = 16
"""Side of the squares whose texture is judged, px."""
TISSUES = {"air": (-1100, -950), "lung": (-950, -600), "fat": (-200, -20), "soft tissue": (-20, 120), "bone": (200, 1500)}
"""Tissue -> range of HU of the smoothed source, in which the mean change is measured."""
SMOOTH_SLOPE = 30.0
"""HU per pixel from which a place belongs to no tissue but bone, whose parts are small."""
FEW_PIXELS = 400
"""Pixels of no change that are added to each tissue, so that a few pixels are no reason."""
PERIODS = (2, 4, 8)
"""Periods of a lattice, px."""
NEIGHBOURS = (-5, -4, -3, 3, 4, 5)
"""Distances in bins, along both axes, of the frequencies to which a lattice's are compared."""
SMALLEST = 0.25
"""Least size of a change by which it is divided before a pattern is looked for, HU."""
SURROUNDINGS = 11
"""Side of the square of frequencies to whose mean a wave is compared, bins."""
SLOWEST = 8
"""Least frequency of rows and columns that differ, cycles per patch."""

SPECTRUM = ("gain", "rest")
PATTERN = (
    *(f"pattern of {period} px" for period in PERIODS),
    "a wave",
    "differences between rows",
    "differences between columns",
)
VALUES = (*(f"mean of {tissue}" for tissue in TISSUES), "position by rows", "position by columns")
PLACES = (*(f"change of squares of {side} px" for side in SQUARES), "texture", "texture of the change", "single pixels")
"""What is measured place by place."""


@dataclass(frozen=True)
class Place:
    """Something that is measured at many places of a patch, and what the source is like there.

    Attributes:
        noise: Logarithm of the variance of the source's detail, (places,).
        edge: Logarithm of the square of its steepest slope, (places,).
        found: What is measured, a logarithm, (places,).
    """

    noise: np.ndarray
    edge: np.ndarray
    found: np.ndarray


@dataclass(frozen=True)
class PairFeatures:
    """Features of one patch and its source.

    Attributes:
        source: What the source is like, (circumstances,): its log spectrum, quantiles of its noise, its edges.
        groups: `gain` and `rest`, (`BANDS`,), logarithms of the share of the source that is kept, and of the power that is
            unrelated to it over its own; `values`, mean change by tissue in 17 HU, and shift in thirds of a pixel;
            `pattern`, logarithms of the change's power at lattices, at its strongest wave, and of rows and columns
            over the power beside.
        places: What is measured place by place, see `PLACES`.
    """

    source: np.ndarray
    groups: dict[str, np.ndarray]
    places: tuple[Place, ...]


def log_spectrum(image: np.ndarray) -> np.ndarray:
    """Natural logarithm of the mean power in each band, (`BANDS`,)."""
    return np.log(_by_band(_squared(_transform(image))) + 1.0)


def pair_features(source: np.ndarray, output: np.ndarray) -> PairFeatures:
    """Features of a patch relative to its source.

    Args:
        source: (`PATCH_SIZE`, `PATCH_SIZE`) HU.
        output: Same shape.
    """
    source, output = (np.clip(image, *RANGE).astype(np.float32) for image in (source, output))
    change = output - source
    before, after = _transform(source), _transform(output)
    power = _by_band(_squared(before)) + 1.0
    gain, rest = _transfer(before, after, power)
    places = _places(source, change)
    noise, edge = places[-2].noise, places[-2].edge
    circumstances = np.concatenate([np.log(power), np.quantile(noise, (0.1, 0.5, 0.9)), [edge.mean()]])
    groups = {"gain": gain, "rest": rest, "values": _values(source, change), "pattern": _pattern(change)}
    return PairFeatures(circumstances, groups, places)


def _transfer(before: np.ndarray, after: np.ndarray, power: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logarithms of the gain in each band, and of the power that the source does not explain over the source's."""
    gain = _by_band(before.real * after.real + before.imag * after.imag) / power
    rest = np.maximum(_by_band(_squared(after)) - gain**2 * power, 0)
    return np.log(np.maximum(gain, LEAST_GAIN)), np.log((rest + 1.0) / power + LEAST_REST)


def _values(source: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Mean change of each tissue, and by how much the output is shifted."""
    smooth = box_mean(source, 5)
    flat = cv2.inRange(_squared_slope(smooth), 0, SMOOTH_SLOPE**2)
    found = []
    for name, (low, high) in TISSUES.items():
        inside = cv2.inRange(smooth, low + 1e-4, high - 1e-4)
        if name != "bone":
            inside = cv2.bitwise_and(inside, flat)
        number = cv2.countNonZero(inside)
        found.append(cv2.mean(change, inside)[0] * number / (number + FEW_PIXELS) / 17)
    for slope in _slopes(source):
        found.append(3 * np.vdot(change, slope) / (np.vdot(slope, slope) + 1e4))
    return np.array(found)


def _pattern(change: np.ndarray) -> np.ndarray:
    """Logarithms of the power of lattices, of the strongest wave, of rows and of columns over that beside, 0 at least."""
    # Divided by its local size, lest edges of anatomy drown what is written on tissue.
    change = (change - change.mean()) / np.sqrt(box_mean(np.square(change), 16) + SMALLEST**2)
    change -= change.mean()
    power = _power(change)
    found = [(power[bins].sum() + 1) / (power[beside].mean(1).sum() + 1) for bins, beside in _LATTICES]
    power = _power(change * _TAPER)  # without the border of the patch, which is a cross in the spectrum
    beside = box_mean(power, SURROUNDINGS) - power / SURROUNDINGS**2
    found.append((power / (beside + 1e-6 * power.mean() + 1e-12) * _FAST).max())
    for axis in (power, power.T):
        found.append(
            (axis[SLOWEST : PATCH_SIZE // 2, 0].sum() + 1e-12) / (axis[SLOWEST : PATCH_SIZE // 2, 3:6].sum() / 3 + 1e-12)
        )
    return np.log(np.maximum(found, 1.0))


def _places(source: np.ndarray, change: np.ndarray) -> tuple[Place, ...]:
    """What is measured place by place, in the order of `PLACES`."""
    detail = _detail(source)
    changed = _detail(change)
    noise = [np.log(square + 1.0).ravel() for square in _squares(_blocks(np.square(detail)))]
    edge = [np.log(s + 1.0).ravel() for s in _squares(_largest_block(_squared_slope(box_mean(source, 3))), np.maximum)]
    moved = [np.log(np.square(mean) + 0.05).ravel() for mean in _squares(_blocks(change))]
    texture = np.log(_squares(_blocks(np.square(detail + changed)))[1] + 1.0).ravel()
    of_change = np.log(_squares(_blocks(np.square(changed)))[1] + 0.1).ravel()
    pixels = np.log(_squares(_largest_block(np.square(changed)), np.maximum)[0] + 1.0).ravel()
    rows = [*zip(noise, edge, moved, strict=True), *((noise[1], edge[1], found) for found in (texture, of_change))]
    return tuple(Place(*row) for row in (*rows, (noise[0], edge[0], pixels)))


def _detail(image: np.ndarray) -> np.ndarray:
    return image - box_mean(image, 3)


def _squared_slope(image: np.ndarray) -> np.ndarray:
    rows, columns = _slopes(image)
    return rows * rows + columns * columns


def _slopes(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slopes along columns and rows, per pixel, (H, W) float32 each: those of `numpy.gradient`."""
    down, across = (
        cv2.Sobel(image, cv2.CV_32F, *order, ksize=1, scale=0.5, borderType=cv2.BORDER_REPLICATE) for order in ((0, 1), (1, 0))
    )
    down[[0, -1]] *= 2  # one pixel lies beyond the border, where the outermost stands for it
    across[:, [0, -1]] *= 2
    return down, across


def _blocks(image: np.ndarray) -> np.ndarray:
    """Means of blocks of 4 px, (H / 4, W / 4)."""
    return cv2.resize(image, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)


def _largest_block(image: np.ndarray) -> np.ndarray:
    """Largest value of blocks of 4 px, (H / 4, W / 4)."""
    rows = np.maximum.reduce([image[i::4] for i in range(4)])
    return np.maximum.reduce([rows[:, i::4] for i in range(4)])


def _squares(blocks: np.ndarray, join: np.ufunc = np.add) -> list[np.ndarray]:
    """Means, or largest values, of blocks of 4 px -> those of squares of 8, 16 and 32 px, which overlap by half."""
    squares = []
    for _ in SQUARES:
        rows = join(blocks[:-1], blocks[1:])
        joined = join(rows[:, :-1], rows[:, 1:])
        squares.append(joined / 4 if join is np.add else joined)
        rows = join(blocks[::2], blocks[1::2])
        joined = join(rows[:, ::2], rows[:, 1::2])
        blocks = joined / 4 if join is np.add else joined
    return squares


def _transform(image: np.ndarray) -> np.ndarray:
    return rfft2((image - image.mean()) * _TAPER)


def _squared(spectrum: np.ndarray) -> np.ndarray:
    return np.square(spectrum.real) + np.square(spectrum.imag)


def _power(image: np.ndarray) -> np.ndarray:
    """Power spectrum, (`PATCH_SIZE`, `PATCH_SIZE`); the half that mirrors the other is copied."""
    half = rfft2(image)
    power = np.empty(image.shape, image.dtype)
    known = half.shape[1]
    power[:, :known] = _squared(half)
    power[0, known:], power[1:, known:] = power[0, known - 2 : 0 : -1], power[:0:-1, known - 2 : 0 : -1]
    return power


def _by_band(values: np.ndarray) -> np.ndarray:
    return np.bincount(_BAND, values.ravel(), BANDS) / _COUNT


def _bands() -> tuple[np.ndarray, np.ndarray]:
    frequency = np.hypot(np.fft.fftfreq(PATCH_SIZE)[:, None], np.fft.rfftfreq(PATCH_SIZE)[None])  # cycles per pixel
    band = np.minimum((frequency / np.sqrt(0.5) * BANDS).astype(int), BANDS - 1).ravel()
    return band, np.bincount(band, minlength=BANDS)


def _lattices() -> list[tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]]:
    """For each period the bins of its frequencies, and of their neighbours, (frequencies, neighbours)."""
    found, seen = [], {(0, 0)}
    down, across = (d.ravel() for d in np.meshgrid(NEIGHBOURS, NEIGHBOURS))
    for period in PERIODS:
        step = PATCH_SIZE // period
        bins = [(i * step, j * step) for i, j in np.ndindex(period, period) if (i * step, j * step) not in seen]
        seen.update(bins)
        rows, columns = np.array(bins).T
        beside = ((rows[:, None] + down) % PATCH_SIZE, (columns[:, None] + across) % PATCH_SIZE)
        found.append(((rows, columns), beside))
    return found


_BAND, _COUNT = _bands()
_LATTICES = _lattices()
_WINDOW = np.hanning(PATCH_SIZE + 1)[:-1]
_TAPER = (np.outer(_WINDOW, _WINDOW) / np.sum(_WINDOW**2)).astype(np.float32)
_FAST = np.hypot(np.fft.fftfreq(PATCH_SIZE)[:, None], np.fft.fftfreq(PATCH_SIZE)[None]) > 3.5 / PATCH_SIZE
