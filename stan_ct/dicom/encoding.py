"""A DICOM dataset -> Explicit VR Little Endian, with the bytes its values came with.

pydicom would decode and encode each value anew: text in the wrong character set, numbers too long for their VR and the
like would change, warn or fail on the way.
"""

from __future__ import annotations

import io
import struct
from contextlib import suppress
from typing import Any

import numpy as np
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_sequence
from pydicom.filewriter import write_data_element
from pydicom.tag import Tag
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, VR

VRS = {vr.value for vr in VR}
"""Value representations that DICOM has."""

ITEM = b"\xfe\xff\x00\xe0"
PADDING = {Tag("PixelPaddingValue"), Tag("PixelPaddingRangeLimit")}
WORD = {vr: n for n, vrs in ((2, "US SS OW AT"), (4, "UL SL FL OF OL"), (8, "FD OD SV UV OV")) for vr in vrs.split()}
"""Bytes per word of the VRs whose bytes are in the other order in a big endian file."""


def encode_dataset(dataset: Dataset, signed: bool) -> bytes:
    """Explicit VR Little Endian, without private elements and group lengths, in sequence items neither.

    Args:
        dataset: Its raw elements keep their bytes; those that were set are encoded.
        signed: Pixel Representation, for VRs that follow it.
    """
    tags = (tag for tag in sorted(dataset.keys()) if not tag.is_private and tag.element != 0)
    charset = dataset.get("SpecificCharacterSet")
    return b"".join(_element(dataset.get_item(tag), signed, charset) for tag in tags)


def _element(element: DataElement | RawDataElement, signed: bool, charset: str | list[str] | None) -> bytes:
    vr = _explicit_vr(element, signed)
    items = sequence_items(element) if vr == "SQ" else None
    if items is not None:
        encoded = [encode_dataset(item, signed) for item in items]
        value = b"".join(ITEM + struct.pack("<L", len(e)) + e for e in encoded)
    else:
        vr = "UN" if vr == "SQ" else vr  # a damaged sequence stays what it is, bytes
        value = element_bytes(element, charset)
    value += (b"\0" if vr in ("UI", "OB", "UN") else b" ") * (len(value) % 2)
    if len(value) > 0xFFFF and vr not in EXPLICIT_VR_LENGTH_32:
        vr = "UN"  # as PS3.5 6.2.2 says of values too long for their VR
    form = "<HH2sxxL" if vr in EXPLICIT_VR_LENGTH_32 else "<HH2sH"
    return struct.pack(form, element.tag.group, element.tag.element, bytes(vr, "ascii"), len(value)) + value


def _explicit_vr(element: DataElement | RawDataElement, signed: bool) -> str:
    """The VR stated, or the dictionary's; where that leaves a choice, the one for the pixels as they are written."""
    vr = element.VR if element.VR in VRS else None
    if vr in (None, "UN"):
        with suppress(KeyError):
            vr = dictionary_VR(element.tag)
    if vr == "US or SS" or (element.tag in PADDING and vr in ("US", "SS")):
        return "SS" if signed else "US"
    return vr[-2:] if vr else "UN"  # "OB or OW", "US or OW", "US or SS or OW": OW


def element_bytes(element: DataElement | RawDataElement, charset: str | list[str] | None = None) -> bytes:
    """An element's value as little endian bytes: those that were read, where it was not looked at since."""
    if isinstance(element, DataElement):
        file = DicomBytesIO()
        file.is_little_endian = file.is_implicit_VR = True
        write_data_element(file, element, charset)
        return file.getvalue()[8:]  # tag and length
    value, size = element.value or b"", WORD.get(element.VR or "", 1)
    if element.is_little_endian or size == 1 or len(value) % size:
        return value
    return np.frombuffer(value, f"V{size}").view(f">u{size}").astype(f"<u{size}").tobytes()


def set_element(dataset: Dataset, keyword: str, value: Any) -> None:
    """Sets an attribute with the VR of the dictionary, unlike pydicom without converting the old value, which may fail."""
    tag = Tag(keyword)
    dataset[tag] = DataElement(tag, dictionary_VR(tag), value)


def sequence_items(element: DataElement | RawDataElement) -> list[Dataset] | None:
    """The items of a sequence, or None if it is damaged."""
    if isinstance(element, DataElement):
        return list(element.value)
    value, implicit = element.value or b"", element.is_implicit_VR or element.VR in (None, "UN")
    if value[:4] not in (b"", ITEM, b"\xff\xfe\xe0\x00"):  # which pydicom would take for an empty item
        return None
    try:
        return list(read_sequence(io.BytesIO(value), implicit, element.is_little_endian, len(value), "iso8859"))
    except Exception:
        return None
