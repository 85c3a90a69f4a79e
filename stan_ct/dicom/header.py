"""Headers of DICOM files: whether a file is a CT slice that can be standardized, and what its stored values mean."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset
from pydicom.filereader import read_partial
from pydicom.tag import BaseTag, Tag
from pydicom.uid import CTImageStorage, MediaStorageDirectoryStorage
from pydicom.valuerep import VR

from stan_ct.dicom.refusal import Refused
from stan_ct.dicom.tolerance import tolerant

MULTI_FRAME_CT = {"1.2.840.10008.5.1.4.1.1.2.1": "Enhanced CT", "1.2.840.10008.5.1.4.1.1.2.2": "Legacy Converted Enhanced CT"}
READ = (
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "PatientID", "Modality", "ImageType"),
    *("SeriesNumber", "SeriesDescription", "InstanceNumber", "ConvolutionKernel", "SliceThickness", "DerivationDescription"),
    *("NumberOfFrames", "Rows", "Columns"),
)
"""Attributes whose values are used without further checks."""

CONVERTED = (
    *READ,
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "FrameOfReferenceUID", "AcquisitionNumber"),
    *("RescaleSlope", "RescaleIntercept", "PixelPaddingValue", "PixelPaddingRangeLimit", "BitsStored", "PixelRepresentation"),
    *("Manufacturer", "TimezoneOffsetFromUTC", "LossyImageCompression", "IrradiationEventUID", "AcquisitionDateTime"),
    *("AcquisitionTime", "TemporalPositionIdentifier", "NominalPercentageOfCardiacPhase", "ContrastBolusAgent"),
    *("ContrastBolusStartTime", "ContentTime"),
)
"""Attributes that are used after the file has been read."""

VRS = {vr.value for vr in VR}

ORTHONORMALITY_TOLERANCE = 0.01
"""Largest error of the scalar products of the direction cosines of rows and columns."""

LARGEST_COORDINATE = 1e5
"""Largest absolute coordinate of Image Position (Patient), mm."""

SPACING_RANGE = (0.01, 100.0)
"""Smallest and largest pixel spacing of a CT slice, mm."""

AXIAL_TILT = 45.0
"""Largest angle between the slice normal and the patient's long axis, degrees; gantries tilt by up to 30."""

SLOPE_RANGE = (0.01, 100.0)
"""Smallest and largest Rescale Slope, HU per stored value."""

LARGEST_INTERCEPT = 40000.0
"""Largest absolute value of Rescale Intercept, HU: more than 16 bits hold."""

HU_NAMES = r"HU|HU_MOD|(HOUNSFIELD|HOUNDSFIELD)( UNITS?)?"
"""Rescale Types (0028,1054), whatever their case, that mean HU."""

PROJECTIONS = {"PROJECTION IMAGE", "MIP", "MINIP", "MAX_IP", "MIN_IP", "VRT", "VOLUME_RENDERED", "SSD"}
"""Values of Image Type of projections and renderings."""

MATERIALS = r"VMI|MONO(E|CHROME)?[_ ]?\d*|MONOENERGETIC|VIRTUAL_MONO.*|IODINE.*|WATER(_MAP)?|VNC|EFF_Z.*|MATERIAL.*|MD_.*"
"""Values of Image Type of virtual monoenergetic images and material maps."""

BITS_STORED_RANGE = (12, 16)
"""Smallest and largest Bits Stored (0028,0101) of a CT slice."""

PIXEL_TAGS = {0x7FE00008: "float", 0x7FE00009: "float", 0x7FE00010: "integer"}


def looks_like_dicom(path: Path) -> bool:
    """Whether the file starts as DICOM: "DICM" at byte 128, or a first tag of group 0002 or 0008 (no meta header)."""
    with open(path, "rb") as file:
        head = file.read(132)
    return head[128:] == b"DICM" or head[:2] in (b"\x08\x00", b"\x02\x00", b"\x00\x08")


@tolerant()
def read_header(path: Path) -> Dataset:
    """Reads everything before the pixels.

    Returns:
        The dataset, with two attributes: `pixel_kind`, "integer", "float" or None (no pixel data), and
        `bytes_missing`, how many bytes of the pixels the file lacks.
    Raises:
        Refused: `unreadable`.
    """
    kind, promised = None, 0

    def at_pixels(tag: BaseTag, vr: str | None, length: int) -> bool:
        nonlocal kind, promised
        if tag in PIXEL_TAGS:
            kind, promised = (PIXEL_TAGS[tag] if length else None), length
            return True
        return False

    try:
        with open(path, "rb") as file:
            header = read_partial(file, at_pixels, force=True)
            # Deflated data is read from a buffer of its own, so the file's position says nothing there.
            here, size = file.tell(), path.stat().st_size
            deflated = getattr(header.file_meta, "TransferSyntaxUID", "") == "1.2.840.10008.1.2.1.99"
    except OSError as error:
        if isinstance(error, PermissionError):
            raise
        raise Refused("unreadable", first_line(error)) from error
    except Exception as error:
        raise Refused("unreadable", first_line(error)) from error
    _check_vrs(header)
    encapsulated = promised == 0xFFFFFFFF
    header.pixel_kind = kind
    header.bytes_missing = 0 if deflated or encapsulated else max(here + promised - size, 0)
    return header


