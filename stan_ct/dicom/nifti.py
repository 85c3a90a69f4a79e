"""NIfTI in and out: a volume in HU becomes slices like any other, so that all checks hold, and comes back on its own grid.

NIfTI counts millimetres to the patient's right, anterior and head (RAS), DICOM to the left, posterior and head (LPS). NIfTI
knows neither kernel nor slice thickness: the kernel is stated by whoever has the file, and the thickness is taken to be the
distance of slices unless a sidecar says it. Needs nibabel, of the extra `stan-ct[nifti]`.
"""

from __future__ import annotations

import hashlib
import shutil
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage

from stan_ct.dicom import header as dicom
from stan_ct.dicom.archive import LARGEST_RATIO, SPARED
from stan_ct.dicom.identity import derived_uid
from stan_ct.dicom.nifti_files import Sidecar
from stan_ct.dicom.refusal import Refused
from stan_ct.dicom.series import Series
from stan_ct.dicom.write import dicom_file
from stan_ct.errors import UsageError

FROM_NIFTI = "made of a NIfTI file"
"""Start of the Derivation Description (0008,2111) of slices that are made here."""
LARGEST_VOLUME = 1 << 30
"""Most voxels of a file; two bytes on disk and four in memory each."""
LOWEST_HU, PADDING_BELOW = -1024.0, -1500.0
"""HU of nothing, and HU that no tissue and no noise has: a lowest value below is padding."""
EVEN = 0.05
"""Farthest that a slice may lie from where even steps have it, mm, to be written as NIfTI."""
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def of_nifti(header: dicom.Header) -> str:
    """How a slice was made of a NIfTI file, in words; empty for any other."""
    told = str(header.get("DerivationDescription") or "")
    return told if told.startswith(FROM_NIFTI) else ""


def write_slices_of(path: Path, folder: Path, sidecar: Sidecar) -> None:
    """Writes the slices of a NIfTI file as DICOM; equal files and sidecars give equal bytes.

    Args:
        path: The file.
        folder: Folder of the slices; made.
        sidecar: What else is known.
    Raises:
        Refused: `unreadable`, `several_phases` for more than one volume, `no_geometry`, or `not_hu`.
        OSError: If the slices cannot be written.
    """
    hu, affine = read_volume(path)
    needed, free = 2 * hu.size, shutil.disk_usage(folder.parent).free
    if needed > (1 - SPARED) * free:
        raise OSError(f"{path} has {needed} bytes of slices, and {free} are free")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    folder.mkdir(parents=True)
    lowest = int(hu.min())
    for z in range(hu.shape[2]):
        header = _header(affine, z, sidecar, digest, hu.shape)
        if lowest < PADDING_BELOW:
            header.add_new(0x00280120, "SS", lowest)
        header.PixelData = np.ascontiguousarray(hu[:, :, z].T).astype("<i2").tobytes()
        header["PixelData"].VR = "OW"
        (folder / f"{z:05d}.dcm").write_bytes(dicom_file(header))


