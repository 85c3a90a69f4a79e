"""Bounds on the memory that a file may take: whatever it says of itself, it is refused before it is inflated or decoded.

A deflated file of 1.5 MB may hold 1.5 GB, and a compressed slice of 200 bytes may say that it has 65,535 x 65,535 pixels.
"""

from __future__ import annotations

import io
import os
import re
import struct
import zlib
from pathlib import Path

from stan_ct.dicom.refusal import Refused

LARGEST_FILE = 1 << 28
"""Most bytes of a file with one slice, of one of its elements, and of what it inflates to: twice the pixels of the largest
slice that is taken."""
PIECE = 1 << 20
"""Bytes that are inflated at a time, to count them."""

START_OF_FRAME = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
"""Markers of JPEG (ITU-T T.81, table B.1) and JPEG-LS (T.87) that are followed by the size of the image."""
ALONE = {0x01, *range(0xD0, 0xD9)}
"""Markers of JPEG without a length."""
START_OF_SCAN = 0xDA
JPEG, JPEG_2000 = b"\xff\xd8", b"\xff\x4f\xff\x51"
"""First bytes of the streams; of JPEG 2000 (T.800, annex A) with the marker of the size."""


class BoundedFile(io.BufferedReader):
    """A file to read with pydicom, which refuses what would take too much memory.

    Args:
        path: The file.
    Raises:
        OSError: If it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes, `size` of them, or all.

        Raises:
            Refused: `unreadable`, if they are too many, or inflate to too many.
        """
        return _bounded(super().read(_checked(size)), size)


class BoundedBytes(io.BytesIO):
    """The same for the bytes of a file."""

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes, `size` of them, or all.

        Raises:
            Refused: `unreadable`, if they are too many, or inflate to too many.
        """
        return _bounded(super().read(_checked(size)), size)


def _checked(size: int | None) -> int:
    """The number of bytes to read: one more than there may be, where all are asked for."""
    if size is None or size < 0:
        return LARGEST_FILE + 1
    if size > LARGEST_FILE:
        raise Refused("unreadable", f"an element of {size} bytes")
    return size


def _bounded(data: bytes, size: int | None) -> bytes:
    """Bytes that were read. pydicom asks for all that is left for one purpose: to inflate them."""
    if size is None or size < 0:
        check_length(len(data))
        _check_inflated(data)
    return data


def _check_inflated(data: bytes) -> None:
    """Refuses deflated data, without header (RFC 1951), that inflate to more than `LARGEST_FILE` bytes."""
    inflater, total = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while data and not inflater.eof:
        total += len(inflater.decompress(data, PIECE))
        if total > LARGEST_FILE:
            raise Refused(
                "unreadable", f"it inflates to more than {LARGEST_FILE} bytes, as files do that are made to fill memory"
            )
        data = inflater.unconsumed_tail


def check_length(length: int) -> None:
    """Refuses files that are longer than a slice can be.

    Raises:
        Refused: `excess_bytes`.
    """
    if length > LARGEST_FILE:
        raise Refused("excess_bytes", f"more than {LARGEST_FILE} bytes, which no single slice has")


def read_bounded(path: Path) -> bytes:
    """The bytes of a file with one slice.

    Raises:
        Refused: `excess_bytes`, if they are too many.
        OSError: If it cannot be read.
    """
    with open(path, "rb") as file:
        length = os.fstat(file.fileno()).st_size  # reading takes memory for all that is asked for
        data = file.read(min(length, LARGEST_FILE) + 1)
    check_length(len(data))
    return data


def check_stream(stream: bytes, rows: int, columns: int) -> None:
    """Refuses a compressed image that says that it has another size than its slice, before a decoder takes memory for it.

    Args:
        stream: JPEG, JPEG-LS or JPEG 2000; of others nothing is said.
        rows: Rows (0028,0010).
        columns: Columns (0028,0011).
    Raises:
        Refused: `undecodable`.
    """
    for height, width, samples in stream_sizes(stream):
        if (height, width, samples) != (rows, columns, 1):
            found = f"{height} x {width} pixels of {samples} sample(s)"
            raise Refused("undecodable", f"the compressed image has {found}, its header says {rows} x {columns}")


def stream_sizes(stream: bytes) -> list[tuple[int, int, int]]:
    """Rows, columns and samples that a compressed image states; of a JPEG 2000 file with boxes all that may be meant."""
    if stream.startswith(JPEG):
        return _jpeg_sizes(stream)
    places = [0] if stream.startswith(JPEG_2000) else [m.start() for m in re.finditer(re.escape(JPEG_2000), stream)]
    return [_jpeg_2000_size(stream[place : place + 42]) for place in places if len(stream) >= place + 42]


def _jpeg_sizes(stream: bytes) -> list[tuple[int, int, int]]:
    place, found = 2, []
    while place + 4 <= len(stream) and stream[place] == 0xFF and stream[place + 1] != START_OF_SCAN:
        marker = stream[place + 1]
        if marker == 0xFF or marker in ALONE:  # fill bytes, and markers without a segment
            place += 1 if marker == 0xFF else 2
            continue
        if marker in START_OF_FRAME and place + 10 <= len(stream):
            found.append(struct.unpack_from(">HHB", stream, place + 5))
        place += 2 + struct.unpack_from(">H", stream, place + 2)[0]
    return found


def _jpeg_2000_size(head: bytes) -> tuple[int, int, int]:
    right, bottom, left, top = struct.unpack_from(">4L", head, 8)
    return bottom - top, right - left, struct.unpack_from(">H", head, 40)[0]
