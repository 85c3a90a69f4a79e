"""The account of a run, `manifest.json`: what came, what became of each series, and how."""

from __future__ import annotations

import os
import platform
import re
import sys
import traceback
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import numpy as np

from stan_ct import __version__
from stan_ct.dicom.refusal import Refusal
from stan_ct.dicom.series import SeriesFiles
from stan_ct.reconstruction.checks import Finding
from stan_ct.reconstruction.lattice import Lattice
from stan_ct.reconstruction.qualification import RejectedPatch
from stan_ct.reconstruction.selection import ModelSet
from stan_ct.reconstruction.standardize import Model, Standardized

PACKAGES = ("numpy", "scipy", "pydicom", "opencv-python-headless", "scikit-image")


def run_entry(models: ModelSet, command: str, created: str) -> dict:
    """Who made the series, with what and how: the head of the manifest."""
    settings = asdict(models.models[0].settings)
    del settings["qc_threshold"]  # of each model
    return {
        "stan_ct": __version__,
        "created": created,
        "command": command,
        "models": [_model_entry(model) for model in models.models],
        "settings": {**settings, "precision": models.models[0].precision},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in (*PACKAGES, *_engines(models))}},
        "platform": f"{sys.platform} {platform.machine()}",
    }


def _model_entry(model: Model) -> dict:
    """A model with what computes its networks; null for a baseline."""
    made = {"engine": model.engine or None, "precision": model.precision, "qc_threshold": model.settings.qc_threshold}
    return asdict(model.identity) | made


def _engines(models: ModelSet) -> list[str]:
    """Packages of the engines in use, by name."""
    found = {model.engine for model in models.models} - {""}
    return sorted(found | {"keras"} if "tensorflow" in found else found)


def source_entry(files: SeriesFiles) -> dict:
    """A source series, as its headers describe it."""
    return {
        "name": files.name,
        "source_series_uid": files.uid,
        "study_uid": files.study_uid,
        "kernel": files.kernel,
        "slice_thickness": files.slice_thickness if np.isfinite(files.slice_thickness) else None,
        "pixel_spacing": files.pixel_spacing,
        "shape": files.shape,
    }


def result_entry(files: SeriesFiles, result: Standardized, series_number: int, uids: Sequence[str], seconds: float) -> dict:
    """A written series, without names of files: patches, findings, HU, and every slice.

    Args:
        files: Source series, with the slices that were refused.
        result: Standardized series.
        series_number: Series Number of the derived series.
        uids: SOP Instance UIDs of the derived slices.
        seconds: Time that it took.
    """
    source_uids = {instance.path: instance.uid for instance in files.instances}
    slices, fidelity = result.slices, result.fidelity
    mean_change, rms_change = fidelity.change
    synthesized, qualified = sum(s.patches for s in slices), sum(s.qualified for s in slices)
    return {
        "status": "written",
        "model": result.model.identity.name,
        "derived_series_uid": result.series_uid,
        "series_number": series_number,
        "treated_as": result.verdict.kernel,
        "out_of_protocol": list(result.cautions),
        "patches": synthesized,
        "kept_fraction": round(qualified / synthesized, 4) if synthesized else None,
        "uncovered": round(float(np.mean([s.uncovered for s in slices])), 5),
        "findings": _counts([*fidelity.findings, *(f for s in slices for f in s.findings)]),
        "series_findings": [_finding_entry(f) for f in fidelity.findings],
        "mean_hu_change": round(mean_change, 3),
        "rms_hu_change": round(rms_change, 3),
        "tissue_hu_change": fidelity.tissues,
        "structure_hu": fidelity.structure,
        "strongest_structure": fidelity.strongest,
        "lattice": _lattice_entry(result.lattice),
        "slices": _slice_entries(result, uids),
        **_interpolated(result, uids),
        "refused_slices": [
            refusal_entry(r) | {"source_uids": [source_uids[path] for path in r.paths]} for r in result.source.refusals
        ],
        "seconds": round(seconds, 2),
    }


def _lattice_entry(lattice: Lattice) -> dict:
    """Ratio and limit by period, and the largest mean of a place, HU, with its limit."""
    limits = lattice.ratio_limits
    periods = {str(p): {"ratio": round(ratio, 2), "limit": round(limits[p], 2)} for p, ratio in lattice.ratios.items()}
    return {"periods": periods, "mean": round(lattice.largest_mean, 3), "mean_limit": round(lattice.mean_limit, 3)}


