"""The quality control units of the pipeline (paper Fig. 2, red diamonds; Sec. "DICOM Reconstruction Framework")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from stan_ct.ct.smoothing import close_and_open
from stan_ct.patches.fusion import Crop
from stan_ct.patches.sampling import Patch, coverage, overlap

Mask = Literal["whole", "air", "closed", "pixel"]

PARALLEL = (*range(-8, -1), *range(2, 9))
"""Distances in pixels of the lines to which a patch's border line is compared."""
MIN_LINE = 48
"""A border line with fewer soft-tissue pixels than this is not judged."""
FAINTEST = 1.0
"""Steps below this many HU, the usual distance of stored values, do not stand out."""
BOX_SIGMAS = 10.0
"""How far above chance a border line must stand out. Calibrated with `benchmarks/guards.py`."""


@dataclass(frozen=True)
class Finding:
    """A failed check.

    Attributes:
        name: Name of the check, a stable key.
        value: Measured value; None for checks that measure none.
        limit: Limit that it broke.
        detail: What came, in words, where a number does not say it.
        slice: Index of the slice in the volume, None for the whole series.
    """

    name: str
    value: float | None = None
    limit: float | None = None
    detail: str = ""
    slice: int | None = None


def close_mask(soft_tissue: np.ndarray) -> np.ndarray:
    """Fills small holes of a soft-tissue mask and removes thin bridges and specks, (H, W) bool -> (H, W) bool.

    In noisy air every other pixel is below -1000 HU: as printed, the mask is ragged there.
    """
    closed = close_and_open(np.pad(soft_tissue, 8, mode="edge"), radius=3)
    return closed[8:-8, 8:-8]


def overlap_findings(soft_tissue: np.ndarray, patches: Sequence[Patch], min_overlap: float) -> tuple[list[Finding], float]:
    """Check 1: every patch is covered by others to `min_overlap`, and soft tissue is covered.

    A patch that is as large as the slice has nothing to overlap with, and passes.

    Returns:
        Findings, and the share of soft-tissue pixels that no patch covers.
    """
    cover = coverage(soft_tissue.shape, patches)
    shares = [overlap(p, cover) for p in patches if (p.height, p.width) != soft_tissue.shape]
    findings = [Finding("overlap", round(min(shares), 4), min_overlap)] if shares and min(shares) < min_overlap else []
    total = int(soft_tissue.sum())
    uncovered = float((soft_tissue & (cover == 0)).sum() / total) if total else 0.0
    if uncovered > 0.01:
        findings.append(Finding("uncovered_soft_tissue", round(uncovered, 4), 0.01))
    return findings, uncovered


@dataclass(frozen=True)
class BoxArtefact:
    """A border line of a patch that shows: which patch, which side, how strongly."""

    patch: int
    side: str
    strength: float


def box_artefacts(
    fused: np.ndarray, source: np.ndarray, soft_tissue: np.ndarray, patches: Sequence[Patch]
) -> list[BoxArtefact]:
    r"""Check 3: border lines of patches at which what was changed steps, and the source does not.

    For each border line, the mean |difference| across it is divided by the same on the parallel lines 2..8 pixels away:
    once in the change (fused - source, in which the anatomy is gone), once in the source, to say what edges of anatomy
    lie on that line. With :math:`n` pixels on the line, such a ratio scatters about 1 as :math:`1 / \sqrt n`; the
    artefact's strength is :math:`(r_{change} / \max(r_{source}, 1) - 1) \sqrt n`.

    Args:
        fused: (H, W) HU.
        source: (H, W) HU.
        soft_tissue: (H, W) bool; other pixels do not count.
        patches: Where patches lie.
    Returns:
        The artefacts with a strength above `BOX_SIGMAS`.
    """
    images = [np.where(np.isfinite(fused), fused - source, 0.0), source]
    steps = {"rows": [np.abs(np.diff(image, axis=0)) for image in images]}
    steps["columns"] = [np.abs(np.diff(image, axis=1)).T for image in images]
    valid = {"rows": soft_tissue[1:] & soft_tissue[:-1], "columns": (soft_tissue[:, 1:] & soft_tissue[:, :-1]).T}
    found = []
    for number, p in enumerate(patches):
        borders = (
            ("top", "rows", p.row, slice(p.column, p.column + p.width)),
            ("bottom", "rows", p.row + p.height, slice(p.column, p.column + p.width)),
            ("left", "columns", p.column, slice(p.row, p.row + p.height)),
            ("right", "columns", p.column + p.width, slice(p.row, p.row + p.height)),
        )
        for side, axis, border, along in borders:
            ratio_change, ratio_source, count = _border_ratios(steps[axis], valid[axis], border - 1, along)
            strength = (ratio_change / max(ratio_source, 1.0) - 1) * np.sqrt(count)
            if strength > BOX_SIGMAS:
                found.append(BoxArtefact(number, side, round(float(strength), 2)))
    return found


def _border_ratios(steps: list[np.ndarray], valid: np.ndarray, line: int, along: slice) -> tuple[float, float, int]:
    """Step across `line` over the mean step on its parallels, in both images, and the line's valid pixels.

    (1, 1, 0) where the line is the image's own border or has too few pixels.
    """
    if not 0 <= line < len(valid):
        return 1.0, 1.0, 0
    count = int(valid[line, along].sum())
    lines = [line + k for k in PARALLEL if 0 <= line + k < len(valid)]
    around = valid[lines, along]
    if count < MIN_LINE or around.sum() < MIN_LINE:
        return 1.0, 1.0, 0
    ratios = []
    for image in steps:
        across, beside = image[line, along][valid[line, along]], image[lines, along][around]
        most = 4 * (np.median(beside) + FAINTEST)  # so that a few edges of anatomy do not make a line
        ratios.append(float((np.minimum(across, most).mean() + FAINTEST) / (np.minimum(beside, most).mean() + FAINTEST)))
    return ratios[0], ratios[1], count


def cropped(crops: list[Crop], patches: Sequence[Patch], artefacts: Sequence[BoxArtefact], pixels: int) -> list[Crop]:
    """Crops the named sides of patches to `pixels`, at most a third of the patch: the paper's re-integration."""
    result = list(crops)
    for artefact in artefacts:
        patch = patches[artefact.patch]
        limit = (patch.height if artefact.side in ("top", "bottom") else patch.width) // 3
        result[artefact.patch] = result[artefact.patch]._replace(**{artefact.side: min(pixels, limit)})
    return result


def cut(patch: Patch, crop: Crop) -> Patch:
    """What is left of a patch inside its crop."""
    height, width = patch.height - crop.top - crop.bottom, patch.width - crop.left - crop.right
    return Patch(patch.row + crop.top, patch.column + crop.left, height, width)
