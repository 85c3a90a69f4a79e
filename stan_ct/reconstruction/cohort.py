"""Many series: standardize, write, and account for each of them; what an earlier run finished is kept."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from stan_ct.dicom.find import Inventory
from stan_ct.dicom.identity import creation_time
from stan_ct.dicom.refusal import Refusal, Refused
from stan_ct.dicom.series import SeriesFiles, load_series
from stan_ct.files import replace_folder, write_together
from stan_ct.models.folder import InvalidModel, ModelNotFound
from stan_ct.reconstruction.accounts import Accounts, Record
from stan_ct.reconstruction.ledger import FinishedSeries, file_digest, read_record, sha256, write_record
from stan_ct.reconstruction.lock import OutputError, locked
from stan_ct.reconstruction.manifest import fault_entry, refusal_entry, result_entry, source_entry
from stan_ct.reconstruction.panels import FOLDER, Panel, panels
from stan_ct.reconstruction.request import INCOMPLETE, REPLACED, Run, source_folder
from stan_ct.reconstruction.rerun import (
    carry_over,
    check_output,
    finished_series,
    place,
    plan_numbers,
    recover,
    relocate,
)
from stan_ct.reconstruction.standardize import Standardized

__all__ = ["Outcome", "OutputError", "Run", "check_output", "standardize_cohort"]


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

    @property
    def kept(self) -> int:
        """Number of written series that are of an earlier run."""
        return sum(bool(record.entry.get("kept")) for record in self.records)


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
        OutputError: If another run uses the output directory, or it cannot be used, see :func:`check_output`.
        OSError: If manifest, table or report cannot be written.
    """
    run.output_dir.mkdir(parents=True, exist_ok=True)
    with locked(run.output_dir):
        recover(run.output_dir)
        check_output(run, inventory)  # another run may have ended meanwhile
        created, numbers = creation_time(), plan_numbers(inventory, run.output_dir)
        accounts = Accounts(run.input_dir, run.output_dir, inventory, run.models, run.command, created, run.show_identifiers)
        accounts.refresh()  # those of an earlier run are no longer true once a series is replaced
        for position, files in enumerate(inventory.series, 1):
            label = f"[{position}/{len(inventory.series)}] {files.name}"

            def followed(slices: Iterable, label: str = label) -> Iterator:
                for item in progress(slices, label):
                    accounts.refresh()
                    yield item

            record = _process(files, run, created, numbers[files.name], followed)
            accounts.add(record, source_folder(files, run.input_dir))
            say(f"{label}: {record.summary()}")
        accounts.write()
    return Outcome(accounts.records, inventory.refusals)


def _process(files: SeriesFiles, run: Run, created: datetime, series_number: int, progress: Callable) -> Record:
    """Keeps or standardizes a series; whatever goes wrong concerns this series alone."""
    start, entry = time.monotonic(), source_entry(files)
    try:
        relocate(files, run)
        finished = finished_series(files, run)
        if finished is not None:
            return _kept(files, finished, run)
        seen = run.models.look_ahead(files, run.allow_out_of_protocol)
        series = load_series(files, workers=os.cpu_count() or 1)
        seen = None if series.refusals else seen
        result = run.models.standardize(series, allow_out_of_protocol=run.allow_out_of_protocol, progress=progress, seen=seen)
        finished = _write(files, result, run, series_number, created, start)
    except Refused as refused:
        if refused.reason == "standard_protocol":
            return Record(files, "left_alone", entry | {"status": "left_alone"})
        return _unwritten(files, entry, run, "refused", refused.reason, refused.found)
    except (InvalidModel, ModelNotFound):  # no series can be standardized, so the run ends
        raise
    except OSError as error:
        return _unwritten(files, entry, run, "failed", "unwritable", error.strerror or str(error))
    except Exception as error:
        if _is_out_of_memory(error):
            return _unwritten(files, entry, run, "failed", "out_of_memory", f"{files.shape} pixels")
        entry |= fault_entry(error, files)
        return _unwritten(files, entry, run, "failed", "failed", f"{type(error).__name__}: {error}")
    finally:
        shutil.rmtree(run.output_dir / INCOMPLETE, ignore_errors=True)
    return _record(files, finished)


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError"  # TensorFlow's


def _kept(files: SeriesFiles, finished: FinishedSeries, run: Run) -> Record:
    folder = run.folder_of(files)
    if finished.folder != folder:  # the folder was moved
        finished = replace(finished, folder=folder)
        write_record(run.output_dir, files.name, finished)
    record = _record(files, finished)
    record.entry = record.entry | {"kept": True}
    return record


def _record(files: SeriesFiles, finished: FinishedSeries) -> Record:
    shown = [Panel(**panel) for panel in finished.panels]
    refused = bool(finished.entry["refused_slices"])
    return Record(files, "written", finished.entry, shown, refused, folder=finished.folder)


def _write(
    files: SeriesFiles, result: Standardized, run: Run, series_number: int, created: datetime, start: float
) -> FinishedSeries:
    """Writes DICOM and images of a series; its record first, so that a whole folder always has one."""
    incomplete, folder = run.output_dir / INCOMPLETE / files.name, run.folder_of(files)
    shutil.rmtree(incomplete, ignore_errors=True)
    uids = result.write_files(incomplete, series_number, created)
    shown = panels(result.source, result.volume, result.fidelity.explained, result.fidelity.residuals)
    write_together(run.output_dir / FOLDER, {Path(panel.file).name: panel.jpeg for panel in shown})
    read = {instance.uid: instance.sha256 for instance in result.source.instances}
    finished = FinishedSeries(
        key=run.models.key,
        input_id=run.input_id,
        folder=folder,
        sources={i.uid: read.get(i.uid) or file_digest(i.path) for i in files.instances},
        outputs={path.name: sha256(path) for path in sorted(incomplete.iterdir())},
        panels=[{"caption": panel.caption, "file": panel.file, "shape": panel.shape} for panel in shown],
        entry=source_entry(files) | result_entry(files, result, series_number, uids, time.monotonic() - start),
    )
    write_record(run.output_dir, files.name, finished)
    carry_over(run.output_dir / folder, incomplete)
    replace_folder(incomplete, run.output_dir / folder, incomplete.with_name(f"{files.name}{REPLACED}"))
    return finished


def _unwritten(files: SeriesFiles, entry: dict[str, Any], run: Run, status: str, reason: str, found: str) -> Record:
    refusal = Refusal(reason, found, tuple(i.path for i in files.instances), files.uid)
    entry = entry | {"status": status, "refusal": refusal_entry(refusal)}
    record, earlier = read_record(run.output_dir, files.name), ""
    if record is not None and record.is_whole(run.output_dir / place(files, run, record)):
        earlier = place(files, run, record)
    return Record(files, status, entry, refused=True, refusal=refusal, earlier=earlier)
