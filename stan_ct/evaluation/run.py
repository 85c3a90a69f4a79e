"""What `evaluate.py` does: settings -> measurements -> a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from stan_ct.errors import NotComparable
from stan_ct.evaluation.measure.artefacts import Judge, figure_4
from stan_ct.evaluation.measure.image_quality import quality_table
from stan_ct.evaluation.measure.patches import Method, TestPatches, measure_methods, read_test_patches
from stan_ct.evaluation.measure.region_features import roi_tables
from stan_ct.evaluation.measure.regions import RoiSettings, measure_regions
from stan_ct.evaluation.measure.series import Measurement, Settings, measure
from stan_ct.evaluation.methods import provenance as about
from stan_ct.evaluation.methods.facts import KINDS, Bootstrap, Patches, Regions
from stan_ct.evaluation.methods.text import methods_text
from stan_ct.evaluation.statistics.agreement import REPRODUCIBLE
from stan_ct.evaluation.tables import study
from stan_ct.evaluation.tables.training_figures import errors_by_version, latent_loss
from stan_ct.evaluation.tables.training_record import read_history, read_validation
from stan_ct.features.glcm import ALL_FEATURES, Discretization
from stan_ct.features.glcm_region import AGGREGATIONS
from stan_ct.features.mirp import FAMILIES
from stan_ct.reconstruction.settings import DEFAULT, STRAIGHTFORWARD, TABLE_2
from stan_ct.report.plots import concordance_plot, forest
from stan_ct.report.sections import FigureSection, Provenance, Report, Table, Text

Sections = list[Text | Table | FigureSection]


@dataclass(frozen=True)
class Evaluation:
    """What to evaluate.

    Attributes:
        output_dir: Where the report goes, and beside it what was measured and reconstructed.
        records_dirs: Patch records to test methods on (Table 1).
        split: Which of their patches.
        methods: The rows.
        comparison: DICOM to compare; None for none.
        table_2: Whether to reconstruct `comparison.source_dir` by every row of `TABLE_2`.
        regions: Regions of interest in the series of `comparison`; None for none.
        histories: Method -> training folder, for Figs. 3 and 5.
        ours: The row that others are tested against; empty for the last, of Table 2 for `DEFAULT`.
        data: What the images are, in words.
        real: Whether they are of people; None where that is not known. Series of our simulator are known not to be.
        discretization: HU -> gray levels.
        levels_by: Whether these are of a fixed "number" or "size".
        resamples: Draws of the bootstrap.
        seed: Of the bootstrap.
        workers: Processes that measure.
        command: The command line, for the record.
        flags: The effective flags, one a line.
        models: Name -> SHA-256.
        created: Date and time, for the record.
    Raises:
        NotComparable: If `ours` is no row.
    """

    output_dir: Path
    records_dirs: tuple[Path, ...] = ()
    split: str = "test"
    methods: tuple[Method, ...] = ()
    comparison: Settings | None = None
    table_2: bool = False
    regions: RoiSettings | None = None
    histories: Mapping[str, Path] = field(default_factory=dict)
    ours: str = ""
    data: str = "CT"
    real: bool | None = None
    discretization: Discretization = field(default_factory=Discretization.fixed_number)
    levels_by: str = "number"
    resamples: int = 10_000
    seed: int = 0
    workers: int = 1
    command: str = ""
    flags: str = ""
    models: Mapping[str, str] = field(default_factory=dict)
    created: str = ""

    def __post_init__(self) -> None:
        series = [*(self.comparison.synthesized if self.comparison else ()), *(TABLE_2 if self.table_2 else ())]
        rows = [*(method.name for method in self.methods), *series]
        if self.ours and self.ours not in rows:
            raise NotComparable(f"there is no row {self.ours!r} to test the others against: choose one of {', '.join(rows)}")
        if twice := sorted(name for name, count in Counter(series).items() if count > 1):
            raise NotComparable(f"{twice[0]!r} is a row of Table 2: give the synthesized series another name")


def evaluate(
    settings: Evaluation,
    reconstruct: Callable[[Mapping[str, str], Path], Path] | None = None,
    judge: Judge | None = None,
    progress: Callable = iter,
) -> Report:
    """Measures everything that is asked for.

    Args:
        settings: See there.
        reconstruct: Switches of `TABLE_2` and a folder -> the folder of the series that were written.
        judge: Finds borders of patches that show, for Fig. 4.
        progress: Wraps iterations over files.
    Returns:
        The report.
    Raises:
        FileNotFoundError: If a directory does not exist.
        NotComparable: If what is there cannot be compared as asked.
        ValueError: If a history is none.
    """
    sections: Sections = []
    figures = _history_sections(settings.histories)
    tests = [test for folder in settings.records_dirs for test in read_test_patches(folder, settings.split)]
    for test, name in zip(tests, _names(tests), strict=True):
        sections += _patch_sections(test, name, settings)
    if settings.comparison:
        compared = _with_table_2(settings, reconstruct) if settings.table_2 else settings.comparison
        measured = measure(compared, progress, settings.workers)
        settings = replace(settings, real=False) if measured.simulated else settings
        sections += _series_sections(measured, settings)
        sections += _figure_4(compared, judge) if settings.table_2 and judge else []
        sections += _region_sections(compared, settings) if settings.regions else []
    return Report(f"STAN-CT: {settings.data}", (*sections, *figures), _provenance(settings))


def _names(tests: Sequence[TestPatches]) -> list[str]:
    """Names of tests by their kernels; those of one name, of several records, are numbered."""
    names = [f"{test.kernel} to {test.target_kernel}" for test in tests]
    return [f"{name}, records {names[: i + 1].count(name)}" if names.count(name) > 1 else name for i, name in enumerate(names)]


def _patch_sections(test: TestPatches, name: str, settings: Evaluation) -> Sections:
    """Table 1 and what belongs to it, for one source kernel."""
    cache = settings.output_dir / "measured"
    rows = measure_methods(test, settings.methods, settings.discretization, cache, settings.workers)
    regions = Regions("squares drawn at random where the source is mostly soft tissue", len(test.patients))
    subject = about.Subject(regions, len(set(test.patients)), apart=test.apart, resized=test.resized)
    methods, sections = _compared("Table 1", name, rows, test.patients, subject, settings)
    return [Text(f"Patches, {name}", f"{test.described}.\n\n{methods}"), *sections]


def _series_sections(measured: Measurement, settings: Evaluation) -> Sections:
    """Written DICOM series against the target; or, without one, before and after."""
    s, rows = measured.settings, measured.rows
    regions = Patches(s.patch_size, s.stride, s.min_soft_tissue, measured.patches)
    subject = about.Subject(
        regions, len(set(measured.patients)), measured.slices, left_out=measured.left_out, quality=bool(measured.quality)
    )
    if "target" in rows:
        title, name = "Table 2" if settings.table_2 else "Series", "written DICOM"
        quality = quality_table(f"Image quality, {name}", measured.quality)
        methods, sections = _compared(title, name, rows, measured.patients, subject, settings, [quality])
    else:
        methods, sections = _methods(subject, settings), [study.change_table("Features before and after", rows)]
    return [Text("DICOM series", methods), *sections]


def _region_sections(compared: Settings, settings: Evaluation) -> Sections:
    """Regions of interest instead of patches."""
    regions = settings.regions
    rows = measure_regions(compared, regions)
    low, high = regions.hu_range
    text = (
        f"{len(rows.rois)} regions of the masks given; voxels outside [{low:g}, {high:g}] HU do not count. Gray levels of "
        f"{regions.bin_width:g} HU from {low:g} HU on (IBSI Q3RU); co-occurrence at distance 1, {regions.aggregation} "
        f"(IBSI {AGGREGATIONS[regions.aggregation].code}). No image was interpolated."
    )
    text += f" {', '.join(FAMILIES)}: by MIRP, from the same gray levels." if regions.wider else ""
    return [Text("Regions of interest", text), *roi_tables(rows, "Regions", settings.resamples, settings.seed)]


def _compared(
    title: str,
    name: str,
    rows: study.Rows,
    patients: np.ndarray,
    subject: about.Subject,
    settings: Evaluation,
    more: Sequence[Table] = (),
) -> tuple[str, Sections]:
    """How rows were measured; and errors, differences in HU, more tables, concordance and tests, with their figures."""
    errors = study.error_table(f"{title}, {name}", rows, patients, settings.resamples, settings.seed)
    hu = study.hu_table(f"HU, {name}", rows)
    values, note = study.concordance_values(rows)
    concordance = study.concordance_table(f"Concordance, {name}", values, note)
    features = study.feature_table(f"Concordance by feature, {name}", values)
    ours = _ours(rows, settings)
    tests = study.comparison_table(f"Tests, {name}", rows, ours) if ours else None
    ends = " with their confidence intervals over patients" if subject.patients > 1 else "; one patient, so no intervals"
    caption = f"The mean errors of {errors.title}{ends}."
    agreement = "Concordance with the target of the texture features; dashed, the least that counts as reproducible."
    texture = study.feature_table("texture", values, ALL_FEATURES)
    return _methods(subject, settings, [errors, hu, *more, features], ours if tests else ""), [
        errors,
        FigureSection(f"Errors, {name}", caption, forest(errors)),
        *([tests] if tests else []),
        hu,
        *more,
        concordance,
        FigureSection(f"Concordance, {name}", agreement, concordance_plot(texture, REPRODUCIBLE)),
        features,
    ]


def _ours(rows: study.Rows, settings: Evaluation) -> str:
    """The row that the others are tested against; empty where there is no other than the source's."""
    names = [name for name in study.methods_of(rows) if name not in study.REFERENCE]
    for chosen in (settings.ours, DEFAULT, *reversed(names)):
        if chosen in names:
            return chosen
    return ""


