"""Search for CT series in a directory tree."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pydicom.dataset import Dataset

from stan_ct.dicom import header as dicom
from stan_ct.dicom.acceptance import check_header
from stan_ct.dicom.grouping import split_phases, split_series
from stan_ct.dicom.pixels import decode
from stan_ct.dicom.refusal import Refusal, Refused
from stan_ct.dicom.series import Instance, SeriesFiles
from stan_ct.dicom.tolerance import tolerant

NO_DICOM, NO_IMAGE = "not DICOM", "DICOM without an image"
"""Kinds of skipped files that may have been slices."""

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
) -> Inventory:
    """Finds the CT series in a directory tree (or a single file), whatever the names, nesting and order of files.

    Args:
        root: Directory or file.
        exclude: Directories to ignore, such as the output; unfinished ones (`.incomplete`) are always ignored.
        progress: Wrapper of the iteration over files, such as `tqdm`.
        accept_standardized: Whether series written by STAN-CT are found, or refused as sources.
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

    for path in progress(sorted(_files(root, {Path(e).resolve() for e in exclude}, closed))):
        try:
            header = _examine(path, inventory, accept_standardized)
        except Refused as refused:
            inventory.refusals.append(Refusal(refused.reason, refused.found, (path,), refused.series_uid))
            continue
        except Exception as error:  # pydicom converts values when they are asked for, and raises whatever it meets
            inventory.refusals.append(Refusal("unreadable", dicom.first_line(error), (path,)))
            continue
        if isinstance(header, Dataset):
            found.append(Instance(path, header))
            continue
        inventory.skipped[header] += 1
        if header == NO_IMAGE or (header == NO_DICOM and (path.suffix.lower() in SUFFIXES or _is_empty(path))):
            suspects.append((path, header))
    _refuse_damaged(suspects, {instance.path.parent for instance in found}, inventory)
    _group(found, inventory)
    return inventory


def _refuse_damaged(suspects: Iterable[tuple[Path, str]], folders: set[Path], inventory: Inventory) -> None:
    """Refuses files that are no images but lie beside slices and may have been some: empty, cut short, or named as DICOM."""
    for path, kind in suspects:
        if path.parent in folders:
            inventory.skipped[kind] -= 1
            found = f"{'an empty file' if _is_empty(path) else kind} beside the slices of a series"
            inventory.refusals.append(Refusal("unreadable", found, (path,)))
    inventory.skipped += Counter()  # drops what counts none


def _is_empty(path: Path) -> bool:
    try:
        return not path.stat().st_size
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


def _files(root: Path, exclude: set[Path], closed: Callable[[OSError], None]) -> Iterator[Path]:
    if root.is_file():
        yield root
        return
    visited = set()
    for folder, subfolders, names in os.walk(root, followlinks=True, onerror=closed):
        real = Path(folder).resolve()
        if real in visited or real in exclude:
            subfolders.clear()
            continue
        visited.add(real)
        subfolders[:] = sorted(name for name in subfolders if name != ".incomplete")
        if not os.access(folder, os.X_OK):
            closed(PermissionError(folder))
            continue
        yield from (path for name in names if os.path.isfile(path := Path(folder, name)))


@tolerant()
def _examine(path: Path, inventory: Inventory, accept_standardized: bool) -> Dataset | str:
    """The header of a slice to standardize, or the kind of a file that is skipped."""
    try:
        if not dicom.looks_like_dicom(path):
            return NO_DICOM
        header = dicom.read_header(path)
    except PermissionError:
        return "no permission to read"
    except OSError as error:
        raise Refused("unreadable", dicom.first_line(error)) from error
    if dicom.is_dicomdir(header):
        return "DICOMDIR"
    number = dicom.series_number(header)
    if number is not None and header.get("StudyInstanceUID"):
        inventory.series_numbers[str(header.StudyInstanceUID)].add(number)
    if not dicom.is_ct(header):
        if dicom.should_be_ct(header):
            raise Refused("unreadable", "File Meta Information says CT, but the header ends before it says so")
        sop_class = header.get("SOPClassUID")
        return getattr(sop_class, "name", None) or NO_IMAGE
    if dicom.is_localizer(header):
        return "localizer"
    try:
        check_header(header, accept_standardized)
    except Refused as refused:
        raise Refused(refused.reason, refused.found, dicom.series_uid(header)) from refused
    dicom.convert_values(header)
    return header


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
        header, stored = decode(path.read_bytes())
    except (Refused, OSError):
        return str(path)
    place = [dicom.vector(header, k).tolist() for k in PLACE]
    place += [str(header.SeriesInstanceUID), header.Rows, header.Columns]
    return hashlib.sha256(repr((place, stored.shape)).encode() + stored.tobytes()).hexdigest()
