"""Check 2 of the pipeline: patches that are no plausible outputs are rejected, and their holes sampled anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np

from stan_ct.patches.fusion import extract
from stan_ct.patches.sampling import PATCH_SIZE, Patch, coverage, random_patches
from stan_ct.reconstruction.settings import PipelineSettings

RESAMPLING_ROUNDS = 3
"""How often the holes that rejected patches leave are sampled anew."""


class Synthesizer(Protocol):
    """What the pipeline asks of a network, a baseline, or the identity.

    One with an attribute `adjacent_slices` above 0 is given that many slices before and after each too.
    """

    def prepare(self, hu: np.ndarray, pixel_spacing: tuple[float, float], kernel: str = "") -> np.ndarray:
        """The whole-slice step: (H, W) HU of a source kernel -> (H, W) HU."""

    def __call__(self, patches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, h, w) float32 HU -> synthesized (N, h, w) float32 HU, and P(real), (N,); (N, h, w, C) with adjacent slices."""


@runtime_checkable
class Explaining(Protocol):
    """What a synthesizer has that can say why its patches are no plausible outputs."""

    def explain(self, patches: np.ndarray, outputs: np.ndarray) -> list[str]:
        """(N, h, w) HU of the source and what was made of them -> what is wrong with each, in words."""


@runtime_checkable
class WholeSlice(Protocol):
    """What a synthesizer has that can judge places of a slice which it synthesizes at once."""

    def whole(self, image: np.ndarray, places: Sequence[Patch]) -> tuple[np.ndarray, np.ndarray]:
        """(h, w) float32 HU, or (h, w, C) with adjacent slices -> synthesized (h, w) HU, and P(real) of the places, (N,)."""


@dataclass(frozen=True)
class RejectedPatch:
    """A patch that check 2 rejected.

    Attributes:
        patch: Where it lies.
        p_real: Its P(real), or its plausibility under the judge.
        reason: What was wrong with it, in words; empty where only its P(real) is known.
    """

    patch: Patch
    p_real: float
    reason: str = ""


@dataclass
class Synthesized:
    """Patches of one slice, as synthesized."""

    patches: list[Patch]
    cut: np.ndarray  # (N, h, w) HU, what the synthesizer was given
    made: np.ndarray  # (N, h, w) HU, what it made of them
    p_real: np.ndarray  # (N,)
    whole: np.ndarray | None = None  # (H, W) HU, the slice of which they are places, where it was synthesized at once

    def __getitem__(self, keep: np.ndarray) -> Synthesized:
        return Synthesized([self.patches[i] for i in keep], self.cut[keep], self.made[keep], self.p_real[keep])

    def __add__(self, other: Synthesized) -> Synthesized:
        arrays = [np.concatenate([getattr(s, n) for s in (self, other)]) for n in ("cut", "made", "p_real")]
        return Synthesized(self.patches + other.patches, *arrays)


def synthesize(
    seen: Sequence[np.ndarray], patches: list[Patch], synthesizer: Synthesizer, settings: PipelineSettings
) -> Synthesized:
    """Step 2: synthesizes patches of a slice, seen with those before and after it, (H, W) HU each.

    With the layout `slice` the slice is synthesized at once, and the patches are the places at which it is judged.
    """
    if not patches:
        empty = np.empty((0, PATCH_SIZE, PATCH_SIZE), np.float32)
        return Synthesized([], empty, empty, np.empty(0, np.float32))
    if settings.patch_layout != "slice":
        return _cut_and_synthesize(seen, patches, synthesizer)
    made, p_real = synthesize_whole(synthesizer, np.stack(seen, -1) if len(seen) > 1 else seen[0], patches)
    return Synthesized(patches, extract(seen[0], patches, None), extract(made, patches, None), p_real, made)


def _cut_and_synthesize(seen: Sequence[np.ndarray], patches: list[Patch], synthesizer: Synthesizer) -> Synthesized:
    cut = extract(seen[0], patches, PATCH_SIZE)
    given = np.stack([cut, *(extract(image, patches, PATCH_SIZE) for image in seen[1:])], -1) if len(seen) > 1 else cut
    return Synthesized(patches, cut, *synthesizer(given))


def synthesize_whole(synthesizer: Synthesizer, image: np.ndarray, places: Sequence[Patch]) -> tuple[np.ndarray, np.ndarray]:
    """Synthesizes a slice at once, see :class:`WholeSlice`; where only the whole can be judged, each place has its P(real)."""
    if isinstance(synthesizer, WholeSlice):
        return synthesizer.whole(image, places)
    made, p_real = synthesizer(image[None])
    return made[0], np.repeat(p_real, len(places))


def qualify(
    seen: Sequence[np.ndarray],
    mask: np.ndarray,
    synthesized: Synthesized,
    synthesizer: Synthesizer,
    settings: PipelineSettings,
    rng: np.random.Generator,
) -> tuple[Synthesized, Synthesized, int]:
    """Check 2: discards patches with P(real) below the threshold and samples their holes anew, a few times, patch by patch.

    Returns:
        Qualified patches, rejected patches, and how many were synthesized in all.
    """
    if settings.checks < 2:
        return synthesized, synthesized[np.array([], int)], len(synthesized.patches)
    kept, rejected = _split(synthesized, settings.qc_threshold)
    made = len(synthesized.patches)
    rule = settings.rule
    if settings.patch_layout in ("grid", "slice"):  # resample at native scale too
        rule = replace(rule, sides=(PATCH_SIZE, PATCH_SIZE))
    for _ in range(RESAMPLING_ROUNDS):
        if not rejected.patches:
            break
        hole = mask & (coverage(mask.shape, kept.patches) == 0)
        new = random_patches(mask, rng, rule, present=kept.patches) if hole.any() else []
        if not new:
            break
        good, bad = _split(_cut_and_synthesize(seen, new, synthesizer), settings.qc_threshold)
        kept, rejected, made = kept + good, rejected + bad, made + len(new)
    return kept, rejected, made


def _split(synthesized: Synthesized, threshold: float) -> tuple[Synthesized, Synthesized]:
    good = synthesized.p_real >= threshold
    return synthesized[np.flatnonzero(good)], synthesized[np.flatnonzero(~good)]


def explained(rejected: Synthesized, synthesizer: Synthesizer) -> tuple[RejectedPatch, ...]:
    """Rejected patches with what is wrong with each, where the synthesizer can say so."""
    reasons = [""] * len(rejected.patches)
    if rejected.patches and isinstance(synthesizer, Explaining):
        reasons = synthesizer.explain(rejected.cut, rejected.made)
    found = zip(rejected.patches, rejected.p_real, reasons, strict=True)
    return tuple(RejectedPatch(patch, float(p_real), reason) for patch, p_real, reason in found)


def best_rejected(rejected: Synthesized, hole: np.ndarray) -> Synthesized:
    """The rejected patches of highest P(real) that together fill the hole."""
    hole, chosen = hole.copy(), []
    for i in np.argsort(-rejected.p_real, kind="stable"):
        window = rejected.patches[i].window
        if hole[window].any():
            hole[window] = False
            chosen.append(i)
    return rejected[np.array(chosen, int)]
