"""A pair of real series of one scan -> the curve of one kernel, given that of the other.

Only the ratio of the two curves can be measured on a pair: the result is as good as the known curve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stan_ct.ct.filters import RadialFilter, fit_radial_filter
from stan_ct.ct.kernels import Kernel
from stan_ct.ct.mtf import certain_frequencies, kernel_from_ratio
from stan_ct.dicom.refusal import Refusal, Refused
from stan_ct.dicom.series import Series, SeriesFiles, load_series
from stan_ct.patches.pairs import PairBy, PairingRule, SeriesPair, pair_series
from stan_ct.patches.where import Condition

SLICES = 128
"""Largest number of pairs of slices that are compared."""

WORST_FIT = 0.1
"""Largest error of an acceptable fit, as a fraction of the highest measured ratio."""


@dataclass(frozen=True)
class KernelFit:
    """The kernel that explains the measured ratio best.

    Attributes:
        kernel: The fitted kernel.
        known: The known kernel.
        ratio: Measured ratio, from the known kernel to the fitted one.
        num_slices: Number of pairs of slices compared.
        refusals: Slices, and their series, that could not be read and were left out.
    """

    kernel: Kernel
    known: Kernel
    ratio: RadialFilter
    num_slices: int
    refusals: tuple[Refusal, ...] = ()

    @property
    def error(self) -> float:
        """Root mean square difference of fitted and measured ratio, where the measurement is certain."""
        frequency = np.asarray(self.ratio.frequency)
        fitted = self.kernel.mtf(frequency) / self.known.mtf(frequency)
        certain = certain_frequencies(self.ratio, self.known)
        return float(np.sqrt(np.mean((fitted - self.ratio.gain)[certain] ** 2)))

    @property
    def acceptable(self) -> bool:
        """Whether the error is at most `WORST_FIT` times the highest ratio."""
        return self.error <= WORST_FIT * max(self.ratio.gain)

    @property
    def extrapolated(self) -> bool:
        """Whether the kernel's f50 lies beyond the Nyquist frequency of the series."""
        return self.kernel.f50 > self.ratio.frequency[-1]


def fit_kernel_to_series(
    series: Sequence[SeriesFiles],
    known: Kernel,
    name: str,
    pair_by: PairBy = "study",
    source_where: tuple[Condition, ...] = (),
    target_where: tuple[Condition, ...] = (),
) -> KernelFit:
    """Fits the curve of a kernel to pairs of series in two kernels.

    Args:
        series: Series of both kernels, of the same scans.
        known: Kernel whose curve is known.
        name: Convolution Kernel whose curve is fitted.
        pair_by: `study`, or `position` for series that were de-identified apart.
        source_where: Conditions on the headers of the series of the known kernel.
        target_where: Conditions on the headers of those of the other kernel.
    Raises:
        PairingError: If there is no pair.
        Refused: If no pair of slices can be read.
        ValueError: If the ratio gives no curve.
    """
    rule = PairingRule((known.name,), name, source_where=source_where, target_where=target_where)
    pairs = pair_series(series, rule, pair_by)
    slices, refusals = _spread_slices(pairs)
    if not slices:
        raise Refused(refusals[0].reason, f"{refusals[0].paths[0]}: {refusals[0].found}")
    ratio = fit_radial_filter(slices, corners=False)  # the corners of the spectrum are aliased
    return KernelFit(kernel_from_ratio(name, ratio, known), known, ratio, len(slices), tuple(refusals))


PairedSlices = list[tuple[np.ndarray, np.ndarray, tuple[float, float]]]
"""Source slice, target slice, (H, W) HU each, and pixel spacing."""


def _spread_slices(pairs: Sequence[SeriesPair]) -> tuple[PairedSlices, list[Refusal]]:
    """Evenly spread pairs of slices, about `SLICES` in all, and the slices that could not be read."""
    slices: PairedSlices = []
    refusals: list[Refusal] = []
    each = max(SLICES // len(pairs), 1)
    for pair in pairs[:SLICES]:
        source, target = _load(pair.source, refusals), _load(pair.target, refusals)
        if source is None or target is None:
            continue
        sources, targets = _numbers(source), _numbers(target)  # a refused slice moves those above it
        uids = [(pair.source.instances[z].uid, pair.target.instances[t].uid) for z, t in pair.slices]
        both = [(sources[one], targets[other]) for one, other in uids if one in sources and other in targets]
        chosen = both[:: max(len(both) // each, 1)]
        slices += [(source.volume[z], target.volume[t], pair.source.pixel_spacing) for z, t in chosen]
    return slices, refusals


def _load(files: SeriesFiles, refusals: list[Refusal]) -> Series | None:
    """Loads a series, None if no slice of it can be read; adds what cannot be read to the refusals."""
    try:
        series = load_series(files)
    except Refused as refused:
        paths = tuple(instance.path for instance in files.instances)
        refusals.append(Refusal(refused.reason, refused.found, paths, files.uid))
        return None
    refusals += series.refusals
    return series


def _numbers(series: Series) -> dict[str, int]:
    """SOP Instance UID -> number of the slice in the volume."""
    return {instance.uid: z for z, instance in enumerate(series.instances)}
