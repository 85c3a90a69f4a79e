"""Damage to a DICOM file: what disks, networks, converters and hands do to it."""

from __future__ import annotations

import io
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass

import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

VALUES: tuple[bytes, ...] = (
    *(b"", b"nan ", b"1e400 ", b"-1", b"0 ", b"inf ", b"\xff\xfe", b"A" * 70, b"1\\2\\3 ", b"2147483648", b"M\xfcller"),
    *(b"\x1b[2J", b"9" * 400, b"\\\\", b"\0\0\0\0", b"1,5 ", b"<script>"),
)
"""Values that any element may come to hold."""
PIXELS = Tag("PixelData")


def _us(*values: int) -> tuple[bytes, ...]:
    return tuple(struct.pack("<H", value) for value in values)


ODD: dict[str, tuple[bytes, ...]] = {
    "RescaleSlope": (b"2 ", b"0.5 ", b"-1", b"1.5 ", b"1e3 ", b"0.001 "),
    "RescaleIntercept": (b"0 ", b"-2048 ", b"1024", b"-24 ", b"-1000 ", b"-8192 "),
    "PixelSpacing": (b"0.7 ", b"7\\7 ", b"0.5\\0.9 ", b"0.070\\0.070 ", b"0\\0 "),
    "ImagePositionPatient": (b"0\\0\\0 ", b"0\\0\\1e9 ", b"-100\\-90.5\\nan ", b"1\\2 "),
    "ImageOrientationPatient": (b"1\\0\\0\\0\\0\\-1", b"1\\1\\1\\1\\1\\1 ", b"0\\0\\0\\0\\0\\0 ", b"-1\\0\\0\\0\\-1\\0 "),
    "Rows": _us(0, 1, 32, 63, 65, 128, 65535),
    "Columns": _us(0, 1, 32, 63, 65, 128, 65535),
    "BitsAllocated": _us(8, 12, 32),
    "BitsStored": _us(8, 11, 12, 13, 16),
    "HighBit": _us(7, 11, 15),
    "PixelRepresentation": _us(0, 1, 2),
    "SamplesPerPixel": _us(0, 3),
    "PhotometricInterpretation": (b"MONOCHROME1 ", b"RGB ", b"PALETTE COLOR "),
    "PixelPaddingValue": _us(0, 1, 1024, 1064, 63536),
    "PixelPaddingRangeLimit": _us(0, 1000, 2000, 65535),
    "RescaleType": (b"US", b"HU", b"OD", b"Houndsfield Unit"),
    "ConvolutionKernel": (b"B", b"L", b"B31f", b"B\\L ", b"STANDARD"),
    "SliceThickness": (b"1 ", b"2.5 ", b"5.0 ", b"-3"),
    "NumberOfFrames": (b"2 ", b"1 ", b"0 "),
    "Modality": (b"MR", b"PT"),
    "ImageType": (b"ORIGINAL\\PRIMARY\\LOCALIZER ", b"DERIVED\\SECONDARY\\MPR ", b"DERIVED\\PRIMARY\\MIP "),
    "SOPClassUID": (b"1.2.840.10008.5.1.4.1.1.7", b"1.2.840.10008.5.1.4.1.1.2.1"),
    "SOPInstanceUID": (b"1.2.3\0", b"1..2", b"x\0"),
    "SeriesInstanceUID": (b"1.2.3\0", b"1..2"),
    "StudyInstanceUID": (b"1.2.3\0", b"1..2"),
    "FrameOfReferenceUID": (b"1.2.3\0",),
    "PatientID": (b"P2", b"p1", b"P1 ", b"\xe4\xf6\xfc "),
    "SpecificCharacterSet": (b"ISO_IR 192", b"ISO 2022 IR 87", b"nonsense"),
    "SeriesNumber": (b"7 ", b"1.5 ", b"-3"),
    "InstanceNumber": (b"1 ", b"99", b"1.5 "),
    "SeriesDescription": (b"../../etc ", b"a/b ", b"CON "),
    "AcquisitionNumber": (b"2 ",),
    "AcquisitionTime": (b"256161", b"10:20:30"),
    "DerivationDescription": (b"STAN-CT ",),
    "BurnedInAnnotation": (b"YES ",),
    "LossyImageCompression": (b"01", b"00"),
    "SharedFunctionalGroupsSequence": (b"\xfe\xff\x00\xe0\xff\xff\xff\xff",),
    "SourceImageSequence": (b"\xfe\xff\x00\xe0abcd", b"\xff\xff\xff\xff"),
}
"""Keyword -> values that are wrong, or that another series would have."""

