"""Many series: find, standardize, write, and account for each of them."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np

from stan_ct import __version__
from stan_ct.dicom.derived import Derivation, write_series
from stan_ct.dicom.identity import creation_time, derived_series_uid, free_series_number
from stan_ct.dicom.refusal import Refusal, Refused
from stan_ct.dicom.series import Inventory, Series, SeriesFiles, load_series
from stan_ct.errors import StanCTError
from stan_ct.reconstruction.fidelity import Fidelity, fidelity
from stan_ct.reconstruction.guard import Guard
from stan_ct.reconstruction.pipeline import SliceResult, Synthesizer, standardize_series
from stan_ct.reconstruction.quality import Finding
from stan_ct.reconstruction.report import Panel, panels, write_report
from stan_ct.reconstruction.settings import PipelineSettings

SERIES, MANIFEST, REPORT = "series", "manifest.json", "report.html"
PACKAGES = ("numpy", "scipy", "pydicom", "opencv-python-headless", "scikit-image", "tensorflow", "keras")


class OutputError(StanCTError, ValueError):
    """The output directory cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class Model:
    """The model in use, as the manifest and the DICOM headers name it."""

    name: str
    sha256: str
    source_kernel: str
    target_kernel: str
    sharpens: bool


@dataclass(frozen=True)
class Run:
    """Everything that determines the bytes written, but for the time.

    Attributes:
        output_dir: Where `series/`, `manifest.json` and `report.html` go.
        model: The model.
        settings: Switches of the pipeline.
        precision: Number type of the networks' hidden layers.
        command: The command line, for the record.
        guard: Judges whether the model was made for a series.
    """

    output_dir: Path
    model: Model
    settings: PipelineSettings
    precision: str
    command: str = ""
    guard: Guard = field(default_factory=Guard)

    @property
    def key(self) -> str:
        """What, with the source's UIDs, determines the new UIDs."""
        parts = {"stan_ct": __version__, "model": self.model.sha256, "precision": self.precision, **asdict(self.settings)}
        return json.dumps(parts, sort_keys=True)


@dataclass
class Record:
    """What became of one series: an entry of the manifest, and the pictures of the report.

    Attributes:
        files: The source series.
        status: `written`, `refused`, `failed`, or `left_alone`: it has the standard protocol already.
        entry: The manifest's entry.
        panels: Pictures.
        refusals: Why it, or some of its slices, could not be standardized.
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
        """0 all good; 2 some series or slices refused or failed; 3 no series has the standard protocol now."""
        if all(r.status in ("refused", "failed") for r in self.records):
            return 3
        return 2 if self.refusals or any(r.refusals for r in self.records) else 0


def check_output(output_dir: Path, input_dir: Path, planned: Inventory) -> None:
    """Refuses an output directory in which outputs and other data would mix.

    Raises:
        OutputError: If it lies in, or is, the input directory's own path, or holds series of another run.
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


def standardize_cohort(
    inventory: Inventory, synthesizer: Synthesizer, run: Run, progress: Callable, say: Callable[[str], None] = print
) -> Outcome:
    """Standardizes every series found, one after the other, and writes manifest and report.

    A series that cannot be standardized, or that fails, never stops the others. Manifest and report are replaced after
    each series, so they are true of what has been written even if the run is killed.

    Args:
        inventory: What was found.
        synthesizer: Makes standard patches.
        run: What determines the bytes written.
        progress: Wraps the iteration over slices: `progress(slices, description)`.
        say: Prints a line.
    """
    run.output_dir.mkdir(parents=True, exist_ok=True)
    for leftover in (".incomplete", *(f"{SERIES}/{files.name}" for files in inventory.series)):
        shutil.rmtree(run.output_dir / leftover, ignore_errors=True)  # of an earlier run, perhaps with other flags
    created, records = creation_time(), []
    taken = {study: set(numbers) for study, numbers in inventory.series_numbers.items()}
    for number, files in enumerate(inventory.series, 1):
        label = f"[{number}/{len(inventory.series)}] {files.name}"
        record = _standardize_one(files, synthesizer, run, created, taken, lambda s, label=label: progress(s, label))
        records.append(record)
        say(f"{label}: {_summary(record)}")
        _write_accounts(run, inventory, records, created)
    if not inventory.series:
        _write_accounts(run, inventory, records, created)
    return Outcome(records, inventory.refusals)


