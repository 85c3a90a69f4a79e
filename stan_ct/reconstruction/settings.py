"""The switches of Steps 1 - 3, and which of them make the methods of Table 2."""

from __future__ import annotations

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
        patch_layout: `grid`, `random` (the paper), `slice`, or `tiles` (of the straightforward method).
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
    patch_layout: Layout = "grid"
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
