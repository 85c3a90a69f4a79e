"""TFRecord files of paired patches, written without TensorFlow: processes that cut patches start in a second.

A file is a row of records, each: length (uint64), masked CRC of the length, data, masked CRC of the data, little endian.
The data is a `tf.train.Example` with the one feature `pair`: source and target patch, (2, S, S) int16 HU, little endian.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import google_crc32c
import numpy as np

FEATURE = "pair"


def write_records(path: Path, pairs: Iterable[np.ndarray]) -> int:
    """Writes records; the file appears when it is complete, or not at all.

    Args:
        path: The file; one that exists is replaced.
        pairs: (2, S, S) int16 HU each.
    Returns:
        The number of records; 0 leaves no file.
    """
    partial, count = path.with_name(f"{path.stem}.{os.getpid()}.partial"), 0  # no other process takes it for its own
    try:
        with open(partial, "wb") as file:
            for pair in pairs:
                file.write(record_bytes(pair))
                count += 1
            file.flush()
            os.fsync(file.fileno())
        if count:
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return count


def record_bytes(pair: np.ndarray) -> bytes:
    """One record, (2, S, S) int16 HU -> bytes; equal shapes give equal lengths."""
    example = _example(np.ascontiguousarray(pair, "<i2").tobytes())
    length = struct.pack("<Q", len(example))
    return b"".join((length, struct.pack("<I", _masked(length)), example, struct.pack("<I", _masked(example))))


@cache
def record_length(side: int) -> int:
    """Bytes of a record of two patches of this side."""
    return len(record_bytes(np.zeros((2, side, side), np.int16)))


def _example(value: bytes) -> bytes:
    """Protocol buffer of a `tf.train.Example` with one feature that holds one value."""
    nested = _field(1, value)  # BytesList.value
    nested = _field(1, nested)  # Feature.bytes_list
    nested = _field(1, FEATURE.encode()) + _field(2, nested)  # entry of the map: key, value
    return _field(1, _field(1, nested))  # Example.features, Features.feature


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited field."""
    size, digits = len(content), bytearray([number << 3 | 2])
    while size > 127:
        digits.append(size & 127 | 128)
        size >>= 7
    return bytes(digits) + bytes([size]) + content


def _masked(data: bytes) -> int:
    crc = google_crc32c.value(data)  # CRC-32C (Castagnoli, RFC 3720)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
