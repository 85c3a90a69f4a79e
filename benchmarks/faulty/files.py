"""Damaged files through the whole pipeline, in trees, and the HU that come out."""

from __future__ import annotations

import json
import random
import shutil
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import generate_uid

from faulty.bases import ENCODINGS, Base, encode, read_bases
from faulty.mutations import change_value, damage
from faulty.outputs import check_clean, check_manifest
from faulty.runs import reconstruct
from stan_ct.dicom.find import find_series
from stan_ct.dicom.pixels import decode
from stan_ct.dicom.tolerance import tolerant

TREE = 50
"""Damaged files in a tree, each in a series of its own."""
RAW = 4
"""Files in a tree that are damaged as they are."""
WHOLE_SERIES = 0.2
"""Share of series in which every slice has the same wrong value."""


Expected = dict[str, np.ndarray]
"""Name of a file -> HU of its slice."""


@dataclass
class _Case:
    """A series with a damaged file."""

    folder: str
    files: dict[str, bytes]
    damaged: str
    what: str
    kind: str
    origin: str


def measure_files(work: Path, number: int, faults: list[str], sources: list[Path]) -> str:
    """Damages files of series, standardizes them in trees, and compares what is written without a finding."""
    bases, raw = read_bases(work, sources)
    series = {f"b{n}": {f"{z}.dcm": _encoded(slice_, z) for z, slice_ in enumerate(base)} for n, base in enumerate(bases)}
    expected = _undamaged_outputs(work / "undamaged", series, faults)
    told: Counter[str] = Counter()
    for tree in range(-(-number // TREE)):
        size = min(TREE, number - tree * TREE)
        odd = {f"r{n}": raw[n] for n in random.sample(range(len(raw)), min(RAW, len(raw), size))}
        for name, path in odd.items():
            if name not in expected:
                expected |= _undamaged_outputs(work / "undamaged", {name: {path.name: path.read_bytes()}}, faults)
        cases = [_make_raw_case(name, path) for name, path in odd.items()]
        cases += [_make_case(f"d{n}", random.randrange(len(bases)), bases) for n in range(size - len(cases))]
        _write(work / "tree/in", {case.folder: case.files for case in cases})
        if _standardize(work / "tree", faults):
            _check_accounts(work / "tree", cases, faults)
            for case in cases:
                _judge(work / "tree", case, expected[case.origin], told)
        shutil.rmtree(work / "tree")
        print(f"  {tree * TREE + size} files, {len(faults)} faults, {told['differ']} differ", file=sys.stderr, flush=True)
    differ = told.pop("differ", 0)
    by_kind = {word.partition(": ")[2]: told.pop(word) for word in sorted(told) if word.startswith("differ: ")}
    origin = f"{len(bases)} series and {len(raw)} other files"
    lines = [f"{number} damaged files of {origin}: {', '.join(f'{n} {word}' for word, n in told.most_common())}"]
    return "\n".join([*lines, f"{differ} series without a finding differ from the undamaged files: {by_kind}"])


def _undamaged_outputs(work: Path, tree: dict[str, dict[str, bytes]], faults: list[str]) -> dict[str, Expected]:
    """Folder of a tree -> HU of its slices."""
    _write(work / "in", tree)
    expected = {name: dict(_outputs(work, name)) for name in tree} if _standardize(work, faults) else {}
    shutil.rmtree(work)
    return expected


def _write(root: Path, tree: dict[str, dict[str, bytes]]) -> None:
    for folder, files in tree.items():
        (root / folder).mkdir(parents=True)
        for name, data in files.items():
            (root / folder / name).write_bytes(data)


def _standardize(work: Path, faults: list[str]) -> bool:
    """Standardizes `in` into `out`; whether there was no fault."""
    before = len(faults)
    code, said = reconstruct(work / "in", work / "out").wait(faults)
    if code not in (0, 2, 3) or len(faults) > before:
        faults.append(f"exit code {code}: {said[-3000:]}")
        return False
    if (work / "out").exists():
        check_manifest(work / "out", faults)
        check_clean(work / "out", faults)
    return True


def _check_accounts(work: Path, cases: list[_Case], faults: list[str]) -> None:
    """Every file must be a slice of a series, refused, or skipped; and no series may fail."""
    manifest = json.loads((work / "out/manifest.json").read_text())
    inventory = find_series(work / "in")
    counted = inventory.slices + sum(inventory.skipped.values()) + sum(len(r.paths) for r in inventory.refusals)
    if counted != (files := sum(len(case.files) for case in cases)):
        faults.append(f"{files} files, {counted} accounted for")
    places = {files.name: files.instances[0].path.parent.name for files in inventory.series}
    whats = {case.folder: case.what for case in cases}
    for entry in manifest["series"]:
        if entry["status"] == "failed":
            faults.append(f"failed: {entry['refusal']}, {entry.get('fault', '')}: {whats[places[entry['name']]]}")


def _judge(work: Path, case: _Case, expected: Expected, told: Counter[str]) -> None:
    """Compares the HU of every slice of a series without findings with those of the undamaged file."""
    manifest = json.loads((work / "out/manifest.json").read_text())
    entries = {entry["name"]: entry for entry in manifest["series"] if entry["status"] == "written"}
    folders = [path for path in sorted((work / "out/series" / case.folder).glob("*")) if path.is_dir()]
    green = [path for path in folders if not _has_caution(entries[path.name])]
    if not folders:
        told["refused"] += 1
    elif len(green) < len(folders):
        told["written with findings or refused slices"] += 1
    else:
        told["written without a finding"] += 1
    for file, hu in _outputs(work, case.folder, {path.name for path in green}):
        if file not in expected:
            told["without an undamaged output to compare with"] += 1
        elif hu.shape != expected[file].shape or not np.array_equal(hu, expected[file]):
            told["differ"] += 1
            told[f"differ: {case.kind}"] += 1
            same = hu.shape == expected[file].shape
            off = np.abs(hu - expected[file]) if same else np.array([np.inf])
            where = "the damaged slice" if file == case.damaged else "a slice beside it"
            where += f" of {len(expected)}"
            print(f"  differs: {case.what}: {where}, {np.mean(off > 0):.2%} of the pixels by up to {off.max():.0f} HU")
            break


def _has_caution(entry: dict) -> bool:
    return bool(entry["findings"] or entry["refused_slices"] or entry["out_of_protocol"])


@tolerant()
def _outputs(work: Path, folder: str, series: set[str] | None = None) -> list[tuple[str, np.ndarray]]:
    """Source file and HU of each written slice of a folder."""
    uids = {}
    for path in sorted((work / "in" / folder).iterdir()):
        try:
            uids[str(decode(path.read_bytes())[0].SOPInstanceUID)] = path.name
        except Exception:
            continue
    found = []
    for path in sorted((work / "out/series" / folder).rglob("*.dcm")):
        if series is None or path.parent.name in series:
            dataset = pydicom.dcmread(path)
            hu = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
            source = str(dataset.SourceImageSequence[0].ReferencedSOPInstanceUID)
            found.append((uids.get(source, source), hu))
    return found


def _make_case(folder: str, number: int, bases: list[Base]) -> _Case:
    """A series in a random encoding, one of whose files is damaged, or all of which have the same wrong value."""
    encoding, study = random.choice(ENCODINGS), generate_uid(entropy_srcs=[str(random.random())])
    files = {f"{z}.dcm": _encoded(slice_, z, encoding, study) for z, slice_ in enumerate(bases[number])}
    damaged = random.choice(list(files))
    if random.random() < WHOLE_SERIES:
        state = random.getstate()
        for file, data in files.items():
            random.setstate(state)
            files[file], what = change_value(data)
        what = f"whole series: {what}"
    else:
        files[damaged], what = damage(files[damaged])
    return _Case(folder, files, damaged, f"{encoding}, {what}", _kind(what), f"b{number}")


@tolerant()
def _encoded(dataset: pydicom.Dataset, z: int, encoding: str = "explicit", study: str = "") -> bytes:
    study = study or generate_uid(entropy_srcs=[dataset.SeriesInstanceUID])
    return encode(dataset, encoding, f"{study}.{z + 1}", study)


def _kind(what: str) -> str:
    """The kind of damage, in a word, without what was drawn at random."""
    return what.partition(" = ")[0] if " = " in what else what.partition(":")[0]


def _make_raw_case(name: str, path: Path) -> _Case:
    """A file as it is, but damaged."""
    damaged, what = damage(path.read_bytes())
    return _Case(name, {path.name: damaged}, path.name, f"{path.name}, {what}", _kind(what), name)
