"""Sections of a report: measurements -> methods text, tables and figures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stan_ct.evaluation.measure.patches import PatchSet
from stan_ct.evaluation.measure.region_features import RoiRows
from stan_ct.evaluation.measure.regions import RoiSettings
from stan_ct.evaluation.measure.series import Measurement
from stan_ct.evaluation.methods.facts import Bootstrap, Patches, Regions
from stan_ct.evaluation.methods.provenance import Subject, gray_levels, methods_record
from stan_ct.evaluation.methods.text import methods_text
from stan_ct.evaluation.settings import Evaluation
from stan_ct.evaluation.statistics.agreement import REPRODUCIBLE
from stan_ct.evaluation.tables.agreement import concordance_table, feature_agreement, feature_table
from stan_ct.evaluation.tables.errors import change_table, comparison_table, error_table
from stan_ct.evaluation.tables.features_csv import NAME
from stan_ct.evaluation.tables.hu import hu_table
from stan_ct.evaluation.tables.image_quality import quality_table
from stan_ct.evaluation.tables.regions import roi_tables, voxel_table
from stan_ct.evaluation.tables.rows import REFERENCE, TARGET, Rows, compared_rows
from stan_ct.features.glcm import ALL_FEATURES
from stan_ct.features.glcm_region import AGGREGATIONS
from stan_ct.features.mirp import FAMILIES
from stan_ct.reconstruction.settings import DEFAULT
from stan_ct.report.blocks import Group, Notice, Text
from stan_ct.report.plots import concordance_plot, forest
from stan_ct.report.sections import FigureSection, Report, Section, Table

Sections = list[Section]

WARNINGS = "Warnings"
"""Heading of what must be read before the results."""

BY_POSITION = (
    "Slices were paired by grid, position and acquisition, not by study and patient: that the series are of one scan, "
    "de-identified apart, is the user's statement."
)

WRITTEN = "written DICOM"
"""Subject of the tables of series."""


def warning_sections(warnings: Sequence[str]) -> Sections:
    """A group of notices before the results; nothing if there are none."""
    return [Group(WARNINGS, tuple(Notice("caution", warning) for warning in warnings))] if warnings else []


def warnings_of(report: Report) -> list[str]:
    """The warnings of a report, for a terminal."""
    groups = [section for section in report.sections if isinstance(section, Group) and section.heading == WARNINGS]
    return [block.text for group in groups for block in group.blocks if isinstance(block, Notice)]


def patch_sections(test: PatchSet, name: str, rows: Rows, settings: Evaluation) -> Sections:
    """Table 1 and what belongs to it, for the test patches of one source kernel."""
    regions = Regions("squares drawn at random where the source is mostly soft tissue", len(test.patients))
    subject = Subject(regions, len(set(test.patients)), separation=test.separation, resized=test.resized)
    methods, sections = _comparison("Table 1", name, rows, test.patients, subject, settings)
    return [Text(f"Patches, {name}", f"{test.described}.\n\n{methods}"), *sections]


def series_sections(measured: Measurement, settings: Evaluation) -> Sections:
    """Written DICOM series against the target; or, without a target, before and after."""
    s, rows = measured.settings, measured.rows
    regions = Patches(s.patch_size, s.stride, s.min_soft_tissue, measured.num_patches)
    subject = Subject(
        regions, len(set(measured.patients)), measured.slices, excluded=measured.excluded, quality=bool(measured.quality)
    )
    if TARGET in rows:
        heading = "Table 2" if settings.table_2_model else "Series"
        quality = quality_table(WRITTEN, measured.quality)
        methods, sections = _comparison(heading, WRITTEN, rows, measured.patients, subject, settings, [quality])
    else:
        methods, sections = _methods(subject, settings), [change_table(rows)]
    paired = f"{BY_POSITION}\n\n" if s.pair_by == "position" else ""
    return [Text("DICOM series", paired + methods), *sections]


def region_sections(rows: RoiRows, regions: RoiSettings, settings: Evaluation) -> Sections:
    """Features of regions of interest."""
    low, high = regions.hu_range
    text = (
        f"{len(rows.rois)} regions of the masks given, with the same voxels in every image: those on slices that all images "
        f"have, and within [{low:g}, {high:g}] HU in all of them. Gray levels of "
        f"{regions.bin_width:g} HU from {low:g} HU on (IBSI Q3RU); co-occurrence at distance 1, {regions.aggregation} "
        f"(IBSI {AGGREGATIONS[regions.aggregation].code}). No image was interpolated."
    )
    text += f" All numbers are in {NAME} too, with a line for each patient, region and image, and a column for each feature."
    text += f" {', '.join(FAMILIES)}: by MIRP, from the same gray levels." if regions.mirp else ""
    tables = roi_tables(rows, "Regions", settings.resamples, settings.seed)
    return [Text("Regions of interest", text), *tables, voxel_table(rows, "Regions")]


def _comparison(
    heading: str,
    name: str,
    rows: Rows,
    patients: np.ndarray,
    subject: Subject,
    settings: Evaluation,
    more: Sequence[Table] = (),
) -> tuple[str, Sections]:
    """Methods text; and tables of errors, tests, HU and concordance, `more` tables, and figures."""
    errors = error_table(heading, name, rows, patients, settings.resamples, settings.seed)
    hu = hu_table(name, rows)
    values = feature_agreement(rows)
    features = feature_table(name, values)
    ours = _tested_row(rows, settings)
    tests = comparison_table(name, rows, ours) if ours else None
    ends = " with their confidence intervals over patients" if subject.patients > 1 else "; one patient, so no intervals"
    agreement = "Concordance with the target of the texture features; dashed, the least that counts as reproducible."
    texture = feature_table("texture", values, ALL_FEATURES)
    return _methods(subject, settings, [errors, hu, *more, features], ours if tests else ""), [
        errors,
        FigureSection(f"Errors, {name}", f"The mean errors of {errors.title}{ends}.", forest(errors)),
        *([tests] if tests else []),
        hu,
        *more,
        concordance_table(name, values),
        FigureSection(f"Concordance, {name}", agreement, concordance_plot(texture, REPRODUCIBLE)),
        features,
    ]


def _tested_row(rows: Rows, settings: Evaluation) -> str:
    """Row that the others are tested against; empty if there is none besides the source."""
    names = [name for name in compared_rows(rows) if name not in REFERENCE]
    return next((name for name in (settings.ours, DEFAULT, *reversed(names)) if name in names), "")


def _methods(subject: Subject, settings: Evaluation, tables: Sequence[Table] = (), tested: str = "") -> str:
    levels, bootstrap = gray_levels(settings.discretization), Bootstrap(settings.resamples, settings.seed)
    return methods_text(methods_record(settings.data, settings.real, subject, levels, bootstrap, tables, tested))
