"""Nothing invented: what a change of kernel cannot do to a series, and whether the output did it all the same.

A change of kernel is close to a radial filter. The filter that explains the output best is fitted to the series itself; what
it leaves is texture, which averages out at the scale of a nodule, unless a structure came or went.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from stan_ct.ct.filters import RadialFilter, fit_radial_filter
from stan_ct.ct.hounsfield import AIR
from stan_ct.ct.noise import SMOOTHING
from stan_ct.ct.tissues import TISSUES
from stan_ct.dicom.series import Series
from stan_ct.reconstruction.checks import Finding

FITTED = 12
"""Slices, evenly spread, on which the filter is fitted."""
SCALE = 1.5
"""Standard deviation, mm, of the Gaussian through which structures are looked for: half its response is at 1.25 lp/cm."""
MARGIN = 3.0
"""Pixels so near, mm, to air, bone or metal, whose values are cut off or kept, or to another tissue, do not count."""
BODY = -400.0
"""Smoothed source above this, HU, is no air; the largest part of it is the body, not the table."""
AIRY = -970.0
"""Smoothed source below this, HU, counts as air."""
TISSUE_LIMITS = {"lung": 5.0, "fat": 5.0, "soft tissue": 5.0, "bone": 40.0}
"""Mean HU of a tissue may change by so much; in bone, which is all edges, it does from kernel to kernel."""
TISSUE_PIXELS = 1000
"""A tissue of fewer pixels in a series is not judged."""
LOW_PASS_LIMIT = 10.0
"""Root mean square of what the filter leaves below about 2 lp/cm, HU: the whole series."""
STRUCTURE_LIMIT = 8.0
"""Structures stand out from the texture of their slice by less than this, in standard deviations."""
EDGE = 0.3
"""Of the source's own contrast around a pixel so much counts as texture: edges are changed by more than the filter."""
BONE = 600.0
"""Source above this, HU, is near values at which the window of the networks ends."""
FAINT = 15.0
"""Structures fainter than this, HU after the Gaussian, are not judged."""


@dataclass(frozen=True)
class Fidelity:
    """What changed in a series that should not.

    Attributes:
        tissues: Tissue -> mean change, HU; only tissues with enough pixels.
        structure: Root mean square of what the filter leaves at the scale of a nodule, HU.
        strongest: The strongest structure among the slices, in standard deviations.
        findings: Of the series.
        slices: Findings of each slice.
        explained: The filter that explains the output best.
    """

    tissues: dict[str, float]
    structure: float
    strongest: float
    findings: tuple[Finding, ...]
    slices: tuple[tuple[Finding, ...], ...]
    explained: RadialFilter


def measure_fidelity(series: Series, volume: np.ndarray) -> Fidelity:
    """Compares a standardized series with its source.

    Args:
        series: The source.
        volume: (Z, H, W) float32 HU, the output.
    """
    explained, reach = fit(series, volume), _reach(series.files.pixel_spacing)
    sums, squares, slices, strongest = {tissue: np.zeros(2) for tissue in TISSUES}, np.zeros(2), [], 0.0
    for z, (source, output) in enumerate(zip(series.volume, volume, strict=True)):
        tissue = ndimage.gaussian_filter(source, SMOOTHING)
        for name, (low, high) in TISSUES.items():
            inside = ndimage.minimum_filter((tissue >= low) & (tissue <= high), reach)  # edges of tissues do change
            where = inside & series.soft_tissue(z)
            sums[name] += where.sum(), (output - source)[where].sum(dtype=np.float64)
        rest, judged = residual(source, output, series.padding[z], series.files.pixel_spacing, explained)
        squares += judged.sum(), np.square(rest[judged], dtype=np.float64).sum()
        found = structure(rest, judged, contrast(source, series.files.pixel_spacing))
        strongest = max(strongest, abs(found[0]))
        slices.append(_structure_findings(*found))
    tissues = {name: float(total / n) for name, (n, total) in sums.items() if n >= TISSUE_PIXELS}
    rms = round(float(np.sqrt(squares[1] / max(squares[0], 1))), 2)
    limits = [(f"mean_{name.replace(' ', '_')}", round(c, 2), TISSUE_LIMITS[name]) for name, c in tissues.items()]
    limits.append(("low_pass_difference", rms, LOW_PASS_LIMIT))
    return Fidelity(
        {name: round(change, 2) for name, change in tissues.items()},
        rms,
        round(strongest, 2),
        tuple(Finding(name, value, limit) for name, value, limit in limits if abs(value) > limit),
        tuple(slices),
        explained,
    )


