"""Search for CT series in a directory tree."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from stan_ct.dicom import header as dicom
from stan_ct.dicom.examine import NO_DICOM, NO_IMAGE, Examined
from stan_ct.dicom.examining import examined
from stan_ct.dicom.grouping import split_phases, split_series
from stan_ct.dicom.limits import read_bounded
from stan_ct.dicom.pixels import decode
from stan_ct.dicom.refusal import Refusal, Refused
from stan_ct.dicom.series import Instance, SeriesFiles
from stan_ct.dicom.tolerance import tolerant

SUFFIXES = {".dcm", ".dicom", ".ima"}
"""File names of DICOM end so, if they end in anything."""

OTHER_IMAGES = {"projection", "not_hu", "multi_frame", "already_standardized", "several_phases"}
"""Reasons for which images are refused that are not damaged."""


@dataclass
class Inventory:
    """Contents of a directory tree.

    Attributes:
        series: CT series that can be standardized, by study, series number and UID.
        refusals: CT slices that cannot, with the reason.
        skipped: Kind of file -> number of files skipped ("not DICOM", "localizer", "MR Image Storage" ...).
        series_numbers: Study Instance UID -> every Series Number seen in that study, of any modality.
    """

    series: list[SeriesFiles] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    series_numbers: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))

    @cached_property
    def slices(self) -> int:
        """Number of slices that can be standardized."""
        return sum(len(s.instances) for s in self.series)


def find_series(
    root: Path | str,
    exclude: Iterable[Path | str] = (),
    progress: Callable = lambda paths: paths,
    accept_standardized: bool = False,
    index: Path | None = None,
    workers: int = 1,
) -> Inventory:
    """Finds the CT series in a directory tree (or a single file), whatever the names, nesting and order of files.

    Args:
        root: Directory or file.
        exclude: Directories to ignore, such as the output; unfinished ones (`.incomplete`) are always ignored.
        progress: Wrapper of the iteration over files, such as `tqdm`.
        accept_standardized: Whether series written by STAN-CT are found, or refused as sources.
        index: Database in which what files are is kept for the next search of a large tree; None: it is not kept.
        workers: Number of processes that examine the files of a large tree.
    Returns:
        The inventory; equal for equal trees, whatever order the file system lists them in.
    Raises:
        FileNotFoundError: If `root` does not exist.
    """
    root = Path(root)
    if not root.exists():
        raise FileNotFoundError(f"{root} does not exist")
    inventory, found, suspects = Inventory(), [], []

    def closed(_: OSError) -> None:
        inventory.skipped["folder without permission to read"] += 1

    paths = list(_files(os.fspath(root), {Path(e).resolve() for e in exclude}, closed))
    for path, seen in zip(progress(paths), examined(paths, accept_standardized, index, workers), strict=True):
        _account(path, seen, inventory)
        if seen.header is not None:
            found.append(Instance(path, seen.header))
        elif seen.kind == NO_IMAGE or (seen.kind == NO_DICOM and (_has_suffix(path) or _is_empty(path))):
            suspects.append((Path(path), seen.kind))
    _refuse_damaged(suspects, {os.path.dirname(instance.file) for instance in found}, inventory)
    _group(found, inventory)
    return inventory


def _account(path: str, seen: Examined, inventory: Inventory) -> None:
    """Adds to the inventory what a file is, slices apart."""
    if seen.number is not None:
        inventory.series_numbers[seen.study_uid].add(seen.number)
    if seen.reason:
        inventory.refusals.append(Refusal(seen.reason, seen.found, (Path(path),), seen.series_uid))
    elif seen.kind:
        inventory.skipped[seen.kind] += 1


def _has_suffix(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in SUFFIXES


def _refuse_damaged(suspects: Iterable[tuple[Path, str]], folders: set[str], inventory: Inventory) -> None:
    """Refuses files that are no images but lie beside slices and may have been some: empty, cut short, or named as DICOM."""
    for path, kind in suspects:
        if os.path.dirname(path) in folders:
            inventory.skipped[kind] -= 1
            found = f"{'an empty file' if _is_empty(path) else kind} beside the slices of a series"
            inventory.refusals.append(Refusal("unreadable", found, (path,)))
    inventory.skipped += Counter()  # drops what counts none


def _is_empty(path: Path | str) -> bool:
    try:
        return not os.path.getsize(path)
    except OSError:  # gone meanwhile
        return False


@tolerant()
def _group(found: list[Instance], inventory: Inventory) -> None:
    """Adds the series of the slices found to the inventory."""
    by_uid = defaultdict(list)
    for instance in _without_copies(found, inventory):
        by_uid[str(instance.header.SeriesInstanceUID)].append(instance)
    for uid, instances in sorted(by_uid.items()):
        count = 0
        for group in split_series(instances):
            phases = split_phases(group)
            if phases is None:
                found_there = f"{len(group)} slices, several in one place, and no header tells their phases apart"
                inventory.refusals.append(Refusal("several_phases", found_there, tuple(i.path for i in group), uid))
                continue
            for phase in phases:
                slices = tuple(sorted(phase, key=lambda i: i.sort_key))
                damaged = _count_damaged(phase, by_uid, inventory.refusals)
                inventory.series.append(SeriesFiles(slices, count, damaged))
                count += 1
    inventory.series.sort(key=lambda s: (s.study_uid, s.number or 0, s.uid, s.grid))


def _count_damaged(instances: list[Instance], uids: Container[str], refusals: Iterable[Refusal]) -> int:
    """Number of damaged files that belong to a series, or lie in its folders and name none of the series in `uids`."""
    folders, uid = {instance.path.parent for instance in instances}, str(instances[0].header.SeriesInstanceUID)
    damaged = (r for r in refusals if r.reason not in OTHER_IMAGES)
    return sum(len(r.paths) for r in damaged if (r.series_uid == uid if r.series_uid in uids else r.paths[0].parent in folders))


def _files(root: str, exclude: set[Path], closed: Callable[[OSError], None]) -> Iterator[str]:
    """Paths of the files in a tree, each folder's entries by name."""
    if os.path.isfile(root):
        yield root
        return
    visited: set[Path] = set()

    def walk(folder: str) -> Iterator[str]:
        real = Path(folder).resolve()
        if real in visited or real in exclude:
            return
        visited.add(real)
        try:
            with os.scandir(folder) as entries:
                names = sorted((entry.name, *_kind(entry)) for entry in entries)
        except OSError as error:
            closed(error)
            return
        if not os.access(folder, os.X_OK):
            closed(PermissionError(folder))
            return
        for name, is_folder, is_file in names:
            path = os.path.join(folder, name)
            if is_folder and name != ".incomplete":
                yield from walk(path)
            elif is_file:
                yield path

    yield from walk(root)


