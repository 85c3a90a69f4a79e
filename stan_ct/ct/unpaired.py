r"""A radial filter between two kernels from scans of different patients.

At low and middle frequencies the gain is the ratio of the spectra of structure, whose scale is known, since a kernel leaves
frequency 0 alone. At high frequencies it is the ratio of the spectra of noise, whose scale is the ratio of doses; where both
are known, they tell that scale. With g the logarithm of the gain, smooth and 0 at frequency 0, a line of least squares solves

.. math::
    \tfrac12 \log \frac{S_t(f)}{S_s(f)} = g(f) + a, \qquad \tfrac12 \log \frac{N_t(f)}{N_s(f)} = g(f) + d

for g, the dose's part d, and a, the little by which anatomies differ. Geometric means over patients stand for S and N, since
doses vary by factors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stan_ct.ct.slice_spectra import FREQUENCY, SliceSpectra

LOWEST = 0.5
"""Frequency, lp/cm, below which spectra tell where a body ends rather than what a kernel does."""
COARSE = (0.75, 1.25)
"""Frequencies, lp/cm, at which even uniform tissue shows structure: how much, the share of the body's spectrum there tells."""
FIRST_NOISE = 3.0
"""Frequency, lp/cm, from which noise is compared, or half the Nyquist frequency where that is lower."""
LAST_STRUCTURE = 0.7
"""Share of the Nyquist frequency up to which structure is compared: beyond, noise is folded back from above Nyquist."""
LEAST = 0.2
"""Least share of noise that is left when structure is taken off."""
FIRST_KNOT, KNOTS = 1.0, 0.5
"""First knot of the gain, and the distance of the others, lp/cm. Below the first, it is a parabola with a cubic part."""
ANATOMY = 0.03
"""Standard deviation of a."""
SPREAD, BEND = 0.03, 0.02
"""Standard deviations of a measured logarithm, and of the second difference of the gain at the knots."""


@dataclass(frozen=True)
class Parts:
    """Noise and structure of one patient, taken apart.

    Attributes:
        noise: (len(FREQUENCY),) power of noise in tissue, HU^2 mm^2.
        structure: Power of structure in the body, the same.
        share: Share of noise in the tissue's spectrum, the same, in [LEAST, 1].
    """

    noise: np.ndarray
    structure: np.ndarray
    share: np.ndarray


@dataclass(frozen=True)
class UnpairedFit:
    """The gain between two kernels.

    Attributes:
        log_gain: (len(FREQUENCY),) natural logarithm of the gain; 0 at frequency 0, constant beyond the corner.
        dose: d, natural logarithm of the ratio of noise amplitudes that the doses make.
        anatomy: a, natural logarithm.
    """

    log_gain: np.ndarray
    dose: float
    anatomy: float


def take_apart(spectra: SliceSpectra) -> Parts:
    """Separates noise from structure in the spectra of one patient.

    Even uniform tissue has a share of the body's structure, which is seen at low frequencies and taken off at all. The body's
    noise is left where it is: where structure is compared, it is little beside the edges of skin and lungs.

    Args:
        spectra: Of some slices of the patient.
    """
    low = between(*COARSE)
    share = np.nanmean(spectra.noise[low]) / np.nanmean(spectra.structure[low])
    noise = np.maximum(spectra.noise - share * spectra.structure, LEAST * spectra.noise)
    return Parts(noise, spectra.structure, noise / spectra.noise)


def fit_gain(sources: Sequence[Parts], targets: Sequence[Parts], nyquist: float, corner: float) -> UnpairedFit:
    """Fits the gain between the kernels of two groups of patients.

    Args:
        sources: Patients of the source kernel, at least one.
        targets: Patients of the target kernel, at least one.
        nyquist: Nyquist frequency, lp/cm, of the coarsest pixels.
        corner: Frequency, lp/cm, of the corner of the spectrum.
    """
    ratio = {name: _mean_log(targets, name) - _mean_log(sources, name) for name in ("noise", "structure")}
    share = np.minimum(*(np.mean([patient.share for patient in side], 0) for side in (sources, targets)))
    used = np.isfinite(ratio["noise"] + ratio["structure"]) & between(LOWEST, corner)
    f, bases = FREQUENCY[used], _smooth_curves(corner)
    of_structure = np.where(f <= LAST_STRUCTURE * nyquist, 1, 0) / SPREAD
    of_noise = np.where(f >= min(FIRST_NOISE, nyquist / 2), share[used] ** 2, 0) / SPREAD
    q = bases.shape[1]
    bends = np.diff(np.eye(q), 2, axis=0) / BEND
    zero = np.zeros_like(f)
    equations = np.vstack(
        [
            np.column_stack([bases[used] * of_structure[:, None], of_structure, zero]),
            np.column_stack([bases[used] * of_noise[:, None], zero, of_noise]),
            np.pad(bends, [(0, 0), (0, 2)]),
            np.eye(q + 2)[q : q + 1] / ANATOMY,
        ]
    )
    right = [ratio["structure"][used] * of_structure, ratio["noise"][used] * of_noise, np.zeros(len(bends) + 1)]
    found = np.linalg.lstsq(equations, np.concatenate(right), rcond=None)[0]
    return UnpairedFit(bases @ found[:q], float(found[q + 1]), float(found[q]))


def between(low: float, high: float) -> np.ndarray:
    """Which elements of `FREQUENCY` lie in a range, both ends included, (len(FREQUENCY),) bool."""
    return (low <= FREQUENCY) & (high >= FREQUENCY)


def _mean_log(patients: Sequence[Parts], name: str) -> np.ndarray:
    """Half the mean logarithm of a power, that of an amplitude, (n,)."""
    return np.mean([np.log(getattr(patient, name)) for patient in patients], axis=0) / 2


def _smooth_curves(corner: float) -> np.ndarray:
    """Curves over `FREQUENCY`, 0 and flat at frequency 0, each 1 at one of the knots, (n, knots)."""
    from scipy.interpolate import CubicSpline  # takes long to load, and a guard does not need it

    knots = np.concatenate([[0], np.arange(FIRST_KNOT, corner - 0.6 * KNOTS, KNOTS), [corner]])
    curves = CubicSpline(knots, np.eye(len(knots)), bc_type=((1, np.zeros(len(knots))), (2, np.zeros(len(knots)))))
    return curves(np.minimum(FREQUENCY, corner))[:, 1:]
