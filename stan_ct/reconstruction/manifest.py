"""The account of a run, `manifest.json`: what came, what became of each series, and how."""

from __future__ import annotations

import platform
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from importlib.metadata import version

import numpy as np

from stan_ct import __version__
from stan_ct.dicom.refusal import Refusal
from stan_ct.dicom.series import Series, SeriesFiles
from stan_ct.reconstruction.checks import Finding
from stan_ct.reconstruction.standardize import Model, Standardized

PACKAGES = ("numpy", "scipy", "pydicom", "opencv-python-headless", "scikit-image", "tensorflow", "keras")


def run_entry(model: Model, command: str, created: str) -> dict:
    """Who made the series, with what and how: the head of the manifest."""
    return {
        "stan_ct": __version__,
        "created": created,
        "command": command,
        "model": asdict(model.identity),
        "settings": {**asdict(model.settings), "precision": model.precision},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "platform": f"{sys.platform} {platform.machine()}",
    }


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


def result_entry(result: Standardized, series_number: int, uids: Iterable[str], seconds: float) -> dict:
    """A written series: patches, findings, HU, and every slice."""
    slices, fidelity = result.slices, result.fidelity
    mean_change, rms_change = _hu_change(result.source, result.volume)
    synthesized, qualified = sum(s.patches for s in slices), sum(s.qualified for s in slices)
    return {
        "status": "written",
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
        "slices": _slice_entries(result, uids),
        "refused_slices": [refusal_entry(r) for r in result.source.refusals],
        "seconds": round(seconds, 2),
    }


def _slice_entries(result: Standardized, uids: Iterable[str]) -> list[dict]:
    return [
        {
            "source_file": str(instance.path),
            "sha256": instance.sha256,
            "source_uid": instance.uid,
            "derived_uid": uid,
            "location": round(instance.location, 3),
            "patches": checked.patches,
            "qualified": checked.qualified,
            "uncovered": round(checked.uncovered, 5),
            "unqualified": round(checked.unqualified, 5),
            "p_real": None if np.isnan(checked.p_real) else round(checked.p_real, 4),
            "findings": [_finding_entry(f) for f in checked.findings],
        }
        for instance, checked, uid in zip(result.source.instances, result.slices, uids, strict=True)
    ]


def refusal_entry(refusal: Refusal) -> dict:
    """A refused slice or series."""
    return {
        "reason": refusal.reason,
        "found": refusal.found,
        "advice": refusal.advice,
        "files": [str(p) for p in refusal.paths],
    }


def _finding_entry(finding: Finding) -> dict:
    return {"name": finding.name, "value": finding.value, "limit": finding.limit}


def _counts(findings: Iterable[Finding]) -> dict[str, int]:
    """Name of a finding -> number of occurrences, by name."""
    return dict(sorted(Counter(finding.name for finding in findings).items()))


def _hu_change(series: Series, volume: np.ndarray) -> tuple[float, float]:
    """Mean and root mean square of the change in soft tissue, HU; slice by slice, to spare memory."""
    moments = np.zeros(3)
    for z in range(len(volume)):
        change = (volume[z] - series.volume[z])[series.soft_tissue(z)].astype(np.float64)
        moments += change.size, change.sum(), np.sum(change**2)
    _, mean, square = moments / max(moments[0], 1)
    return float(mean), float(np.sqrt(square))
