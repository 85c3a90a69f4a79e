"""Many series: standardize, write, and account for each of them; what an earlier run finished is kept."""

from __future__ import annotations

import os
import shutil
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from stan_ct.dicom.find import Inventory
from stan_ct.dicom.identity import creation_time, free_series_number
from stan_ct.dicom.refusal import Refusal, Refused
from stan_ct.dicom.series import SeriesFiles, load_series
from stan_ct.files import replace_folder, write_together
from stan_ct.reconstruction.accounts import Accounts, Record
from stan_ct.reconstruction.ledger import FinishedSeries, read_record, read_records, sha256, write_record
from stan_ct.reconstruction.lock import OutputError, locked
from stan_ct.reconstruction.manifest import refusal_entry, result_entry, source_entry
from stan_ct.reconstruction.panels import FOLDER, Panel, panels
from stan_ct.reconstruction.selection import ModelSet
from stan_ct.reconstruction.standardize import Standardized

SERIES, INCOMPLETE, REPLACED = "series", ".incomplete", ".replaced"


@dataclass(frozen=True)
class Run:
    """A request to standardize a cohort.

    Attributes:
        input_dir: Directory, or file, of the sources.
        output_dir: Directory of `series/`, `series.csv`, `manifest.json` and `report.html`.
        models: Models to choose from.
        command: Command line, for the manifest.
        allow_out_of_protocol: Whether to go on with series that no model was made for.
        flat: Whether series lie side by side, rather than as in the input.
        overwrite: Whether to replace series that were made with other settings.
        show_identifiers: Whether manifest, report and table name source files and Patient IDs.
    """

    input_dir: Path
    output_dir: Path
    models: ModelSet
    command: str = ""
    allow_out_of_protocol: bool = False
    flat: bool = False
    overwrite: bool = False
    show_identifiers: bool = False

    def folder_of(self, files: SeriesFiles) -> str:
        """Folder of a derived series relative to the output directory: `series`, the source's folder in the input, a name."""
        return "/".join((SERIES, *(() if self.flat else source_folder(files, self.input_dir).parts), files.name))


@dataclass(frozen=True)
class Outcome:
    """A finished run."""

    records: list[Record]
    refusals: list[Refusal]

    @property
    def exit_code(self) -> int:
        """0 all good; 2 some series or slices were refused or failed; 3 no series was standardized."""
        if all(r.status in ("refused", "failed") for r in self.records):
            return 3
        return 2 if self.refusals or any(r.refused for r in self.records) else 0

    def count(self, status: str) -> int:
        """Number of series of a status: `written`, `refused`, `failed`, `left_alone`."""
        return sum(record.status == status for record in self.records)


def source_folder(files: SeriesFiles, input_dir: Path) -> Path:
    """Folder that holds all slices of a series, relative to the input."""
    folders = {instance.path.parent for instance in files.instances}
    common = Path(os.path.commonpath(folders)) if len(folders) > 1 else folders.pop()
    return common.relative_to(input_dir) if common.is_relative_to(input_dir) else Path()


def check_output(run: Run, planned: Inventory) -> None:
    """Refuses an output directory in which outputs would mix with other data, or with those of other settings.

    Raises:
        OutputError: If it is, or contains, the input directory; if it holds series that are not made of this input; or if
            series of it were made with other settings and are not to be replaced.
    """
    output_dir, input_dir = run.output_dir, run.input_dir
    output, source = output_dir.resolve(), input_dir.resolve()
    if output == source or output in source.parents:
        raise OutputError(f"the output directory {output_dir} contains the input {input_dir}: choose another one")
    if output_dir.exists() and not output_dir.is_dir():
        raise OutputError(f"{output_dir} is a file: choose a directory")
    folders = {run.folder_of(files) for files in planned.series}
    for path in sorted((output_dir / SERIES).rglob("*")):
        folder = path.parent.relative_to(output_dir).as_posix()
        if not path.is_dir() and folder not in folders:
            raise OutputError(f"{output_dir} holds {folder!r}, which is not made of this input: choose an empty directory")
    if run.overwrite:
        return
    names = {files.name for files in planned.series}
    for name, record in read_records(output_dir).items():
        if name in names and not _has_settings(record, run) and record.is_whole(output_dir):
            raise OutputError(
                f"{output_dir / record.folder} was made with another model, other switches or another version: choose "
                "another --output_dir, or --overwrite to replace it"
            )


def standardize_cohort(inventory: Inventory, run: Run, progress: Callable, say: Callable[[str], None] = print) -> Outcome:
    """Standardizes every series found, one after the other, and writes manifest, table and report.

    A series that cannot be standardized, or that fails, never stops the others. A series that an earlier run finished with the
    same settings, of the same source files, is kept; another one is replaced only by a complete new one.

    Args:
        inventory: Series to standardize.
        run: Directories, models and choices.
        progress: Wrapper of the iteration over slices: `progress(slices, description)`.
        say: Function that prints a line.
    Raises:
        OutputError: If another run uses the output directory.
        OSError: If manifest, table or report cannot be written.
    """
    run.output_dir.mkdir(parents=True, exist_ok=True)
    with locked(run.output_dir):
        _recover(run.output_dir)
        created = creation_time()
        accounts = Accounts(run.output_dir, inventory, run.models, run.command, created, run.show_identifiers)
        numbers = {study: set(taken) for study, taken in inventory.series_numbers.items()}
        for position, files in enumerate(inventory.series, 1):
            label = f"[{position}/{len(inventory.series)}] {files.name}"
            taken = numbers.setdefault(files.study_uid, set())
            record = _kept(files, run) or _standardize_one(
                files, run, created, free_series_number(files.number, taken), lambda s, label=label: progress(s, label)
            )
            if record.status == "written":
                taken.add(record.entry["series_number"])
            accounts.add(record, source_folder(files, run.input_dir))
            say(f"{label}: {record.summary()}")
        accounts.write()
        shutil.rmtree(run.output_dir / INCOMPLETE, ignore_errors=True)
    return Outcome(accounts.records, inventory.refusals)


