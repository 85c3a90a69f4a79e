"""Facts that the methods paragraph of a report states: a record of what was measured, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from stan_ct.features.glcm import IBSI

DISCRETIZATIONS = {"number": ("fixed bin number", "K15C"), "size": ("fixed bin size", "Q3RU")}
"""What is fixed about the gray levels -> IBSI's name and code."""

AGGREGATIONS = {
    "2D averaged": "calculated per direction and slice, then averaged",
    "2D slice-merged": "calculated per slice from the matrices of all directions merged, then averaged over slices",
    "2.5D direction-merged": "calculated per direction from the matrices of all slices merged, then averaged",
    "2.5D merged": "calculated from the matrices of all directions and slices merged",
    "3D averaged": "calculated per direction in space, then averaged",
    "3D merged": "calculated from the matrices of all directions in space merged",
}
"""Key of :data:`~stan_ct.features.glcm_region.AGGREGATIONS` -> description."""

KINDS = {True: "real", False: "simulated", None: "not said to be real or simulated"}
"""Whether images are of people -> description."""


@dataclass(frozen=True)
class DataSet:
    """Images that were compared.

    Attributes:
        description: What the images are, in words.
        real: Whether the images are of people; None if unknown.
        patients: Number of patients.
        slices: Number of slices; None if unknown.
    """

    description: str
    real: bool | None
    patients: int
    slices: int | None


@dataclass(frozen=True)
class Patches:
    """Regions on a grid: side and stride of the squares, px; least share of soft tissue in the source; their number."""

    size: int
    stride: int
    min_soft_tissue: float
    count: int


@dataclass(frozen=True)
class Regions:
    """Other regions: how they were segmented, in words; their number; range they were re-segmented to, HU, if they were."""

    segmentation: str
    count: int
    resegmentation: tuple[float, float] | None = None


@dataclass(frozen=True)
class GrayLevels:
    """Gray levels: fixed "number" or "size" of bins; number and width (HU) of the levels; range that they cover, HU."""

    by: str
    levels: int
    bin_width: float
    low: float
    high: float


@dataclass(frozen=True)
class Bootstrap:
    """Confidence intervals from bootstrap samples of patients."""

    resamples: int
    seed: int
    confidence: float = 0.95


@dataclass(frozen=True)
class Concordance:
    """Lin's coefficient and ICC(2,1) of each feature: threshold of a reproducible feature, and over what they were computed."""

    threshold: float
    over: str = "patients"


@dataclass(frozen=True)
class PairedTests:
    """Wilcoxon signed-rank tests: what was compared with what, and number of p values that were adjusted together."""

    comparison: str
    adjusted_together: int


@dataclass(frozen=True)
class Record:
    """What was measured, and how; the methods paragraph states this and nothing else.

    Attributes:
        data: Images.
        regions: Regions in which features were computed.
        gray_levels: Discretizations.
        features: Names of the features, keys of :data:`~stan_ct.features.glcm.IBSI`.
        versions: Software -> version.
        split: How the patients were separated from those of training, in words; empty if unknown.
        interpolation: How images were resampled, in words; empty if they were not.
        aggregation: Aggregation, a key of `AGGREGATIONS`.
        errors: Whether relative errors (Eq. 8) were computed.
        quality: Whether image quality was measured, as in :mod:`~stan_ct.evaluation.measure.image_quality`.
        bootstrap: Confidence intervals; None without them.
        concordance: Concordance; None if it was not computed.
        tests: Tests; None without them.
        undefined: Reason -> number of values that are undefined for it.
        excluded: Reason -> number of what was excluded for it.
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
    excluded: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = [name for name in self.features if name not in IBSI]
        unknown += [levels.by for levels in self.gray_levels if levels.by not in DISCRETIZATIONS]
        unknown += [self.aggregation] if self.aggregation not in AGGREGATIONS else []
        if unknown or not self.data:
            raise ValueError(f"expected data, and discretizations, aggregations and features that are known, not {unknown}")
