"""Small valid CT series as DICOM files, of any transfer syntax, pixel format, rescale, padding and tilt.

Arbitrary bytes of a value are best patched into the file: write a placeholder of the same length and replace it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from openjpeg.utils import encode_array
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

SYNTAXES = {
    "explicit": ExplicitVRLittleEndian,
    "implicit": ImplicitVRLittleEndian,
    "big endian": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "RLE": RLELossless,
    "JPEG 2000": JPEG2000Lossless,
    "JPEG-LS": JPEGLSLossless,
}
"""Name -> lossless transfer syntax that can be written here; JPEG 2000 from 32 x 32 pixels on."""

STUDY_UID = "1.2.826.0.1.3680043.8.498.1"


def random_stored(shape: tuple[int, int, int] = (3, 8, 6), bits: int = 12, signed: bool = False, seed: int = 0) -> np.ndarray:
    """Stored values (Z, H, W) int32 over all that `bits` can hold, both ends among them."""
    low = -(2 ** (bits - 1)) if signed else 0
    stored = np.random.default_rng(seed).integers(low, low + 2**bits, shape, dtype=np.int32)
    stored[:, 0, 0], stored[:, 0, 1] = low, low + 2**bits - 1
    return stored


def write_ct(
    folder: Path,
    stored: np.ndarray,
    *,
    syntax: str = "explicit",
    bits: int = 12,
    signed: bool = False,
    slope: str = "1",
    intercept: str = "-1024",
    padding: tuple[int, ...] = (),
    tilt: float = 0.0,
    spacing: tuple[float, float] = (0.7, 0.7),
    thickness: float = 2.5,
    kernel: str = "B",
    series: int = 3,
    edit: Callable[[Dataset, int], None] | None = None,
) -> list[Path]:
    """Writes a CT series, one file per slice.

    Args:
        folder: Made if need be; the files are 0.dcm, 1.dcm and so on, from the feet up.
        stored: Stored values (Z, H, W), of any integer type; those beyond `bits` are written as they are.
        syntax: A key of `SYNTAXES`.
        bits: Bits Stored.
        signed: Pixel Representation.
        slope: Rescale Slope as text.
        intercept: Rescale Intercept as text.
        padding: Pixel Padding Value and, if two, Range Limit; with a US or an SS as fits each value.
        tilt: Gantry tilt in degrees: the slices are inclined, but follow each other straight along the table.
        spacing: Pixel spacing (row, column), mm.
        thickness: Slice thickness and table step, mm.
        kernel: Convolution Kernel.
        series: Series Number; it determines the Series and SOP Instance UIDs.
        edit: Called with each dataset and its slice index before it is written.
    Returns:
        The files in the order of the slices.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for z, pixels in enumerate(stored):
        dataset = _header(z, series, kernel, thickness)
        _set_geometry(dataset, z, tilt, spacing, thickness)
        _set_pixel_module(dataset, pixels, bits, signed, slope, intercept, padding)
        if edit:
            edit(dataset, z)
        paths.append(folder / f"{z}.dcm")
        save(dataset, SYNTAXES[syntax], pixels, paths[-1])
    return paths


def _header(z: int, series: int, kernel: str, thickness: float) -> Dataset:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL", "HELIX"]
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = f"{STUDY_UID}.{series}.{z + 1}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = STUDY_UID, f"{STUDY_UID}.{series}"
    ds.FrameOfReferenceUID = f"{STUDY_UID}.1000"
    ds.StudyDate, ds.StudyTime, ds.AcquisitionDate, ds.AcquisitionTime = "20200102", "101500", "20200102", "102030.5"
    ds.Modality, ds.Manufacturer, ds.ManufacturerModelName = "CT", "ACME", "Scan-O-Matic"
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Doe^Jane", "P1", "19500101", "F"
    ds.ReferringPhysicianName, ds.StudyID, ds.AccessionNumber, ds.PatientPosition = "", "S1", "A1", "HFS"
    ds.StudyDescription, ds.SeriesDescription, ds.PositionReferenceIndicator = "Chest", "Thorax 2.5", ""
    ds.SeriesNumber, ds.AcquisitionNumber, ds.InstanceNumber = str(series), "1", str(z + 1)
    ds.KVP, ds.SliceThickness, ds.ConvolutionKernel = "120", f"{thickness:g}", kernel
    return ds


def _set_geometry(ds: Dataset, z: int, tilt: float, spacing: tuple[float, float], thickness: float) -> None:
    angle = np.deg2rad(tilt)
    ds.ImageOrientationPatient = ["1", "0", "0", "0", f"{np.cos(angle):.6f}", f"{np.sin(angle):.6f}"]
    ds.ImagePositionPatient = ["-100", "-90.5", f"{z * thickness:g}"]
    ds.SliceLocation, ds.GantryDetectorTilt = f"{z * thickness:g}", f"{tilt:g}"
    ds.PixelSpacing = [f"{s:g}" for s in spacing]


def _set_pixel_module(
    ds: Dataset, pixels: np.ndarray, bits: int, signed: bool, slope: str, intercept: str, padding: tuple[int, ...]
) -> None:
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = pixels.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, bits, bits - 1, int(signed)
    ds.RescaleSlope, ds.RescaleIntercept = slope, intercept
    ds.WindowCenter, ds.WindowWidth = "40", "400"
    for tag, value in zip((0x00280120, 0x00280121), padding, strict=False):
        ds.add_new(tag, "SS" if value < 0 else "US", value)


def save(ds: Dataset, syntax: str, pixels: np.ndarray, path: Path) -> None:
    """Writes a dataset with stored values (H, W) in a transfer syntax of `SYNTAXES`."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax.is_encapsulated else syntax
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    ds.add_new(0x7FE00010, "OW", (pixels.astype(np.int64) & 0xFFFF).astype(f"{order}u2").tobytes())
    if syntax == JPEG2000Lossless:  # for this pydicom's own way needs one more package
        frame = encode_array(pixels.astype(np.int16 if ds.PixelRepresentation else np.uint16), bits_stored=ds.BitsStored)
        ds.file_meta.TransferSyntaxUID = syntax
        ds.add_new(0x7FE00010, "OB", encapsulate([frame]))
    elif syntax.is_encapsulated:
        ds.compress(syntax, generate_instance_uid=False)
    ds.save_as(path, enforce_file_format=True)
