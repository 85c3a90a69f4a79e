"""Tests that elements of any VR and content end neither a search nor a run: each file is written, or refused by name."""

import io
import struct
from datetime import UTC, datetime

import pydicom
import pytest
from pydicom.tag import Tag
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from stan_ct.dicom.acceptance import LARGEST_SIDE, check_header
from stan_ct.dicom.derived import Derivation
from stan_ct.dicom.find import find_series
from stan_ct.dicom.header import read_header
from stan_ct.dicom.refusal import Refused
from stan_ct.dicom.series import load_series
from stan_ct.dicom.write import write_series
from tests.dicom.synthetic import random_stored, write_ct

DERIVATION = Derivation("kernel L", "model", "key", True, datetime(2024, 1, 1, tzinfo=UTC), warning="FINDINGS")
PIXELS = b"\xe0\x7f\x10\0OW\0\0" + struct.pack("<L", 96)

VRS = ("AT", "CS", "DS", "FL", "IS", "LO", "OB", "SQ", "SS", "UI", "UL", "UN", "XX", "D\xea")
KEYWORDS = (
    *("ImageType", "SeriesNumber", "InstanceNumber", "ConvolutionKernel", "SliceThickness", "PatientID", "Rows"),
    *("ContentTime", "InstanceCreationDate", "DerivationCodeSequence", "SourceImageSequence", "RescaleType"),
    *("ContributingEquipmentSequence", "AcquisitionNumber", "FrameOfReferenceUID", "SeriesDescription"),
)
VALUES = {
    "nothing": b"",
    "binary": b"\1\2\3\4",
    "too large": b"1e400 ",
    "no number": b"nan ",
    "many digits": b"9" * 6000,
    "half an item": b"\xff\xfe\0\xe0abcd",
    "values": b"1\\2\\3 ",
}


def with_element(file: bytes, keyword: str, vr: str, value: bytes) -> bytes:
    """A file in Explicit VR Little Endian whose element has this VR and these bytes."""
    tag, start = Tag(keyword), 132 + 12 + struct.unpack("<L", file[140:144])[0]
    head = struct.pack("<HH", tag.group, tag.element) + vr.encode("latin1")
    head += struct.pack("<HL", 0, len(value)) if vr in EXPLICIT_VR_LENGTH_32 else struct.pack("<H", len(value))
    at, end = start, start
    while end < len(file):
        group, element, own = struct.unpack_from("<HH2s", file, end)
        long = own.decode() in EXPLICIT_VR_LENGTH_32
        length = struct.unpack_from("<L" if long else "<H", file, end + (8 if long else 6))[0]
        here, end = end, end + (12 if long else 8) + length
        if (group, element) >= (tag.group, tag.element):
            at, end = here, end if (group, element) == (tag.group, tag.element) else here
            break
    else:
        at = end
    return file[:at] + head + value + file[end:]


@pytest.mark.parametrize("vr", VRS)
@pytest.mark.parametrize("keyword", KEYWORDS)
@pytest.mark.parametrize("half", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_an_odd_element_is_written_or_refused(tmp_path, keyword, vr, half):
    """Whatever an attribute that is read or replaced holds, the only error is a refusal; what is written can be read."""
    write_ct(tmp_path / "in", random_stored((1, 8, 6)))
    path = tmp_path / "in" / "0.dcm"
    file = path.read_bytes()
    first = KEYWORDS.index(keyword) + VRS.index(vr) + half  # half of the values, others for the next keyword and VR
    for name, value in [*VALUES.items()][first % 2 :: 2]:
        path.write_bytes(with_element(file, keyword, vr, value))
        inventory = find_series(tmp_path / "in")
        if not inventory.series:
            assert inventory.refusals or inventory.skipped["localizer"]
            continue
        try:
            series = load_series(inventory.series[0])
            write_series(series, series.volume, tmp_path / name, DERIVATION, 1003)
        except Refused:
            continue
        assert series.files.name
        assert series.files.kernel
        assert len((tmp_path / name / "IM0001.dcm").read_bytes().partition(PIXELS)[2]) == 96


@pytest.mark.parametrize("keyword", ["SeriesNumber", "PatientComments", "PixelData"])
def test_the_element_is_placed(tmp_path, keyword):
    """The helper replaces an element, inserts one, and replaces the last; all others keep their bytes."""
    write_ct(tmp_path, random_stored((1, 8, 6)))
    before = (tmp_path / "0.dcm").read_bytes()
    (tmp_path / "0.dcm").write_bytes(with_element(before, keyword, "OB", b"1234"))
    after, source = pydicom.dcmread(tmp_path / "0.dcm"), pydicom.dcmread(io.BytesIO(before))
    assert after.get_item(keyword).value == b"1234"
    tag = Tag(keyword)
    assert [e for e in after if e.tag != tag] == [e for e in source if e.tag != tag]


@pytest.mark.parametrize("rows", [LARGEST_SIDE, LARGEST_SIDE + 1])
def test_largest_side(tmp_path, rows):
    """More rows than any CT has are refused before memory is asked for."""
    write_ct(tmp_path, random_stored((1, 8, 6)), edit=lambda ds, z: setattr(ds, "Rows", rows))
    header = read_header(tmp_path / "0.dcm")
    if rows > LARGEST_SIDE:
        with pytest.raises(Refused, match="no_geometry"):
            check_header(header)
    else:
        check_header(header)
