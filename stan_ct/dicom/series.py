"""Any directory tree of files -> CT series -> volumes in HU. What others ask for DICOM."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from stan_ct.ct.hounsfield import soft_tissue_mask
from stan_ct.dicom import header as dicom
from stan_ct.dicom.pixels import decode
from stan_ct.dicom.refusal import Refusal, Refused


@dataclass(frozen=True)
class Instance:
    """One slice: its file, its header without pixels, and the SHA-256 of the file once it has been read."""

    path: Path
    header: Dataset
    sha256: str = ""

    @property
    def uid(self) -> str:
        """SOP Instance UID (0008,0018)."""
        return str(self.header.SOPInstanceUID)

    @property
    def position(self) -> np.ndarray:
        """Image Position (Patient) (0020,0032), (3,) mm."""
        return dicom.vector(self.header, "ImagePositionPatient")

    @property
    def location(self) -> float:
        """Distance from the origin along the slice normal, mm."""
        row, column = dicom.vector(self.header, "ImageOrientationPatient").reshape(2, 3)
        return float(np.dot(np.cross(row, column), self.position))

    @property
    def _order(self) -> tuple:
        number = str(self.header.get("InstanceNumber", "") or "")
        return round(self.location, 4), int(number) if re.fullmatch(r"-?\d+", number) else 0, self.uid


@dataclass(frozen=True)
class SeriesFiles:
    """The slices of one series on one pixel grid, sorted along the normal; pixels not read yet.

    A DICOM series whose slices differ in matrix, pixel spacing or orientation gives one `SeriesFiles` per grid.
    """

    instances: tuple[Instance, ...]
    grid: int = 0

    @property
    def first(self) -> Dataset:
        """Header of the first slice."""
        return self.instances[0].header

    @property
    def uid(self) -> str:
        """Series Instance UID (0020,000E)."""
        return str(self.first.SeriesInstanceUID)

    @property
    def study_uid(self) -> str:
        """Study Instance UID (0020,000D)."""
        return str(self.first.StudyInstanceUID)

    @property
    def number(self) -> int | None:
        """Series Number (0020,0011), None where it is not stated."""
        return _series_number(self.first)

    @property
    def patient(self) -> str:
        """Patient ID (0010,0020), or the study where it is empty: what a patient split goes by."""
        return str(self.first.get("PatientID", "") or "") or self.study_uid

    @property
    def shape(self) -> tuple[int, int, int]:
        """(Z, H, W)."""
        return len(self.instances), int(self.first.Rows), int(self.first.Columns)

    @property
    def pixel_spacing(self) -> tuple[float, float]:
        """(row, column) spacing in mm (0028,0030)."""
        row, column = dicom.vector(self.first, "PixelSpacing")
        return float(row), float(column)

    @property
    def kernel(self) -> str:
        """Reconstruction kernel (0018,1210), "?" where it is not stated."""
        value = self.first.get("ConvolutionKernel", "") or "?"
        return str(value if isinstance(value, str) else "/".join(map(str, value)))

    @property
    def slice_thickness(self) -> float:
        """Slice thickness (0018,0050) in mm, NaN where it is not stated."""
        try:
            return float(self.first.get("SliceThickness", "nan"))
        except (TypeError, ValueError):
            return float("nan")

    @property
    def name(self) -> str:
        """A folder name: series number, description, and eight characters that make it unique; no patient data."""
        with dicom.tolerant():
            text = f"{self.first.get('SeriesNumber', '') or 0}-{self.first.get('SeriesDescription', '') or 'series'}"
        safe = re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:40]
        return f"{safe}-{hashlib.sha256(f'{self.uid}/{self.grid}'.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Series:
    """A CT series in memory.

    Attributes:
        files: The slices that could be read, sorted along the normal.
        volume: (Z, H, W) float32, HU.
        padding: (Z, H, W) bool, True where a pixel is padding.
        refusals: The slices that could not be read.
    """

    files: SeriesFiles
    volume: np.ndarray
    padding: np.ndarray
    refusals: tuple[Refusal, ...] = ()

    @property
    def instances(self) -> tuple[Instance, ...]:
        """The slices, as in `volume`."""
        return self.files.instances

    def soft_tissue(self, z: int) -> np.ndarray:
        """Soft-tissue mask of slice `z`, (H, W) bool."""
        return soft_tissue_mask(self.volume[z], self.padding[z])


@dataclass
class Inventory:
    """What a directory tree holds.

    Attributes:
        series: CT series that can be standardized, by study, series number and UID.
        refusals: CT slices that cannot, with the reason.
        passed_over: Kind of file -> how many were passed over ("not DICOM", "localizer", "MR Image Storage" ...).
        series_numbers: Study Instance UID -> every Series Number seen in that study, of any modality.
    """

    series: list[SeriesFiles] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    passed_over: Counter = field(default_factory=Counter)
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
        exclude: Directories to leave out, such as the output; `.incomplete` below `root`, half made, always is.
        progress: Wraps the iteration over files, such as `tqdm`.
        accept_standardized: Whether series that STAN-CT wrote are found too, or refused as sources.
    Returns:
        The inventory; equal for equal trees, whatever order the file system lists them in.
    Raises:
        FileNotFoundError: If `root` does not exist.
    """
    root = Path(root)
    if not root.exists():
        raise FileNotFoundError(f"{root} does not exist")
    with dicom.tolerant():
        return _find_series(root, {Path(e).resolve() for e in exclude}, progress, accept_standardized)