def _methods(subject: about.Subject, settings: Evaluation, tables: Sequence[Table] = (), tested: str = "") -> str:
    levels = about.gray_levels(settings.discretization, settings.levels_by)
    draws = Bootstrap(settings.resamples, settings.seed)
    return methods_text(about.record(settings.data, settings.real, subject, levels, draws, tables, tested))


def _with_table_2(settings: Evaluation, reconstruct: Callable[[Mapping[str, str], Path], Path]) -> Settings:
    """The comparison of what every row of Table 2 makes of the source, which is made where it is not there yet."""
    folder = settings.output_dir / "table_2"
    made = {name: reconstruct(switches, folder / study.file_part(name)) for name, switches in TABLE_2.items()}
    return replace(settings.comparison, synthesized={**settings.comparison.synthesized, **made})


def _figure_4(compared: Settings, judge: Judge) -> Sections:
    made = {"straightforward": compared.synthesized[STRAIGHTFORWARD], "stan_ct": compared.synthesized[DEFAULT]}
    figure = figure_4(compared.source_dir, made, compared.only_instances, judge)
    return [figure] if figure else []


def _history_sections(histories: Mapping[str, Path]) -> Sections:
    """Fig. 3 of all histories together, Fig. 5 of each."""
    if not histories:
        return []
    curves = {name: read_validation(folder / "validation.csv") for name, folder in histories.items()}
    caption = "Validation error (Eq. 8) of the source (version 0) and of every version of G."
    figures: Sections = [FigureSection("Fig. 3, errors by version", caption, errors_by_version(curves))]
    for name, folder in histories.items():
        caption = f"Latent loss (Eq. 5) of {name}, batch by batch, with the starts of D- and G-phases."
        curve = latent_loss(read_history(folder / "history.csv"))
        figures.append(FigureSection(f"Fig. 5, latent loss, {name}", caption, curve))
    return figures


def _provenance(settings: Evaluation) -> Provenance:
    more = about.NETWORKS if settings.models else ()
    more += about.WIDER if settings.regions and settings.regions.wider else ()
    return Provenance(
        command=settings.command,
        data={"images": settings.data, "kind": KINDS[settings.real]},
        settings=about.settings_of(settings.flags) | {"gray levels": str(settings.discretization)},
        seeds={"bootstrap": settings.seed},
        models=settings.models,
        versions=about.versions(*more, *about.COMBAT),
        created=settings.created,
    )


def named(items: Sequence[str]) -> dict[str, Path]:
    """NAME=DIR or DIR, whose name is then its own -> name -> directory.

    Raises:
        ValueError: If two have one name, or one has none.
    """
    pairs = [item.partition("=")[::2] if "=" in item else (Path(item).resolve().name, item) for item in items]
    if not all(name.strip() and folder for name, folder in pairs):
        raise ValueError(f"expected NAME=DIR or DIR, got {', '.join(items)}")
    found = {name.strip(): Path(folder) for name, folder in pairs}
    if len(found) < len(pairs):
        raise ValueError(f"two directories have one name, {', '.join(name for name, _ in pairs)}: give NAME=DIR")
    return found