@tolerant()
def convert_values(header: Dataset) -> None:
    """Converts the attributes that are read later, so that reading them neither warns nor raises wherever that is.

    One whose value cannot be converted counts as absent.
    """
    for keyword in CONVERTED:
        try:
            header.get(keyword)
        except Exception:  # pydicom raises whatever it meets
            del header[Tag(keyword)]


def _check_vrs(header: FileDataset) -> None:
    """Refuses unknown VRs of the attributes in `READ`: pydicom would raise, and what follows in the file is uncertain."""
    for keyword in READ:
        element = header.get_item(Tag(keyword))  # as it lies in the file: getting the value would decode its text
        if element is not None and element.is_raw and element.VR is not None and element.VR not in VRS:
            raise Refused("unreadable", f"{keyword} has VR {element.VR!r}")


def is_dicomdir(header: Dataset) -> bool:
    """Whether the file is the index of a medium."""
    return _value(header.file_meta, "MediaStorageSOPClassUID", "") == MediaStorageDirectoryStorage


def is_ct(header: Dataset) -> bool:
    """Whether the object is a CT image of any kind, or a nameless image of modality CT."""
    sop_class = str(header.get("SOPClassUID") or "")
    return sop_class == CTImageStorage or sop_class in MULTI_FRAME_CT or (not sop_class and header.get("Modality") == "CT")


def is_localizer(header: Dataset) -> bool:
    """Whether the image is a localizer (scout, topogram): Image Type (0008,0008), value 3."""
    return "LOCALIZER" in [str(value).strip() for value in _values(header, "ImageType")[2:]]


def check_header(header: Dataset, accept_standardized: bool = False) -> None:
    """Checks that a single slice can be standardized.

    Args:
        header: From :func:`read_header`.
        accept_standardized: Whether slices written by STAN-CT are accepted.
    Raises:
        Refused: With the first reason found.
    """
    sop_class = str(header.get("SOPClassUID") or "")
    if sop_class in MULTI_FRAME_CT or str(_value(header, "NumberOfFrames", 1) or 1) not in ("0", "1"):
        raise Refused("multi_frame", MULTI_FRAME_CT.get(sop_class, "CT Image Storage") + " with several frames")
    missing = [
        k
        for k in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
        if not header.get(k) or not isinstance(header.get(k), str)
    ]
    if missing:
        raise Refused("no_identity", f"no {', '.join(missing)}")
    if not accept_standardized and str(header.get("DerivationDescription", "")).startswith(STAMP):
        raise Refused("already_standardized", f"Derivation Description {header.DerivationDescription!r}")
    if header.pixel_kind != "integer":
        raise Refused("float_pixel_data" if header.pixel_kind else "no_pixel_data", f"{header.pixel_kind or 'no'} pixel data")
    if header.bytes_missing:
        raise Refused("truncated", f"the last {header.bytes_missing} bytes of the pixels are missing")
    _check_kind(header)
    _check_rescale(header)
    _check_geometry(header)
    keywords = ("SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation")
    if _value(header, "PhotometricInterpretation", None) not in ("MONOCHROME1", "MONOCHROME2"):
        raise Refused("bad_pixel_format", f"Photometric Interpretation {_value(header, 'PhotometricInterpretation', None)!r}")
    samples, allocated, stored, high, signed = (_value(header, keyword, None) for keyword in keywords)
    few, many = BITS_STORED_RANGE
    sound = samples == 1 and allocated == 16 and stored in range(few, many + 1)
    if not sound or high != stored - 1 or signed not in (0, 1):
        raise Refused("bad_pixel_format", f"{stored} bits stored in {allocated}, high bit {high}, {samples} sample(s)")


STAMP = "STAN-CT"
"""Start of the Derivation Description (0008,2111) of every slice that STAN-CT writes."""


def _check_kind(header: Dataset) -> None:
    tokens = [str(value).strip().upper() for value in _values(header, "ImageType")[2:]]
    for token in tokens:
        if token in PROJECTIONS:
            raise Refused("projection", f"Image Type {token!r}")
        if re.fullmatch(MATERIALS, token):
            raise Refused("not_hu", f"Image Type {token!r}")


