"""What is asked for, as plain values that any process can read, and the run that it becomes there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2

from stan_ct.dicom.series import SeriesFiles
from stan_ct.engines.engine import EngineName
from stan_ct.networks.precision import Precision
from stan_ct.parallel import at_most, report
from stan_ct.quiet import quiet_start
from stan_ct.reconstruction.accounts import Record
from stan_ct.reconstruction.choosing import Choice
from stan_ct.reconstruction.loading import load_models
from stan_ct.reconstruction.one_series import standardize_one
from stan_ct.reconstruction.request import Run
from stan_ct.reconstruction.settings import FusionMethod


@dataclass(frozen=True)
class ReconstructSettings:
    """A request to standardize every CT series below a directory.

    Attributes:
        input_dir: Series, study, any tree; or one file.
        output_dir: Directory for series, manifest, table and report; not searched for sources.
        models: Names or folders of models; "auto" stands for all that ship. Each series is standardized with the first that
            was made for its protocol.
        target: Kernel of the standard protocol, to choose among models; empty for any.
        slice_thickness: Thickness of the slices to make, mm, if the missing ones between those of the source are to be written
            too; 0: slices stay where they are.
        fusion: Method, a row of the paper's Table 2.
        switches: Overrides of the method's settings; None leaves the method's own.
        engine: What computes the networks.
        precision: Number type of their hidden layers.
        allow_out_of_protocol: Whether to go on with series that no model was made for.
        flat: Whether series lie side by side in the output, rather than as in the input.
        overwrite: Whether to replace series that were made with other settings.
        show_identifiers: Whether manifest, report and table name source files and Patient IDs.
        dry_run: Whether to list only what would be done.
        command: Command line, for the manifest.
        workers: Number of processes that standardize series; the cores are shared out among them.
        choice: Which of the series that are found are standardized.
        shard: `i/n`: every n-th series, from the i-th on, is standardized, and no account written; empty: all.
        archive: The archive from which `input_dir` was unpacked, or the NIfTI input of which it was made, if it was.
        kernel: Reconstruction kernel of NIfTI files, which cannot say it; empty where their sidecars do.
        nifti: Whether the derived series are written as NIfTI too.
    """

    input_dir: Path
    output_dir: Path
    models: Sequence[str] = ("auto",)
    target: str = ""
    slice_thickness: float = 0.0
    fusion: FusionMethod = "stan_ct"
    switches: dict[str, Any] = field(default_factory=dict)
    engine: EngineName = "auto"
    precision: Precision = "auto"
    allow_out_of_protocol: bool = False
    flat: bool = False
    overwrite: bool = False
    show_identifiers: bool = False
    dry_run: bool = False
    command: str = ""
    workers: int = 1
    choice: Choice = field(default_factory=Choice)
    shard: str = ""
    archive: Path | None = None
    kernel: str = ""
    nifti: bool = False


def prepare_run(settings: ReconstructSettings, slices_at_once: int) -> Run:
    """Loads the models of a request; their networks are loaded when a slice needs them.

    Args:
        settings: The request.
        slices_at_once: Number of slices under way at a time.
    Raises:
        UsageError: If there is no such model, or switches exclude each other.
    """
    options = {"engine": settings.engine, "precision": settings.precision, "fusion": settings.fusion, **settings.switches}
    cv2.setNumThreads(1)  # slices are under way on all cores
    models = load_models(
        settings.models,
        settings.target,
        settings.slice_thickness,
        loading=quiet_start,
        slices_at_once=slices_at_once,
        **options,
    )
    return Run(
        settings.input_dir,
        settings.output_dir,
        models,
        settings.command,
        settings.allow_out_of_protocol,
        settings.flat,
        settings.overwrite,
        settings.show_identifiers,
        settings.archive,
    )


def standardize_there(
    settings: ReconstructSettings, slices_at_once: int, files: SeriesFiles, created: datetime, series_number: int
) -> Record:
    """A task of a worker: standardizes one series, and reports its slices as they are done.

    Args:
        settings: The request that the series belongs to.
        slices_at_once: Number of slices under way at a time.
        files: The series.
        created: Creation time of the derived series.
        series_number: Its Series Number.
    """

    def followed(slices: Any) -> Any:
        for item in slices:
            yield item
            report(1)

    with at_most(slices_at_once):  # engines too: other workers have the other cores
        return standardize_one(files, _run_of(settings, slices_at_once), created, series_number, followed)


_prepared: list[tuple[ReconstructSettings, int, Run]] = []


def _run_of(settings: ReconstructSettings, slices_at_once: int) -> Run:
    """The run of a request; in a process it is prepared once."""
    for known, at_once, run in _prepared:
        if (known, at_once) == (settings, slices_at_once):
            return run
    _prepared[:] = [(settings, slices_at_once, prepare_run(settings, slices_at_once))]
    return _prepared[0][2]