def read_volume(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A volume to the patient's left, back and head.

    Returns:
        (X, Y, Z) int16, HU, rounded; and the affine from its voxels to mm LPS, (4, 4).
    Raises:
        Refused: As :func:`write_slices_of`.
    """
    image = _open(path)
    turn = _turn(image)
    try:
        values = image.get_fdata(dtype=np.float32, caching="unchanged").reshape(image.shape[:3])
    except (OSError, EOFError, ValueError, zlib.error) as error:  # shorter than its header says, or damaged
        raise Refused("unreadable", dicom.first_line(error)) from error
    if not np.isfinite(values).all():
        raise Refused("not_hu", "values that are not finite")
    low, high = float(values.min()), float(values.max())
    if low < -32768 or high > 32767 or high <= LOWEST_HU:
        raise Refused("not_hu", f"values from {low:g} to {high:g}")
    orientations = _nibabel().orientations
    turned = orientations.apply_orientation(np.rint(values).astype(np.int16), turn)
    return turned, RAS_TO_LPS @ image.affine @ orientations.inv_ornt_aff(turn, image.shape[:3])


def write_volume(source: Path, hu: np.ndarray, path: Path) -> None:
    """Writes a volume on the grid of the NIfTI file of which it was made: its affine, int16.

    Args:
        source: That file.
        hu: (X, Y, Z), HU, as :func:`read_volume` turns them.
        path: The file to write.
    """
    nibabel, image = _nibabel(), _open(source)
    back = nibabel.orientations.ornt_transform(_target(), nibabel.orientations.io_orientation(image.affine))
    values = nibabel.orientations.apply_orientation(np.rint(hu).astype(np.int16), back)
    made = nibabel.Nifti1Image(values, None, image.header)
    made.set_data_dtype(np.int16)
    made.header.set_slope_inter(1, 0)
    made.header["cal_min"] = made.header["cal_max"] = 0
    made.header["descrip"] = b"STAN-CT: research use only, not for diagnosis"
    made.to_filename(path)


class NotEven(ValueError):
    """The slices of a series do not follow each other at even distances."""


def write_series(series: Series, path: Path) -> None:
    """Writes a DICOM series as NIfTI, int16, in the order of its slices along the normal.

    Args:
        series: The series; its HU are rounded.
        path: The file to write.
    Raises:
        NotEven: If its slices do not follow each other in even steps.
        OSError: If it cannot be written.
    """
    places = np.array([instance.position for instance in series.instances])
    across, down = dicom.vector(series.instances[0].header, "ImageOrientationPatient").reshape(2, 3)
    number, (row, column) = len(places), series.files.pixel_spacing
    step = (places[-1] - places[0]) / (number - 1) if number > 1 else np.cross(across, down) * series.files.slice_thickness
    off = np.abs(places - places[0] - np.arange(number)[:, None] * step).max()
    if not off <= EVEN:  # NaN neither
        raise NotEven(f"its slices are off even steps by {off:.3g} mm")
    affine = np.eye(4)
    affine[:3] = np.stack([across * column, down * row, step, places[0]], axis=1)
    nibabel = _nibabel()
    made = nibabel.Nifti1Image(np.rint(series.volume).astype(np.int16).transpose(2, 1, 0), RAS_TO_LPS @ affine)
    made.header["descrip"] = b"STAN-CT: research use only, not for diagnosis"
    made.header.set_xyzt_units("mm")
    made.to_filename(path)


def _open(path: Path) -> Any:
    """A NIfTI image whose header is sound; its values are not read."""
    try:
        image = _nibabel().load(path)
        shape, kind = tuple(map(int, image.shape)), np.dtype(image.get_data_dtype())
        placed = int(image.header["sform_code"]) or int(image.header["qform_code"])
    except UsageError:
        raise
    except Exception as error:  # nibabel raises whatever it meets
        raise Refused("unreadable", dicom.first_line(error)) from error
    if len(shape) < 3 or np.prod(shape[3:]) > 1:
        raise Refused("several_phases", f"shape {shape}, expected one volume")
    if kind.kind not in "iuf":
        raise Refused("not_hu", f"values of type {kind}")
    voxels = int(np.prod([float(side) for side in shape]))
    if voxels < 1:
        raise Refused("unreadable", f"shape {shape}, no voxel")
    if voxels > LARGEST_VOLUME or voxels * kind.itemsize > LARGEST_RATIO * path.stat().st_size:
        raise Refused("unreadable", f"{voxels} voxels in {path.stat().st_size} bytes")
    if not (placed and np.isfinite(image.affine).all() and abs(np.linalg.det(image.affine)) > 1e-9):
        raise Refused("no_geometry", "no sform or qform that says where the voxels lie")
    return image


def _turn(image: Any) -> np.ndarray:
    """Orientation that turns the axes of an image to the left, back and head."""
    orientations = _nibabel().orientations
    return orientations.ornt_transform(orientations.io_orientation(image.affine), _target())


def _target() -> np.ndarray:
    return _nibabel().orientations.axcodes2ornt(("L", "P", "S"))


def _header(affine: np.ndarray, z: int, sidecar: Sidecar, digest: str, shape: tuple[int, ...]) -> Dataset:
    across, down, step = affine[:3, :3].T
    spacing = [np.linalg.norm(down), np.linalg.norm(across)]
    normal = np.cross(across, down) / np.linalg.norm(np.cross(across, down))
    distance = abs(float(step @ normal))
    key, header = f"{digest} {sidecar}", Dataset()
    header.SpecificCharacterSet, header.ImageType = "ISO_IR 192", ["DERIVED", "SECONDARY", "AXIAL"]
    header.SOPClassUID, header.Modality, header.Manufacturer = CTImageStorage, "CT", sidecar.manufacturer
    header.StudyInstanceUID, header.FrameOfReferenceUID = derived_uid(digest, "study"), derived_uid(digest, "frame")
    header.SeriesInstanceUID, header.SOPInstanceUID = derived_uid(key, "series"), derived_uid(key, str(z))
    header.StudyDate = header.StudyTime = header.StudyID = header.AccessionNumber = header.ReferringPhysicianName = ""
    header.PatientName = header.PatientID = header.PatientBirthDate = header.PatientSex = header.PatientPosition = ""
    header.PositionReferenceIndicator, header.SeriesNumber, header.AcquisitionNumber = "", "1", "1"
    header.SeriesDescription, header.InstanceNumber = "NIfTI", str(z + 1)
    told = f"slice thickness {'of its sidecar' if sidecar.thickness else 'taken from the distance of its slices'}"
    header.DerivationDescription = f"{FROM_NIFTI}; kernel stated by {sidecar.stated_by}; {told}"
    header.ConvolutionKernel, header.SliceThickness = sidecar.kernel[:16], f"{sidecar.thickness or distance:.6g}"
    header.KVP = ""
    header.ImageOrientationPatient = [f"{v:.8f}" for axis in (across, down) for v in axis / np.linalg.norm(axis)]
    header.ImagePositionPatient = [f"{v:.6f}" for v in affine[:3, 3] + z * step]
    header.PixelSpacing = [f"{v:.8g}" for v in spacing]
    header.SamplesPerPixel, header.PhotometricInterpretation, header.PixelRepresentation = 1, "MONOCHROME2", 1
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, 16, 15
    header.Columns, header.Rows = shape[0], shape[1]
    header.RescaleSlope, header.RescaleIntercept, header.RescaleType = "1", "0", "HU"
    return header


def _nibabel() -> Any:
    try:
        import nibabel
    except ImportError as error:
        raise UsageError("NIfTI needs nibabel: pip install 'stan-ct[nifti]'") from error
    return nibabel
