"""The workflow of `evaluate.py`: settings -> measurements -> report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from stan_ct.evaluation.measure.artefacts import ROWS, figure_4
from stan_ct.evaluation.measure.pairs import read_headers
from stan_ct.evaluation.measure.patches import Method, PatchSet, measure_methods, read_test_patches
from stan_ct.evaluation.measure.regions import measure_regions
from stan_ct.evaluation.measure.series import measure_series
from stan_ct.evaluation.measure.training_logs import read_history, read_validation
from stan_ct.evaluation.measure.training_slices import patch_warnings, without_training_slices
from stan_ct.evaluation.methods import provenance
from stan_ct.evaluation.methods.facts import KINDS
from stan_ct.evaluation.sections import Sections, patch_sections, region_sections, series_sections, warning_sections
from stan_ct.evaluation.settings import Evaluation
from stan_ct.evaluation.table_1 import load_methods, model_sha256
from stan_ct.evaluation.table_2 import reconstruct_table_2
from stan_ct.evaluation.tables import features_csv
from stan_ct.evaluation.tables.regions import loss_sentence
from stan_ct.evaluation.tables.training_plots import errors_by_version, latent_loss
from stan_ct.report.sections import FigureSection, Provenance, Report


def evaluate(settings: Evaluation, progress: Callable[[Iterable], Iterable] = iter) -> Report:
    """Measures everything that the settings ask for.

    Args:
        settings: What to evaluate, and how.
        progress: Wrapper of iterations over files, such as `tqdm`.
    Returns:
        The report; :func:`~stan_ct.report.files.write_report` writes it.
    Raises:
        FileNotFoundError: If a directory or model does not exist.
        NotComparable: If the images cannot be compared as requested.
        ValueError: If a model or a training log cannot be read.
    """
    training = _training_figures(settings.histories)
    methods = load_methods(settings.models)
    hashes = {method.name: method.sha256 for method in methods}
    if settings.table_2_model:
        hashes["Table 2"] = model_sha256(settings.table_2_model)
    patches, series = _test_patches(settings, methods), _series(settings, progress)
    warnings = [*_patch_warnings(settings), *series.warnings]
    title = f"STAN-CT: {settings.data}"
    sections = (*warning_sections(warnings), *patches, *series.sections, *training)
    return Report(title, sections, _provenance(replace(settings, real=series.real), hashes), beside=series.beside)


def _test_patches(settings: Evaluation, methods: list[Method]) -> Sections:
    """Table 1 and what belongs to it, for each source kernel of each folder of records."""
    tests = [test for folder in settings.records_dirs for test in read_test_patches(Path(folder), settings.split)]
    cache, sections = settings.output_dir / "measured", []
    for test, subject in zip(tests, _subjects(tests), strict=True):
        rows = measure_methods(test, methods, settings.discretization, cache, settings.workers)
        sections += patch_sections(test, subject, rows, settings)
    return sections


def _patch_warnings(settings: Evaluation) -> list[str]:
    """Warnings where models were trained on slices of the patches."""
    folders = _model_folders(settings)
    return [text for records in settings.records_dirs for text in patch_warnings(Path(records), settings.split, folders)]


def _model_folders(settings: Evaluation) -> dict[str, Path]:
    return {name: model for name, model in settings.models.items() if not isinstance(model, Method)}


def _subjects(tests: list[PatchSet]) -> list[str]:
    """Kernels of test patches, such as "BL57 to BL64"; numbered where several folders have the same kernels."""
    names = [f"{test.kernel} to {test.target_kernel}" for test in tests]
    return [f"{name}, records {names[: i + 1].count(name)}" if names.count(name) > 1 else name for i, name in enumerate(names)]


class _SeriesReport(NamedTuple):
    """Sections of DICOM series, whether they are of people, what must be read before the results, and further files."""

    sections: Sections
    real: bool | None
    warnings: list[str]
    beside: dict[str, str]


def _series(settings: Evaluation, progress: Callable[[Iterable], Iterable]) -> _SeriesReport:
    """Sections of DICOM series, with Table 2, Fig. 4 and regions of interest."""
    series = settings.series
    if series is None:
        return _SeriesReport([], settings.real, [], {})
    table_2 = {"Table 2": settings.table_2_model} if settings.table_2_model else {}
    source, models = read_headers(series.source_dir, "source", progress), {**_model_folders(settings), **table_2}
    series, seen = without_training_slices(series, source, models, settings.include_training_slices)
    if settings.table_2_model:
        series = reconstruct_table_2(series, settings.table_2_model, settings.output_dir / "table_2", settings.command)
    others = {name: folder for name, folder in series.directories.items() if name != "source"}
    headers = {"source": source, **{name: read_headers(folder, name, progress) for name, folder in others.items()}}
    measured = measure_series(series, headers, settings.workers)
    real = False if measured.simulated else settings.real
    warnings = [*seen, measured.warning] if measured.warning else seen
    found = _SeriesReport(series_sections(measured, replace(settings, real=real)), real, warnings, {})
    if settings.table_2_model:
        made = {name: headers[row] for name, row in ROWS.items()}
        figure = figure_4(headers["source"], made, series.only_instances, pair_by=series.pair_by)
        found.sections.extend([figure] if figure else [])
    if settings.regions:
        rows = measure_regions(headers, settings.regions, series.only_instances, series.pair_by)
        found.sections.extend(region_sections(rows, settings.regions, settings))
        found.warnings.extend(f"{name} has no regions: {reason}" for name, reason in rows.skipped.items())
        found.warnings.extend(loss_sentence(rows, roi) for roi in rows.lost)
        found.beside[features_csv.NAME] = features_csv.features_csv(rows)
    return found


def _training_figures(histories: Mapping[str, Path]) -> Sections:
    """Fig. 3 of all trainings together, Fig. 5 of each."""
    if not histories:
        return []
    curves = {name: read_validation(folder / "validation.csv") for name, folder in histories.items()}
    caption = "Validation error (Eq. 8) of the source (version 0) and of every version of G."
    figures: Sections = [FigureSection("Fig. 3, errors by version", caption, errors_by_version(curves))]
    for name, folder in histories.items():
        caption = f"Latent loss (Eq. 5) of {name}, batch by batch, with the starts of D- and G-phases."
        image = latent_loss(read_history(folder / "history.csv"))
        figures.append(FigureSection(f"Fig. 5, latent loss, {name}", caption, image))
    return figures


def _provenance(settings: Evaluation, hashes: Mapping[str, str]) -> Provenance:
    packages = list(provenance.NETWORKS if hashes else ())
    packages += provenance.MIRP if settings.regions and settings.regions.mirp else ()
    return Provenance(
        command=settings.command,
        data={"images": settings.data, "kind": KINDS[settings.real]},
        settings=provenance.settings_of(settings.flags) | {"gray levels": str(settings.discretization)},
        seeds={"bootstrap": settings.seed},
        models=hashes,
        versions=provenance.versions(*packages),
        created=settings.created,
    )
