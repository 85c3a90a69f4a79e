"""What a methods paragraph needs to know: a record of what was done, filled by who did it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from stan_ct.features.glcm import IBSI

DISCRETIZATIONS = {"number": ("fixed bin number", "K15C"), "size": ("fixed bin size", "Q3RU")}
"""How gray levels were chosen -> IBSI's name and code."""

AGGREGATIONS = {
    "2D averaged": "calculated per direction and slice, then averaged",
    "2D slice-merged": "calculated per slice from the matrices of all directions merged, then averaged over slices",
    "2.5D direction-merged": "calculated per direction from the matrices of all slices merged, then averaged",
    "2.5D merged": "calculated from the matrices of all directions and slices merged",
    "3D averaged": "calculated per direction in space, then averaged",
    "3D merged": "calculated from the matrices of all directions in space merged",
}
"""The ways of :data:`~stan_ct.features.glcm_region.AGGREGATIONS`, in words."""


KINDS = {True: "real", False: "simulated", None: "not said to be real or simulated"}
"""What images are, in words."""


@dataclass(frozen=True)
class DataSet:
    """Images that were compared: what they are, whether of people (`real`; None: not known), and how many (None: not known)."""

    description: str
    real: bool | None
    patients: int
    slices: int | None


@dataclass(frozen=True)
class Patches:
    """Regions as a grid of squares: side and stride in px, least part of soft tissue of the source, and how many."""

    size: int
    stride: int
    min_soft_tissue: float
    count: int


@dataclass(frozen=True)
class Regions:
    """Regions drawn or found otherwise: how (in words), how many, and the HU range they were cut to, where they were."""

    segmentation: str
    count: int
    resegmentation: tuple[float, float] | None = None


@dataclass(frozen=True)
class GrayLevels:
    """HU -> gray levels: by a fixed "number" or "size" of bins, how many, how wide (HU), and the range they cover (HU)."""

    by: str
    levels: int
    bin_width: float
    low: float
    high: float


@dataclass(frozen=True)
class Bootstrap:
    """Confidence intervals from resampled patients."""

    resamples: int
    seed: int
    confidence: float = 0.95


@dataclass(frozen=True)
class Concordance:
    """Lin's coefficient and ICC(2,1) per feature: the least of Lin's that counts as reproducible, and over what, in words."""

    threshold: float
    over: str = "patients"


@dataclass(frozen=True)
class PairedTests:
    """Wilcoxon signed-rank tests: what against what, and the number of p values adjusted together."""

    comparison: str
    adjusted_together: int


@dataclass(frozen=True)
class Record:
    """What was done; the methods paragraph says this and no more.

    Attributes:
        data: The images.
        regions: Where features were computed.
        gray_levels: All discretizations that are reported.
        features: Names, as in :data:`~stan_ct.features.glcm.IBSI`.
        versions: Software -> version.
        split: How the patients were kept apart from those of training, in words; empty if that is not known.
        interpolation: How images were resampled, in words; empty if they were not.
        aggregation: One of `AGGREGATIONS`.
        errors: Whether relative errors (Eq. 8) were computed.
        quality: Whether image quality was, as in :mod:`~stan_ct.evaluation.measure.image_quality`.
        bootstrap: None if there are no confidence intervals; so the next two.
        undefined: Reason -> number of values that are undefined for it.
        left_out: Reason -> number of what was left out for it.
        phantom_checked: Whether the published values of IBSI's digital phantom were reproduced by these functions.
    Raises:
        ValueError: If a discretization, aggregation or feature is unknown.
    """

    data: tuple[DataSet, ...]
    regions: Patches | Regions
    gray_levels: tuple[GrayLevels, ...]
    features: tuple[str, ...]
    versions: Mapping[str, str]
    split: str = ""
    interpolation: str = ""
    aggregation: str = "2D averaged"
    errors: bool = True
    quality: bool = False
    bootstrap: Bootstrap | None = None
    concordance: Concordance | None = None
    tests: PairedTests | None = None
    undefined: Mapping[str, int] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    phantom_checked: bool = False

    def __post_init__(self) -> None:
        unknown = [name for name in self.features if name not in IBSI]
        unknown += [levels.by for levels in self.gray_levels if levels.by not in DISCRETIZATIONS]
        unknown += [self.aggregation] if self.aggregation not in AGGREGATIONS else []
        if unknown or not self.data:
            raise ValueError(f"expected data, and discretizations, aggregations and features that are known, not {unknown}")
