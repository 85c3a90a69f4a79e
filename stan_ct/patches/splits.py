"""Splits of pairs into training, validation and test, and the check that no two parts share anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from stan_ct.dicom.find import find_series
from stan_ct.dicom.refusal import Refusal
from stan_ct.dicom.series import SeriesFiles
from stan_ct.patches.pairs import PairingError, SeriesPair, frame_of_reference

Split = Literal["patient", "blocks", "halves", "folders"]
BLOCKS = ("blocks", "halves")
"""Splits that cut through patients."""
PARTS = ("train", "validation", "test")

Parts = dict[str, list[SeriesPair]]
"""Name of a part -> its pairs, with the slices that belong to it."""

Key = tuple[str, int]


def key_of(series: SeriesFiles) -> Key:
    """Unique key of a `SeriesFiles`."""
    return series.uid, series.grid


def find_trees(
    roots: Sequence[Path | str], folders: bool, progress: Callable = lambda paths: paths
) -> tuple[dict[str, list[SeriesFiles]], list[Refusal]]:
    """Finds the CT series of several trees.

    Args:
        roots: Directories.
        folders: Whether each root has folders `train`, `validation` and `test`, whose series are kept apart; anything
            beside them is ignored.
        progress: Wraps the iteration over files, such as `tqdm`.
    Returns:
        Series by part, or all under "" if not `folders`; and the refusals.
    Raises:
        FileNotFoundError: If a root does not exist.
        PairingError: If a root has no such folder, or one series lies in two trees.
    """
    found: dict[str, list[SeriesFiles]] = {}
    refusals: list[Refusal] = []
    for root in map(Path, roots):
        places = {part: root / part for part in PARTS if (root / part).is_dir()} if folders else {"": root}
        if not places:
            there = ", ".join(sorted(p.name for p in root.iterdir())[:5]) if root.is_dir() else "no such folder"
            raise PairingError(
                f"--split=folders expects folders train, validation and, if wanted, test in {root}; found: {there or 'nothing'}"
            )
        for part, place in places.items():
            inventory = find_series(place, progress=progress)
            found.setdefault(part, []).extend(inventory.series)
            refusals += inventory.refusals
    for series in found.values():
        _once(series)
    return found, refusals


def _once(series: Iterable[SeriesFiles]) -> None:
    seen: dict[Key, SeriesFiles] = {}
    for one in series:
        other = seen.setdefault(key_of(one), one)
        if other is not one:
            raise PairingError(
                f"series {one.uid} lies in two input trees, {other.instances[0].path.parent} and "
                f"{one.instances[0].path.parent}: give each series once"
            )


def by_patient(pairs: Sequence[SeriesPair], validation: float, test: float, seed: int) -> Parts:
    """Keeps whole patients apart.

    Args:
        pairs: Series pairs.
        validation: Fraction of the patients that validate; rounded, at least one patient.
        test: Fraction of the patients that test; rounded, at least one patient; 0 for none.
        seed: Seed of the choice of patients.
    Raises:
        PairingError: If there are too few patients for one in each part.
    """
    patients = sorted({pair.source.patient for pair in pairs})
    parts = 3 if test else 2
    if len(patients) < parts:
        found = {1: "one", 2: "two"}[len(patients)]
        raise PairingError(
            f"a split by patient needs at least {'three' if test else 'two'} patients, found {found}. Add patients, or hold "
            "back blocks of slices of a single one with --split=blocks."
        )
    held = min(max(round(len(patients) * validation), 1), len(patients) - parts + 1)
    tested = min(max(round(len(patients) * test), 1), len(patients) - held - 1) if test else 0
    order = np.random.default_rng(seed).permutation(patients).tolist()
    part_of = dict.fromkeys(order, "train")
    part_of |= dict.fromkeys(order[:held], "validation") | dict.fromkeys(order[held : held + tested], "test")
    return {part: [p for p in pairs if part_of[p.source.patient] == part] for part in PARTS[:parts]}


def by_blocks(pairs: Sequence[SeriesPair], block: int, halves: bool = False) -> Parts:
    """Holds back every third block of slice positions of each study; all its series count along the same positions.

    Args:
        pairs: Series pairs.
        block: Number of slices in a block.
        halves: Whether every second block tests, and of the others every third validates.
    Raises:
        PairingError: If there are too few slices for a block in each part.
    Note:
        For data of a single patient. It leaks: neighbouring slices at the blocks' borders are alike.
    """
    positions: dict[str, set[float]] = {}
    for pair in pairs:
        positions.setdefault(pair.source.study_uid, set()).update(round(i.location, 1) for i in pair.source.instances)
    ranks = {study: {place: n for n, place in enumerate(sorted(places))} for study, places in positions.items()}
    parts: Parts = {part: [] for part in PARTS[: 3 if halves else 2]}
    for pair in pairs:
        rank = ranks[pair.source.study_uid]
        slices: dict[str, list[tuple[int, int]]] = {part: [] for part in parts}
        for z, t in pair.slices:
            number = rank[round(pair.source.instances[z].location, 1)] // block
            slices[_part_of_block(number, halves)].append((z, t))
        for part in parts:
            if slices[part]:
                parts[part].append(SeriesPair(pair.source, pair.target, tuple(slices[part])))
    if not parts["validation"]:
        needed = "fifth" if halves else "third"
        raise PairingError(f"no series has a {needed} block of {block} slices to hold back: choose a smaller --block")
    return parts


def _part_of_block(number: int, halves: bool) -> str:
    if halves and number % 2:
        return "test"
    return "validation" if (number // 2 if halves else number) % 3 == 2 else "train"


def check_leakage(parts: Parts, digests: Mapping[Key, Mapping[int, str]]) -> dict[str, int]:
    """Checks that no identity and no image occurs in two parts.

    Args:
        parts: The split.
        digests: Series -> slice z -> digest of its pixels; "" for a slice without content.
    Returns:
        Kind of identity or image -> number of distinct values, each in one part only.
    Raises:
        PairingError: Names the first value that two parts share, and both series.
    """
    kinds: dict[str, Callable[[SeriesFiles], Iterable[str]]] = {
        "Patient ID": lambda series: [str(series.first.get("PatientID", "") or "")],
        "Study Instance UID": lambda series: [series.study_uid],
        "Frame of Reference UID": lambda series: [frame_of_reference(series)],
        "Series Instance UID": lambda series: [series.uid],
        "slice pixels": lambda series: digests.get(key_of(series), {}).values(),
    }
    return {kind: _each_in_one_part(kind, parts, values) for kind, values in kinds.items()}


def _each_in_one_part(kind: str, parts: Parts, values: Callable[[SeriesFiles], Iterable[str]]) -> int:
    seen: dict[str, tuple[str, SeriesFiles]] = {}
    for part, series in _used(parts):
        for value in filter(None, values(series)):
            other, where = seen.setdefault(value, (part, series))
            if other != part:
                raise PairingError(
                    f"{other} and {part} share {kind} {value[:64]}: series {where.uid} ({where.instances[0].path.parent}) and "
                    f"series {series.uid} ({series.instances[0].path.parent}). Training would see what it is measured on: "
                    "move one, or leave it out."
                )
    return len(seen)


def _used(parts: Parts) -> Iterator[tuple[str, SeriesFiles]]:
    """Each series of each part once."""
    for part, pairs in parts.items():
        for series in {key_of(s): s for pair in pairs for s in (pair.source, pair.target)}.values():
            yield part, series