def _check_rescale(header: Dataset) -> None:
    slope, intercept = _number(header, "RescaleSlope", "no_rescale"), _number(header, "RescaleIntercept", "no_rescale")
    if not (np.isfinite(slope) and np.isfinite(intercept)) or slope == 0:
        raise Refused("no_rescale", f"slope {slope}, intercept {intercept}")
    if not SLOPE_RANGE[0] <= slope <= SLOPE_RANGE[1] or abs(intercept) > LARGEST_INTERCEPT:
        raise Refused("implausible_rescale", f"slope {slope:g}, intercept {intercept:g}")
    kind = str(_value(header, "RescaleType", "HU") or "HU").strip()
    if not re.fullmatch(HU_NAMES, kind, re.IGNORECASE):
        raise Refused("not_hu", f"Rescale Type {kind!r}")


def _check_geometry(header: Dataset) -> None:
    for keyword, count in (("ImagePositionPatient", 3), ("ImageOrientationPatient", 6), ("PixelSpacing", 2)):
        values = vector(header, keyword)
        if len(values) != count or not np.isfinite(values).all():
            raise Refused("no_geometry", f"{keyword} {[float(v) for v in values]}")
    axes, spacing = vector(header, "ImageOrientationPatient").reshape(2, 3), vector(header, "PixelSpacing")
    if np.abs(axes @ axes.T - np.eye(2)).max() > ORTHONORMALITY_TOLERANCE or not (
        SPACING_RANGE[0] <= spacing.min() <= spacing.max() <= SPACING_RANGE[1]
    ):
        raise Refused("no_geometry", f"orientation {axes.ravel().tolist()}, spacing {spacing.tolist()} mm")
    if np.abs(vector(header, "ImagePositionPatient")).max() > LARGEST_COORDINATE:
        raise Refused("no_geometry", f"ImagePositionPatient {vector(header, 'ImagePositionPatient').tolist()}")
    if not all(isinstance(n := _value(header, side, 0), int) and n >= 2 for side in ("Rows", "Columns")):
        raise Refused("no_geometry", f"{header.get('Rows')} x {header.get('Columns')} pixels")


def check_axial(header: Dataset) -> None:
    """Checks that a slice is axial, gantry tilt included.

    Raises:
        Refused: `not_axial`.
    """
    axes = vector(header, "ImageOrientationPatient").reshape(2, 3)
    normal = np.cross(*axes)
    if abs(normal[2]) < np.cos(np.deg2rad(AXIAL_TILT)):
        plane = ("sagittal", "coronal")[int(np.argmax(np.abs(normal[:2])))] if np.abs(normal[:2]).max() > 0.9 else "oblique"
        raise Refused("not_axial", f"{plane} slices, orientation {axes.ravel().tolist()}")


def vector(header: Dataset, keyword: str) -> np.ndarray:
    """A multi-valued decimal attribute as float64, (n,); empty if it is absent.

    Raises:
        Refused: `no_geometry` if a value is no number.
    """
    try:
        return np.array([float(v) for v in _values(header, keyword)])
    except Exception as error:  # pydicom raises whatever it meets
        raise Refused("no_geometry", f"{keyword}: {first_line(error)}") from error


def padding_range(header: Dataset) -> tuple[int, int] | None:
    """Range of stored values that mean padding, (0028,0120) to (0028,0121), both ends included; None if there is none.

    Some writers store a negative value with the unsigned VR (63536 for -2000) or the reverse: the bits are
    read as Pixel Representation says, as the pixels are.
    """
    low = _value(header, "PixelPaddingValue", None)
    if not isinstance(low, int):
        return None
    high = _value(header, "PixelPaddingRangeLimit", None)
    ends = [_as_stored(int(v), header) for v in (low, high if isinstance(high, int) else low)]
    return min(ends), max(ends)


def _as_stored(value: int, header: Dataset) -> int:
    bits = value & 0xFFFF
    return bits - 0x10000 if header.PixelRepresentation == 1 and bits >= 0x8000 else bits


def stored_range(header: Dataset) -> tuple[int, int]:
    """Smallest and largest value that Bits Stored and Pixel Representation allow."""
    low = -(2 ** (header.BitsStored - 1)) if header.PixelRepresentation else 0
    return low, low + 2**header.BitsStored - 1


def _values(header: Dataset, keyword: str) -> list:
    value = _value(header, keyword, None)
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, list | tuple | pydicom.multival.MultiValue) else [value]


def _value(header: Dataset, keyword: str, default: Any) -> Any:
    """An attribute's value, or `default` where it is absent, empty or does not parse."""
    try:
        value = header.get(keyword, default)
    except Exception:
        return default
    return default if value is None else value


def _number(header: Dataset, keyword: str, reason: str) -> float:
    value = _value(header, keyword, None)
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise Refused(reason, f"{keyword} is {value!r}") from error


def series_number(header: Dataset) -> int | None:
    """Series Number (0020,0011), None where it is absent or no number."""
    try:
        return int(header.get("SeriesNumber"))
    except (TypeError, ValueError, OverflowError):
        return None


def first_line(error: BaseException) -> str:
    """Message of an exception on one line, at most 160 characters."""
    text = str(error).strip() or type(error).__name__
    return " ".join(text.split())[:160]
