"""The front end of a folder of records: a radial filter for each source protocol, fitted to slices that train.

A blend is chosen on slices that validate: which part of a slice its spectra are taken from, and how much each band of
frequencies leans to the amplitude or to the Wiener filter. The two filters by ratio of spectra compete too, so that
a blend is as good as either there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from tqdm import tqdm

from stan_ct.ct.blend import Curves, Pair, fit_curves
from stan_ct.ct.filters import FrontEnd, RadialFilter, fit_radial_filter
from stan_ct.ct.hounsfield import AIR, soft_tissue_mask
from stan_ct.ct.spectra import TAPER
from stan_ct.features.errors import texture_errors
from stan_ct.patches.cutting import continued, load_slice
from stan_ct.patches.fusion import pad_to
from stan_ct.patches.pairs import PairingError, SeriesPair
from stan_ct.patches.sampling import PATCH_SIZE, SamplingRule, grid_patches

FrontEndKind = Literal["none", "amplitude", "wiener", "blend"]

FIT_SLICES = 128
"""Largest number of pairs of training slices on which a filter is fitted by ratio of spectra."""
BLEND_SLICES, VALIDATION_SLICES = 24, 12
"""Largest number of pairs of slices to which a blend is fitted, which filters them many times, and on which it is chosen."""
TAPERS = (TAPER, 1.0)
"""Shares of each side over which slices fade out: nearly the whole slice counts, or its middle, where the patient is."""
EXPONENTS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Exponents of the amplitude filter that are tried in each band: 0 is the Wiener filter."""
BANDS = 4
"""Number of bands of a blend, from frequency 0 to Nyquist."""
ERROR_TOLERANCE, RMSE_TOLERANCE = 0.005, 0.5
"""Added to mean error and HU RMSE, and to the amplitude filter's, before they are compared: less is good enough."""

Score = Callable[[RadialFilter], float]
T = TypeVar("T")


@dataclass(frozen=True)
class Choice:
    """A filter and how it was chosen.

    Attributes:
        filter: The filter.
        fit: `amplitude`, `wiener` or `blend`.
        taper: Share of each side over which slices faded out while their spectra were measured.
        exponents: Exponents of a blend by band, from low to high frequencies; empty for the others.
        score: Half mean error and half HU RMSE on validation slices, relative to the amplitude filter's.
    """

    filter: RadialFilter
    fit: Literal["amplitude", "wiener", "blend"]
    taper: float
    exponents: tuple[float, ...]
    score: float


@dataclass(frozen=True)
class Fitted:
    """What was fitted to the training slices of all source protocols.

    Attributes:
        front_end: The filters; None if none were asked for.
        sharpens: Whether the target protocol passes more of the high frequencies than a source protocol does.
        choices: Source protocol -> how its blend was chosen, JSON-able; empty for other kinds.
    """

    front_end: FrontEnd | None
    sharpens: bool
    choices: dict[str, dict]


def fit_front_end(groups: Mapping[str, tuple[Sequence[SeriesPair], Sequence[SeriesPair]]], kind: FrontEndKind) -> Fitted:
    """Fits a filter for each source protocol.

    Args:
        groups: Source protocol -> its pairs that train, and those that validate.
        kind: Kind of the filters.
    Raises:
        PairingError: If a blend cannot be chosen, since a protocol has no validation slices or these hold no soft tissue.
    """
    filters, sharpens, choices = {}, [], {}
    for protocol, (train, validation) in groups.items():
        slices, _ = spread_slices(train, FIT_SLICES, protocol)
        amplitude = fit_radial_filter(slices)
        sharpens.append(amplitude.sharpens)
        filters[protocol] = amplitude
        if kind == "wiener":
            filters[protocol] = fit_radial_filter(slices, "wiener")
        elif kind == "blend":
            score = validation_score(protocol, *spread_slices(validation, VALIDATION_SLICES, protocol), amplitude)
            chosen = choose_filter(slices, score)
            filters[protocol] = chosen.filter
            choices[protocol] = {name: getattr(chosen, name) for name in ("fit", "taper", "exponents", "score")}
    return Fitted(FrontEnd(filters) if kind != "none" else None, any(sharpens), choices)


def spread_slices(pairs: Sequence[SeriesPair], limit: int, protocol: str) -> tuple[list[Pair], list[np.ndarray]]:
    """Up to `limit` evenly spread pairs of slices, continued beyond their fields of view.

    Args:
        pairs: Pairs of series.
        limit: Largest number of pairs of slices.
        protocol: Protocol of the sources, for the progress bar.
    Returns:
        The pairs of slices, and what lies outside the source's field of view, (H, W) bool each.
    """
    few = _evenly([(pair, z, t) for pair in pairs for z, t in pair.slices], limit)
    slices, outside = [], []
    label = f"compare kernel {protocol} with {few[0][0].target.kernel}" if few else ""
    for pair, z, t in tqdm(few, label, disable=None if few else True):
        source = load_slice(pair.source, z)
        slices.append((continued(source), continued(load_slice(pair.target, t)), pair.source.pixel_spacing))
        outside.append(source.slice(0).outside)
    return slices, outside


