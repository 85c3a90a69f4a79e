"""Scans of one side alone: what they are, and what could be made of them."""

from __future__ import annotations

from stan_ct.adaptation.fit import FEWEST
from stan_ct.adaptation.scans import Patient, find_patients
from stan_ct.models.folder import shipped_models


def describe_side(side: str, trees: tuple[str, ...], slices: int) -> list[str]:
    """Lines about the scans of one side: kernels and patients, models that know the kernels, and what is missing.

    Args:
        side: `source_dir` or `target_dir`.
        trees: Its trees of DICOM.
        slices: Largest number of slices of a patient that are chosen.
    Raises:
        OSError: If a tree does not exist.
    """
    found = find_patients(trees, slices)
    if not found:
        return [f"--{side} holds no axial CT series"]
    lines = []
    for kernel, patients in found.items():
        number = len(patients)
        few = f"; {FEWEST} or more would show how patients differ" if number < FEWEST else ""
        lines.append(f"kernel {kernel}: {number} patient{'' if number == 1 else 's'}, {_thickness(patients)}{few}")
        lines += [f"  {words}" for words in _models(kernel, side)]
    wanted = "the standard that they are to look like" if side == "source_dir" else "scans that are to look like these"
    lines.append(f"To make a model, add {wanted}: any patients, no pairs.")
    return lines


def _thickness(patients: list[Patient]) -> str:
    values = sorted({files.slice_thickness for patient in patients for files in patient.series if files.slice_thickness > 0})
    if not values:
        return "slice thickness not stated"
    return f"{values[0]:g} mm" if len(values) == 1 else f"{values[0]:g} to {values[-1]:g} mm"


def _models(kernel: str, side: str) -> list[str]:
    """Models that ship for a kernel."""
    if side == "source_dir":
        known = [m for m in shipped_models() if kernel in m.source_kernels]
        return [f"--model={m.name} of stan-ct reconstruct standardizes it to {m.target_kernel}" for m in known]
    return [
        f"--model={m.name} makes it of {', '.join(m.source_kernels)}" for m in shipped_models() if m.target_kernel == kernel
    ]
