"""The accounts of a run: manifest, tables and report, true of what has been written at every instant."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from stan_ct.dicom.find import Inventory
from stan_ct.dicom.grouping import patient_key
from stan_ct.dicom.refusal import Refusal
from stan_ct.dicom.series import SeriesFiles
from stan_ct.files import without_formula, write_together
from stan_ct.reconstruction.manifest import printable, refusal_entry, run_entry, with_files, without_paths
from stan_ct.reconstruction.panels import FOLDER, Panel
from stan_ct.reconstruction.report import has_pages, report_page
from stan_ct.reconstruction.request import source_folder
from stan_ct.reconstruction.selection import ModelSet
from stan_ct.reconstruction.series_section import page_file, series_page, traffic_light
from stan_ct.reconstruction.throttle import Throttle
from stan_ct.reconstruction.wording import in_words

MANIFEST, REPORT, TABLE, FAILURES = "manifest.json", "report.html", "series.csv", "failures.csv"
INTERVAL = 1.0
"""Least time between two versions of them, s."""
SHARE = 20.0
"""Least time between two versions, as a multiple of the time that writing one takes."""
COLUMNS = (
    *("source_folder", "patient", "study_uid", "series_uid", "kernel", "slice_thickness", "slices", "model", "verdict"),
    *("reason", "output_folder", "findings", "seconds"),
    *("what_to_do", "earlier_output"),
)
"""Columns of `series.csv`."""
FAILURE_COLUMNS = ("source_folder", "series_uid", "slices", "verdict", "reason", "found", "what_to_do", "earlier_output")
"""Columns of `failures.csv`: what was refused, failed or is not yet done."""


@dataclass
class Record:
    """What became of one series.

    Attributes:
        files: Source series.
        status: `written`, `refused`, `failed`, or `left_alone` if it has the standard protocol already.
        entry: Entry of the manifest.
        panels: Images of some slices.
        refused: Whether the series, or some of its slices, could not be standardized.
        folder: Folder of the derived series, relative to the output directory; empty if there is none.
        refusal: Why it was not written.
        earlier: Folder of an output of an earlier run that stays, although this one could not write the series.
    """

    files: SeriesFiles
    status: str
    entry: dict[str, Any]
    panels: Sequence[Panel] = field(default_factory=list)
    refused: bool = False
    folder: str = ""
    refusal: Refusal | None = None
    earlier: str = ""

    def summary(self) -> str:
        """What became of the series, in a line."""
        entry, refusal = self.entry, self.refusal
        if self.status == "left_alone":
            return f"left alone: kernel {entry['kernel']} is the standard one"
        if refusal is not None:
            earlier = f"; the earlier result {printable(Path(self.earlier))} is kept" if self.earlier else ""
            return f"{self.status}, {refusal.reason}: {refusal.found}{earlier}"
        findings = ", ".join(f"{name} x {count}" for name, count in entry["findings"].items()) or "no findings"
        slices = f"{len(entry['slices'])} slices"
        if entry["refused_slices"]:
            slices += f", {len(entry['refused_slices'])} slices refused"
        kept = f"{entry['kept_fraction']:.0%} of {entry['patches']} patches kept" if entry["patches"] else "no soft tissue"
        if entry["out_of_protocol"]:
            slices += f", OUT OF PROTOCOL ({'; '.join(entry['out_of_protocol'])})"
        made = "kept from an earlier run" if entry.get("kept") else f"{entry['seconds']:.1f} s"
        return f"{slices}, {kept}, {findings}, {made}"


class Accounts:
    """Manifest, table and report of a run; written at most once a second, and at the end.

    Args:
        input_dir: Directory, or file, of the sources.
        output_dir: Directory that they are written to.
        inventory: Series to standardize.
        models: Models to choose from.
        command: Command line.
        created: Time of the run, with a time zone.
        show_identifiers: Whether they name source files and Patient IDs.
    """

    def __init__(
        self,
        input_dir: Path,
        output_dir: Path,
        inventory: Inventory,
        models: ModelSet,
        command: str,
        created: datetime,
        show_identifiers: bool,
    ) -> None:
        self._output_dir, self._input_dir, self._inventory, self._show = output_dir, input_dir, inventory, show_identifiers
        self._order = {files.name: number for number, files in enumerate(inventory.series)}
        self._head = run_entry(models, command if show_identifiers else "", created.isoformat())
        self._accounted: dict[int, tuple[Record, dict[str, Any], dict[str, Any]]] = {}
        self._refused_rows = refused_rows(inventory.refusals, input_dir)
        patients = sorted({_patient(series) for series in inventory.series})
        self._patients = {patient: f"P{n:04d}" for n, patient in enumerate(patients, 1)}
        of_earlier_run = (output_dir / MANIFEST).exists()
        self._throttle, self._behind = Throttle(INTERVAL), of_earlier_run
        self._with_page: set[int] = set()

    @property
    def records(self) -> list[Record]:
        """What became of the series so far, in the order of the inventory."""
        return [self._accounted[number][0] for number in sorted(self._accounted)]

    def add(self, record: Record) -> None:
        """Accounts for a series, in whatever order they are finished.

        Args:
            record: What became of it.
        """
        entry = self._entry(record)
        self._accounted[self._order[record.files.name]] = (record, entry, self._row(record, entry))
        self._behind = True

    def withdraw(self) -> None:
        """Removes manifest, tables and report of earlier runs, which are no longer true once a series is replaced.

        Raises:
            OSError: If they cannot be removed.
        """
        for name in (MANIFEST, TABLE, FAILURES, REPORT):
            (self._output_dir / name).unlink(missing_ok=True)

    def refresh(self) -> None:
        """Replaces manifest, table and report if they are behind, and a second old, or of an earlier run.

        What cannot be written now does not stop the run: :meth:`write` tries again.
        """
        if self._behind and self._throttle.due():
            began = time.monotonic()
            with suppress(OSError):
                self.write()
            self._throttle.seconds = max(INTERVAL, SHARE * (time.monotonic() - began))

    def write(self) -> None:
        """Replaces manifest, table and report.

        Raises:
            OSError: If they cannot be written.
        """
        records, accounted = self.records, [self._accounted[number] for number in sorted(self._accounted)]
        entries, rows = [entry for _, entry, _ in accounted], [row for _, _, row in accounted]
        pending = [files for number, files in enumerate(self._inventory.series) if number not in self._accounted]
        manifest = {
            **self._head,
            "skipped": dict(sorted(self._inventory.skipped.items())),
            "refusals": [refusal_entry(r, self._show) for r in self._inventory.refusals],
            "series": entries,
            "not_yet_done": [files.name for files in pending],
        }
        self._write_pages()
        failures = [_failure(row, record) for row, record in zip(rows, records, strict=True) if record.refused]
        failures += [*self._refused_rows, *(self._pending_row(files) for files in pending)]
        files = {
            MANIFEST: json.dumps(manifest, indent=1, allow_nan=False) + "\n",
            TABLE: _csv(COLUMNS, [*rows, *self._refused_rows]),
            FAILURES: _csv(FAILURE_COLUMNS, failures),
            REPORT: report_page(manifest, [record.panels for record in records]),
        }
        write_together(self._output_dir, files)
        self._behind = False

    def _write_pages(self) -> None:
        """Writes the pages of series that have one and lack it."""
        if not has_pages(len(self._inventory.series)):
            return
        for number in sorted(self._accounted.keys() - self._with_page):
            record, entry, _ = self._accounted[number]
            if record.status == "written":
                html = series_page(self._head, entry, record.panels)
                write_together(self._output_dir / FOLDER, {Path(page_file(entry)).name: html})
            self._with_page.add(number)

    def _entry(self, record: Record) -> dict[str, Any]:
        """Entry of the manifest, with or without identifiers."""
        entry = record.entry
        if self._show:
            entry = with_files(entry, record.files)
            entry |= {"refusal": refusal_entry(record.refusal, show=True)} if record.refusal else {}
        places = {"folder": record.folder, "earlier_result": record.earlier}
        return entry | {key: self._place(folder) for key, folder in places.items() if folder}

    def _place(self, folder: str) -> str:
        """The folder of an output; without the folders of the input in between, which may name a patient, unless shown."""
        root, *between, name = folder.split("/")
        return printable(Path(folder)) if self._show or not between else f"{root}/.../{name}"

    def _pending_row(self, files: SeriesFiles) -> dict[str, Any]:
        where = printable(source_folder(files, self._input_dir))
        about = {"source_folder": where, "series_uid": files.uid, "slices": len(files.instances)}
        return about | {"verdict": "not yet done", "what_to_do": "Run the same command again."}

    def _row(self, record: Record, shown: dict[str, Any]) -> dict[str, Any]:
        entry, files, refusal = record.entry, record.files, record.refusal
        reason = refusal.reason if refusal else "; ".join(entry.get("out_of_protocol", ()))
        return {
            "source_folder": printable(source_folder(files, self._input_dir)),
            "patient": files.patient if self._show else self._patients[_patient(files)],
            "study_uid": files.study_uid,
            "series_uid": files.uid,
            "kernel": files.kernel,
            "slice_thickness": entry["slice_thickness"],
            "slices": len(files.instances),
            "model": entry.get("model", ""),
            "verdict": traffic_light(shown).words,
            "reason": reason,
            "found": shown["refusal"]["found"] if refusal else "",
            "output_folder": printable(Path(record.folder)) if record.folder else "",
            "findings": "; ".join(f"{name} x {count}" for name, count in entry.get("findings", {}).items()),
            "seconds": entry.get("seconds", ""),
            "what_to_do": refusal.advice if refusal else "",
            "earlier_output": printable(Path(record.earlier)) if record.earlier else "",
        }


def _failure(row: dict[str, Any], record: Record) -> dict[str, Any]:
    """Line of `failures.csv` for a series that was refused, or failed, or some of whose slices were."""
    if record.refusal:
        return row
    slices = record.entry["refused_slices"]
    reasons = {name: "; ".join(dict.fromkeys(each[name] for each in slices)) for name in ("reason", "found", "advice")}
    return row | {
        "reason": reasons["reason"],
        "found": reasons["found"],
        "what_to_do": reasons["advice"],
        "slices": len(slices),
    }


def _csv(columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> str:
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: without_formula(value) for name, value in row.items()} for row in rows)
    return table.getvalue()


def _patient(files: SeriesFiles) -> str:
    """What tells patients apart: the Patient ID as people compare it, else the study."""
    return patient_key(files.first) or files.study_uid


def refused_rows(refusals: Iterable[Refusal], input_dir: Path) -> list[dict[str, Any]]:
    """Lines of `series.csv` for slices that were refused before they could be a series: one per folder, series and reason.

    Args:
        refusals: Refused slices.
        input_dir: Directory, or file, of the sources.
    """
    groups: dict[tuple[str, str, str], list[Refusal]] = {}
    for refusal in refusals:
        folder = refusal.paths[0].parent
        relative = folder.relative_to(input_dir) if folder.is_relative_to(input_dir) else Path()
        groups.setdefault((printable(relative), refusal.series_uid, refusal.reason), []).append(refusal)
    return [
        {
            "source_folder": folder,
            "series_uid": series_uid,
            "slices": sum(len(refusal.paths) for refusal in group),
            "verdict": f"refused: {in_words(reason)}",
            "reason": reason,
            "found": without_paths(group[0].found, group[0].paths),
            "what_to_do": group[0].advice,
        }
        for (folder, series_uid, reason), group in sorted(groups.items())
    ]
