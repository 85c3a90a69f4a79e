"""What a run finds in its output directory: series that are kept, what a killed run left, and what is not its own."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

import pydicom

from stan_ct.dicom.find import Inventory
from stan_ct.dicom.header import looks_like_dicom
from stan_ct.dicom.identity import derived_series_uid, free_series_number
from stan_ct.dicom.nifti_files import is_nifti
from stan_ct.dicom.series import SeriesFiles
from stan_ct.files import remove_partial
from stan_ct.reconstruction.accounts import FAILURES, MANIFEST, REPORT, TABLE
from stan_ct.reconstruction.ledger import RECORDS, UNWRITTEN, FinishedSeries, is_slice_file, read_record, read_records
from stan_ct.reconstruction.lock import STATE, OutputError
from stan_ct.reconstruction.panels import FOLDER
from stan_ct.reconstruction.request import INCOMPLETE, NIFTI, REPLACED, SERIES, Run

INDEX = f"{STATE}/headers.sqlite"
"""Index of the headers of the input, relative to the output directory."""


def check_output(run: Run, planned: Inventory) -> None:
    """Refuses an output directory in which outputs would mix with other data, or with those of other settings.

    Files that are no DICOM may lie anywhere in it; they are left alone.

    Raises:
        OutputError: As :func:`check_place`; if it holds DICOM that is not made of this input; or if series of it were made with
            other settings and are not to be replaced.
    """
    check_place(run)
    records = read_records(run.output_dir)
    _check_strangers(run, planned, records)
    if not run.overwrite:
        _check_settings(run, planned, records)


def check_place(run: Run) -> None:
    """Refuses an output directory that cannot be one, whatever the input holds.

    Raises:
        OutputError: If it is, or contains, the input directory, holds slices of it, is a file, or holds accounts of another
            program.
    """
    output_dir, input_dir = run.output_dir, run.input_dir
    output, source = output_dir.resolve(), input_dir.resolve()
    if output == source or output in source.parents:
        raise OutputError(f"the output directory {output_dir} contains the input {input_dir}: choose another one")
    if output_dir.exists() and not output_dir.is_dir():
        raise OutputError(f"{output_dir} is a file: choose a directory")
    if source in output.parents and (path := _source_file(output_dir)):
        found = f"holds files of the input, such as {path.name!r}"
        raise OutputError(f"the output directory {output_dir} {found}: choose another one")
    if not (output_dir / STATE).exists() and not _wrote_accounts(output_dir):
        for name in (MANIFEST, TABLE, REPORT):
            if (output_dir / name).exists():
                raise OutputError(f"{output_dir} holds a {name} of something else: choose another --output_dir")


def _source_file(output_dir: Path) -> Path | None:
    """A file of an output directory that a run did not write and that may be a source; None if there is none."""
    own = {SERIES, STATE, INCOMPLETE, FOLDER, NIFTI}
    for place in sorted(output_dir.iterdir()) if output_dir.is_dir() else ():
        for path in () if place.name in own else [place, *sorted(place.rglob("*"))]:
            if is_nifti(path) or (path.is_file() and _is_dicom(path)):
                return path
    return None


def remove_index(output_dir: Path) -> None:
    """Removes the index of headers, and the folders that hold nothing else."""
    (output_dir / INDEX).unlink(missing_ok=True)
    remove_empty((output_dir / INDEX).parent, output_dir.parent)


def _wrote_accounts(output_dir: Path) -> bool:
    """Whether the manifest in a directory is ours."""
    try:
        return "stan_ct" in json.loads((output_dir / MANIFEST).read_bytes())
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def _check_strangers(run: Run, planned: Inventory, records: Mapping[str, FinishedSeries]) -> None:
    """Refuses DICOM that neither this run would replace nor an earlier run of this input wrote."""
    own = {run.folder_of(files) for files in planned.series}
    own |= {record.folder for record in records.values() if record.input_id == run.input_id}
    own |= {records[files.name].folder for files in planned.series if files.name in records}
    for path in sorted((run.output_dir / SERIES).rglob("*")):
        folder = path.parent.relative_to(run.output_dir).as_posix()
        if path.is_dir() or (folder in own and is_slice_file(path.name)):
            continue
        if is_slice_file(path.name) or _is_dicom(path):
            found = folder if folder not in own else f"{folder}/{path.name}"
            raise OutputError(
                f"{run.output_dir} holds {found!r}, which is not made of this input: choose an empty directory, or move it away"
            )


def _is_dicom(path: Path) -> bool:
    try:
        return looks_like_dicom(path)
    except OSError:
        return False


def _check_settings(run: Run, planned: Inventory, records: Mapping[str, FinishedSeries]) -> None:
    for files in planned.series:
        record = records.get(files.name)
        folder = run.output_dir / place(files, run, record)
        slices = sorted(path for path in folder.glob("*.dcm") if is_slice_file(path.name))
        if slices and not (has_settings(record, run) if record else _has_uid(slices[0], files, run)):
            raise OutputError(
                f"{folder} was made with another model, other switches or another version: choose another --output_dir, or "
                "--overwrite to replace it"
            )


def _has_uid(path: Path, files: SeriesFiles, run: Run) -> bool:
    """Whether a slice without a record has the UID that this run would give it, which a hash of the settings determines."""
    try:
        uid = pydicom.dcmread(path, specific_tags=["SeriesInstanceUID"], stop_before_pixels=True).SeriesInstanceUID
    except Exception:  # damaged, so there is nothing to lose
        return True
    return str(uid) in {derived_series_uid(files, model.key) for model in run.models.models}


def recover(output_dir: Path, names: Collection[str] | None = None) -> None:
    """Clears what a killed run left: half-made series go, and one that was about to be replaced comes back.

    Args:
        output_dir: The output directory.
        names: Names of the series of a shard, which alone are cleared; None for all.
    """
    for replaced in sorted((output_dir / INCOMPLETE).glob(f"*{REPLACED}")):
        if names is not None and replaced.name.removesuffix(REPLACED) not in names:
            continue
        record = read_record(output_dir, replaced.name.removesuffix(REPLACED))
        if record is not None and not (output_dir / record.folder).exists():
            (output_dir / record.folder).parent.mkdir(parents=True, exist_ok=True)
            replaced.rename(output_dir / record.folder)
    if names is not None:
        for name in names:
            for ending in ("", REPLACED, ".volumes"):
                shutil.rmtree(output_dir / INCOMPLETE / f"{name}{ending}", ignore_errors=True)
        return
    shutil.rmtree(output_dir / INCOMPLETE, ignore_errors=True)
    for folder in (output_dir / RECORDS, output_dir / UNWRITTEN, output_dir / FOLDER):
        remove_partial(folder)
    for name in (MANIFEST, TABLE, REPORT, FAILURES):
        for partial in output_dir.glob(f"{name}.*.partial"):
            partial.unlink()


def has_settings(finished: FinishedSeries, run: Run) -> bool:
    """Whether this run would make a series as it was made."""
    return finished.key == run.models.key and (run.allow_out_of_protocol or not finished.entry["out_of_protocol"])


def place(files: SeriesFiles, run: Run, record: FinishedSeries | None) -> str:
    """Where the output of a series lies: where it would be written, or where an earlier run with another layout put it."""
    planned = run.folder_of(files)
    return planned if record is None or (run.output_dir / planned).exists() else record.folder


def relocate(files: SeriesFiles, run: Run) -> None:
    """Moves the output of an earlier run with another layout to where this run would write it."""
    record, planned = read_record(run.output_dir, files.name), run.folder_of(files)
    former = run.output_dir / place(files, run, record)
    if former == run.output_dir / planned or not former.is_dir():
        return
    (run.output_dir / planned).parent.mkdir(parents=True, exist_ok=True)
    former.rename(run.output_dir / planned)
    remove_empty(former.parent, run.output_dir / SERIES)


def remove_empty(folder: Path, root: Path) -> None:
    """Removes a folder, and those above it up to a root, as far as they are empty."""
    while root in folder.parents:
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent


def finished_series(files: SeriesFiles, run: Run) -> FinishedSeries | None:
    """The finished series of a source: same settings, same source files, whole with its images; None if there is none."""
    finished = read_record(run.output_dir, files.name)
    if finished is None or not has_settings(finished, run):
        return None
    images = all((run.output_dir / panel["file"]).is_file() for panel in finished.panels)
    whole = images and finished.is_made_of(files) and finished.is_whole(run.output_dir / place(files, run, finished))
    return finished if whole else None


def carry_over(folder: Path, complete: Path) -> None:
    """Puts the files of a folder that are none of our slices into the one that is about to replace it."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_dir() and not path.is_symlink():
            shutil.copytree(path, complete / path.name, symlinks=True, copy_function=_link)
        elif not is_slice_file(path.name):
            _link(path, complete / path.name)


def _link(source: Path | str, target: Path | str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # a file system without links
        shutil.copy2(source, target, follow_symlinks=False)


def plan_numbers(inventory: Inventory, output_dir: Path) -> dict[str, int]:
    """Series Number (0020,0011) of each derived series, whatever becomes of the others.

    A series that was written before keeps its number.

    Args:
        inventory: Series to standardize.
        output_dir: Directory with the records of earlier runs.
    Returns:
        Name of a series -> number, which no other series of its study has.
    """
    records, numbers = read_records(output_dir), {}
    taken = {study: set(numbers_of_study) for study, numbers_of_study in inventory.series_numbers.items()}
    for files in inventory.series:
        number = records[files.name].entry["series_number"] if files.name in records else None
        if number is not None and number not in taken.setdefault(files.study_uid, set()):
            numbers[files.name] = number
            taken[files.study_uid].add(number)
    for files in inventory.series:
        if files.name not in numbers:
            number = free_series_number(files.number, taken.setdefault(files.study_uid, set()))
            numbers[files.name] = number
            taken[files.study_uid].add(number)
    return numbers
