"""Image quality in physical units: HU errors by tissue, emphysema index, noise power, MTF of a disc.

Images and volumes are (H, W) or (Z, H, W) HU, masks bool of the same shape, pixel spacings (row, column) in mm, frequencies
in line pairs per cm. The MTF of a wire is :func:`stan_ct.ct.kernels.measure_mtf`'s.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage, signal
from skimage import measure, segmentation

from stan_ct.evaluation.metrics import HUError, hu_error

TISSUES = {"lung": (-950.0, -500.0), "fat": (-150.0, -30.0), "soft tissue": (0.0, 150.0), "bone": (200.0, 3000.0)}
"""Tissue -> HU, both ends included. Air outside the body, airways and bullae lie below lung; what lies between is none."""

SMOOTHING = 2.0
"""Standard deviation, px, of the Gaussian that the target passes, in the plane of a slice, before its tissue is decided."""

LUNG_BELOW, LUNG_AREA, LUNG_PART = -500.0, 10.0, 0.1
"""Lung is air below this HU, of at least this area in a slice, cm^2, and at least this part of the largest such volume."""

UNEVEN = 2.0
"""A region of more than this times the structure (standard deviation) of the most uniform one is not uniform."""

EDGE, BIN = 10.0, 0.1
"""Half width, mm, of the ring around a disc's edge that shows its profile, and the width of the profile's bins, px."""

Spacing = tuple[float, float]


@dataclass(frozen=True)
class NoisePower:
    """Radially averaged noise power: `power` (n,) HU^2 mm^2 at `frequency` (n,) lp/cm, of `area` (n,) in (lp/mm)^2 each."""

    frequency: np.ndarray
    power: np.ndarray
    area: np.ndarray

    @property
    def variance(self) -> float:
        """The integral over the frequency plane, its corners included: the variance of the noise, HU^2."""
        return float(self.power @ self.area)


def hu_error_by_tissue(image: np.ndarray, target: np.ndarray, mask: np.ndarray | None = None) -> dict[str, HUError]:
    """Tissue of `TISSUES` -> :func:`hu_error` there; the target says, smoothed, what is which tissue.

    Note:
        Unsmoothed, the target's noise would choose the pixels: where it is high they would pass for denser tissue, and an
        unbiased image would seem biased. Smoothed borders of two tissues may pass for a third between them.
    """
    everywhere = np.ones(np.shape(target), bool) if mask is None else mask
    sigma = (0,) * (np.ndim(target) - 2) + (SMOOTHING, SMOOTHING)
    smooth = ndimage.gaussian_filter(np.asarray(target, np.float64), sigma)
    return {
        tissue: hu_error(image, target, everywhere & (smooth >= low) & (smooth <= high))
        for tissue, (low, high) in TISSUES.items()
    }


def laa950(hu: np.ndarray, lung: np.ndarray) -> float:
    """Emphysema index: the share of lung below -950 HU, in [0, 1]; NaN without lung. Compare images within one mask.

    Example:
        >>> laa950(np.array([-1000.0, -960.0, -950.0, -850.0]), np.array([False, True, True, True]))
        0.3333333333333333
    """
    return float(np.mean(hu[lung] < -950)) if lung.any() else float("nan")


def lung_mask(hu: np.ndarray, pixel_spacing: Spacing) -> np.ndarray:
    """The air within the body that is large enough to be lung (`LUNG_BELOW`, `LUNG_AREA`, `LUNG_PART`), bool like `hu`.

    In each slice, air that reaches the border is outside the body, and small air is trachea or bowel.

    Note:
        Vessels and consolidations are left out; bronchi that open into the lung within a slice, and a stomach full of air,
        are not. A lung that the field of view cuts counts as outside.
    """
    slices = np.reshape(hu, (-1, *np.shape(hu)[-2:]))
    pixels = LUNG_AREA * 100 / (pixel_spacing[0] * pixel_spacing[1])
    lung = np.stack([_at_least(segmentation.clear_border(air), pixels) for air in slices < LUNG_BELOW])
    largest = np.bincount(measure.label(lung).ravel())[1:].max(initial=0)
    return _at_least(lung, LUNG_PART * largest).reshape(np.shape(hu))


def _at_least(mask: np.ndarray, pixels: float) -> np.ndarray:
    """The connected parts of a mask that have at least so many pixels."""
    parts = measure.label(mask)
    keep = np.bincount(parts.ravel()) >= pixels
    keep[0] = False
    return keep[parts]


def uniform_regions(
    hu: np.ndarray, size: int = 24, number: int = 4, hu_range: Spacing = (-150.0, 150.0)
) -> list[tuple[slice, slice]]:
    """Where a slice is most uniform: windows (rows, columns) for :func:`noise_power`, the best first, none overlapping.

    The slice is smoothed by `SMOOTHING`, which leaves structure and takes most of the noise. Of the windows, a quarter of a
    side apart, that lie within `hu_range` then, those of the least standard deviation are taken, up to `UNEVEN` times the
    least of all. What is to be compared is measured in the same windows.

    Args:
        hu: (H, W) HU.
        size: Side of a window, px.
        number: How many to find at most.
        hu_range: What a window may hold, HU: by default fat and soft tissue, without lung and bone.
    Returns:
        At most `number` windows; none where no window lies within `hu_range`.
    """
    if min(hu.shape) < size:
        return []
    smooth, step = ndimage.gaussian_filter(np.asarray(hu, np.float64), SMOOTHING), max(1, size // 4)
    windows = np.lib.stride_tricks.sliding_window_view(smooth, (size, size))[::step, ::step]
    inside = (windows.min(axis=(2, 3)) >= hu_range[0]) & (windows.max(axis=(2, 3)) <= hu_range[1])
    corners, structure = np.argwhere(inside) * step, windows[inside].std(axis=(1, 2))
    found: list[tuple[int, int]] = []
    for i in np.argsort(structure, kind="stable"):
        row, column = map(int, corners[i])
        apart = all(max(abs(row - r), abs(column - c)) >= size for r, c in found)
        if len(found) < number and apart and structure[i] <= UNEVEN * structure.min():
            found.append((row, column))
    return [(slice(row, row + size), slice(column, column + size)) for row, column in found]


def noise_power(regions: np.ndarray, pixel_spacing: Spacing) -> NoisePower:
    r"""Noise power spectrum, :math:`\frac{d_x d_y}{N_x N_y} \langle |DFT(I - trend)|^2 \rangle`, averaged over directions.

    The trend of each region is its best polynomial of second order, so the lowest frequencies lack power.

    Args:
        regions: Uniform regions, (R, S, S) HU.
        pixel_spacing: mm.
    Returns:
        The spectrum, to the corner of the frequency plane; its integral is the variance around the trends.
    Reference: ICRU Report 87 (2012); AAPM Report 233 (2019).
    """
    _, height, width = np.shape(regions)
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    basis, _ = np.linalg.qr(np.stack([(y**i * x**j).ravel() for i in range(3) for j in range(3 - i)], axis=1))
    flat = np.reshape(np.asarray(regions, np.float64), (len(regions), -1))
    noise = (flat - (flat @ basis) @ basis.T).reshape(np.shape(regions))
    extent = height * pixel_spacing[0], width * pixel_spacing[1]  # mm
    power = np.square(np.abs(fft.fft2(noise))).mean(axis=0) * (extent[0] * extent[1] / (height * width) ** 2)
    vertical, horizontal = (fft.fftfreq(n, d / 10) for n, d in zip((height, width), pixel_spacing, strict=True))
    frequency = np.hypot(vertical[:, None], horizontal)
    nearest = np.rint(frequency * min(extent) / 10).astype(int).ravel()
    cells, sums, powers = (np.bincount(nearest, weights) for weights in (None, frequency.ravel(), power.ravel()))
    known = cells > 0
    cells = cells[known]
    return NoisePower(sums[known] / cells, powers[known] / cells, cells / (extent[0] * extent[1]))


def disc_mtf(image: np.ndarray, pixel_spacing: Spacing, frequency: np.ndarray) -> np.ndarray:
    r"""MTF from the edge of a uniform disc, :math:`|\int -p'(r) e^{-2 \pi i f r} dr|` with its profile p(r) from the centre.

    The distances of the pixels around the edge fall between each other, so the curve is a presampled one.

    Args:
        image: (H, W) HU, with one disc over its middle, brighter or darker than the uniform rest.
        pixel_spacing: mm, equal to each other.
        frequency: (n,) lp/cm.
    Returns:
        (n,) float64, 1 at frequency 0. The outer half of the ring fades out, so an overshoot wider than `EDGE` is lost.
    Raises:
        ValueError: If the pixels are not square, or what is in the middle is no disc with room around it.
    Reference: Richard et al., Medical Physics 39 (2012) 4115-4122.
    """
    if not np.isclose(*pixel_spacing, rtol=1e-3):
        raise ValueError(f"the MTF is measured on square pixels, not on {pixel_spacing[0]:g} x {pixel_spacing[1]:g} mm")
    frequency, step = np.asarray(frequency, np.float64), BIN * pixel_spacing[0] / 10  # cm
    profile = _edge_profile(_contrast(image), EDGE / pixel_spacing[0])
    spread = -np.diff(profile) * signal.windows.tukey(len(profile) - 1, 0.5)
    wave = np.exp(-2j * np.pi * np.outer(frequency, np.arange(len(spread)) * step))
    return np.abs(wave @ spread) / (spread.sum() * np.sinc(frequency * step) ** 2)  # a bin's width, a difference's


def _contrast(image: np.ndarray) -> np.ndarray:
    """An image in units of its middle (5 x 5 px), counted from its border: about 1 in the disc, 0 around it."""
    image, (row, column) = np.asarray(image, np.float64), (n // 2 for n in np.shape(image))
    border = np.median(np.concatenate([image[[0, -1]].ravel(), image[:, [0, -1]].ravel()]))
    height = np.median(image[row - 2 : row + 3, column - 2 : column + 3]) - border
    return (image - border) / height if height else np.zeros(image.shape)


def _edge_profile(contrast: np.ndarray, half: float) -> np.ndarray:
    """The mean by distance from the disc's centre, in bins of `BIN` px, up to `half` px to both sides of its edge."""
    shape = contrast.shape
    parts = measure.label(contrast > 0.5)
    disc = measure.regionprops((parts == parts[shape[0] // 2, shape[1] // 2]).astype(int))[0]  # without one: what is around
    radius, room = np.sqrt(disc.area / np.pi), min(*disc.bbox[:2], *np.subtract(shape, disc.bbox[2:]))
    half = min(half, radius, room)
    if half < 4 or abs(disc.area_bbox / (4 * radius**2) - 1) > 0.1:
        raise ValueError(f"expected a disc over the middle, >= 4 px from the border, got {disc.bbox} of {shape} pixels")
    distance = np.hypot(*(index - centre for index, centre in zip(np.indices(shape), disc.centroid, strict=True)))
    nearest, bins = np.floor((distance - radius + half) / BIN).astype(int), int(2 * half / BIN)
    ring = (nearest >= 0) & (nearest < bins)
    number, sums = (np.bincount(nearest[ring], weights, bins) for weights in (None, contrast[ring]))
    hit = np.flatnonzero(number)
    return np.interp(np.arange(bins), hit, sums[hit] / number[hit])
