"""Two reconstructions of one scan, paired slice by slice, and split into training and validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from stan_ct.ct.series import Instance, SeriesFiles

POSITION_TOLERANCE = 0.1
"""Two slices show the same anatomy if their positions differ by less than this, mm."""

Split = Literal["patient", "blocks"]


class PairingError(ValueError):
    """The series found do not make pairs as asked; the message says what came and what to do."""


@dataclass(frozen=True)
class SeriesPair:
    """Source and target series of one study, and which of their slices show the same anatomy.

    Attributes:
        source: Non-standard protocol.
        target: Standard protocol.
        slices: (source z, target z) pairs.
    """

    source: SeriesFiles
    target: SeriesFiles
    slices: tuple[tuple[int, int], ...]


def pair_slices(sources: Sequence[Instance], targets: Sequence[Instance]) -> tuple[tuple[int, int], ...]:
    """Pairs slices whose Image Position (Patient) agrees; positions that occur twice in a series pair with nothing.

    Returns:
        (source index, target index), in the order of the sources.
    """
    found = []
    ours, theirs = (np.array([i.position for i in instances]).reshape(-1, 3) for instances in (sources, targets))
    near = np.abs(ours[:, None] - theirs[None]).max(-1) < POSITION_TOLERANCE  # (sources, targets)
    alone = np.abs(ours[:, None] - ours[None]).max(-1) < POSITION_TOLERANCE
    for z in np.flatnonzero((near.sum(1) == 1) & (alone.sum(1) == 1)):
        found.append((int(z), int(np.flatnonzero(near[z])[0])))
    return tuple(found)


def pair_series(series: Sequence[SeriesFiles], source_kernel: str, target_kernel: str) -> list[SeriesPair]:
    """Pairs, in each study, series of the source kernel with series of the target kernel of the same grid and thickness.

    Args:
        series: What was found.
        source_kernel: Convolution Kernel (0018,1210) of the non-standard protocol.
        target_kernel: Convolution Kernel of the standard protocol.
    Raises:
        PairingError: If no study holds both kernels at common positions.
    """
    pairs = []
    for source in series:
        for target in series:
            if (source.kernel, target.kernel) != (source_kernel, target_kernel) or source.study_uid != target.study_uid:
                continue
            thicknesses = source.slice_thickness, target.slice_thickness
            same_grid = (
                source is not target
                and source.shape[1:] == target.shape[1:]
                and np.allclose(source.pixel_spacing, target.pixel_spacing)
                and np.isclose(*thicknesses, atol=0.01, equal_nan=True)
            )
            slices = pair_slices(source.instances, target.instances) if same_grid else ()
            if slices:
                pairs.append(SeriesPair(source, target, slices))
    if not pairs:
        kernels = ", ".join(sorted({s.kernel for s in series})) or "none"
        raise PairingError(
            f"no study holds a series of kernel {source_kernel!r} and one of {target_kernel!r} with slices at the same "
            f"positions; kernels found: {kernels}. Choose with --source_kernel and --target_kernel."
        )
    return pairs


def held_back(pairs: Sequence[SeriesPair], split: Split, fraction: float, block: int, seed: int) -> set[tuple[int, int]]:
    """Chooses the slices kept for validation.

    Args:
        pairs: Series pairs.
        split: `patient` keeps whole patients apart; `blocks` holds back every third block of slice positions of each
            study, for data of a single patient, where neighbouring slices at the blocks' borders are alike.
        fraction: Share of patients held back, for `patient`.
        block: Slices in a block, for `blocks`.
        seed: Chooses the patients.
    Returns:
        (index of the pair, index into its `slices`).
    Raises:
        PairingError: If `patient` is asked for with one patient, or there are too few slices for a third block.
    """
    if split == "blocks":
        chosen = _third_blocks(pairs, block)
        if not chosen:
            raise PairingError(f"no series has a third block of {block} slices to hold back: choose a smaller --block")
        return chosen
    patients = sorted({pair.source.patient for pair in pairs})
    if len(patients) < 2:
        raise PairingError(
            "a split by patient needs at least two patients, found one. Add patients, or hold back blocks of "
            "slices of this one with --split=blocks."
        )
    count = min(max(round(len(patients) * fraction), 1), len(patients) - 1)
    chosen = set(np.random.default_rng(seed).permutation(patients)[:count].tolist())
    return {(i, k) for i, pair in enumerate(pairs) if pair.source.patient in chosen for k in range(len(pair.slices))}


def _third_blocks(pairs: Sequence[SeriesPair], block: int) -> set[tuple[int, int]]:
    """Every third block of `block` positions along the normal; all series of a study count along the same positions."""
    positions: dict[str, set[float]] = {}
    for pair in pairs:
        positions.setdefault(pair.source.study_uid, set()).update(round(i.location, 1) for i in pair.source.instances)
    ranks = {study: {place: n for n, place in enumerate(sorted(places))} for study, places in positions.items()}
    return {
        (i, k)
        for i, pair in enumerate(pairs)
        for k, (z, _) in enumerate(pair.slices)
        if ranks[pair.source.study_uid][round(pair.source.instances[z].location, 1)] // block % 3 == 2
    }