def _standardize_one(
    files: SeriesFiles,
    synthesizer: Synthesizer,
    run: Run,
    created: datetime,
    taken: dict[str, set[int]],
    progress: Callable,
) -> Record:
    start = time.monotonic()
    entry = _describe(files)
    try:
        series = load_series(files, workers=os.cpu_count() or 1)
        verdict = run.guard(series)
        if verdict.standard and not run.guard.allow:
            return Record(files, "left_alone", entry | {"status": "left_alone"})
        cautions = ["it had the standard protocol already"] if verdict.standard else list(verdict.reasons)
        if cautions and not run.guard.allow:
            raise Refused("out_of_protocol", "; ".join(cautions))
        volume, results = standardize_series(series, synthesizer, run.settings, progress, verdict.kernel)
        kept = fidelity(series, volume)
        results = [replace(r, findings=(*r.findings, *more)) for r, more in zip(results, kept.slices, strict=True)]
        study = taken.setdefault(files.study_uid, set())
        series_number = free_series_number(files.number, study)
        study.add(series_number)
        derivation = Derivation(
            target=f"kernel {run.model.target_kernel}",
            model=f"{run.model.name} {run.model.sha256[:8]}",
            key=run.key,
            sharpening=run.model.sharpens,
            created=created,
            caution=f"out of protocol: {'; '.join(cautions)}" if cautions else "",
        )
        uids = write_series(series, volume, run.output_dir / SERIES / files.name, derivation, series_number)
    except Refused as refused:
        return _unwritten(files, entry, "refused", refused.reason, refused.found)
    except OSError as error:
        return _unwritten(files, entry, "failed", "unwritable", str(error))
    except Exception as error:
        entry["traceback"] = traceback.format_exc()
        return _unwritten(files, entry, "failed", "failed", f"{type(error).__name__}: {error}")
    entry |= {"status": "written", "derived_series_uid": derived_series_uid(series.files, run.key)}
    entry |= {"series_number": series_number, "treated_as": verdict.kernel, "out_of_protocol": cautions}
    entry |= _account(series, volume, results, uids, kept)
    entry["refused_slices"] = [_refusal_entry(r) for r in series.refusals]
    entry["seconds"] = round(time.monotonic() - start, 2)
    return Record(files, "written", entry, panels(series, volume, kept.explained), series.refusals)


def _unwritten(files: SeriesFiles, entry: dict, status: str, reason: str, found: str) -> Record:
    refusal = Refusal(reason, found, tuple(i.path for i in files.instances), files.uid)
    entry |= {"status": status, "refusal": _refusal_entry(refusal)}
    return Record(files, status, entry, refusals=(refusal,))


def _describe(files: SeriesFiles) -> dict:
    return {
        "name": files.name,
        "source_series_uid": files.uid,
        "study_uid": files.study_uid,
        "kernel": files.kernel,
        "slice_thickness": files.slice_thickness if np.isfinite(files.slice_thickness) else None,
        "pixel_spacing": files.pixel_spacing,
        "shape": files.shape,
    }


def _account(series: Series, volume: np.ndarray, results: list[SliceResult], uids: tuple[str, ...], kept: Fidelity) -> dict:
    """The numbers of a written series: patches, findings, HU, and every slice."""
    mean_change, rms_change = _change(series, volume)
    made, qualified = sum(r.patches for r in results), sum(r.qualified for r in results)
    slices = [
        {
            "source_file": str(instance.path),
            "sha256": instance.sha256,
            "source_uid": instance.uid,
            "derived_uid": uid,
            "location": round(instance.location, 3),
            "patches": result.patches,
            "qualified": result.qualified,
            "uncovered": round(result.uncovered, 5),
            "unqualified": round(result.unqualified, 5),
            "p_real": None if np.isnan(result.p_real) else round(result.p_real, 4),
            "findings": [asdict(f) for f in result.findings],
        }
        for instance, result, uid in zip(series.instances, results, uids, strict=True)
    ]
    return {
        "patches": made,
        "kept_fraction": round(qualified / made, 4) if made else None,
        "uncovered": round(float(np.mean([r.uncovered for r in results])), 5),
        "findings": _count([*kept.findings, *(f for r in results for f in r.findings)]),
        "series_findings": [asdict(f) for f in kept.findings],
        "mean_hu_change": round(mean_change, 3),
        "rms_hu_change": round(rms_change, 3),
        "tissue_hu_change": kept.tissues,
        "structure_hu": kept.structure,
        "strongest_structure": kept.strongest,
        "slices": slices,
    }


def _change(series: Series, volume: np.ndarray) -> tuple[float, float]:
    """Mean and root mean square of the change in soft tissue, HU; slice by slice, to spare memory."""
    moments = np.zeros(3)
    for z in range(len(volume)):
        change = (volume[z] - series.volume[z])[series.soft_tissue(z)].astype(np.float64)
        moments += change.size, change.sum(), np.sum(change**2)
    _, mean, square = moments / max(moments[0], 1)
    return float(mean), float(np.sqrt(square))


def _count(findings: list[Finding]) -> dict[str, int]:
    """Name of a finding -> how often it was found."""
    names = [finding.name for finding in findings]
    return {name: names.count(name) for name in sorted(set(names))}


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


def _refusal_entry(refusal: Refusal) -> dict:
    return {
        "reason": refusal.reason,
        "found": refusal.found,
        "advice": refusal.advice,
        "files": [str(p) for p in refusal.paths],
    }


def _write_accounts(run: Run, inventory: Inventory, records: list[Record], created: datetime) -> None:
    manifest = {
        "stan_ct": __version__,
        "created": created.isoformat(),
        "command": run.command,
        "model": asdict(run.model),
        "settings": {**asdict(run.settings), "precision": run.precision},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "platform": f"{sys.platform} {platform.machine()}",
        "passed_over": dict(sorted(inventory.passed_over.items())),
        "refusals": [_refusal_entry(r) for r in inventory.refusals],
        "series": [r.entry for r in records],
        "not_yet_done": [s.name for s in inventory.series[len(records) :]],
    }
    _replace(run.output_dir / MANIFEST, json.dumps(manifest, indent=1, allow_nan=False) + "\n")
    _replace(run.output_dir / REPORT, write_report(manifest, [r.panels for r in records]))


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
