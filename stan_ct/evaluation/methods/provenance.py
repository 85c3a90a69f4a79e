"""What a report says of itself: the methods paragraph of what was measured, and where all of it comes from."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stan_ct import __version__
from stan_ct.evaluation.measure.measurement import FIRST_ORDER
from stan_ct.evaluation.methods.facts import Bootstrap, Concordance, DataSet, GrayLevels, PairedTests, Patches, Record, Regions
from stan_ct.evaluation.tables import study
from stan_ct.features.glcm import ALL_FEATURES, FEATURES, Discretization
from stan_ct.report.sections import Table

PACKAGES = ("numpy", "scipy", "scikit-image", "opencv-python-headless", "pydicom", "matplotlib")
"""What measures, and draws."""

NETWORKS, COMBAT, WIDER = ("tensorflow", "keras"), ("neuroCombat",), ("mirp",)
"""What makes images of a model, harmonizes features, and measures texture beyond co-occurrence."""

RESIZED = "patches of other sides were resized to 256 x 256 pixels when the records were made, source and target alike"

OVER = f"patches, of these and of {len(FIRST_ORDER)} first-order features"


@dataclass(frozen=True)
class Subject:
    """What was measured on which patches.

    Attributes:
        regions: The patches.
        patients: How many there are.
        slices: How many, where that is known.
        apart: How the patients were kept apart from those of training, in words.
        resized: Whether patches were resized.
        left_out: Reason -> how many were left out for it.
        quality: Whether image quality was measured beside.
    """

    regions: Patches | Regions
    patients: int
    slices: int | None = None
    apart: str = ""
    resized: bool = False
    left_out: Mapping[str, int] | None = None
    quality: bool = False


def gray_levels(levels: Discretization, by: str) -> GrayLevels:
    """HU -> gray levels, for the record; `by` a fixed "number" or "size"."""
    return GrayLevels(by, levels.levels, levels.bin_width, levels.low, levels.low + levels.levels * levels.bin_width)


def record(
    data: str,
    real: bool | None,
    subject: Subject,
    levels: GrayLevels,
    draws: Bootstrap,
    tables: Sequence[Table],
    tested: str = "",
) -> Record:
    """What the methods paragraph is written from.

    Args:
        data: What the images are, in words.
        real: Whether they are of people; None where that is not known.
        subject: What was measured.
        levels: HU -> gray levels.
        draws: Of patients, for the intervals.
        tables: Errors, concordance and differences in HU that were made; none where there is no target.
        tested: The row that the others were tested against; empty if there was no test.
    """
    compared = bool(tables)
    comparison = f"the errors of every other row and those of {tested}, patch by patch,"
    return Record(
        data=(DataSet(data, real, subject.patients, subject.slices),),
        regions=subject.regions,
        gray_levels=(levels,),
        features=ALL_FEATURES,
        versions=versions(),
        split=subject.apart,
        interpolation=RESIZED if subject.resized else "",
        errors=compared,
        quality=subject.quality,
        bootstrap=draws if compared and subject.patients > 1 else None,
        concordance=Concordance(study.REPRODUCIBLE, OVER) if compared else None,
        tests=PairedTests(comparison, len(FEATURES)) if tested else None,
        undefined=study.undefined(tables),
        left_out=subject.left_out or {},
        phantom_checked=True,  # tests/features/test_glcm_region.py, and test_glcm.py: these are the same definitions
    )


def versions(*more: str) -> dict[str, str]:
    """Software -> version, of what measures and of more packages where they are installed."""
    found = {"stan-ct": __version__}
    for name in (*PACKAGES, *more):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def settings_of(flags: str) -> dict[str, str]:
    """Flags, one a line as in a flag file, -> flag -> value; a flag that is given several times has its values listed."""
    found: dict[str, str] = {}
    for name, _, value in (line.removeprefix("--").partition("=") for line in flags.splitlines()):
        if value:
            found[name] = f"{found[name]}, {value}" if name in found else value
    return found