SYNTAXES = (
    *(b"1.2.840.10008.1.2\0", b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.2\0", b"1.2.840.10008.1.2.1.99"),
    *(b"1.2.840.10008.1.2.5\0", b"1.2.840.10008.1.2.4.90", b"1.2.840.10008.1.2.4.80", b"1.2.3\0"),
)


@dataclass
class _Element:
    """Where a top-level element lies in a file."""

    tag: int
    vr: str
    start: int
    value: int
    end: int


def damage(data: bytes) -> tuple[bytes, str]:
    """Damages a file at random, by the state of `random`.

    Returns:
        The damaged file, and what was done.
    """
    kind = random.choices(list(KINDS), [weight for _, weight in KINDS.values()])[0]
    damaged, what = KINDS[kind][0](data)
    return damaged, f"{kind}: {what}"


def _elements(data: bytes) -> list[_Element]:
    """Top-level elements of a file, group 0002 among them, as far as they can be read."""
    found = []
    try:
        dataset = pydicom.dcmread(io.BytesIO(data), force=True)
    except Exception:
        return []
    for part in (dataset.file_meta, dataset):
        for tag in part.keys():  # noqa: SIM118 # iterating would decode the values
            try:
                element = part.get_item(tag)
            except Exception:  # so damaged already that pydicom cannot look at it
                continue
            if not isinstance(element, RawDataElement) or element.value is None or not element.length < 0xFFFFFFFF:
                continue
            if not 0 <= element.value_tell <= len(data) - element.length:  # of a deflated file
                continue
            long = not element.is_implicit_VR and element.VR in EXPLICIT_VR_LENGTH_32
            start = element.value_tell - (12 if long else 8)
            found.append(_Element(int(tag), element.VR or "", start, element.value_tell, element.value_tell + element.length))
    return [e for e in found if struct.unpack_from("<HH", data, e.start) == (e.tag >> 16, e.tag & 0xFFFF)]


def _encoded(data: bytes, element: _Element, value: bytes) -> bytes:
    """An element with another value, in the encoding of the file."""
    head = data[element.start : element.start + 4]
    if not element.vr or data[element.start + 4 : element.start + 6] != element.vr.encode():
        return head + struct.pack("<L", len(value)) + value
    head += element.vr.encode()
    return head + struct.pack("<HL" if element.vr in EXPLICIT_VR_LENGTH_32 else "<H", *_length(element.vr, value)) + value


def _length(vr: str, value: bytes) -> tuple[int, ...]:
    return (0, len(value)) if vr in EXPLICIT_VR_LENGTH_32 else (len(value),)


def _pixels_start(data: bytes) -> int:
    return max(data.find(b"\xe0\x7f\x10\x00"), 132)


def _flip(data: bytes, low: int, high: int) -> tuple[bytes, str]:
    damaged, places = bytearray(data), [random.randrange(low, max(high, low + 1)) for _ in range(random.randint(1, 8))]
    for place in places:
        damaged[min(place, len(data) - 1)] ^= 1 << random.randrange(8)
    return bytes(damaged), f"bits of {len(places)} bytes"


def _flip_header(data: bytes) -> tuple[bytes, str]:
    return _flip(data, 0, _pixels_start(data))


def _flip_pixels(data: bytes) -> tuple[bytes, str]:
    return _flip(data, _pixels_start(data), len(data))


def _block(data: bytes) -> tuple[bytes, str]:
    length, start = random.randint(16, 2048), random.randrange(len(data))
    name, fill = random.choice([("zeros", bytes(length)), ("ones", b"\xff" * length), ("noise", random.randbytes(length))])
    return (data[:start] + fill + data[start + length :])[: len(data)], f"{length} bytes of {name}"


def _truncate(data: bytes) -> tuple[bytes, str]:
    length = random.choice([random.randrange(len(data)), len(data) - random.randint(1, 16), _pixels_start(data) + 20])
    return data[:length], f"{len(data) - length} bytes cut off"


def _shift(data: bytes) -> tuple[bytes, str]:
    start, length = random.randrange(len(data)), random.randint(1, 64)
    if random.random() < 0.5:
        return data[:start] + data[start + length :], f"{length} bytes lost"
    return data[:start] + random.randbytes(length) + data[start:], f"{length} bytes too many"


def _any_element(data: bytes) -> _Element | None:
    elements = [e for e in _elements(data) if e.tag >> 16 > 2 and e.tag != PIXELS]
    return random.choice(elements) if elements else None


def _of_element(change: Callable[[bytes, _Element], tuple[bytes, str]]) -> Callable[[bytes], tuple[bytes, str]]:
    """Damage to an element that is drawn at random; to a bit where none can be read."""

    def damaged(data: bytes) -> tuple[bytes, str]:
        element = _any_element(data)
        if element is None:
            return _flip_header(data)
        changed, what = change(data, element)
        return changed, f"{Tag(element.tag)} {what}"

    return damaged


def _replace(data: bytes, element: _Element) -> tuple[bytes, str]:
    value = random.choice(VALUES)
    return data[: element.start] + _encoded(data, element, value) + data[element.end :], f"= {value[:20]!r}"


def _remove(data: bytes, element: _Element) -> tuple[bytes, str]:
    return data[: element.start] + data[element.end :], "gone"


def _double(data: bytes, element: _Element) -> tuple[bytes, str]:
    return data[: element.end] + _encoded(data, element, random.choice(VALUES)) + data[element.end :], "twice"


def _retype(data: bytes, element: _Element) -> tuple[bytes, str]:
    vr = random.choice(("AT", "CS", "DS", "FL", "IS", "LO", "OB", "SQ", "SS", "UI", "UL", "UN", "XX", "D\xea"))
    return data[: element.start + 4] + vr.encode("latin1") + data[element.start + 6 :], f"of VR {vr}"


def _lengthen(data: bytes, element: _Element) -> tuple[bytes, str]:
    place, length = element.value - 2, random.choice([0, 1, 7, 0xFF, 0xFFFF, random.randrange(0xFFFF)])
    return data[:place] + struct.pack("<H", length) + data[place + 2 :], f"of length {length}"


def change_value(data: bytes) -> tuple[bytes, str]:
    """Gives an element that matters a value of another series, or sets one that the file lacks."""
    keyword = random.choice(list(ODD))
    value = random.choice((*ODD[keyword], random.choice(VALUES)))
    return with_value(data, keyword, value), f"{keyword} = {value[:20]!r}"


def with_value(data: bytes, keyword: str, value: bytes) -> bytes:
    """A file whose element has this value; it is inserted where it is missing."""
    elements, tag = _elements(data), int(Tag(keyword))
    for element in elements:
        if element.tag == tag:
            return data[: element.start] + _encoded(data, element, value) + data[element.end :]
    after = [e for e in elements if e.tag > tag and e.tag >> 16 > 2]
    if not after:
        return data
    following = min(after, key=lambda e: e.tag)
    implicit = data[following.start + 4 : following.start + 6] != following.vr.encode() or not following.vr
    vr = pydicom.datadict.dictionary_VR(tag)[:2]
    header = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + (b"" if implicit else vr.encode())
    form = "<L" if implicit else "<HL" if vr in EXPLICIT_VR_LENGTH_32 else "<H"
    lengths = (0, len(value)) if form == "<HL" else (len(value),)
    return data[: following.start] + header + struct.pack(form, *lengths) + value + data[following.start :]


def _change_syntax(data: bytes) -> tuple[bytes, str]:
    value = random.choice(SYNTAXES)
    return with_value(data, "TransferSyntaxUID", value), f"{value!r}"


KINDS: dict[str, tuple[Callable[[bytes], tuple[bytes, str]], int]] = {
    "value": (change_value, 24),
    "odd value": (_of_element(_replace), 10),
    "header bits": (_flip_header, 12),
    "pixel bits": (_flip_pixels, 10),
    "block": (_block, 8),
    "truncated": (_truncate, 8),
    "shifted": (_shift, 6),
    "removed": (_of_element(_remove), 7),
    "doubled": (_of_element(_double), 3),
    "VR": (_of_element(_retype), 5),
    "length": (_of_element(_lengthen), 5),
    "transfer syntax": (_change_syntax, 2),
}
"""Kind of damage -> function, and how often it is drawn."""


def damaged_bytes(data: bytes) -> bytes:
    """Bytes of which some are flipped, lost, doubled or cut off."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 8)):
        if not changed:
            break
        place = random.randrange(len(changed))
        kind = random.randrange(4)
        if kind == 0:
            changed[place] ^= 1 << random.randrange(8)
        elif kind == 1:
            del changed[place : place + random.randint(1, 16)]
        elif kind == 2:
            changed[place:place] = random.randbytes(random.randint(1, 16))
        else:
            del changed[max(place, 8) :]
    return bytes(changed)
