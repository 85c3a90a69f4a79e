"""Facts for the methods paragraph and for the provenance of a report."""

from __future__ import annotations

import importlib.metadata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stan_ct import __version__
from stan_ct.evaluation.measure.measurement import FIRST_ORDER
from stan_ct.evaluation.methods.facts import Bootstrap, Concordance, DataSet, GrayLevels, PairedTests, Patches, Record, Regions
from stan_ct.evaluation.statistics.agreement import REPRODUCIBLE
from stan_ct.features.glcm import ALL_FEATURES, FEATURES, Discretization
from stan_ct.report.sections import Table

PACKAGES = ("numpy", "scipy", "scikit-image", "opencv-python-headless", "pydicom", "matplotlib")
"""Packages that measure and draw."""

NETWORKS, MIRP = ("tensorflow", "keras"), ("mirp",)
"""Packages that run models, and measure texture beyond co-occurrence."""

RESIZED = "patches of other sides were resized to 256 x 256 pixels when the records were made, source and target alike"

OVER = f"patches, of these and of {len(FIRST_ORDER)} first-order features"


@dataclass(frozen=True)
class Subject:
    """Images that were measured.

    Attributes:
        regions: Patches or regions.
        patients: Number of patients.
        slices: Number of slices; None if unknown.
        separation: How the patients were separated from those of training, in words; empty if unknown.
        resized: Whether patches were resized.
        excluded: Reason -> number of what was excluded for it.
        quality: Whether image quality was measured too.
    """

    regions: Patches | Regions
    patients: int
    slices: int | None = None
    separation: str = ""
    resized: bool = False
    excluded: Mapping[str, int] | None = None
    quality: bool = False


def gray_levels(levels: Discretization) -> GrayLevels:
    """Gray levels as the record describes them."""
    return GrayLevels(levels.fixed, levels.levels, levels.bin_width, levels.low, levels.low + levels.levels * levels.bin_width)


def methods_record(
    data: str,
    real: bool | None,
    subject: Subject,
    levels: GrayLevels,
    bootstrap: Bootstrap,
    tables: Sequence[Table],
    tested: str = "",
) -> Record:
    """Record from which the methods paragraph is written.

    Args:
        data: What the images are, in words.
        real: Whether the images are of people; None if unknown.
        subject: Images that were measured.
        levels: Gray levels.
        bootstrap: Bootstrap of patients, for confidence intervals.
        tables: Tables of errors, concordance and HU; empty without a target.
        tested: Row that the others were tested against; empty without tests.
    """
    compared = bool(tables)
    comparison = f"the errors of every other row and those of {tested}, patch by patch,"
    return Record(
        data=(DataSet(data, real, subject.patients, subject.slices),),
        regions=subject.regions,
        gray_levels=(levels,),
        features=ALL_FEATURES,
        versions=versions(),
        split=subject.separation,
        interpolation=RESIZED if subject.resized else "",
        errors=compared,
        quality=subject.quality,
        bootstrap=bootstrap if compared and subject.patients > 1 else None,
        concordance=Concordance(REPRODUCIBLE, OVER) if compared else None,
        tests=PairedTests(comparison, len(FEATURES)) if tested else None,
        undefined=count_undefined(tables),
        excluded=subject.excluded or {},
    )


def count_undefined(tables: Iterable[Table]) -> Counter[str]:
    """Reason -> number of undefined values in tables: those excluded from averages, or else undefined cells."""
    counts: Counter[str] = Counter()
    for cell in (cell for table in tables for row in table.rows.values() for cell in row):
        counts[cell.reason] += cell.undefined or int(np.isnan(cell.mean))
    return +counts


def versions(*more: str) -> dict[str, str]:
    """Software -> version: the packages that measure, and `more` packages if they are installed."""
    found = {"stan-ct": __version__}
    for name in (*PACKAGES, *more):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def settings_of(flags: str) -> dict[str, str]:
    """Flag -> value, from the lines of a flag file; the values of a flag that is given several times are listed."""
    found: dict[str, str] = {}
    for name, _, value in (line.removeprefix("--").partition("=") for line in flags.splitlines()):
        if value:
            found[name] = f"{found[name]}, {value}" if name in found else value
    return found
