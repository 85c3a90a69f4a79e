"""Plausibility of a series: whether its HU can be those of a body, its pixels are as large, and its slices follow evenly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

HIGH, LOW = 700.0, -1300.0
"""Few pixels of any body lie above the one or below the other, HU."""
LARGEST_SHARE = 0.2
"""Largest share of the pixels beyond them: 0.033 in a skull at 1 mm, the highest of the series that were measured."""
BODY_ABOVE = -500.0
"""Pixels above this are body, not air or lung, HU."""
SMALLEST_BODY = 0.005
"""Series with a smaller share of body hold air alone, or HU that are too low."""
MEDIAN_RANGE = (-200.0, 450.0)
"""Median of the body, HU: -39 (limbs) to 378 (a skull at 1 mm, sharp kernel) in the series that were measured."""
SPACING = (0.1, 5.0)
"""Pixel spacing of scanners of people, mm; dental and extremity scanners have the smallest, attenuation maps the largest."""
SQUARE = 1.02
"""Largest ratio of the sides of a pixel: scanners make square ones."""
STEP_TOLERANCE = 0.1
"""Distances between slices that differ by no more than this are equal, mm: headers round positions."""
GAP = 1.5
"""From this multiple of the usual distance on, slices are missing."""
FEW_GAPS = 3
"""Number of gaps that are named where there are many."""


def implausible_hu(volume: np.ndarray, padding: np.ndarray) -> str:
    """What tells that values are no HU of a body, in words; empty if nothing does.

    Args:
        volume: (Z, H, W) HU.
        padding: (Z, H, W) bool; the smallest value of the volume counts as padding too.
    """
    every = max(len(volume) // 8, 1)
    pixels = np.concatenate([volume[z][~padding[z]] for z in range(0, len(volume), every)])
    pixels = pixels[pixels > pixels.min()] if pixels.size else pixels
    if not pixels.size:
        return "all pixels are equal"
    high, low, body = (pixels > HIGH).mean(), (pixels < LOW).mean(), pixels[pixels > BODY_ABOVE]
    if high > LARGEST_SHARE:
        return f"{high:.0%} of the pixels lie above {HIGH:g} HU"
    if low > LARGEST_SHARE:
        return f"{low:.0%} of the pixels lie below {LOW:g} HU"
    if body.size < SMALLEST_BODY * pixels.size:
        return f"only {body.size / pixels.size:.2%} of the pixels lie above {BODY_ABOVE:g} HU"
    median = float(np.median(body))
    if not MEDIAN_RANGE[0] <= median <= MEDIAN_RANGE[1]:
        return f"the median of the body is {median:.0f} HU"
    return ""


def implausible_spacing(spacing: Sequence[float]) -> str:
    """Pixel spacing that no scanner of people has, in words; empty if it is plausible.

    Args:
        spacing: (row, column), mm.
    """
    least, most = min(spacing), max(spacing)
    if SPACING[0] <= least and most <= SPACING[1] and most <= SQUARE * least:
        return ""
    return " x ".join(f"{side:g}" for side in spacing) + " mm"


def missing_slices(locations: Sequence[float]) -> tuple[int, str]:
    """How many slices are missing, and between which, in words; 0 and "" if none is.

    Args:
        locations: (Z,) mm along the normal, ascending.
    Example:
        >>> missing_slices([0, 5, 10, 25, 30])
        (2, '2 slices missing between 10 mm and 25 mm')
    """
    steps = np.diff(locations)
    usual = usual_step(locations)
    gaps = (
        []
        if usual is None
        else [(z, round(float(steps[z] / usual)) - 1) for z in map(int, np.flatnonzero(steps >= GAP * usual))]
    )
    told = [
        f"{n} slice{'s' * (n > 1)} missing between {locations[z]:g} mm and {locations[z + 1]:g} mm" for z, n in gaps[:FEW_GAPS]
    ]
    if more := len(gaps[FEW_GAPS:]):
        told.append(f"{more} more gap{'s' * (more > 1)}")
    return sum(n for _, n in gaps), "; ".join(told)


def uneven_spacing(locations: Sequence[float]) -> str:
    """Least and greatest distance of neighbouring slices where they differ, gaps aside, in words; "" if they are equal."""
    usual = usual_step(locations)
    if usual is None:
        return ""
    steps = np.diff(locations)
    steps = steps[steps < GAP * usual]
    if np.abs(steps - usual).max() <= STEP_TOLERANCE:
        return ""
    return f"slices are {steps.min():.2f} mm to {steps.max():.2f} mm apart"


def usual_step(locations: Sequence[float]) -> float | None:
    """The most frequent distance of neighbouring slices, mm, the least of equally frequent ones; None below three slices."""
    if len(locations) < 3:
        return None
    steps = np.sort(np.diff(locations))
    counts = [np.count_nonzero(np.abs(steps - step) <= STEP_TOLERANCE) for step in steps]
    return float(max(steps[int(np.argmax(counts))], STEP_TOLERANCE))
