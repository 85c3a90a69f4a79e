"""Whether a file holds as many bytes of pixels as its header says: more are as suspicious as fewer."""

from __future__ import annotations

import struct

from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileDataset
from pydicom.encaps import generate_frames
from pydicom.tag import Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

from stan_ct.dicom.limits import check_stream
from stan_ct.dicom.refusal import Refused

PIXELS = Tag("PixelData")
UNDEFINED, DELIMITER = 0xFFFFFFFF, 8
"""Length of encapsulated pixels, and bytes of the item that ends them."""
LAWFUL_AFTER_PIXELS = {*range(0x7FE0, 0x8000), 0xFFFA, 0xFFFC}
"""Groups of elements that may follow the pixels: private ones, signatures, and padding."""


def check_amount(dataset: FileDataset, data: bytes) -> None:
    """Checks that the pixels are not more than the header says, and that nothing unknown follows them.

    Args:
        dataset: From a file that was read whole; its pixels not looked at yet.
        data: The bytes of the whole file.
    Raises:
        Refused: `excess_bytes` for a row of pixels too many, or bytes after the pixels that are no element: bytes were
            inserted, or the header says another size than the pixels have. `undecodable` for RLE that decodes to more, and for
            a compressed image that says that it has another size.
    """
    element = dataset.get_item(PIXELS)
    if not isinstance(element, RawDataElement) or element.value is None:
        return
    syntax, expected = dataset.file_meta.TransferSyntaxUID, 2 * dataset.Rows * dataset.Columns
    if syntax == RLELossless:
        longest = max(
            (n for frame in generate_frames(element.value, number_of_frames=1) for n in rle_lengths(frame)), default=0
        )
        if 2 * longest > expected:  # where there is less, the decoder says so; of more, it would write past its end
            raise Refused("undecodable", f"{syntax.name}: a segment of {longest} bytes, not {expected // 2}")
    elif syntax.is_encapsulated:
        for frame in generate_frames(element.value, number_of_frames=1):
            check_stream(frame, dataset.Rows, dataset.Columns)
    elif len(element.value) - expected >= 2 * dataset.Columns:
        excess = len(element.value) - expected
        raise Refused("excess_bytes", f"{excess} bytes of pixels beyond {dataset.Rows} x {dataset.Columns}")
    end = element.value_tell + len(element.value) + (DELIMITER if element.length == UNDEFINED else 0)
    if syntax == DeflatedExplicitVRLittleEndian or not any(data[end:]):  # some archives fill files up with zeros
        return
    later = [tag for tag in dataset.keys() if tag > PIXELS]  # noqa: SIM118 # iterating would decode the values
    if not later or {tag >> 16 for tag in later} - LAWFUL_AFTER_PIXELS:
        raise Refused("excess_bytes", f"{len(data) - end} bytes after the pixels that are no element")


def rle_lengths(frame: bytes) -> list[int]:
    """Bytes that each segment of an RLE frame decodes to (PS3.5 annex G): high bytes of the pixels, then low ones."""
    count, *offsets = struct.unpack("<16L", frame[:64])
    ends = [*offsets[1:count], len(frame)]
    return [_segment_length(frame[start:end]) for start, end in zip(offsets[:count], ends, strict=True)]


def _segment_length(segment: bytes) -> int:
    place = length = 0
    while place < len(segment) - 1:
        header = segment[place]
        if header < 128:
            length += min(header + 1, len(segment) - place - 1)
            place += header + 2
        else:
            length += 257 - header if header > 128 else 0
            place += 2 if header > 128 else 1
    return length
