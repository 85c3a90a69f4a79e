"""Steps 1 - 3 for one series: patches, synthesis, fusion, with quality control at every step (paper Fig. 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from stan_ct.ct.hounsfield import AIR, SOFT_TISSUE, soft_tissue_mask
from stan_ct.ct.source_slice import SourceSlice
from stan_ct.patches.fusion import Crop, fuse, pad_to, rescale_hu
from stan_ct.patches.sampling import Patch, coverage
from stan_ct.reconstruction.bounds import bound
from stan_ct.reconstruction.checks import (
    BOX_SIGMAS,
    Finding,
    box_artefacts,
    cropped,
    cut,
    overlap_findings,
)
from stan_ct.reconstruction.lattice import Lattice, measure_lattice, no_lattice
from stan_ct.reconstruction.layout import padded_size, patch_layout, standardized_mask
from stan_ct.reconstruction.qualification import RejectedPatch, Synthesizer, best_rejected, explained, qualify, synthesize
from stan_ct.reconstruction.settings import PipelineSettings

CROPS = (4, 8, 16, 32)
"""Pixels cropped from the borders of patches that show, one after the other, until none does."""


@dataclass(frozen=True)
class SliceResult:
    """A standardized slice and what quality control says of it.

    Attributes:
        hu: (H, W) float32, HU.
        patches: Number of patches synthesized; of a slice that was synthesized at once, its places count.
        qualified: Number of them that passed check 2 (all, where it does not run).
        uncovered: Share of soft-tissue pixels that no patch covers: they keep the source.
        unqualified: Share of soft-tissue pixels filled by rejected patches or the source.
        p_real: Mean P(real) of the patches, NaN without patches.
        rejected: Patches that check 2 rejected.
        lattice: Regular patterns in what the networks changed.
        findings: Failed checks.
    """

    hu: np.ndarray
    patches: int = 0
    qualified: int = 0
    uncovered: float = 0.0
    unqualified: float = 0.0
    p_real: float = float("nan")
    rejected: tuple[RejectedPatch, ...] = ()
    lattice: Lattice = field(default_factory=no_lattice)
    findings: tuple[Finding, ...] = ()


def standardize_slice(
    given: SourceSlice,
    synthesizer: Synthesizer,
    settings: PipelineSettings,
    rng: np.random.Generator,
    kernel: str = "",
    beside: Sequence[np.ndarray] = (),
) -> SliceResult:
    """Steps 1 - 3 for one slice.

    Args:
        given: The slice; padding, and what else lies outside the field of view, stays as it is.
        synthesizer: Makes standard patches.
        settings: The switches.
        rng: Of the random layout and of resampling.
        kernel: The model's source kernel as which the slice is treated.
        beside: Slices before and after it that the synthesizer sees too, (H, W) HU each, after the whole-slice step.
    Returns:
        The standardized slice; pixels outside the mask are the source's, but for bright ones with the mask `whole`.
    """
    source, outside, pixel_spacing = given.hu, given.outside, given.pixel_spacing
    mask = standardized_mask(source, outside, settings.mask)
    if not mask.any():
        return SliceResult(source.copy())
    continued = given.continued
    prepared = synthesizer.prepare(continued, pixel_spacing, kernel)
    size = padded_size(source.shape, settings.patch_layout)
    prepared, framed_source, framed_mask = (pad_to(image, *size) for image in (prepared, source, mask))
    seen = [prepared, *(pad_to(image, *size) for image in beside)]

    # Step 1: patches. Check 1: overlap.
    patches = patch_layout(framed_mask, settings, rng)
    synthesized = synthesize(seen, patches, synthesizer, settings)
    # Step 2: synthesis. Check 2: real or fake.
    kept, rejected, made = qualify(seen, framed_mask, synthesized, synthesizer, settings, rng)
    findings: list[Finding] = []
    uncovered = 0.0
    if settings.checks >= 1:
        everything = [*kept.patches, *rejected.patches]
        findings, uncovered = overlap_findings(framed_mask, everything, settings.rule.min_overlap)
    hole = framed_mask & (coverage(size, kept.patches) == 0) & (coverage(size, synthesized.patches) > 0)
    unqualified = float(hole.sum() / framed_mask.sum())
    if unqualified > 0:
        findings.append(Finding("unqualified_patches", round(unqualified, 4), 0.0))
    trusted = [True] * len(kept.patches)
    if settings.on_unqualified == "best":
        kept = kept + best_rejected(rejected, hole)
        trusted += [False] * (len(kept.patches) - len(trusted))
    # Step 3: fusion. Check 3: missing values and box artefacts.
    low = max(float(source[~outside].min()), AIR)
    if synthesized.whole is not None and not rejected.patches and settings.hu_rescale == "window":
        fused = synthesized.whole  # no patch, no border
    else:
        rescaled = rescale_hu(kept.made, settings.hu_rescale, low, float(source[~outside].max()))
        fused, box = _fuse(prepared, framed_source, framed_mask, kept.patches, rescaled - kept.cut, trusted, settings)
        findings += [box] if box else []
    fused = fused[: source.shape[0], : source.shape[1]]
    missing = int((~np.isfinite(fused) & mask).sum())
    if missing:
        findings.append(Finding("missing_values", missing, 0))
    covered = coverage(size, kept.patches)[: source.shape[0], : source.shape[1]] > 0
    bright = (source > SOFT_TISSUE[1]) & ~outside if settings.mask == "whole" else np.False_
    kept_hu = np.where(bright, prepared[: source.shape[0], : source.shape[1]], source)
    hu = np.where(mask & covered & np.isfinite(fused), fused, kept_hu).astype(np.float32)
    if settings.checks >= 3:
        hu, implausible = bound(hu, continued, outside, pixel_spacing)
        findings += [implausible] if implausible else []
    p_real = float(np.mean(synthesized.p_real)) if patches else float("nan")
    lattice = measure_lattice(hu - prepared[: source.shape[0], : source.shape[1]], soft_tissue_mask(source, outside) & covered)
    return SliceResult(
        hu,
        made,
        made - len(rejected.patches),
        uncovered,
        unqualified,
        p_real,
        explained(rejected, synthesizer),
        lattice,
        tuple(findings),
    )


def _fuse(
    prepared: np.ndarray,
    source: np.ndarray,
    mask: np.ndarray,
    patches: list[Patch],
    changes: np.ndarray,
    trusted: list[bool],
    settings: PipelineSettings,
) -> tuple[np.ndarray, Finding | None]:
    """Fuses; where borders of patches show, crops them and fuses again, until none shows or the crops are used up."""
    crops = [Crop()] * len(patches)
    fused, _ = fuse(prepared, patches, list(changes), settings.fusion_weights, crops, trusted)
    if settings.checks < 3:
        return fused, None
    artefacts = box_artefacts(fused, source, mask, patches)
    for pixels in CROPS:
        if not artefacts:
            break
        crops = cropped(crops, patches, artefacts, pixels)
        fused, _ = fuse(prepared, patches, list(changes), settings.fusion_weights, crops, trusted)
        # Borders can show where patches end, and where their crops do.
        inner = [cut(p, c) for p, c in zip(patches, crops, strict=True)]
        found = box_artefacts(fused, source, mask, [*patches, *inner])
        artefacts = [replace(a, patch=a.patch % len(patches)) for a in found]
    strongest = max((a.strength for a in artefacts), default=None)
    return fused, None if strongest is None else Finding("box_artefact", strongest, BOX_SIGMAS)
