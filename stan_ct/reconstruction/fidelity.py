"""Nothing invented: comparison of a standardized series with its source, for changes that no change of kernel makes.

A change of kernel is close to a radial filter. The filter that explains the output best is fitted to the series itself; what
it leaves is texture, which averages out at the scale of a nodule, unless a structure came or went.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from stan_ct.ct.field_of_view import continue_smoothly, outside_field_of_view
from stan_ct.ct.filters import RadialFilter, fit_radial_filter
from stan_ct.ct.hounsfield import AIR
from stan_ct.ct.noise import SMOOTHING
from stan_ct.ct.smoothing import all_around, any_around, gaussian
from stan_ct.ct.tissues import TISSUES
from stan_ct.dicom.series import Series
from stan_ct.reconstruction.checks import Finding

FITTED = 12
"""Number of evenly spread slices on which the filter is fitted."""
SCALE = 1.5
"""Standard deviation, mm, of the Gaussian through which structures are looked for: half its response is at 1.25 lp/cm."""
MARGIN = 3.0
"""Distance from air, bone, metal or another tissue, mm, within which pixels are not judged: values are clipped or mixed."""
BODY = -400.0
"""HU of the smoothed source above which a pixel is not air; the largest connected part is the body, not the table."""
AIRY = -970.0
"""HU of the smoothed source below which a pixel is air."""
TISSUE_LIMITS = {"lung": 5.0, "fat": 5.0, "soft tissue": 5.0, "bone": 40.0}
"""Largest change of a tissue's mean, HU; bone, which is all edges, changes from kernel to kernel."""
TISSUE_PIXELS = 1000
"""Fewest pixels of a tissue in a series on which its mean is judged."""
LOW_PASS_LIMIT = 10.0
"""Largest root mean square of the residual of the fitted filter below about 2 lp/cm, over the series, HU."""
STRUCTURE_LIMIT = 8.0
"""Largest height of a structure above the texture of its slice, in standard deviations."""
EDGE = 0.3
"""Fraction of the local source contrast added to the noise estimate: edges change by more than a linear filter predicts."""
BONE = 600.0
"""HU of the source above which pixels are not judged: the window of the networks ends near there."""
FAINT = 15.0
"""Least height of a structure that is judged, HU after the Gaussian."""


@dataclass(frozen=True)
class Fidelity:
    """Changes of a series that a change of kernel does not make.

    Attributes:
        tissues: Tissue -> mean change, HU; only tissues with enough pixels.
        structure: Root mean square of the residual of the fitted filter at the scale of a nodule, HU.
        strongest: Height of the strongest structure among the slices, in standard deviations.
        findings: Findings of the whole series.
        slices: Findings of each slice.
        explained: Radial filter that explains the output best.
        residuals: Index of a slice that was to be kept -> result of :func:`residual`.
    """

    tissues: dict[str, float]
    structure: float
    strongest: float
    findings: tuple[Finding, ...]
    slices: tuple[tuple[Finding, ...], ...]
    explained: RadialFilter
    residuals: Mapping[int, tuple[np.ndarray, np.ndarray]]


def measure_fidelity(series: Series, volume: np.ndarray, keep: Collection[int] = ()) -> Fidelity:
    """Compares a standardized series with its source.

    Args:
        series: Source series.
        volume: Standardized series, (Z, H, W) float32 HU.
        keep: Indices of the slices whose residuals are kept, for pictures.
    """
    explained, reach = fit(series, volume), _reach(series.files.pixel_spacing)
    sums, squares, slices, strongest = {tissue: np.zeros(2) for tissue in TISSUES}, np.zeros(2), [], 0.0
    residuals = {}
    for z, (source, output) in enumerate(zip(series.volume, volume, strict=True)):
        tissue = gaussian(source, SMOOTHING)
        for name, (low, high) in TISSUES.items():
            inside = all_around((tissue >= low) & (tissue <= high), reach)  # edges of tissues do change
            where = inside & series.soft_tissue(z)
            sums[name] += where.sum(), (output - source)[where].sum(dtype=np.float64)
        rest, judged = residual(source, output, series.padding[z], series.files.pixel_spacing, explained)
        if z in keep:
            residuals[z] = (rest, judged)
        squares += judged.sum(), np.square(rest[judged], dtype=np.float64).sum()
        found = structure(rest, judged, contrast(source, series.files.pixel_spacing))
        strongest = max(strongest, abs(found[0]))
        slices.append(structure_findings(*found))
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
        residuals,
    )


