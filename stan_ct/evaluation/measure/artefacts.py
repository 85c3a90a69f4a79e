"""Fig. 4: the slice in which most patch borders of the straightforward method show, beside that of STAN-CT."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stan_ct.dicom.refusal import Refused
from stan_ct.evaluation.measure.pairs import Headers, find_pairs, load_slices
from stan_ct.evaluation.measure.slice_images import Box, artefacts
from stan_ct.patches.pairs import PairBy
from stan_ct.patches.sampling import Patch
from stan_ct.reconstruction.checks import box_artefacts
from stan_ct.reconstruction.layout import patch_layout
from stan_ct.reconstruction.settings import DEFAULT, STRAIGHTFORWARD, TABLE_2, method_settings
from stan_ct.report.sections import FigureSection

BORDER = 12
"""Width of the box that is drawn around a border that shows, px."""

ROWS = {"straightforward": STRAIGHTFORWARD, "stan_ct": DEFAULT}
"""Name of an image -> row of Table 2 by which it was made, which determines its patches."""

Judge = Callable[[np.ndarray, np.ndarray, np.ndarray, Sequence[Patch]], Sequence[Any]]
"""Check 3, :func:`~stan_ct.reconstruction.checks.box_artefacts` or one like it."""


@dataclass(frozen=True)
class _JudgedSlice:
    """A slice of the source and of both methods.

    Attributes:
        images: Name -> (H, W) HU: `source`, `straightforward` and `stan_ct`.
        tiles: Patches of the straightforward method.
        found: Method -> boxes around the borders that show.
        strongest: Strength of the straightforward method's strongest finding; 0 without findings.
    """

    images: Mapping[str, np.ndarray]
    tiles: Sequence[Patch]
    found: Mapping[str, Sequence[Box]]
    strongest: float

    @property
    def rank(self) -> tuple[int, float, float]:
        """Findings of the straightforward method, the strongest of them, and the mean difference of the methods, HU."""
        difference = np.abs(self.images["straightforward"] - self.images["stan_ct"]).mean()
        return len(self.found["straightforward"]), self.strongest, float(difference)


def figure_4(
    source: Path | Headers,
    made: Mapping[str, Path | Headers],
    only_instances: Iterable[str] | None = None,
    judge: Judge = box_artefacts,
    pair_by: PairBy = "study",
) -> FigureSection | None:
    """Draws both methods on the slice in which the straightforward one has the most findings.

    The straightforward method runs no check, so check 3 (borders of patches that show) is run here on both outputs, each
    with the patches of its own layout.

    Args:
        source: DICOM of the source.
        made: `straightforward` and `stan_ct` -> DICOM written by the rows `ROWS` of Table 2.
        only_instances: SOP Instance UIDs of the source slices to look at; None for all.
        judge: Check 3.
        pair_by: As for `find_pairs`.
    Returns:
        The figure; None if no slice can be read.
    """
    best, num_slices = None, 0
    for place in find_pairs(source, made, only_instances, pair_by=pair_by).together:
        try:
            series = load_slices(place)
        except Refused:
            continue
        judged = _judge({name: one.volume[0] for name, one in series.items()}, series["source"].soft_tissue(0), judge)
        best, num_slices = (judged if best is None or judged.rank > best.rank else best), num_slices + 1
    return _figure(best, num_slices) if best else None


def _judge(images: Mapping[str, np.ndarray], mask: np.ndarray, judge: Judge) -> _JudgedSlice:
    rng = np.random.default_rng(0)  # which neither layout uses
    patches = {name: patch_layout(mask, method_settings(**TABLE_2[row]), rng) for name, row in ROWS.items()}
    found = {name: judge(images[name], images["source"], mask, patches[name]) for name in ROWS}
    boxes = {name: list(dict.fromkeys(_box(patches[name][a.patch], a.side) for a in found[name])) for name in ROWS}
    strongest = max((a.strength for a in found["straightforward"]), default=0.0)
    return _JudgedSlice(images, patches["straightforward"], boxes, strongest)


def _box(patch: Patch, side: str) -> Box:
    """Box around one side of a patch; the same for the two patches that meet there."""
    row = patch.row + (patch.height if side == "bottom" else 0) - BORDER // 2
    column = patch.column + (patch.width if side == "right" else 0) - BORDER // 2
    along_row = side in ("top", "bottom")
    return (row, patch.column, BORDER, patch.width) if along_row else (patch.row, column, patch.height, BORDER)


def _figure(judged: _JudgedSlice, num_slices: int) -> FigureSection:
    counts = {name: len(boxes) for name, boxes in judged.found.items()}
    strongest = f" (the strongest stands out {judged.strongest:.0f} times above chance)" if counts["straightforward"] else ""
    caption = (
        f"Of {num_slices} slices the one in which the most borders of the straightforward method's patches show: "
        f"{counts['straightforward']}{strongest}. Of STAN-CT's patches {counts['stan_ct']} show."
    )
    straightforward, stan_ct, source = (judged.images[name] for name in ("straightforward", "stan_ct", "source"))
    image = artefacts(straightforward, stan_ct, source, judged.found, judged.tiles)
    return FigureSection("Fig. 4, artefacts", caption, image)
