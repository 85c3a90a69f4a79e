"""Nothing invented: comparison of a standardized series with its source, for changes that no change of kernel makes.

A change of kernel is close to a radial filter. The filter that explains the output best is fitted to the series itself; what
it leaves is texture, which averages out at the scale of a nodule, unless a structure came or went.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from stan_ct.ct.filters import RadialFilter, fit_radial_filter
from stan_ct.ct.hounsfield import AIR, soft_tissue_mask
from stan_ct.ct.noise import SMOOTHING
from stan_ct.ct.smoothing import all_around, any_around, gaussian
from stan_ct.ct.source_slice import SourceSlice
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
        change: Mean and root mean square of the change in soft tissue, HU.
        structure: Root mean square of the residual of the fitted filter at the scale of a nodule, HU.
        strongest: Height of the strongest structure among the slices, in standard deviations.
        findings: Findings of the whole series.
        slices: Findings of each slice.
        explained: Radial filter that explains the output best.
        residuals: Index of a slice that was to be kept -> result of :func:`residual`.
    """

    tissues: dict[str, float]
    change: tuple[float, float]
    structure: float
    strongest: float
    findings: tuple[Finding, ...]
    slices: tuple[tuple[Finding, ...], ...]
    explained: RadialFilter
    residuals: Mapping[int, tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class SliceFidelity:
    """Changes of one slice that a change of kernel does not make.

    Attributes:
        tissues: Tissue -> number of its pixels and sum of their changes, HU.
        change: Number of soft-tissue pixels, and sums of their changes, HU, and of the squares.
        squares: Number of judged pixels and sum of the squares of their residuals, HU^2.
        strongest: Result of :func:`structure`.
        residual: Result of :func:`residual` where it was to be kept.
    """

    tissues: Mapping[str, np.ndarray]
    change: np.ndarray
    squares: np.ndarray
    strongest: tuple[float, float]
    residual: tuple[np.ndarray, np.ndarray] | None = None


def measure_fidelity(series: Series, volume: np.ndarray, keep: Collection[int] = ()) -> Fidelity:
    """Compares a standardized series with its source.

    Args:
        series: Source series.
        volume: Standardized series, (Z, H, W) float32 HU.
        keep: Indices of the slices whose residuals are kept, for pictures.
    """
    explained = fit((series.slice(z), volume[z]) for z in fitted_slices(len(volume)))
    slices = [slice_fidelity(series.slice(z), output, explained, z in keep) for z, output in enumerate(volume)]
    return series_fidelity(slices, explained)


def slice_fidelity(source: SourceSlice, output: np.ndarray, explained: RadialFilter, keep: bool = False) -> SliceFidelity:
    """Compares a standardized slice with its source.

    Args:
        source: Source.
        output: Standardized slice, (H, W) float32 HU.
        explained: Radial filter that explains the series best, from :func:`fit`.
        keep: Whether the residual is kept.
    """
    tissue, sums, reach = gaussian(source.hu, SMOOTHING), {}, _reach(source.pixel_spacing)
    change, soft_tissue = output - source.hu, soft_tissue_mask(source.hu, source.padding)
    for name, (low, high) in TISSUES.items():
        where = all_around((tissue >= low) & (tissue <= high), reach) & soft_tissue  # edges of tissues do change
        sums[name] = np.array([where.sum(), change[where].sum(dtype=np.float64)])
    rest, judged = residual(source, output, explained, tissue)
    squares = np.array([judged.sum(), np.square(rest[judged], dtype=np.float64).sum()])
    strongest = structure(rest, judged, contrast(source.hu, source.pixel_spacing))
    changed = change[soft_tissue].astype(np.float64)
    moments = np.array([changed.size, changed.sum(), np.square(changed).sum()])
    return SliceFidelity(sums, moments, squares, strongest, (rest, judged) if keep else None)


def series_fidelity(slices: Sequence[SliceFidelity], explained: RadialFilter) -> Fidelity:
    """What the slices of a series tell together.

    Args:
        slices: Every slice.
        explained: Radial filter that explains the series best.
    """
    sums = {name: np.sum([found.tissues[name] for found in slices], 0) for name in TISSUES}
    squares, moments = (np.sum([getattr(found, name) for found in slices], 0) for name in ("squares", "change"))
    strongest = max(abs(found.strongest[0]) for found in slices)
    tissues = {name: float(total / n) for name, (n, total) in sums.items() if n >= TISSUE_PIXELS}
    rms = round(float(np.sqrt(squares[1] / max(squares[0], 1))), 2)
    limits = [(f"mean_{name.replace(' ', '_')}", round(c, 2), TISSUE_LIMITS[name]) for name, c in tissues.items()]
    limits.append(("low_pass_difference", rms, LOW_PASS_LIMIT))
    return Fidelity(
        {name: round(change, 2) for name, change in tissues.items()},
        (float(moments[1] / max(moments[0], 1)), float(np.sqrt(moments[2] / max(moments[0], 1)))),
        rms,
        round(strongest, 2),
        tuple(Finding(name, value, limit) for name, value, limit in limits if abs(value) > limit),
        tuple(structure_findings(*found.strongest) for found in slices),
        explained,
        {z: found.residual for z, found in enumerate(slices) if found.residual is not None},
    )


def fitted_slices(number: int) -> list[int]:
    """Indices of the slices of a series on which the filter is fitted: `FITTED` at most, evenly spread."""
    return np.unique(np.linspace(0, number - 1, FITTED).round().astype(int)).tolist()


def fit(pairs: Iterable[tuple[SourceSlice, np.ndarray]]) -> RadialFilter:
    """Fits the radial filter that turns sources into outputs, (H, W) HU each, with the least squared error."""
    continued = ((source.continued, source.extend(output), source.pixel_spacing) for source, output in pairs)
    fitted = fit_radial_filter(continued, "wiener")
    return RadialFilter(fitted.frequency, fitted.gain)  # no ceiling: it explains, it does not make


def residual(
    source: SourceSlice, output: np.ndarray, explained: RadialFilter, smooth: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Residual of the fitted filter at the scale of a nodule.

    Args:
        source: Source.
        output: Standardized slice, (H, W) HU.
        explained: The fitted filter.
        smooth: The source, smoothed by `SMOOTHING`, where it is known: it serves where nothing had to be continued.
    Returns:
        Residual, (H, W) HU, and the judged pixels, (H, W) bool.
    """
    spacing, continued = source.pixel_spacing, source.continued
    if smooth is None or continued is not source.hu:
        smooth = gaussian(continued, SMOOTHING)
    expected = np.maximum(explained(continued, spacing), AIR)  # overshoots below air are cut off in the output too
    rest = gaussian(source.extend(output) - expected, [SCALE / side for side in spacing])
    other = source.outside | (continued > BONE) | (smooth < AIRY)
    return rest, _body(smooth) & ~any_around(other, _reach(spacing))


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
