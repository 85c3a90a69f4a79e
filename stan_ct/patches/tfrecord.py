"""TFRecord files of paired patches, written without TensorFlow: processes that cut patches start in a second.

A file is a row of records, each: length (uint64), masked CRC of the length, data, masked CRC of the data, little endian.
The data is a `tf.train.Example` with the one feature `patches`: source, filtered source where there is a front end, target, and
adjacent slices where they were asked for, (K, S, S) int16 HU, little endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import google_crc32c
import numpy as np

from stan_ct.files import open_atomically

FEATURE = "patches"


def write_records(path: Path, examples: Iterable[np.ndarray]) -> int:
    """Writes records; the file appears when it is complete, or not at all.

    Args:
        path: The file; one that exists is replaced.
        examples: (K, S, S) int16 HU each.
    Returns:
        The number of records; 0 leaves no file.
    """
    remaining = iter(examples)
    first = next(remaining, None)
    if first is None:
        return 0
    with open_atomically(path) as file:
        file.write(record_bytes(first))
        count = 1
        for patches in remaining:
            file.write(record_bytes(patches))
            count += 1
    return count


def record_bytes(patches: np.ndarray) -> bytes:
    """One record, (K, S, S) int16 HU -> bytes; equal shapes give equal lengths."""
    example = _example(np.ascontiguousarray(patches, "<i2").tobytes())
    length = struct.pack("<Q", len(example))
    return b"".join((length, struct.pack("<I", _masked(length)), example, struct.pack("<I", _masked(example))))


@cache
def record_length(side: int, patches: int = 2) -> int:
    """Length of a record of `patches` patches of `side` x `side` pixels, bytes."""
    return len(record_bytes(np.zeros((patches, side, side), np.int16)))


def read_records(path: Path, images: int, side: int) -> np.ndarray:
    """Memory-maps the records of a file.

    Args:
        path: Written by :func:`write_records`.
        images: Number of patches in a record, K.
        side: Side of a patch, S.
    Returns:
        (N, K, S, S) int16 HU, read-only.
    Raises:
        ValueError: If the file does not hold such records.
    """
    length, size = record_length(side, images), path.stat().st_size
    if size % length:
        raise ValueError(f"{path} holds no records of {images} patches of {side} pixels: make the records again")
    content = images * side * side * 2
    record = np.dtype([("before", f"V{length - content - 4}"), ("patches", "<i2", (images, side, side)), ("crc", "<u4")])
    return np.memmap(path, record, "r")["patches"]


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
