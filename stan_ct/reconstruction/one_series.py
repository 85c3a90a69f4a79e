"""One series of a cohort: kept or standardized, written, and accounted for; whatever goes wrong concerns it alone."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from stan_ct.dicom.refusal import Refusal, Refused
from stan_ct.dicom.series import SeriesFiles, load_series
from stan_ct.files import replace_folder, write_together
from stan_ct.models.folder import InvalidModel, ModelNotFound
from stan_ct.reconstruction.accounts import Record
from stan_ct.reconstruction.ledger import (
    FinishedSeries,
    Unwritten,
    file_digest,
    note_unwritten,
    read_record,
    read_unwritten,
    sha256,
    write_record,
)
from stan_ct.reconstruction.lock import series_lock
from stan_ct.reconstruction.manifest import fault_entry, refusal_entry, result_entry, source_entry
from stan_ct.reconstruction.panels import FOLDER, Panel, panels
from stan_ct.reconstruction.request import INCOMPLETE, REPLACED, Run
from stan_ct.reconstruction.rerun import carry_over, finished_series, has_settings, place, relocate
from stan_ct.reconstruction.standardize import Standardized


def standardize_one(files: SeriesFiles, run: Run, created: datetime, series_number: int, progress: Callable) -> Record:
    """Keeps or standardizes a series, while no other process does.

    Args:
        files: The series.
        run: The request that it belongs to.
        created: Creation time of the derived series.
        series_number: Its Series Number.
        progress: Wrapper of the iteration over slices.
    Returns:
        What became of it.
    Raises:
        InvalidModel: If a model is damaged, so that no series can be standardized.
    """
    try:
        with series_lock(run.output_dir, files.name):
            record = _process(files, run, created, series_number, progress)
            note_unwritten(run.output_dir, files.name, _reason(record, run))
            return record
    except OSError as error:
        return _unwritten(files, source_entry(files), run, "failed", "unwritable", error.strerror or str(error))


def _process(files: SeriesFiles, run: Run, created: datetime, series_number: int, progress: Callable) -> Record:
    start, entry = time.monotonic(), source_entry(files)
    volumes = run.output_dir / INCOMPLETE / f"{files.name}.volumes"
    try:
        relocate(files, run)
        finished = finished_series(files, run)
        if finished is not None:
            return _kept(files, finished, run)
        seen = run.models.look_ahead(files, run.allow_out_of_protocol)
        volumes.mkdir(parents=True, exist_ok=True)
        series = load_series(files, run.models.slices_at_once, volumes)  # volumes are on disk, a few slices in memory
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
        for folder in (volumes, run.output_dir / INCOMPLETE / files.name):
            shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # others are under way
            (run.output_dir / INCOMPLETE).rmdir()
    return _record(files, finished)


def worker_died(files: SeriesFiles, run: Run) -> Record:
    """What became of a series at which every worker died."""
    return _unwritten(files, source_entry(files), run, "failed", "out_of_memory", "each worker that tried it was ended")


def noted_record(files: SeriesFiles, run: Run) -> Record | None:
    """What became of a series, as the run that was at it has noted; None if no run of these settings was.

    None too if its headers, or the names of what was written, are others since. Neither is read: a rerun compares every byte.
    """
    finished, noted = read_record(run.output_dir, files.name), read_unwritten(run.output_dir, files.name)
    if noted is not None and noted.key == _key(run) and _describes(noted.entry, files):
        refusal = (
            Refusal(noted.reason, noted.found, tuple(i.path for i in files.instances), files.uid) if noted.reason else None
        )
        return Record(files, noted.status, noted.entry, refused=bool(refusal), refusal=refusal, earlier=noted.earlier)
    if finished is None or not has_settings(finished, run):
        return None
    of_these = {instance.uid for instance in files.instances} == set(finished.sources) and _describes(finished.entry, files)
    return _record(files, finished) if of_these and finished.is_complete(run.output_dir / finished.folder) else None


def _describes(entry: dict[str, Any], files: SeriesFiles) -> bool:
    """Whether an entry that was noted is of a series with these headers."""
    return all(entry.get(name) == value for name, value in json.loads(json.dumps(source_entry(files))).items())


def _reason(record: Record, run: Run) -> Unwritten | None:
    """Note of a series that was not written."""
    if record.status == "written":
        return None
    refusal = record.refusal
    reason, found = (refusal.reason, refusal.found) if refusal else ("", "")
    return Unwritten(_key(run), record.status, reason, found, record.earlier, record.entry)


def _key(run: Run) -> str:
    return f"{run.models.key}\n{run.allow_out_of_protocol}"


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
