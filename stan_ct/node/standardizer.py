"""What the process of :class:`~stan_ct.node.worker.Worker` does: standardizes a series as `stan-ct reconstruct` would.

The node itself does not import this: it starts at once, and stays small.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import pydicom

from stan_ct.dicom.find import Inventory, find_series
from stan_ct.dicom.refusal import ADVICE, Refusal
from stan_ct.dicom.tolerance import tolerant
from stan_ct.node.jobs import Job, Result
from stan_ct.node.settings import NodeSettings
from stan_ct.node.spool import sync_folder, sync_tree
from stan_ct.parallel import usable_cores
from stan_ct.quiet import quiet_start
from stan_ct.reconstruction.accounts import Record
from stan_ct.reconstruction.cohort import standardize_cohort
from stan_ct.reconstruction.loading import load_models
from stan_ct.reconstruction.request import SERIES, Run
from stan_ct.reconstruction.selection import ModelSet


def prepare(settings: NodeSettings) -> ModelSet:
    """Loads the models.

    Raises:
        UsageError: If there is no such model, or it is damaged.
    """
    cores = usable_cores()
    cv2.setNumThreads(1 if cores > 1 else 0)  # slices are under way on all cores
    return load_models(settings.model, settings.target, loading=quiet_start, slices_at_once=cores)


def standardize(job: Job, models: ModelSet, allow_out_of_protocol: bool = False) -> Result:
    """Standardizes the series of a job into its output directory; what an earlier, killed process finished there is kept.

    Raises:
        UsageError: If another process still uses the output directory.
        OSError: If nothing can be written.
    """
    inventory = find_series(job.received)
    run = Run(job.received, job.output, models, "stan-ct node", allow_out_of_protocol, flat=True, overwrite=True)
    outcome = standardize_cohort(inventory, run, _unfollowed, _unsaid)
    for refusal in (record.refusal for record in outcome.records):
        if refusal is not None and refusal.reason == "unwritable":
            raise OSError(f"the output could not be written: {refusal.found}")
    written = [record for record in outcome.records if record.status == "written"]
    outputs = _outputs(job.output, [record.folder for record in written])
    sync_tree([job.output / record.folder for record in written])
    for folder in (job.output / SERIES, job.output, job.output.parent):
        if folder.exists():
            sync_folder(folder)
    kernel = ", ".join(dict.fromkeys(record.files.kernel for record in outcome.records))
    model = ", ".join(dict.fromkeys(str(record.entry["model"]) for record in written))
    size = sum(path.stat().st_size for path in job.output.rglob("*") if path.is_file())
    reason, found, advice = _reason(outcome.records, inventory)
    if written:
        return Result("standardized", kernel, model, reason, found, advice, outputs, size)
    statuses = {record.status for record in outcome.records}
    if statuses == {"left_alone"} and not inventory.refusals:
        return Result("left_alone", kernel, "", "standard_protocol", f"kernel {kernel} is the standard one", advice, (), size)
    return Result("failed" if "failed" in statuses else "refused", kernel, "", reason, found, advice, (), size)


def _unfollowed(slices: Iterable, description: str) -> Iterable:
    return slices


def _unsaid(line: str) -> None:
    """Words of the run that nobody reads."""


@tolerant()
def _outputs(output: Path, folders: Sequence[str]) -> list[tuple[str, str]]:
    """SOP Instance UID and relative path of each derived slice."""
    paths = [path for folder in folders for path in sorted((output / folder).glob("*.dcm"))]
    headers = [pydicom.dcmread(path, specific_tags=["SOPInstanceUID"], stop_before_pixels=True) for path in paths]
    return [(str(h.SOPInstanceUID), os.fspath(path.relative_to(output))) for h, path in zip(headers, paths, strict=True)]


def _reason(records: Sequence[Record], inventory: Inventory) -> tuple[str, str, str]:
    """Reason, found and advice of what was refused; empty if nothing was."""
    refusals: list[Refusal] = [record.refusal for record in records if record.refusal is not None]
    refusals += inventory.refusals
    slices = sum(len(record.entry.get("refused_slices", ())) for record in records) + len(inventory.refusals)
    if refusals:
        first = refusals[0]
        found = first.found if len(refusals) == 1 else f"{first.found} (and {len(refusals) - 1} more)"
        return first.reason, found, first.advice
    if slices:
        refused = next(entry for record in records for entry in record.entry.get("refused_slices", ()))
        return refused["reason"], f"{slices} slices refused: {refused['found']}", refused["advice"]
    if not records:
        skipped = ", ".join(f"{count} x {kind}" for kind, count in sorted(inventory.skipped.items()))
        return "no_ct", f"nothing to standardize: {skipped or 'no slices'}", "Only axial CT slices are standardized."
    return "", "", ADVICE["standard_protocol"] if all(record.status == "left_alone" for record in records) else ""