def _recover(output_dir: Path) -> None:
    """Clears what a killed run left: half-made series go, and one that was about to be replaced comes back."""
    for replaced in sorted((output_dir / INCOMPLETE).glob(f"*{REPLACED}")):
        record = read_record(output_dir, replaced.name.removesuffix(REPLACED))
        if record is not None and not (output_dir / record.folder).exists():
            (output_dir / record.folder).parent.mkdir(parents=True, exist_ok=True)
            replaced.rename(output_dir / record.folder)
    shutil.rmtree(output_dir / INCOMPLETE, ignore_errors=True)


def _has_settings(finished: FinishedSeries, run: Run) -> bool:
    return finished.key == run.models.key and (run.allow_out_of_protocol or not finished.entry["out_of_protocol"])


def finished_series(files: SeriesFiles, run: Run) -> FinishedSeries | None:
    """The finished series of a source: same settings, same place, same source files, whole; None if there is none."""
    finished = read_record(run.output_dir, files.name)
    if finished is None or not _has_settings(finished, run) or finished.folder != run.folder_of(files):
        return None
    images = all((run.output_dir / panel["file"]).is_file() for panel in finished.panels)
    return finished if images and finished.is_made_of(files) and finished.is_whole(run.output_dir) else None


def _kept(files: SeriesFiles, run: Run) -> Record | None:
    finished = finished_series(files, run)
    if finished is None:
        return None
    shown = [Panel(**panel) for panel in finished.panels]
    return Record(files, "written", finished.entry | {"kept": True}, shown, bool(finished.entry["refused_slices"]))


def _standardize_one(files: SeriesFiles, run: Run, created: datetime, series_number: int, progress: Callable) -> Record:
    start, entry = time.monotonic(), source_entry(files)
    try:
        series = load_series(files, workers=os.cpu_count() or 1)
        result = run.models.standardize(series, allow_out_of_protocol=run.allow_out_of_protocol, progress=progress)
        finished = _write(files, result, run, series_number, created, start)
    except Refused as refused:
        if refused.reason == "standard_protocol":
            return Record(files, "left_alone", entry | {"status": "left_alone"})
        return _unwritten(files, entry, run, "refused", refused.reason, refused.found)
    except OSError as error:
        return _unwritten(files, entry, run, "failed", "unwritable", str(error))
    except Exception as error:
        entry["traceback"] = traceback.format_exc()
        return _unwritten(files, entry, run, "failed", "failed", f"{type(error).__name__}: {error}")
    shown = [Panel(**panel) for panel in finished.panels]
    return Record(files, "written", finished.entry, shown, bool(series.refusals))


def _write(
    files: SeriesFiles, result: Standardized, run: Run, series_number: int, created: datetime, start: float
) -> FinishedSeries:
    """Writes DICOM and images of a series; its record first, so that a whole folder always has one."""
    incomplete, folder = run.output_dir / INCOMPLETE / files.name, run.folder_of(files)
    shutil.rmtree(incomplete, ignore_errors=True)
    uids = result.write_files(incomplete, series_number, created)
    shown = panels(result.source, result.volume, result.fidelity.explained, result.fidelity.residuals)
    write_together(run.output_dir / FOLDER, {Path(panel.file).name: panel.jpeg for panel in shown})
    entry = source_entry(files) | result_entry(result, series_number, uids, time.monotonic() - start, run.show_identifiers)
    finished = FinishedSeries(
        key=run.models.key,
        folder=folder,
        sources={instance.uid: instance.sha256 for instance in result.source.instances},
        outputs={path.name: sha256(path) for path in sorted(incomplete.iterdir())},
        panels=[{"caption": panel.caption, "file": panel.file, "shape": panel.shape} for panel in shown],
        entry=entry | {"folder": folder},
    )
    write_record(run.output_dir, files.name, finished)
    replace_folder(incomplete, run.output_dir / folder, incomplete.with_name(f"{files.name}{REPLACED}"))
    return finished


def _unwritten(files: SeriesFiles, entry: dict[str, Any], run: Run, status: str, reason: str, found: str) -> Record:
    refusal = Refusal(reason, found, tuple(i.path for i in files.instances), files.uid)
    entry = entry | {"status": status, "refusal": refusal_entry(refusal, run.show_identifiers)}
    earlier = read_record(run.output_dir, files.name)
    if earlier is not None and earlier.is_whole(run.output_dir):
        entry["earlier_result"] = earlier.folder
    return Record(files, status, entry, refused=True)
