"""The few elements of a header that are wanted, found in the bytes of a file without parsing the others.

Only plain files are scanned: with a preamble, little endian, not deflated, tags ascending, every VR known and every length
within the file. Of all others nothing is said here, and pydicom reads them.
"""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import dataclass
from struct import Struct
from typing import BinaryIO

from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian
from pydicom.valuerep import EXPLICIT_VR_LENGTH_16, EXPLICIT_VR_LENGTH_32

LONG = {str(vr).encode() for vr in EXPLICIT_VR_LENGTH_32}
SHORT = {str(vr).encode() for vr in EXPLICIT_VR_LENGTH_16}
"""VRs with a length of four and of two bytes."""

UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
PIXELS = {0x7FE00008: "float", 0x7FE00009: "float", 0x7FE00010: "integer"}
"""Tags of pixels -> their kind."""
UID_VALUE = re.compile(rb"([0-9.]+)\0?")
META_SOP_CLASS, TRANSFER_SYNTAX = 0x00020002, 0x00020010

FIRST_READ, LAST_READ = 1 << 14, 1 << 24
"""Bytes of a file that are read at first, and at most."""
LONGEST_WANTED = 4096
"""Longest value that is taken, bytes."""
DEEPEST = 16
"""Sequences in sequences that are followed."""

EXPLICIT, IMPLICIT, LENGTH = Struct("<HH2sH"), Struct("<HHL"), Struct("<L")


class Unusual(Exception):
    """The bytes are not those of a plain file, or are too few."""


class TooShort(Unusual):
    """More bytes of the file are needed."""


@dataclass(frozen=True, slots=True)
class Scanned:
    """What was found before the pixels of a file.

    Attributes:
        elements: Tag -> element that is wanted, its tag, VR and length included, in the order of the file.
        values: Where the value of each begins in it.
        implicit: Whether the file does not name VRs.
        sop_class: Media Storage SOP Class UID (0002,0002), empty where it is not stated.
        pixels: Kind of the pixels, "integer" or "float"; None if there are none.
        missing: Bytes of the pixels that the file lacks.
    """

    elements: dict[int, bytes]
    values: dict[int, int]
    implicit: bool
    sop_class: str
    pixels: str | None
    missing: int


def scan(file: BinaryIO, head: bytes, size: int, wanted: Container[int]) -> Scanned | None:
    """Scans a file up to its pixels.

    Args:
        file: Open file, behind `head`.
        head: Its first bytes.
        size: Bytes of the file.
        wanted: Tags to take.
    Returns:
        What was found; None if the file is not plain.
    """
    while True:
        try:
            return _scan(head, size, wanted)
        except TooShort:
            if len(head) >= min(size, LAST_READ):
                return None
            head += file.read(7 * len(head))
        except Unusual:
            return None


def _scan(data: bytes, size: int, wanted: Container[int]) -> Scanned:
    if data[128:132] != b"DICM":
        raise Unusual
    meta, place = _meta(data)
    syntax = meta.get(TRANSFER_SYNTAX, "")
    if not syntax.startswith("1.2.840.10008.1.2") or syntax in (DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian):
        raise Unusual
    implicit = syntax == ImplicitVRLittleEndian
    if implicit and data[place + 4 : place + 6].isupper():  # a file of another syntax than it says
        raise Unusual
    elements, values = {}, {}
    last = 0x0002FFFF
    kind, missing = None, 0
    while place != size:
        tag, start, length = _element(data, place, implicit)
        if tag <= last or tag > 0x7FE00010:
            raise Unusual
        last = tag
        if tag in PIXELS:
            kind = PIXELS[tag] if length else None
            missing = 0 if length == UNDEFINED else max(place + length - size, 0)
            break
        end = _end_of_value(data, tag, start, length, implicit, 0)
        if end > size:
            raise Unusual
        if tag in wanted:
            if length > LONGEST_WANTED:
                raise Unusual
            if end > len(data):
                raise TooShort
            elements[tag], values[tag] = data[place:end], start - place
        place = end
    return Scanned(elements, values, implicit, meta.get(META_SOP_CLASS, ""), kind, missing)


def _meta(data: bytes) -> tuple[dict[int, str], int]:
    """UIDs in the File Meta Information, and where the dataset begins."""
    found: dict[int, str] = {}
    place, last = 132, 0
    while True:
        tag, start, length = _element(data, place, implicit=False, group=0x0002)
        if tag >> 16 != 0x0002:
            return found, place
        if tag <= last or length > LONGEST_WANTED:
            raise Unusual
        if tag in (META_SOP_CLASS, TRANSFER_SYNTAX):
            uid = UID_VALUE.fullmatch(data[start : start + length])
            if uid is None:
                raise Unusual
            found[tag] = uid[1].decode()
        place, last = start + length, tag


def _element(data: bytes, place: int, implicit: bool, group: int = 0) -> tuple[int, int, int]:
    """Tag, place of the value and length of an element.

    Args:
        data: Bytes of the file.
        place: Where the element begins.
        implicit: Whether it names no VR.
        group: If not 0: of an element of another group only the tag is looked at.
    """
    if place + 12 > len(data):
        raise TooShort
    if implicit:
        first, second, length = IMPLICIT.unpack_from(data, place)
        return first << 16 | second, place + 8, length
    first, second, vr, length = EXPLICIT.unpack_from(data, place)
    if vr in SHORT:
        return first << 16 | second, place + 8, length
    if vr in LONG:
        (length,) = LENGTH.unpack_from(data, place + 8)
        if length == UNDEFINED and vr != b"SQ" and first != 0x7FE0:
            raise Unusual
        return first << 16 | second, place + 12, length
    if group and first != group:
        return first << 16 | second, place, 0
    raise Unusual


def _end_of_value(data: bytes, tag: int, start: int, length: int, implicit: bool, depth: int) -> int:
    """Where a value ends; sequences of undefined length are followed."""
    if length != UNDEFINED:
        return start + length
    if depth > DEEPEST or (implicit and dictionary_has_tag(tag) and dictionary_VR(tag) != "SQ"):
        raise Unusual
    while True:
        tag, start, length = _delimiter(data, start)
        if tag == SEQUENCE_END and not length:
            return start
        if tag != ITEM:
            raise Unusual
        start = _end_of_item(data, start, length, implicit, depth)


def _end_of_item(data: bytes, place: int, length: int, implicit: bool, depth: int) -> int:
    """Where an item ends, whose elements must fill it."""
    end = None if length == UNDEFINED else place + length
    while end is None or place < end:
        tag, start, length = _delimiter(data, place)
        if tag == ITEM_END:
            if end is None:
                return start
            raise Unusual
        tag, start, length = _element(data, place, implicit)
        place = _end_of_value(data, tag, start, length, implicit, depth + 1)
    if place != end:
        raise Unusual
    return place


def _delimiter(data: bytes, place: int) -> tuple[int, int, int]:
    if place + 8 > len(data):
        raise TooShort
    first, second, length = IMPLICIT.unpack_from(data, place)
    return first << 16 | second, place + 8, length
