"""The accounts of a run: `manifest.json`, `series.csv` and `report.html`, true of what has been written at every instant."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from stan_ct.dicom.find import Inventory
from stan_ct.dicom.series import SeriesFiles
from stan_ct.files import write_together
from stan_ct.reconstruction.manifest import refusal_entry, run_entry
from stan_ct.reconstruction.panels import FOLDER, Panel
from stan_ct.reconstruction.report import has_pages, report_page
from stan_ct.reconstruction.selection import ModelSet
from stan_ct.reconstruction.series_section import page_file, series_page, traffic_light
from stan_ct.reconstruction.throttle import Throttle

MANIFEST, REPORT, TABLE = "manifest.json", "report.html", "series.csv"
INTERVAL = 1.0
"""Least time between two versions of them, s."""
COLUMNS = (
    *("source_folder", "patient", "study_uid", "series_uid", "kernel", "slice_thickness", "slices", "model", "verdict"),
    *("reason", "output_folder", "findings", "seconds"),
    *("what_to_do", "earlier_output"),
)
"""Columns of `series.csv`."""


@dataclass
class Record:
    """What became of one series.

    Attributes:
        files: Source series.
        status: `written`, `refused`, `failed`, or `left_alone` if it has the standard protocol already.
        entry: Entry of the manifest.
        panels: Images of some slices.
        refused: Whether the series, or some of its slices, could not be standardized.
    """

    files: SeriesFiles
    status: str
    entry: dict[str, Any]
    panels: Sequence[Panel] = field(default_factory=list)
    refused: bool = False

    def summary(self) -> str:
        """What became of the series, in a line."""
        entry = self.entry
        if self.status == "left_alone":
            return f"left alone: kernel {entry['kernel']} is the standard one"
        if self.status != "written":
            earlier = f"; the earlier result {entry['earlier_result']} is kept" if "earlier_result" in entry else ""
            return f"{self.status}, {entry['refusal']['reason']}: {entry['refusal']['found']}{earlier}"
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
        output_dir: Directory that they are written to.
        inventory: Series to standardize.
        models: Models to choose from.
        command: Command line.
        created: Time of the run, with a time zone.
        show_identifiers: Whether they name source files and Patient IDs.
    """

    def __init__(
        self,
        output_dir: Path,
        inventory: Inventory,
        models: ModelSet,
        command: str,
        created: datetime,
        show_identifiers: bool,
    ) -> None:
        self.records: list[Record] = []
        self._output_dir, self._inventory, self._show = output_dir, inventory, show_identifiers
        self._head = run_entry(models, command if show_identifiers else "", created.isoformat())
        self._rows: list[dict[str, Any]] = []
        self._patients = {patient: f"P{n:04d}" for n, patient in enumerate(sorted({s.patient for s in inventory.series}), 1)}
        self._throttle = Throttle(INTERVAL)

    def add(self, record: Record, source_folder: Path) -> None:
        """Accounts for a series.

        Args:
            record: What became of it.
            source_folder: Folder of its slices relative to the input.
        """
        self.records.append(record)
        self._rows.append(self._row(record, source_folder))
        if record.status == "written" and has_pages(len(self._inventory.series)):
            html = series_page(self._head, record.entry, record.panels)
            write_together(self._output_dir / FOLDER, {Path(page_file(record.entry)).name: html})
        if self._throttle.due():
            self.write()

    def write(self) -> None:
        """Replaces manifest, table and report."""
        done, series = len(self.records), self._inventory.series
        manifest = {
            **self._head,
            "skipped": dict(sorted(self._inventory.skipped.items())),
            "refusals": [refusal_entry(r, self._show) for r in self._inventory.refusals],
            "series": [r.entry for r in self.records],
            "not_yet_done": [s.name for s in series[done:]],
        }
        table = io.StringIO(newline="")
        writer = csv.DictWriter(table, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        files = {
            MANIFEST: json.dumps(manifest, indent=1, allow_nan=False) + "\n",
            TABLE: table.getvalue(),
            REPORT: report_page(manifest, [r.panels for r in self.records]),
        }
        write_together(self._output_dir, files)

    def _row(self, record: Record, source_folder: Path) -> dict[str, Any]:
        entry, files = record.entry, record.files
        reason = entry["refusal"]["reason"] if "refusal" in entry else "; ".join(entry.get("out_of_protocol", ()))
        return {
            "source_folder": str(source_folder),
            "patient": files.patient if self._show else self._patients[files.patient],
            "study_uid": files.study_uid,
            "series_uid": files.uid,
            "kernel": files.kernel,
            "slice_thickness": entry["slice_thickness"],
            "slices": len(files.instances),
            "model": entry.get("model", ""),
            "verdict": traffic_light(entry).words,
            "reason": reason,
            "output_folder": entry.get("folder", ""),
            "findings": "; ".join(f"{name} x {count}" for name, count in entry.get("findings", {}).items()),
            "seconds": entry.get("seconds", ""),
            "what_to_do": entry["refusal"]["advice"] if "refusal" in entry else "",
            "earlier_output": entry.get("earlier_result", ""),
        }