def fit(series: Series, volume: np.ndarray) -> RadialFilter:
    """The radial filter that makes the output of the source with the least error."""
    chosen = np.unique(np.linspace(0, len(volume) - 1, FITTED).round().astype(int))
    spacing = series.files.pixel_spacing
    fitted = fit_radial_filter(((series.volume[z], volume[z], spacing) for z in chosen), "wiener")
    return RadialFilter(fitted.frequency, fitted.gain)  # no ceiling: it explains, it does not make


def residual(
    source: np.ndarray,
    output: np.ndarray,
    padding: np.ndarray,
    pixel_spacing: tuple[float, float],
    explained: RadialFilter,
) -> tuple[np.ndarray, np.ndarray]:
    """What the filter leaves of the change, at the scale of a nodule.

    Returns:
        (H, W) HU, and where it is judged, (H, W) bool.
    """
    sigma, smooth = [SCALE / spacing for spacing in pixel_spacing], ndimage.gaussian_filter(source, SMOOTHING)
    expected = np.maximum(explained(source, pixel_spacing), AIR)  # overshoots below air are cut off in the output too
    rest = ndimage.gaussian_filter(output - expected, sigma)
    other = padding | (source > BONE) | (smooth < AIRY)
    return rest, _body(smooth) & ~ndimage.maximum_filter(other, _reach(pixel_spacing))


def _body(smooth: np.ndarray) -> np.ndarray:
    """The largest part of a slice that is no air, and what it encloses, (H, W) bool."""
    parts, number = ndimage.label(smooth > BODY)
    if not number:
        return np.zeros(smooth.shape, bool)
    largest = np.argmax(np.bincount(parts.ravel())[1:]) + 1
    return ndimage.binary_fill_holes(parts == largest)


def _reach(pixel_spacing: tuple[float, float]) -> list[int]:
    """Side of a window that reaches `MARGIN` to every side, px."""
    return [2 * round(MARGIN / spacing) + 1 for spacing in pixel_spacing]


def contrast(source: np.ndarray, pixel_spacing: tuple[float, float]) -> np.ndarray:
    """(H, W) HU: standard deviation of the source, at the scale of a nodule, over its neighbourhood."""
    smooth = ndimage.gaussian_filter(source.astype(np.float64), [SCALE / spacing for spacing in pixel_spacing])
    around = [2 * SCALE / spacing for spacing in pixel_spacing]
    mean, square = (ndimage.gaussian_filter(values, around) for values in (smooth, smooth**2))
    return np.sqrt(np.maximum(square - mean**2, 0))


def structure(rest: np.ndarray, judged: np.ndarray, edges: np.ndarray) -> tuple[float, float]:
    """The strongest structure: its height in standard deviations of the texture (robust) around it, and in HU.

    Args:
        rest: (H, W) HU, of `residual`.
        judged: (H, W) bool; 0 and 0 where nothing is judged.
        edges: (H, W) HU, of `contrast`.
    """
    if not judged.any():
        return 0.0, 0.0
    texture = 1.4826 * float(np.median(np.abs(rest[judged])))
    strength = np.where(judged, rest, 0) / np.maximum(texture + EDGE / STRUCTURE_LIMIT * edges, 1e-6)
    place = np.unravel_index(np.argmax(np.abs(strength)), strength.shape)
    return float(strength[place]), float(rest[place])


def _structure_findings(sigmas: float, height: float) -> tuple[Finding, ...]:
    if abs(sigmas) <= STRUCTURE_LIMIT or abs(height) <= FAINT:
        return ()
    return (Finding("new_structure" if sigmas > 0 else "lost_structure", round(abs(sigmas), 2), STRUCTURE_LIMIT),)
