"""What an output directory holds, and whether it is true, whole and clean."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path

import pydicom

Files = dict[str, bytes]
"""Path relative to the output directory -> content."""


def slices_of(output: Path) -> Files:
    """The derived slices."""
    return {str(path.relative_to(output)): path.read_bytes() for path in (output / "series").rglob("*.dcm")}


def by_series(files: Files) -> dict[str, Files]:
    """Files by the folder of their series."""
    found: dict[str, Files] = {}
    for name, data in files.items():
        found.setdefault(os.path.dirname(name), {})[name] = data
    return found


def count_whole(output: Path, old: Files, new: Files, faults: list[str]) -> int:
    """Number of series that are of the new run; each must be whole, of the old run or the new one, and none may be lost."""
    found, before, after = by_series(slices_of(output)), by_series(old), by_series(new)
    for folder, files in found.items():
        if files not in (before.get(folder), after.get(folder)):
            faults.append(f"{folder} is neither the old series nor the new one")
    for folder in before.keys() - found.keys():
        if not (output / ".incomplete" / f"{Path(folder).name}.replaced").exists():
            faults.append(f"{folder} is lost")
    return sum(files == after[folder] for folder, files in found.items() if folder in after)


def check_manifest(output: Path, faults: list[str]) -> None:
    """Each series that the manifest calls written must be there, with its UID and all its slices."""
    if not (output / "manifest.json").exists():
        return
    for entry in json.loads((output / "manifest.json").read_text())["series"]:
        if entry["status"] != "written" or (output / ".incomplete" / f"{entry['name']}.replaced").exists():
            continue
        slices = list((output / "series").rglob(f"{entry['name']}/*.dcm"))
        uids = {str(pydicom.dcmread(path, stop_before_pixels=True).SeriesInstanceUID) for path in slices}
        if len(slices) != len(entry["slices"]) or uids != {entry["derived_series_uid"]}:
            faults.append(f"the manifest is not true of {entry['name']}")


def check_clean(output: Path, faults: list[str]) -> None:
    """Nothing unfinished may be left."""
    left = [path for path in output.rglob("*") if path.name == ".incomplete" or path.suffix == ".partial"]
    if left or (output / ".stan_ct" / "holder.json").exists():
        faults.append(f"left behind: {left or 'the name of the holder'}")


def rows(output: Path, name: str = "series.csv") -> list[dict[str, str]]:
    """The lines of a table."""
    with (output / name).open(newline="") as file:
        return list(csv.DictReader(file))


def verdicts(output: Path) -> Sequence[tuple[str, str]]:
    """Source folder and verdict of each line of `series.csv`, whichever run made the series."""
    return sorted((row["source_folder"], row["verdict"].removesuffix(", kept from an earlier run")) for row in rows(output))
