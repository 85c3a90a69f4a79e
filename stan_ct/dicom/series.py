"""A CT series: its files, their headers, and its volume in HU."""

from __future__ import annotations

import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from stan_ct.ct.hounsfield import soft_tissue_mask
from stan_ct.ct.source_slice import SourceSlice
from stan_ct.dicom import header as dicom
from stan_ct.dicom.limits import read_bounded
from stan_ct.dicom.pixels import decode
from stan_ct.dicom.refusal import Refusal, Refused
from stan_ct.dicom.tolerance import tolerant
from stan_ct.volume_file import take, zeros


@dataclass(frozen=True, slots=True)
class Instance:
    """One slice.

    Attributes:
        file: Path of its file.
        header: Its header without pixels; of a slice that was found, not read, the part that is used most is at hand.
        sha256: SHA-256 of the file once it has been read.
    """

    file: str
    header: dicom.Header
    sha256: str = ""

    @property
    def path(self) -> Path:
        """Path of its file."""
        return Path(self.file)

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
    def sort_key(self) -> tuple[float, int, str]:
        """Location, then Instance Number (0020,0013), then UID: the order of the slices of a series."""
        number = str(self.header.get("InstanceNumber", "") or "")
        return round(self.location, 4), int(number) if re.fullmatch(r"-?\d{1,18}", number) else 0, self.uid


@dataclass(frozen=True)
class SeriesFiles:
    """The slices of one series on one pixel grid, sorted along the normal; pixels not read yet.

    A DICOM series whose slices differ in matrix, pixel spacing or orientation gives one `SeriesFiles` per grid.

    Attributes:
        instances: The slices.
        grid: Number of the grid in the DICOM series.
        damaged: Number of damaged files that are, or may have been, slices of the DICOM series.
    """

    instances: tuple[Instance, ...]
    grid: int = 0
    damaged: int = 0

    @property
    def first(self) -> dicom.Header:
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
        return dicom.series_number(self.first)

    @property
    def patient(self) -> str:
        """Patient ID (0010,0020), or Study Instance UID where it is empty; splits by patient use it."""
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
        """Reconstruction kernel (0018,1210), "?" where it is not stated; control characters are spaces."""
        stated = "/".join(map(str, dicom.values_of(self.first, "ConvolutionKernel")))
        return re.sub(r"[\x00-\x1f\x7f-\x9f]+", " ", stated).strip() or "?"

    @property
    def slice_thickness(self) -> float:
        """Slice thickness (0018,0050) in mm, NaN where it is not stated."""
        try:
            return float(self.first.get("SliceThickness", "nan"))
        except (TypeError, ValueError):
            return float("nan")

    @property
    def name(self) -> str:
        """Folder name: series number, description, and eight characters that make it unique; no patient data."""
        with tolerant():
            text = f"{self.first.get('SeriesNumber', '') or 0}-{self.first.get('SeriesDescription', '') or 'series'}"
        safe = re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:40]
        return f"{safe}-{hashlib.sha256(f'{self.uid}/{self.grid}'.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Series:
    """A CT series that was read.

    Attributes:
        files: The slices that could be read, sorted along the normal.
        volume: (Z, H, W) float32, HU; where the series was read into a folder, a :class:`VolumeFile`, as `padding` is.
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

    def slice(self, z: int) -> SourceSlice:
        """Slice `z`, for what is made of it."""
        return SourceSlice(self.volume[z], self.padding[z], self.files.pixel_spacing)

    def soft_tissue(self, z: int) -> np.ndarray:
        """Soft-tissue mask of slice `z`, (H, W) bool."""
        return soft_tissue_mask(self.volume[z], self.padding[z])


def load_series(files: SeriesFiles, workers: int = 2, folder: Path | None = None) -> Series:
    """Reads and decodes the pixels of a series.

    Slices that cannot be read are skipped and named in `refusals`.

    Args:
        files: From :func:`find_series`.
        workers: Number of threads that decode.
        folder: Folder of a file for the volume, of which slices come to memory one by one; None: all of it is in memory.
    Returns:
        The series; its `files.instances` are the slices that were read, with their SHA-256.
    Raises:
        Refused: With the first slice's reason, if no slice could be read.
        OSError: If the volume cannot be written into the folder.
    """
    count = len(files.instances)
    volume, padding = (zeros(files.shape, dtype, folder) for dtype in (np.float32, bool))

    @tolerant()
    def load(z: int) -> Instance | Refusal:
        path = files.instances[z].path
        try:
            data = read_bounded(path)
            header, stored = decode(data)
        except OSError as error:
            return Refusal("unreadable", str(error), (path,), files.uid)
        except Refused as refused:
            return Refusal(refused.reason, refused.found, (path,), files.uid)
        except Exception as error:  # pydicom raises whatever it meets in a damaged file
            return Refusal("unreadable", dicom.first_line(error), (path,), files.uid)
        volume[z] = stored * float(header.RescaleSlope) + float(header.RescaleIntercept)  # HU
        ends = dicom.padding_range(header)
        if ends and (outside := (stored >= ends[0]) & (stored <= ends[1])).any():
            padding[z] = outside
        dicom.convert_values(header)
        return Instance(str(path), header, hashlib.sha256(data).hexdigest())

    with ThreadPoolExecutor(workers) as pool:
        results = list(pool.map(load, range(count)))
    refusals = tuple(r for r in results if isinstance(r, Refusal))
    read = {z: r for z, r in enumerate(results) if isinstance(r, Instance)}
    if not read:
        raise Refused(refusals[0].reason, refusals[0].found)
    if refusals:
        volume, padding = (take(values, list(read)) for values in (volume, padding))
    return Series(replace(files, instances=tuple(read.values())), volume, padding, refusals)