def fit(series: Series, volume: np.ndarray) -> RadialFilter:
    """Fits the radial filter that turns the source into the output with the least squared error."""
    chosen = np.unique(np.linspace(0, len(volume) - 1, FITTED).round().astype(int))
    spacing = series.files.pixel_spacing
    pairs = (_continued(series.volume[z], volume[z], series.padding[z]) for z in chosen)
    fitted = fit_radial_filter(((source, output, spacing) for source, output, _ in pairs), "wiener")
    return RadialFilter(fitted.frequency, fitted.gain)  # no ceiling: it explains, it does not make


def residual(
    source: np.ndarray,
    output: np.ndarray,
    padding: np.ndarray,
    pixel_spacing: tuple[float, float],
    explained: RadialFilter,
) -> tuple[np.ndarray, np.ndarray]:
    """Residual of the fitted filter at the scale of a nodule.

    Returns:
        Residual, (H, W) HU, and the judged pixels, (H, W) bool.
    """
    source, output, outside = _continued(source, output, padding)
    sigma, smooth = [SCALE / spacing for spacing in pixel_spacing], gaussian(source, SMOOTHING)
    expected = np.maximum(explained(source, pixel_spacing), AIR)  # overshoots below air are cut off in the output too
    rest = gaussian(output - expected, sigma)
    other = outside | (source > BONE) | (smooth < AIRY)
    return rest, _body(smooth) & ~any_around(other, _reach(pixel_spacing))


def _continued(source: np.ndarray, output: np.ndarray, padding: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Source and output, continued beyond the field of view, and what lies outside it, (H, W) bool."""
    outside = outside_field_of_view(source, padding)
    both = continue_smoothly(np.stack([source, output]), outside)
    return both[0], both[1], outside


def _body(smooth: np.ndarray) -> np.ndarray:
    """Largest connected part of a slice that is not air, with its holes filled, (H, W) bool."""
    number, parts, statistics, _ = cv2.connectedComponentsWithStats((smooth > BODY).view(np.uint8), connectivity=4)
    if number == 1:  # the background alone
        return np.zeros(smooth.shape, bool)
    largest = 1 + np.argmax(statistics[1:, cv2.CC_STAT_AREA])
    framed = np.pad((parts == largest).view(np.uint8), 1)
    cv2.floodFill(framed, None, (0, 0), 2)
    return framed[1:-1, 1:-1] != 2


def _reach(pixel_spacing: tuple[float, float]) -> list[int]:
    """Side of a window that extends `MARGIN` in every direction, px."""
    return [2 * round(MARGIN / spacing) + 1 for spacing in pixel_spacing]


def contrast(source: np.ndarray, pixel_spacing: tuple[float, float]) -> np.ndarray:
    """Local contrast of the source: standard deviation at the scale of a nodule over the neighbourhood, (H, W) HU."""
    smooth = gaussian(np.asarray(source, np.float32), [SCALE / spacing for spacing in pixel_spacing])
    smooth -= smooth.mean()  # so that squares keep their digits
    around = [2 * SCALE / spacing for spacing in pixel_spacing]
    mean, square = (gaussian(values, around) for values in (smooth, smooth**2))
    return np.sqrt(np.maximum(square - mean**2, 0))


def structure(rest: np.ndarray, judged: np.ndarray, edges: np.ndarray) -> tuple[float, float]:
    """Height of the strongest structure, in standard deviations of the texture and in HU; 0, 0 if nothing is judged.

    Args:
        rest: Residual from :func:`residual`, (H, W) HU.
        judged: Judged pixels, (H, W) bool.
        edges: Local contrast from :func:`contrast`, (H, W) HU.
    """
    if not judged.any():
        return 0.0, 0.0
    texture = 1.4826 * float(np.median(np.abs(rest[judged])))
    strength = np.where(judged, rest, 0) / np.maximum(texture + EDGE / STRUCTURE_LIMIT * edges, 1e-6)
    place = np.unravel_index(np.argmax(np.abs(strength)), strength.shape)
    return float(strength[place]), float(rest[place])


def structure_findings(sigmas: float, height: float) -> tuple[Finding, ...]:
    """`new_structure` or `lost_structure`, if the strongest structure stands out by `STRUCTURE_LIMIT` and is not `FAINT`.

    Args:
        sigmas: Height in standard deviations of the texture, negative for a structure that went.
        height: Height after the Gaussian, HU.
    """
    if abs(sigmas) <= STRUCTURE_LIMIT or abs(height) <= FAINT:
        return ()
    return (Finding("new_structure" if sigmas > 0 else "lost_structure", round(abs(sigmas), 2), STRUCTURE_LIMIT),)