def _find_series(root: Path, exclude: set[Path], progress: Callable, accept_standardized: bool) -> Inventory:
    inventory, found, groups = Inventory(), [], defaultdict(list)

    def closed(_: OSError) -> None:
        inventory.passed_over["folder without permission to read"] += 1

    for path in progress(sorted(_files(root, exclude, closed))):
        try:
            header = _examine(path, inventory, accept_standardized)
        except Refused as refused:
            inventory.refusals.append(Refusal(refused.reason, refused.found, (path,)))
            continue
        if header is not None:
            found.append(Instance(path, header))
    for instance in _without_copies(found, inventory):
        groups[str(instance.header.SeriesInstanceUID), _grid(instance.header)].append(instance)
    seen = Counter()
    for (uid, _), instances in sorted(groups.items()):
        inventory.series.append(SeriesFiles(tuple(sorted(instances, key=lambda i: i._order)), grid=seen[uid]))
        seen[uid] += 1
    inventory.series.sort(key=lambda s: (s.study_uid, s.number or 0, s.uid, s.grid))
    return inventory


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


def _examine(path: Path, inventory: Inventory, accept_standardized: bool) -> Dataset | None:
    """The header of a slice to standardize, or None for a file that is passed over and counted."""
    passed = inventory.passed_over
    try:
        if not dicom.looks_like_dicom(path):
            passed["not DICOM"] += 1
            return None
        header = dicom.read_header(path)
    except PermissionError:
        passed["no permission to read"] += 1
        return None
    except OSError as error:
        raise Refused("unreadable", dicom.first_line(error)) from error
    if dicom.is_dicomdir(header):
        passed["DICOMDIR"] += 1
        return None
    number = _series_number(header)
    if number is not None and header.get("StudyInstanceUID"):
        inventory.series_numbers[str(header.StudyInstanceUID)].add(number)
    if not dicom.is_ct(header):
        sop_class = header.get("SOPClassUID")
        passed[getattr(sop_class, "name", None) or "DICOM without an image"] += 1
        return None
    if dicom.is_localizer(header):
        passed["localizer"] += 1
        return None
    dicom.check_header(header, accept_standardized)
    return header


def _series_number(header: Dataset) -> int | None:
    try:
        return int(header.get("SeriesNumber"))
    except (TypeError, ValueError):
        return None


def _grid(header: Dataset) -> tuple:
    orientation, spacing = (dicom.vector(header, k) for k in ("ImageOrientationPatient", "PixelSpacing"))
    return int(header.Rows), int(header.Columns), *np.round(orientation, 3), *np.round(spacing, 5)


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
            inventory.passed_over["copy of a slice"] += len(copies) - 1
        kept.append(copies[0])
    return kept


def _content(path: Path) -> str:
    """Digest of what a slice shows and where; differs for a file that cannot be decoded."""
    try:
        header, stored = decode(path.read_bytes())
    except (Refused, OSError):
        return str(path)
    place = [dicom.vector(header, k).tolist() for k in ("ImagePositionPatient", "RescaleSlope", "RescaleIntercept")]
    place += [str(header.SeriesInstanceUID), _grid(header)]
    return hashlib.sha256(repr((place, stored.shape)).encode() + stored.tobytes()).hexdigest()


def load_series(files: SeriesFiles, workers: int = 2) -> Series:
    """Reads and decodes the pixels of a series.

    Slices that cannot be read are left out and named in `refusals`.

    Args:
        files: From :func:`find_series`.
        workers: Threads that decode.
    Returns:
        The series; `files.instances` then hold the slices read, with their SHA-256.
    Raises:
        Refused: With the first slice's reason, if no slice could be read.
    """
    count, height, width = files.shape
    volume = np.empty((count, height, width), np.float32)
    padding = np.zeros((count, height, width), bool)

    def load(z: int) -> Instance | Refusal:
        path = files.instances[z].path
        try:
            data = path.read_bytes()
            header, stored = decode(data)
        except OSError as error:
            return Refusal("unreadable", str(error), (path,), files.uid)
        except Refused as refused:
            return Refusal(refused.reason, refused.found, (path,), files.uid)
        volume[z] = stored * float(header.RescaleSlope) + float(header.RescaleIntercept)  # HU
        ends = dicom.padding_range(header)
        if ends:
            padding[z] = (stored >= ends[0]) & (stored <= ends[1])
        return Instance(path, header, hashlib.sha256(data).hexdigest())

    with dicom.tolerant(), ThreadPoolExecutor(workers) as pool:
        results = list(pool.map(load, range(count)))
    refusals = tuple(r for r in results if isinstance(r, Refusal))
    good = [z for z, r in enumerate(results) if isinstance(r, Instance)]
    if not good:
        raise Refused(refusals[0].reason, refusals[0].found)
    if refusals:
        volume, padding = volume[good], padding[good]
    return Series(SeriesFiles(tuple(results[z] for z in good), files.grid), volume, padding, refusals)
