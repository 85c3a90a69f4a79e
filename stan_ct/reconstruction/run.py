"""`stan-ct reconstruct`, from the input directory to the summary."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from tqdm import tqdm

from stan_ct.dicom.archive import folder_of_medium, is_archive, missing_from_medium, unpacked
from stan_ct.dicom.characteristics import read_characteristics
from stan_ct.dicom.find import Inventory, find_series
from stan_ct.dicom.identity import creation_time
from stan_ct.dicom.nifti_files import nifti_files
from stan_ct.dicom.refusal import Refusal, Refused
from stan_ct.dicom.series import SeriesFiles
from stan_ct.errors import UsageError
from stan_ct.parallel import Workers, usable_cores
from stan_ct.reconstruction.accounts import REPORT, Record
from stan_ct.reconstruction.cohort import series_of_shard, standardize_cohort
from stan_ct.reconstruction.lock import STATE, OutputError
from stan_ct.reconstruction.manifest import printable
from stan_ct.reconstruction.nifti import converted, remove_outdated, write_nifti, write_nifti_of_dicom
from stan_ct.reconstruction.preparation import ReconstructSettings, prepare_run
from stan_ct.reconstruction.request import Run
from stan_ct.reconstruction.rerun import INDEX, check_output, check_place, finished_series, remove_index
from stan_ct.reconstruction.shards import merge_shards, read_request, save_request
from stan_ct.reconstruction.workers import in_workers

ALL_GOOD, SOME_REFUSED, NOTHING = 0, 2, 3
"""Exit codes."""


def reconstruct(settings: ReconstructSettings) -> int:
    """Standardizes every CT series below a directory, in a .zip archive, or on a medium whose DICOMDIR is given.

    Returns:
        Exit code: 0 all good, 2 some series or slices were refused or failed, 3 no series was standardized.
    Raises:
        UsageError: If the input does not exist, the output cannot be used, or there is no such model.
    """
    if not is_archive(settings.input_dir):
        missing = missing_from_medium(settings.input_dir)
        return _of_tree(replace(settings, input_dir=folder_of_medium(settings.input_dir)), missing)
    if settings.shard:
        raise UsageError("shards cannot share an archive: unpack it, and give all of them the folder")
    if settings.output_dir.exists() and not settings.output_dir.is_dir():
        raise OutputError(f"{settings.output_dir} is a file: choose a directory")
    try:
        with unpacked(settings.input_dir, settings.output_dir.resolve()) as folder:
            return _of_tree(replace(settings, input_dir=folder, archive=settings.input_dir))
    except OSError as error:
        raise UsageError(f"{settings.input_dir} could not be unpacked beside {settings.output_dir}: {error}") from error


def _of_tree(settings: ReconstructSettings, missing: Sequence[Refusal] = ()) -> int:
    """Standardizes what a folder or a file holds, DICOM or NIfTI; `missing` is what it should hold too."""
    if not (files := nifti_files(settings.input_dir, settings.output_dir)):
        if settings.kernel:
            raise UsageError("--kernel is for NIfTI files alone, in a folder without DICOM: DICOM says its own kernel")
        beside = partial(write_nifti_of_dicom if settings.nifti else remove_outdated, settings)
        return _reconstruct(settings, missing, beside)
    with converted(settings, files) as (of_slices, refusals):
        return _reconstruct(of_slices, refusals, lambda records: write_nifti(settings, of_slices.input_dir, records))


def _reconstruct(
    settings: ReconstructSettings, refusals: Sequence[Refusal], written: Callable[[Sequence[Record]], None]
) -> int:
    """Standardizes what a folder of DICOM holds.

    Args:
        settings: The request.
        refusals: What was refused before.
        written: Called with what became of every series, once they are written.
    """
    settings.choice.of([])  # what is no condition is refused before anything is read
    cores, workers = usable_cores(), settings.workers
    run = prepare_run(settings, max(1, cores // workers))
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
    inventory.refusals.extend(refusals)
    if is_new and not (inventory.series or inventory.refusals):
        remove_index(run.output_dir)
    try:
        _check(run, inventory, is_new)
        print(f"{printable(settings.archive or run.input_dir)}: {len(inventory.series)} CT series, {inventory.slices} slices")
        _print_skipped(inventory)
        series = settings.choice.of(inventory.series)
        if others := len(inventory.series) - len(series):
            print(f"  not chosen: {others} series")
        if settings.dry_run:
            return _rehearse(replace(inventory, series=series), run)
        if not (inventory.series or inventory.refusals):
            print("nothing was written: expected single-frame CT slices (DICOM) in this folder, or in folders below it")
            return NOTHING
        if settings.shard:
            save_request(settings)
        if inventory.series and not series:
            raise UsageError("no series is chosen: --dry_run without --include, --exclude and --limit lists them all")
        of_shard = series_of_shard(series, settings.shard)
        with Workers(min(workers, max(len(of_shard), 1))) as pool:
            executor = in_workers(settings, run, pool) if pool.are_apart else None
            outcome = standardize_cohort(inventory, run, _bar, tqdm.write, executor, settings.shard, series)
        written(outcome.records)
    except OSError as error:  # of one series it would concern that series alone
        reason = f"the output could not be written: {error}"
        raise UsageError(f"{reason}. Finished series are kept; free space, or choose another --output_dir") from error
    counts = [f"{outcome.count('written')} of {len(outcome.records)} series written"]
    counts += [f"{outcome.kept} of them kept from an earlier run"] if outcome.kept else []
    counts += [f"{outcome.count('left_alone')} left alone"] if outcome.count("left_alone") else []
    if settings.shard:
        print(f"{', '.join(counts)}, shard {settings.shard}. Manifest and report: stan-ct merge {printable(run.output_dir)}")
        return outcome.exit_code if outcome.records else ALL_GOOD  # more shards than series
    print(f"{', '.join(counts)}. Report: {printable(run.output_dir / REPORT)}")
    return outcome.exit_code


def merge(output_dir: Path) -> int:
    """Brings the shards of a run together: manifest, tables and report of all series.

    Returns:
        Exit code, as of :func:`reconstruct`; 2 too if a series is not yet done.
    Raises:
        UsageError: If there are no shards, one is still at work, or the accounts cannot be written.
    """
    settings = read_request(output_dir)
    try:
        outcome, total = merge_shards(settings, lambda p: _bar(p, "reading headers", "file"))
    except OSError as error:
        raise UsageError(f"the output could not be written: {error}. Free space, and run the command again") from error
    left = total - len(outcome.records)
    print(f"{outcome.count('written')} of {total} series written. Report: {printable(output_dir / REPORT)}")
    if left:
        print(f"{left} series are not yet done: run their shards, or stan-ct reconstruct without --shard, which does the rest")
    return SOME_REFUSED if left and outcome.exit_code == ALL_GOOD else outcome.exit_code


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
