"""Many series: standardize, write, and account for each of them."""

from __future__ import annotations

import json
import os
import shutil
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from stan_ct.dicom.find import Inventory
from stan_ct.dicom.identity import creation_time, free_series_number
from stan_ct.dicom.refusal import Refusal, Refused
from stan_ct.dicom.series import SeriesFiles, load_series
from stan_ct.errors import UsageError
from stan_ct.files import write_together
from stan_ct.reconstruction.manifest import refusal_entry, result_entry, run_entry, source_entry
from stan_ct.reconstruction.panels import FOLDER, Panel, panels
from stan_ct.reconstruction.report import report_page
from stan_ct.reconstruction.standardize import Model
from stan_ct.reconstruction.throttle import Throttle

SERIES, MANIFEST, REPORT = "series", "manifest.json", "report.html"
REPORT_INTERVAL = 1.0
"""Least time between two versions of the report while a run goes on, s."""


class OutputError(UsageError):
    """The output directory cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class Run:
    """A request to standardize a cohort.

    Attributes:
        output_dir: Directory of `series/`, `manifest.json` and `report.html`.
        model: Model, ready to standardize.
        command: Command line, for the manifest.
        allow_out_of_protocol: Whether to go on with series that the model was not made for.
    """

    output_dir: Path
    model: Model
    command: str = ""
    allow_out_of_protocol: bool = False


@dataclass
class Record:
    """What became of one series: an entry of the manifest, and the images of the report.

    Attributes:
        files: Source series.
        status: `written`, `refused`, `failed`, or `left_alone` if it has the standard protocol already.
        entry: Entry of the manifest.
        panels: Images of some slices.
        refusals: Reasons why the series, or some of its slices, could not be standardized.
    """

    files: SeriesFiles
    status: str
    entry: dict
    panels: list[Panel] = field(default_factory=list)
    refusals: tuple[Refusal, ...] = ()


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
        return 2 if self.refusals or any(r.refusals for r in self.records) else 0


def check_output(output_dir: Path, input_dir: Path, planned: Inventory) -> None:
    """Refuses an output directory in which outputs and other data would mix.

    Raises:
        OutputError: If it is, or contains, the input directory, or if it holds series of another run.
    """
    output, source = output_dir.resolve(), input_dir.resolve()
    if output == source or output in source.parents:
        raise OutputError(f"the output directory {output_dir} contains the input {input_dir}: choose another one")
    if output_dir.exists() and not output_dir.is_dir():
        raise OutputError(f"{output_dir} is a file: choose a directory")
    names = {s.name for s in planned.series}
    present = sorted(p.name for p in (output_dir / SERIES).glob("*")) if (output_dir / SERIES).is_dir() else []
    foreign = [name for name in present if name not in names]
    if foreign:
        raise OutputError(
            f"{output_dir / SERIES} holds {foreign[0]!r}, which is not made of this input: choose an empty directory"
        )


def standardize_cohort(inventory: Inventory, run: Run, progress: Callable, say: Callable[[str], None] = print) -> Outcome:
    """Standardizes every series found, one after the other, and writes manifest and report.

    A series that cannot be standardized, or that fails, never stops the others. The manifest is replaced after each series,
    the report too, but once a second at most, so they are true of what has been written even if the run is killed.

    Args:
        inventory: Series to standardize.
        run: Output directory, model and command.
        progress: Wrapper of the iteration over slices: `progress(slices, description)`.
        say: Function that prints a line.
    """
    run.output_dir.mkdir(parents=True, exist_ok=True)
    for leftover in (".incomplete", FOLDER, *(f"{SERIES}/{files.name}" for files in inventory.series)):
        shutil.rmtree(run.output_dir / leftover, ignore_errors=True)  # of an earlier run, perhaps with other flags
    created = creation_time()
    records: list[Record] = []
    throttle = Throttle(REPORT_INTERVAL)
    numbers = {study: set(taken) for study, taken in inventory.series_numbers.items()}
    for number, files in enumerate(inventory.series, 1):
        label = f"[{number}/{len(inventory.series)}] {files.name}"
        number_in_study = free_series_number(files.number, numbers.setdefault(files.study_uid, set()))
        record = _standardize_one(files, run, created, number_in_study, lambda s, label=label: progress(s, label))
        if record.status == "written":
            numbers[files.study_uid].add(number_in_study)
        records.append(record)
        say(f"{label}: {_summary(record)}")
        _write_images(run.output_dir, record)
        _write_accounts(run, inventory, records, created, with_report=throttle.due() or number == len(inventory.series))
    if not inventory.series:
        _write_accounts(run, inventory, records, created, with_report=True)
    return Outcome(records, inventory.refusals)


def _standardize_one(files: SeriesFiles, run: Run, created: datetime, series_number: int, progress: Callable) -> Record:
    start, entry = time.monotonic(), source_entry(files)
    try:
        series = load_series(files, workers=os.cpu_count() or 1)
        result = run.model.standardize(series, allow_out_of_protocol=run.allow_out_of_protocol, progress=progress)
        uids = result.write(run.output_dir / SERIES / files.name, series_number, created)
    except Refused as refused:
        if refused.reason == "standard_protocol":
            return Record(files, "left_alone", entry | {"status": "left_alone"})
        return _unwritten(files, entry, "refused", refused.reason, refused.found)
    except OSError as error:
        return _unwritten(files, entry, "failed", "unwritable", str(error))
    except Exception as error:
        entry["traceback"] = traceback.format_exc()
        return _unwritten(files, entry, "failed", "failed", f"{type(error).__name__}: {error}")
    entry |= result_entry(result, series_number, uids, time.monotonic() - start)
    images = panels(series, result.volume, result.fidelity.explained, result.fidelity.residuals)
    return Record(files, "written", entry, images, series.refusals)


def _unwritten(files: SeriesFiles, entry: dict, status: str, reason: str, found: str) -> Record:
    refusal = Refusal(reason, found, tuple(i.path for i in files.instances), files.uid)
    return Record(files, status, entry | {"status": status, "refusal": refusal_entry(refusal)}, refusals=(refusal,))


def _summary(record: Record) -> str:
    entry = record.entry
    if record.status == "left_alone":
        return f"left alone: kernel {entry['kernel']} is the standard one"
    if record.status != "written":
        return f"{record.status}, {record.refusals[0].reason}: {record.refusals[0].found}"
    findings = ", ".join(f"{name} x {count}" for name, count in entry["findings"].items()) or "no findings"
    left_out = f", {len(record.refusals)} slices refused" if record.refusals else ""
    kept = f"{entry['kept_fraction']:.0%} of {entry['patches']} patches kept" if entry["patches"] else "no soft tissue"
    if entry["out_of_protocol"]:
        left_out += f", OUT OF PROTOCOL ({'; '.join(entry['out_of_protocol'])})"
    return f"{len(entry['slices'])} slices{left_out}, {kept}, {findings}, {entry['seconds']:.1f} s"


def _write_images(output_dir: Path, record: Record) -> None:
    """Writes the images of a series for the report, and lets go of them."""
    if not record.panels:
        return
    write_together(output_dir / FOLDER, {Path(panel.file).name: panel.jpeg for panel in record.panels})
    record.panels = [replace(panel, jpeg=b"") for panel in record.panels]


def _write_accounts(run: Run, inventory: Inventory, records: list[Record], created: datetime, with_report: bool) -> None:
    manifest = {
        **run_entry(run.model, run.command, created.isoformat()),
        "passed_over": dict(sorted(inventory.passed_over.items())),
        "refusals": [refusal_entry(r) for r in inventory.refusals],
        "series": [r.entry for r in records],
        "not_yet_done": [s.name for s in inventory.series[len(records) :]],
    }
    accounts = {MANIFEST: json.dumps(manifest, indent=1, allow_nan=False) + "\n"}
    if with_report:
        accounts[REPORT] = report_page(manifest, [r.panels for r in records])
    write_together(run.output_dir, accounts)