def _evenly(items: Sequence[T], limit: int) -> list[T]:
    number = min(len(items), limit)
    return [items[i * len(items) // number] for i in range(number)]


def choose_filter(train: Sequence[Pair], score: Score) -> Choice:
    """The filter of the lowest score: amplitude, Wiener, or the best blend of the two that was found.

    Blends are tried with the same exponent in every band, then band by band, twice at most.

    Args:
        train: Pairs of slices to which filters are fitted.
        score: Score of a filter on other slices, the lower the better.
    """
    amplitude, wiener = fit_radial_filter(train), fit_radial_filter(train, "wiener")
    plain = [
        Choice(amplitude, "amplitude", TAPER, (), score(amplitude)),
        Choice(wiener, "wiener", TAPER, (), score(wiener)),
    ]
    curves = {taper: fit_curves(_evenly(train, BLEND_SLICES), taper) for taper in TAPERS}
    tried: dict[tuple[float, ...], Choice] = {}
    blends = [_blend(curves[taper], taper, (a,) * BANDS, score, {}) for taper in TAPERS for a in EXPONENTS]
    best = min(blends, key=_score)
    for _ in range(2):
        before = best
        for band in range(BANDS):
            options = [(*best.exponents[:band], a, *best.exponents[band + 1 :]) for a in EXPONENTS]
            best = min([best, *(_blend(curves[best.taper], best.taper, o, score, tried) for o in options)], key=_score)
        if best == before:
            break
    return min([*plain, best], key=_score)


def _score(choice: Choice) -> float:
    return choice.score


def _blend(
    curves: Curves, taper: float, exponents: tuple[float, ...], score: Score, tried: dict[tuple[float, ...], Choice]
) -> Choice:
    """A blend with its score, measured once."""
    if exponents not in tried:
        curve = curves.blend(exponents)
        tried[exponents] = Choice(curve, "blend", taper, exponents, score(curve))
    return tried[exponents]


def validation_score(protocol: str, pairs: Sequence[Pair], outside: Sequence[np.ndarray], amplitude: RadialFilter) -> Score:
    """Prepares the score of filters on soft-tissue patches of validation slices, 1 for the amplitude filter.

    Args:
        protocol: Source protocol, for messages.
        pairs: The slices.
        outside: What lies outside their fields of view, (H, W) bool each; it counts as air in target and output.
        amplitude: The filter that others are compared with.
    Returns:
        Function that returns half the mean error of the five features (Eq. 8), and half the HU RMSE over soft tissue, of the
        filtered and rounded slices, each relative to that of the amplitude filter.
    Raises:
        PairingError: If there are no slices, or no patch of them is soft tissue.
    """
    soft_tissue = [_padded(soft_tissue_mask(source, away)) for (source, _, _), away in zip(pairs, outside, strict=True)]
    places = [(i, patch.window) for i, mask in enumerate(soft_tissue) for patch in grid_patches(mask.shape)]
    windows = [(i, window) for i, window in places if soft_tissue[i][window].mean() >= SamplingRule().min_soft_tissue]
    if not windows:
        raise PairingError(
            f"a blend is chosen on soft-tissue patches of validation slices, and those of kernel {protocol} have none: choose "
            "--front_end=amplitude, or another split"
        )

    def cut(images: Sequence[np.ndarray]) -> np.ndarray:
        padded = [_padded(np.where(away, AIR, image)) for image, away in zip(images, outside, strict=True)]
        return np.stack([padded[i][window] for i, window in windows]).astype(np.float32)

    target, mask = cut([target for _, target, _ in pairs]), np.stack([soft_tissue[i][window] for i, window in windows])
    errors = texture_errors(target)

    def measure(curve: RadialFilter) -> np.ndarray:
        output = cut([np.rint(curve(source, spacing)) for source, _, spacing in pairs])
        error = float(np.nanmean(list(errors(output).values())))
        rmse = float(np.sqrt(np.mean(np.square(output - target, dtype=np.float64), where=mask)))
        return np.array([error + ERROR_TOLERANCE, rmse + RMSE_TOLERANCE])

    baseline = measure(amplitude)
    return lambda curve: float(np.mean(measure(curve) / baseline))


def _padded(image: np.ndarray) -> np.ndarray:
    return pad_to(image, PATCH_SIZE, PATCH_SIZE)
