"""The part of a header that is used once a file is found: some hundred bytes. Whatever else is asked for is read then."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.multival import MultiValue
from pydicom.tag import Tag
from pydicom.valuerep import IS, DSfloat

from stan_ct.dicom import header as dicom
from stan_ct.dicom.refusal import Refused
from stan_ct.dicom.scan import Scanned
from stan_ct.dicom.tolerance import tolerant

OWN = (
    *("SOPInstanceUID", "InstanceNumber", "ImagePositionPatient", "AcquisitionNumber", "AcquisitionTime", "ContentTime"),
    *("AcquisitionDateTime", "IrradiationEventUID"),
)
"""Attributes that differ from slice to slice."""
SHARED = (
    *(keyword for keyword in dicom.CONVERTED if keyword not in OWN),
    *("PhotometricInterpretation", "SamplesPerPixel", "BitsAllocated", "HighBit", "RescaleType"),
)
"""Attributes that slices of a series have in common, so that they are kept once."""
KEPT = (*OWN, *SHARED)
PLACE = {keyword: place for place, keyword in enumerate(KEPT)}
TAGS = {int(Tag(keyword)): keyword for keyword in KEPT}
CHARACTER_SET, PIXEL_REPRESENTATION = 0x00080005, int(Tag("PixelRepresentation"))
WANTED = frozenset({*TAGS, CHARACTER_SET})
"""Tags that a scan takes; the character set tells how to read the others."""

UIDS = {int(Tag(keyword)) for keyword in ("SOPInstanceUID", "IrradiationEventUID")}
POSITION = int(Tag("ImagePositionPatient"))
UID_VALUE = re.compile(rb"([0-9.]{1,64})\0?")
NUMBER = rb" *[+-]?[0-9]{1,9}(?:\.[0-9]{0,9})? *"
POSITION_VALUE = re.compile(rb"\\".join([rb"(" + NUMBER + rb")"] * 3))
MANY = 1 << 16
"""Values that are remembered, at most."""


class KeptHeader:
    """Header of a slice, with the attributes in `KEPT`; others are read from its file when they are asked for.

    Values are plain: `str`, `int`, `float`, and tuples of them. Numbers that DICOM writes as text are that text, but for Image
    Position (Patient). Attributes that are absent, empty or do not parse are None.

    Args:
        path: The file.
        own: Values of `OWN`.
        shared: Values of `SHARED`.
        pixel_kind: "integer", "float" or None (no pixel data).
        bytes_missing: Bytes of the pixels that the file lacks.
    """

    __slots__ = ("_own", "_path", "_shared", "bytes_missing", "pixel_kind")

    def __init__(
        self, path: str, own: tuple, shared: tuple, pixel_kind: str | None = "integer", bytes_missing: int = 0
    ) -> None:
        self._path, self._own, self._shared = path, own, shared
        self.pixel_kind, self.bytes_missing = pixel_kind, bytes_missing

    def get(self, key: Any, default: Any = None, /) -> Any:
        """Value of a keyword, or `default`; the element of a tag, as :meth:`pydicom.dataset.Dataset.get`.

        Raises:
            Exception: Whatever pydicom raised, if the header was not accepted yet and the value does not parse.
            Refused: `unreadable`, if the file must be read, but cannot any more.
        """
        place = PLACE.get(key) if isinstance(key, str) else None
        if place is None:
            return whole_header(self._path).get(key, default)
        value = self._own[place] if place < len(OWN) else self._shared[place - len(OWN)]
        if isinstance(value, Exception):
            raise value
        return default if value is None else value

    def __getattr__(self, keyword: str) -> Any:
        if keyword.startswith("_"):  # copying and pickling look for methods of these names
            raise AttributeError(keyword)
        if keyword not in PLACE:
            return getattr(whole_header(self._path), keyword)
        value = self.get(keyword)
        if value is None:
            raise AttributeError(f"the header has no {keyword}")
        return value

    def __contains__(self, key: Any) -> bool:
        return self.get(key) is not None if key in PLACE else key in whole_header(self._path)

    def __reduce__(self) -> tuple:
        return _restored, (self._path, self._own, self._shared, self.pixel_kind, self.bytes_missing)

    def values(self) -> tuple[tuple, tuple]:
        """Values of `OWN` and of `SHARED`."""
        return self._own, self._shared

    def accepted(self) -> KeptHeader:
        """The same header, in which values that do not parse are absent."""
        own, shared = (tuple(None if isinstance(v, Exception) else v for v in values) for values in self.values())
        return KeptHeader(self._path, own, _interned(shared), self.pixel_kind, self.bytes_missing)


def whole_header(path: str) -> Dataset:
    """Header of a file as pydicom reads it; those of the files that were asked for last are at hand."""
    try:
        stat = os.stat(path)
    except OSError as error:
        raise Refused("unreadable", dicom.first_line(error)) from error
    return _read(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=8)
def _read(path: str, modified: int, size: int) -> Dataset:
    return dicom.read_header(Path(path))


@lru_cache(maxsize=MANY)
def _interned(values: tuple) -> tuple:
    return values


@tolerant()
def kept_of_dataset(path: str, header: Dataset) -> KeptHeader:
    """What is kept of a header that pydicom has read."""
    values = [_value(header, keyword) for keyword in KEPT]
    own, shared = tuple(values[: len(OWN)]), tuple(values[len(OWN) :])
    return KeptHeader(path, own, shared, header.pixel_kind, header.bytes_missing)


def _restored(path: str, own: tuple, shared: tuple, *rest: Any) -> KeptHeader:
    return KeptHeader(path, own, _interned(shared), *rest)


def kept_of_scan(path: str, scanned: Scanned) -> KeptHeader:
    """What is kept of a header that was scanned; what pydicom makes of a value is remembered."""
    elements = scanned.elements
    context = (scanned.implicit, elements.get(CHARACTER_SET), elements.get(PIXEL_REPRESENTATION))
    found: dict[int, Any] = {}
    unknown = []
    for tag, element in elements.items():
        # Of another VR than the tag's own, pydicom makes another value.
        plain = scanned.implicit or element[4:6] == (b"UI" if tag in UIDS else b"DS")
        if plain and tag in UIDS and (uid := UID_VALUE.fullmatch(element, scanned.values[tag])):
            found[tag] = uid[1].decode()
        elif plain and tag == POSITION and (position := POSITION_VALUE.fullmatch(element, scanned.values[tag])):
            found[tag] = tuple(map(float, position.groups()))
        elif (known := _known.get((context, element), _known)) is not _known:
            found[tag] = known
        elif tag != CHARACTER_SET:
            unknown.append(tag)
    if unknown:
        found |= _convert(unknown, elements, context)
    values = [found.get(tag) for tag in TAGS]
    return KeptHeader(path, tuple(values[: len(OWN)]), tuple(values[len(OWN) :]), scanned.pixels, scanned.missing)


_known: dict[tuple, Any] = {}
"""How its file is to be read, and an element -> its value."""


@tolerant()
def _convert(tags: Sequence[int], elements: Mapping[int, bytes], context: tuple) -> dict[int, Any]:
    """Values of some elements, as pydicom converts them among those on which they depend."""
    needed = sorted({*tags, CHARACTER_SET, PIXEL_REPRESENTATION} & elements.keys())
    dataset = read_dataset(io.BytesIO(b"".join(elements[tag] for tag in needed)), context[0], True)
    found = {tag: _value(dataset, TAGS[tag]) for tag in tags}
    if len(_known) > MANY:
        _known.clear()
    _known.update({(context, elements[tag]): value for tag, value in found.items() if tag not in UIDS and tag != POSITION})
    return found


def _value(header: Dataset, keyword: str) -> Any:
    """A plain value, or the exception with which pydicom meets it."""
    try:
        value = header.get(keyword)
        if keyword == "ImagePositionPatient" and isinstance(value, MultiValue):
            return tuple(map(float, value))
        return _plain(value)
    except Exception as error:  # pydicom raises whatever it meets
        return error.with_traceback(None)


def _plain(value: Any) -> Any:
    if isinstance(value, IS):
        return int(value) if str(value) == str(int(value)) else str(value)
    if isinstance(value, str | DSfloat):
        return str(value)
    if isinstance(value, MultiValue | list):
        return tuple(map(_plain, value))
    return value if value is None or isinstance(value, int | float | bytes) else str(value).encode()  # of an odd VR: no text
