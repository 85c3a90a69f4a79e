"""Which files of an input are NIfTI, and what is known of them beside their headers."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stan_ct.dicom import header as dicom
from stan_ct.errors import UsageError

SUFFIXES = (".nii", ".nii.gz")
LARGEST_SIDECAR = 1 << 20
"""Most bytes of a sidecar."""


@dataclass(frozen=True)
class Sidecar:
    """What is known of a NIfTI file beside its header.

    Attributes:
        kernel: Reconstruction kernel.
        thickness: Slice thickness, mm; 0 where it is not stated.
        manufacturer: Manufacturer of the scanner; empty where it is not stated.
        stated_by: Who states the kernel.
    """

    kernel: str
    thickness: float = 0.0
    manufacturer: str = ""
    stated_by: str = "--kernel"


def is_nifti(path: Path) -> bool:
    """Whether a file is named as NIfTI is."""
    return path.name.lower().endswith(SUFFIXES)


def stem(path: Path) -> str:
    """Name of a NIfTI file without its ending."""
    return path.name[: path.name.lower().rindex(".nii")]


def nifti_files(root: Path, exclude: Path | None = None) -> list[Path]:
    """The NIfTI files of an input that is one, or a folder that holds some and no DICOM; empty for any other input.

    Regions of interest often lie beside DICOM series as NIfTI: those are no input.

    Args:
        root: The input.
        exclude: Folder to ignore, such as the output.
    """
    if root.is_file():
        return [root] if is_nifti(root) else []
    found, seen, left_out = [], set(), exclude.resolve() if exclude else None
    for folder, folders, names in os.walk(root, followlinks=True):
        real = Path(folder).resolve()
        if real in seen or real == left_out:  # links may lead in a circle
            folders.clear()
            continue
        seen.add(real)
        for path in (Path(folder, name) for name in names):
            if is_nifti(path):
                found.append(path)
            elif _is_dicom(path):  # the first file of most trees, so that no time is lost
                return []
    return sorted(found)


def _is_dicom(path: Path) -> bool:
    try:
        return path.is_file() and dicom.looks_like_dicom(path)
    except OSError:  # the search says what is wrong with it
        return False


def read_sidecar(path: Path, kernel: str) -> Sidecar:
    """What `--kernel` and the sidecar of a file say, NAME.json beside NAME.nii.gz, as dcm2niix and BIDS have it.

    Raises:
        UsageError: If neither states a kernel, or the sidecar is damaged.
    """
    beside = path.with_name(f"{stem(path)}.json")
    said: Any = {}
    if beside.is_file():
        try:
            said = json.loads(beside.read_bytes()) if beside.stat().st_size <= LARGEST_SIDECAR else None
            if not isinstance(said, dict):
                raise ValueError("no object")
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{beside} is no JSON object: repair or remove it") from error
    stated = said.get("ConvolutionKernel", "")
    stated = "/".join(map(str, stated)) if isinstance(stated, list) else str(stated)
    if not (kernel or stated):
        raise UsageError(
            f"{path} does not say with which kernel it was reconstructed, since NIfTI cannot: give --kernel=NAME, or "
            f'{beside.name} beside it with {{"ConvolutionKernel": "NAME"}}'
        )
    thickness = said.get("SliceThickness")
    known = isinstance(thickness, int | float) and 0 < thickness < 100
    maker = str(said.get("Manufacturer", ""))[:64]
    return Sidecar(kernel or stated, float(thickness) if known else 0.0, maker, "--kernel" if kernel else "its sidecar")
