"""Headers of DICOM files: whether a file is a CT slice that can be standardized, and what its stored values mean."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pydicom
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset, FileDataset
from pydicom.filereader import read_partial
from pydicom.tag import BaseTag, Tag
from pydicom.uid import CTImageStorage

from stan_ct.dicom.encoding import VRS
from stan_ct.dicom.limits import BoundedFile
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

PIXEL_TAGS = {0x7FE00008: "float", 0x7FE00009: "float", 0x7FE00010: "integer"}


class Header(Protocol):
    """A header whose attributes are asked for by keyword: a pydicom dataset, or the part of one that is kept."""

    def get(self, key: Any, default: Any = None, /) -> Any:
        """Value of an attribute, or `default` where it is absent."""

    def __getattr__(self, name: str) -> Any: ...

    def __contains__(self, name: Any, /) -> bool: ...


def looks_like_dicom(path: Path) -> bool:
    """Whether the file starts as DICOM."""
    with open(path, "rb") as file:
        return starts_as_dicom(file.read(132))


def starts_as_dicom(head: bytes) -> bool:
    """Whether a file starts as DICOM: "DICM" at byte 128, or a first tag of group 0002 or 0008 (no meta header)."""
    return head[128:132] == b"DICM" or head[:2] in (b"\x08\x00", b"\x02\x00", b"\x00\x08")


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
    tags: Counter[BaseTag] = Counter()

    def at_pixels(tag: BaseTag, vr: str | None, length: int) -> bool:
        nonlocal kind, promised
        tags[tag] += 1
        if tag in PIXEL_TAGS:
            kind, promised = (PIXEL_TAGS[tag] if length else None), length
            return True
        return False

    try:
        with BoundedFile(path) as file:
            header = read_partial(file, at_pixels, force=True)
            # Deflated data is read from a buffer of its own, so the file's position says nothing there.
            here, size = file.tell(), path.stat().st_size
            deflated = getattr(header.file_meta, "TransferSyntaxUID", "") == "1.2.840.10008.1.2.1.99"
    except Refused:
        raise
    except OSError as error:
        if isinstance(error, PermissionError):
            raise
        raise Refused("unreadable", first_line(error)) from error
    except Exception as error:
        raise Refused("unreadable", first_line(error)) from error
    _check_vrs(header)
    if doubled := [tag for tag, count in tags.items() if count > 1]:
        raise Refused("unreadable", f"{keyword_for_tag(doubled[0]) or doubled[0]} comes twice, so its value is not certain")
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


def media_sop_class(header: Dataset) -> str:
    """Media Storage SOP Class UID (0002,0002) of the File Meta Information, empty where it is absent."""
    return str(value_of(header.file_meta, "MediaStorageSOPClassUID", ""))


def is_ct(header: Header) -> bool:
    """Whether the object is a CT image of any kind, or a nameless image of modality CT."""
    sop_class = str(header.get("SOPClassUID") or "")
    return is_ct_class(sop_class) or (not sop_class and header.get("Modality") == "CT")


def is_ct_class(sop_class: str) -> bool:
    """Whether a SOP Class UID is one of CT images."""
    return sop_class == CTImageStorage or sop_class in MULTI_FRAME_CT


def series_uid(header: Header) -> str:
    """Series Instance UID (0020,000E), empty where it is absent or does not parse."""
    return str(value_of(header, "SeriesInstanceUID", ""))


def is_localizer(header: Header) -> bool:
    """Whether the image is a localizer (scout, topogram): Image Type (0008,0008), value 3."""
    return "LOCALIZER" in [str(value).strip() for value in values_of(header, "ImageType")[2:]]


STAMP = "STAN-CT"
"""Start of the Derivation Description (0008,2111) of every slice that STAN-CT writes."""


def vector(header: Header, keyword: str) -> np.ndarray:
    """A multi-valued decimal attribute as float64, (n,); empty if it is absent.

    Raises:
        Refused: `no_geometry` if a value is no number.
    """
    try:
        return np.array([float(v) for v in values_of(header, keyword)])
    except Exception as error:  # pydicom raises whatever it meets
        raise Refused("no_geometry", f"{keyword}: {first_line(error)}") from error


def padding_range(header: Header) -> tuple[int, int] | None:
    """Range of stored values that mean padding, (0028,0120) to (0028,0121), both ends included; None if there is none.

    Some writers store a negative value with the unsigned VR (63536 for -2000) or the reverse: the bits are
    read as Pixel Representation says, as the pixels are.
    """
    low = value_of(header, "PixelPaddingValue", None)
    if not isinstance(low, int):
        return None
    high = value_of(header, "PixelPaddingRangeLimit", None)
    ends = [_as_stored(int(v), header) for v in (low, high if isinstance(high, int) else low)]
    return min(ends), max(ends)


def _as_stored(value: int, header: Header) -> int:
    bits = value & 0xFFFF
    return bits - 0x10000 if header.PixelRepresentation == 1 and bits >= 0x8000 else bits


def stored_range(header: Header) -> tuple[int, int]:
    """Smallest and largest value that Bits Stored and Pixel Representation allow."""
    low = -(2 ** (header.BitsStored - 1)) if header.PixelRepresentation else 0
    return low, low + 2**header.BitsStored - 1


def values_of(header: Header, keyword: str) -> list:
    value = value_of(header, keyword, None)
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, list | tuple | pydicom.multival.MultiValue) else [value]


def value_of(header: Header, keyword: str, default: Any) -> Any:
    """An attribute's value, or `default` where it is absent, empty or does not parse."""
    try:
        value = header.get(keyword, default)
    except Exception:
        return default
    return default if value is None else value


def number_of(header: Header, keyword: str, reason: str) -> float:
    value = value_of(header, keyword, None)
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise Refused(reason, f"{keyword} is {value!r}") from error


def series_number(header: Header) -> int | None:
    """Series Number (0020,0011), None where it is absent or no number."""
    try:
        return int(header.get("SeriesNumber"))
    except (TypeError, ValueError, OverflowError):
        return None


def first_line(error: BaseException) -> str:
    """Message of an exception on one line, at most 160 characters."""
    text = str(error).strip() or type(error).__name__
    return " ".join(text.split())[:160]
