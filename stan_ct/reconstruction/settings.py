"""The switches of Steps 1 - 3, and which of them make the methods of Table 2."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from stan_ct.patches.fusion import HURescale, Weighting
from stan_ct.patches.sampling import Layout, SamplingRule
from stan_ct.reconstruction.checks import Mask

FusionMethod = Literal["straightforward", "overlap", "realfake", "stan_ct"]


@dataclass(frozen=True)
class PipelineSettings:
    """The switches of Steps 1 - 3.

    Attributes:
        fusion: Row of Table 2: `straightforward` (tiles put back side by side, no check), `overlap` (check 1),
            `realfake` (checks 1 and 2), `stan_ct` (all).
        patch_layout: `slice`, `grid`, `random` (the paper), or `tiles` (of the straightforward method).
        fusion_weights: `hann` or `mean` (the paper's words).
        hu_rescale: `window`, `patch` (Eq. 7) or `slice`.
        mask: What is standardized: `whole`: the slice, of which what is brighter than soft tissue passes the whole-slice
            step alone; `air`: everything up to the brightest soft tissue; `closed`: the soft-tissue mask with the holes
            filled that noise makes in air and lung; or that mask, `pixel` (the paper).
        on_unqualified: What fills holes that no qualified patch covers: the `best` rejected patch, or the `source`.
        qc_threshold: A patch with P(real) below this is not qualified.
        rule: The numbers of Step 1.
        seed: Of the random layout and of resampling.
    """

    fusion: FusionMethod = "stan_ct"
    patch_layout: Layout = "slice"
    fusion_weights: Weighting = "hann"
    hu_rescale: HURescale = "window"
    mask: Mask = "whole"
    on_unqualified: Literal["best", "source"] = "best"
    qc_threshold: float = 0.99
    rule: SamplingRule = field(default_factory=SamplingRule)
    seed: int = 0

    @property
    def checks(self) -> int:
        """How many of the three checks run."""
        return ("straightforward", "overlap", "realfake", "stan_ct").index(self.fusion)


def method_settings(fusion: FusionMethod, **chosen: Any) -> PipelineSettings:
    """Settings of one of the four methods of Table 2; a switch that is not None overrides the method's own.

    Raises:
        ValueError: If `tiles` are combined with a method that checks overlap.
    """
    paper = {"patch_layout": "tiles", "hu_rescale": "patch", "fusion_weights": "mean", "mask": "pixel"}
    own: dict[str, Any] = dict(paper) if fusion == "straightforward" else {}
    own |= {name: value for name, value in chosen.items() if value is not None}
    settings = PipelineSettings(fusion=fusion, **own)
    if settings.patch_layout == "tiles" and settings.checks:
        raise ValueError(f"patch_layout tiles does not overlap, which fusion {fusion} requires: choose grid or random")
    return settings


STRAIGHTFORWARD, DEFAULT = "straightforward", "STAN-CT (default)"
"""Rows of Table 2: the method without checks, and the default of `reconstruct.py`."""

AS_IN_THE_PAPER = {"patch_layout": "random", "fusion_weights": "mean", "hu_rescale": "patch", "mask": "pixel"}
"""Switches as the paper describes them."""

PAPER_ROWS: Mapping[str, Mapping[str, Any]] = {
    STRAIGHTFORWARD: {"fusion": "straightforward"},
    "w/ overlap check": {"fusion": "overlap", **AS_IN_THE_PAPER},
    "w/ real/fake check": {"fusion": "realfake", **AS_IN_THE_PAPER},
    "STAN-CT (paper)": {"fusion": "stan_ct", **AS_IN_THE_PAPER},
}
"""The paper's four rows of Table 2, in its order: name -> switches of :func:`method_settings`."""

TABLE_2: Mapping[str, Mapping[str, Any]] = {
    **PAPER_ROWS,
    DEFAULT: {"fusion": "stan_ct"},
    "default, random layout": {"fusion": "stan_ct", "patch_layout": "random"},
    "default, grid of patches": {"fusion": "stan_ct", "patch_layout": "grid"},
    "default, mean weights": {"fusion": "stan_ct", "fusion_weights": "mean"},
    "default, Eq. 7 per patch": {"fusion": "stan_ct", "hu_rescale": "patch"},
    "default, Eq. 7 per slice": {"fusion": "stan_ct", "hu_rescale": "slice"},
    "default, pixel mask": {"fusion": "stan_ct", "mask": "pixel"},
}
"""All rows of Table 2: the paper's, the default, and the default with one switch changed."""
