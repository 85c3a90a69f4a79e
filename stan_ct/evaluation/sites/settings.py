"""What to compare of several sites, and how: the settings of :func:`~stan_ct.evaluation.sites.run.compare_sites`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stan_ct.ct.hounsfield import SOFT_TISSUE
from stan_ct.errors import UsageError
from stan_ct.features.glcm_region import AGGREGATIONS
from stan_ct.options import check, option
from stan_ct.patches.where import Condition


@dataclass(frozen=True)
class SiteSettings:
    """Sites, regions and statistics.

    Attributes:
        sites: Name -> folder of the DICOM of a site.
        standardized: Folder of the standardized series of all sites that were standardized; None without.
        masks: Files or folders of regions (SEG, RTSTRUCT, NIfTI), as :class:`~stan_ct.evaluation.measure.regions.RoiSettings`.
        masks_beside: Whether masks lie beside the series, in the folders of the sites. Without either, lung and soft tissue
            are compared.
        covariates: CSV with a line for each patient; None without.
        where: Site -> conditions on its series, for folders that hold several protocols.
    Raises:
        UsageError: If there are not two sites, or a setting is out of its range.
    """

    sites: Mapping[str, Path]
    standardized: Path | None = None
    masks: tuple[Path, ...] = ()
    masks_beside: bool = False
    covariates: Path | None = None
    where: Mapping[str, tuple[Condition, ...]] = field(default_factory=dict)
    region: str = option("", help="Regions to compare, by name, such as GTV*; the largest of a patient counts.")
    bin_width: float = option(25.0, help="Width of a gray level, HU (IBSI fixed bin size).", minimum=1)
    aggregation: str = option("2.5D merged", help="Aggregation of co-occurrence: 2.5D merged, 3D merged ...")
    hu_range: tuple[float, float] = SOFT_TISSUE
    slices: int = option(24, help="Slices of a series for noise, HU and, without masks, features: evenly spaced.", minimum=1)
    repeats: int = option(5, help="Times that the patients are dealt to folds.", minimum=1)
    permutations: int = option(100, help="Permutations of the sites for each classifier.", minimum=1)
    seed: int = option(0, help="Seed of folds and permutations.")
    show_identifiers: bool = option(False, help="Write Patient IDs into the CSV files; otherwise numbers stand for them.")

    def __post_init__(self) -> None:
        check(self)
        if len(self.sites) < 2:
            raise UsageError(f"expected two sites or more, got {', '.join(self.sites) or 'none'}: --site=A=DIR --site=B=DIR")
        if unknown := set(self.where) - set(self.sites):
            raise UsageError(f"--where names {', '.join(sorted(unknown))}, expected one of {', '.join(self.sites)}")
        if self.aggregation not in AGGREGATIONS:
            raise UsageError(f"aggregation must be one of {', '.join(AGGREGATIONS)}, not {self.aggregation!r}")
