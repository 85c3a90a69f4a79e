"""Fig. 4 of a report: the slice in which the straightforward method shows the most borders of its patches, and STAN-CT's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from stan_ct.dicom.refusal import Refused
from stan_ct.evaluation.measure.pairs import find_pairs, load_slices
from stan_ct.evaluation.measure.slice_images import Box, artefacts
from stan_ct.patches.sampling import PATCH_SIZE, Patch, grid_patches
from stan_ct.report.sections import FigureSection

BORDER = 12
"""Width of the box that is drawn around a border that shows, px."""


class Artefact(Protocol):
    """A border of a patch that shows: of which patch, on which side, how strongly."""

    patch: int
    side: str
    strength: float


Judge = Callable[[np.ndarray, np.ndarray, np.ndarray, Sequence[Patch]], Sequence[Artefact]]
"""Fused and source slice, (H, W) HU, soft-tissue mask and patches -> the borders that show (check 3)."""


@dataclass(frozen=True)
class _Slice:
    """A slice of the source and what both methods made of it, (H, W) HU; the tiles, and the borders that show, of both."""

    images: dict[str, np.ndarray]
    tiles: list[Patch]
    found: dict[str, list[Box]]
    strongest: float


def figure_4(
    source_dir: Path, made: dict[str, Path], judge: Judge, only_instances: Iterable[str] | None = None
) -> FigureSection | None:
    """Both methods on the slice in which the straightforward one has the most findings.

    The straightforward method runs no check, so the third one (borders of patches that show) is run here on what it wrote,
    and on what STAN-CT wrote, each with the patches of its own.

    Args:
        source_dir: DICOM of the source.
        made: "straightforward" and "stan_ct" -> DICOM, made with the layouts `tiles` and `grid`.
        judge: The check.
        only_instances: SOP Instance UIDs of the source slices to look at; None for all.
    Returns:
        The figure; None if no slice can be read.
    """
    best, number = None, 0
    for place in find_pairs(source_dir, made, only_instances).together:
        try:
            series = load_slices(place)
        except Refused:
            continue
        shown = _judged({name: one.volume[0] for name, one in series.items()}, series["source"].soft_tissue(0), judge)
        best, number = (shown if best is None or _rank(shown) > _rank(best) else best), number + 1
    return _drawn(best, number) if best else None


def _rank(shown: _Slice) -> tuple[int, float, float]:
    """Findings of the straightforward method, the strongest of them, and how far both methods are apart."""
    apart = np.abs(shown.images["straightforward"] - shown.images["stan_ct"]).mean()
    return len(shown.found["straightforward"]), shown.strongest, float(apart)


def _judged(images: dict[str, np.ndarray], mask: np.ndarray, judge: Judge) -> _Slice:
    height, width = mask.shape
    corners = [(row, column) for row in range(0, height, PATCH_SIZE) for column in range(0, width, PATCH_SIZE)]
    grid = grid_patches((max(height, PATCH_SIZE), max(width, PATCH_SIZE)))
    tiles = [Patch(*corner, PATCH_SIZE, PATCH_SIZE) for corner in corners]
    patches = {"straightforward": tiles, "stan_ct": grid}
    patches = {name: [patch for patch in some if mask[patch.window].any()] for name, some in patches.items()}
    found = {name: judge(images[name], images["source"], mask, some) for name, some in patches.items()}
    boxes = {name: list(dict.fromkeys(_box(patches[name][a.patch], a.side) for a in some)) for name, some in found.items()}
    return _Slice(images, patches["straightforward"], boxes, max((a.strength for a in found["straightforward"]), default=0.0))


def _box(patch: Patch, side: str) -> Box:
    """Around one side of a patch; the same for the two patches that meet there."""
    row = patch.row + (patch.height if side == "bottom" else 0) - BORDER // 2
    column = patch.column + (patch.width if side == "right" else 0) - BORDER // 2
    along_row = side in ("top", "bottom")
    return (row, patch.column, BORDER, patch.width) if along_row else (patch.row, column, patch.height, BORDER)


def _drawn(shown: _Slice, number: int) -> FigureSection:
    counts = {name: len(boxes) for name, boxes in shown.found.items()}
    strongest = f" (the strongest stands out {shown.strongest:.0f} times above chance)" if counts["straightforward"] else ""
    caption = (
        f"Of {number} slices the one in which the most borders of the straightforward method's patches show: "
        f"{counts['straightforward']}{strongest}. Of STAN-CT's patches {counts['stan_ct']} show."
    )
    image = artefacts(
        shown.images["straightforward"], shown.images["stan_ct"], shown.images["source"], shown.found, shown.tiles
    )
    return FigureSection("Fig. 4, artefacts", caption, image)