def _kind(entry: os.DirEntry) -> tuple[bool, bool]:
    """Whether an entry is a folder, and whether it is a file; links count as what they lead to."""
    try:
        return entry.is_dir(), entry.is_file()
    except OSError:  # a link that leads to itself
        return False, False


def _without_copies(instances: list[Instance], inventory: Inventory) -> list[Instance]:
    """One file per SOP Instance UID; files that claim one UID but hold different HU are all refused."""
    by_uid, kept = defaultdict(list), []
    for instance in instances:
        by_uid[instance.uid].append(instance)
    for uid, copies in by_uid.items():
        if len(copies) > 1:
            digests = {_content(copy.path) for copy in copies}
            if len(digests) > 1:
                found = f"{len(copies)} files with {len(digests)} contents for SOP Instance {uid}"
                paths, series_uid = tuple(copy.path for copy in copies), str(copies[0].header.SeriesInstanceUID)
                inventory.refusals.append(Refusal("conflicting_instances", found, paths, series_uid))
                continue
            inventory.skipped["copy of a slice"] += len(copies) - 1
        kept.append(copies[0])
    return kept


PLACE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept")


def _content(path: Path) -> str:
    """Digest of position and HU of a slice; the path if it cannot be decoded."""
    try:
        header, stored = decode(read_bounded(path))
    except (Refused, OSError):
        return str(path)
    place = [dicom.vector(header, k).tolist() for k in PLACE]
    place += [str(header.SeriesInstanceUID), header.Rows, header.Columns]
    return hashlib.sha256(repr((place, stored.shape)).encode() + stored.tobytes()).hexdigest()
