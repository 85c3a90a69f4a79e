"""`stan-ct reconstruct`, from the input directory to the summary."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
from tqdm import tqdm

from stan_ct.dicom.characteristics import read_characteristics
from stan_ct.dicom.find import Inventory, find_series
from stan_ct.dicom.identity import creation_time
from stan_ct.dicom.refusal import Refused
from stan_ct.dicom.series import SeriesFiles
from stan_ct.engines.engine import EngineName
from stan_ct.errors import UsageError
from stan_ct.networks.precision import Precision
from stan_ct.parallel import usable_cores
from stan_ct.quiet import quiet_start
from stan_ct.reconstruction.accounts import REPORT
from stan_ct.reconstruction.cohort import standardize_cohort
from stan_ct.reconstruction.loading import load_models
from stan_ct.reconstruction.lock import STATE
from stan_ct.reconstruction.manifest import printable
from stan_ct.reconstruction.request import Run
from stan_ct.reconstruction.rerun import INDEX, check_output, check_place, finished_series, remove_index
from stan_ct.reconstruction.settings import FusionMethod

ALL_GOOD, SOME_REFUSED, NOTHING = 0, 2, 3
"""Exit codes."""


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


def reconstruct(settings: ReconstructSettings) -> int:
    """Standardizes every CT series below a directory.

    Returns:
        Exit code: 0 all good, 2 some series or slices were refused or failed, 3 no series was standardized.
    Raises:
        UsageError: If the input does not exist, the output cannot be used, or there is no such model.
    """
    options = {"engine": settings.engine, "precision": settings.precision, "fusion": settings.fusion, **settings.switches}
    cores = usable_cores()
    if cores > 1:
        cv2.setNumThreads(1)  # slices are under way on all cores
    models = load_models(
        settings.models, settings.target, settings.slice_thickness, loading=quiet_start, slices_at_once=cores, **options
    )
    run = Run(
        settings.input_dir,
        settings.output_dir,
        models,
        settings.command,
        settings.allow_out_of_protocol,
        settings.flat,
        settings.overwrite,
        settings.show_identifiers,
    )
    try:
        creation_time()
    except ValueError as error:  # SOURCE_DATE_EPOCH is no time
        raise UsageError(str(error)) from error
    if not run.input_dir.exists():
        raise UsageError(f"{run.input_dir} does not exist: expected a folder or a file with CT slices")
    check_place(run)
    is_new = not (run.output_dir / STATE).exists()
    inventory = find_series(
        run.input_dir,
        exclude=[run.output_dir],
        progress=lambda p: _bar(p, "reading headers", "file"),
        index=None if settings.dry_run else run.output_dir / INDEX,
        workers=cores,
    )
    if is_new and not (inventory.series or inventory.refusals):
        remove_index(run.output_dir)
    try:
        _check(run, inventory, is_new)
        print(f"{printable(run.input_dir)}: {len(inventory.series)} CT series, {inventory.slices} slices")
        _print_skipped(inventory)
        if settings.dry_run:
            return _rehearse(inventory, run)
        if not (inventory.series or inventory.refusals):
            print("nothing was written: expected single-frame CT slices (DICOM) in this folder, or in folders below it")
            return NOTHING
        outcome = standardize_cohort(inventory, run, _bar, tqdm.write)
    except OSError as error:  # of one series it would concern that series alone
        reason = f"the output could not be written: {error}"
        raise UsageError(f"{reason}. Finished series are kept; free space, or choose another --output_dir") from error
    counts = [f"{outcome.count('written')} of {len(outcome.records)} series written"]
    counts += [f"{outcome.kept} of them kept from an earlier run"] if outcome.kept else []
    counts += [f"{outcome.count('left_alone')} left alone"] if outcome.count("left_alone") else []
    print(f"{', '.join(counts)}. Report: {printable(run.output_dir / REPORT)}")
    return outcome.exit_code


def _check(run: Run, inventory: Inventory, is_new: bool) -> None:
    """Refuses an output directory, see :func:`check_output`; one that is new is left as it was."""
    try:
        check_output(run, inventory)
    except UsageError:
        if is_new:
            remove_index(run.output_dir)
        raise


def _rehearse(inventory: Inventory, run: Run) -> int:
    """Says what the run would do with each series, from headers and the slices on which noise is measured.

    Returns:
        Exit code that the run would have, unless slices or files turn out to be damaged.
    """
    statuses = []
    for files in inventory.series:
        status, words = _foresee(files, run)
        statuses.append(status)
        shape = " x ".join(map(str, files.shape))
        print(f"  {files.name}: kernel {files.kernel}, {shape}: {words}")
    if all(status == "refused" for status in statuses):
        return NOTHING
    return SOME_REFUSED if inventory.refusals or "refused" in statuses else ALL_GOOD


def _foresee(files: SeriesFiles, run: Run) -> tuple[str, str]:
    if finished_series(files, run) is not None:
        return "written", "would be kept, an earlier run finished it"
    try:
        model, verdict = run.models.choose(files.kernel, read_characteristics(files))
        cautions = model.check(files, verdict, run.allow_out_of_protocol)
    except Refused as refused:
        if refused.reason == "standard_protocol":
            return "left_alone", "would be left alone, it has the standard protocol"
        return "refused", f"would be refused, {refused.reason}: {refused.found}"
    target = printable(run.output_dir / run.folder_of(files))
    caution = ", OUT OF PROTOCOL" if cautions else ""
    return "written", f"would be standardized with {model.label}{caution} -> {target}"


def _print_skipped(inventory: Inventory) -> None:
    for kind, count in sorted(inventory.skipped.items()):
        print(f"  skipped: {count} x {kind}")
    for refusal in inventory.refusals:
        names = ", ".join(printable(Path(path.name)) for path in refusal.paths[:3])
        print(f"  refused: {names}: {refusal.reason}: {refusal.found}. {refusal.advice}")


def _bar(items: Iterable, description: str, unit: str = "slice") -> Iterable:
    """A progress bar, on terminals only."""
    return tqdm(items, desc=description, unit=unit, leave=False, disable=None)