def _interpolated(result: Standardized, uids: Sequence[str]) -> dict:
    """Derived slices between two of the source: UIDs of all three, and the fraction of the way; nothing where there is none."""
    sources = [instance.uid for instance in result.source.instances]
    found = [
        {"derived_uid": uid, "between": sources[p.below : p.below + 2], "fraction": round(p.fraction, 4)}
        for p, uid in zip(result.places, uids, strict=bool(result.places))
        if p.part
    ]
    return {"interpolated": found} if found else {}


def _slice_entries(result: Standardized, uids: Sequence[str]) -> list[dict]:
    if result.places:
        uids = [uid for place, uid in zip(result.places, uids, strict=True) if not place.part]
    return [
        {
            "sha256": instance.sha256,
            "source_uid": instance.uid,
            "derived_uid": uid,
            "location": round(instance.location, 3),
            "seen_in_training": result.model.seen.of(instance) or None,
            "patches": checked.patches,
            "qualified": checked.qualified,
            "uncovered": round(checked.uncovered, 5),
            "unqualified": round(checked.unqualified, 5),
            "p_real": None if np.isnan(checked.p_real) else round(checked.p_real, 4),
            "rejected": [_rejected_entry(r) for r in checked.rejected],
            "findings": [_finding_entry(f) for f in checked.findings],
        }
        for instance, checked, uid in zip(result.source.instances, result.slices, uids, strict=True)
    ]


def _rejected_entry(rejected: RejectedPatch) -> dict:
    """Corner and size of a rejected patch, px, its P(real) and what was wrong with it."""
    p_real = round(rejected.p_real, 4) if np.isfinite(rejected.p_real) else None
    patch = rejected.patch
    place = {"row": patch.row, "column": patch.column, "height": patch.height, "width": patch.width}
    return {name: int(value) for name, value in place.items()} | {"p_real": p_real, "reason": rejected.reason}


def with_files(entry: dict, files: SeriesFiles) -> dict:
    """The entry of a series, naming the source files of its slices.

    Args:
        entry: Entry without names of files.
        files: Source series.
    """
    paths = {instance.uid: printable(instance.path) for instance in files.instances}
    slices = [{"source_file": paths.get(s["source_uid"], ""), **s} for s in entry.get("slices", [])]
    refused = [r | {"files": [paths.get(uid, "") for uid in r["source_uids"]]} for r in entry.get("refused_slices", [])]
    return entry | ({"slices": slices, "refused_slices": refused} if slices else {})


def fault_entry(error: Exception, files: SeriesFiles) -> dict:
    """The traceback of an error, naming neither source files nor folders of this machine."""
    text = without_paths("".join(traceback.format_exception(error)), (instance.path for instance in files.instances))
    return {"traceback": re.sub(r'File "[^"]*?([^"/\\]+[/\\][^"/\\]+)"', r'File "\1"', text)}


def refusal_entry(refusal: Refusal, show: bool = False) -> dict:
    """A refused slice or series.

    Args:
        refusal: What was refused, and why.
        show: Whether to name the files, whose names may be those of patients.
    """
    entry = {"reason": refusal.reason, "found": refusal.found, "advice": refusal.advice, "num_files": len(refusal.paths)}
    if show:
        return entry | {"files": [printable(p) for p in refusal.paths]}
    return entry | {"found": without_paths(refusal.found, refusal.paths)}


def printable(path: Path) -> str:
    """A path as text that can be written and printed, whatever its bytes: no control characters, no lone surrogates."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def without_paths(text: str, paths: Iterable[Path]) -> str:
    """A text in which the paths, and the folders that hold them, are left out."""
    known = {str(part) for path in paths for part in (path, path.absolute(), *path.parents, *path.absolute().parents)}
    known |= {path.name for path in paths}
    named = (name for name in known - {".", "/"} if name in text)  # few, and a pattern takes long to compile
    for name in sorted(named, key=len, reverse=True):
        text = re.sub(rf"(?<![\w.]){re.escape(name)}(?![\w])", "(file)", text)  # whole names, not parts of words
    return text


def _finding_entry(finding: Finding) -> dict[str, float | str | None]:
    entry = {"name": finding.name, "value": finding.value, "limit": finding.limit}
    return entry | {"detail": finding.detail} if finding.detail else entry


def _counts(findings: Iterable[Finding]) -> dict[str, int]:
    """Name of a finding -> number of occurrences, by name."""
    return dict(sorted(Counter(finding.name for finding in findings).items()))
