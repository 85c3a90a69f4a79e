"""Headers are scanned as pydicom reads them, kept in little memory, and read on where more is asked for."""

import copy
import pickle
import random
import tracemalloc

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from synthetic import SYNTAXES, random_stored, write_ct

from stan_ct.dicom import examine
from stan_ct.dicom import header as dicom
from stan_ct.dicom.find import find_series
from stan_ct.dicom.kept import KEPT, WANTED, kept_of_dataset, kept_of_scan
from stan_ct.dicom.refusal import Refused
from stan_ct.dicom.scan import FIRST_READ, scan

ROUNDS = 150
"""Damaged files of each syntax."""


def scanned(path):
    """What a scan finds in a file."""
    with open(path, "rb") as file:
        return scan(file, file.read(FIRST_READ), path.stat().st_size, WANTED)


def described(header):
    """Everything that is kept of a header; of values that do not parse, why."""
    plain = [tuple(map(repr, values)) for values in header.values()]
    return *plain, header.pixel_kind, header.bytes_missing


def with_sequences(dataset: Dataset, z: int) -> None:
    """Gives a slice sequences of defined and undefined length in each other, and text of another character set."""
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientID, dataset.SeriesDescription, dataset.ConvolutionKernel = "Müller ", "Thorax Übersicht", ["B", "31f"]
    code, item = Dataset(), Dataset()
    code.CodeValue, code.CodeMeaning = "1", "x" * z
    item.is_undefined_length_sequence_item = z % 2 == 0
    item.PurposeOfReferenceCodeSequence = Sequence([code])
    item["PurposeOfReferenceCodeSequence"].is_undefined_length = True
    dataset.SourceImageSequence = Sequence([item, item])
    dataset["SourceImageSequence"].is_undefined_length = True


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_scan_finds_what_pydicom_reads(tmp_path, syntax):
    """Plain files are scanned, the others left to pydicom; values, kind of pixels and missing bytes are the same."""
    paths = write_ct(tmp_path, random_stored((3, 32, 32)), syntax=syntax, padding=(0, 3), edit=with_sequences)
    paths[2].write_bytes(paths[2].read_bytes()[:-100])
    for path in paths:
        found = scanned(path)
        assert (found is None) == (syntax in ("big endian", "deflated"))
        if found is not None:
            assert described(kept_of_scan(str(path), found)) == described(kept_of_dataset(str(path), dicom.read_header(path)))


def test_real_headers_are_scanned_as_pydicom_reads_them(real_ct):
    """The same for every real file; most of them are plain."""
    paths = [path for path in sorted(real_ct.rglob("*")) if path.is_file() and dicom.looks_like_dicom(path)]
    found = {path: each for path in paths if (each := scanned(path)) is not None}
    assert len(found) > 0.9 * len(paths)
    for path, each in found.items():
        assert described(kept_of_scan(str(path), each)) == described(kept_of_dataset(str(path), dicom.read_header(path)))


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "RLE"])
def test_damaged_headers_are_judged_alike_by_both_ways(tmp_path, syntax, monkeypatch):
    """Whatever bytes of a header change, a file is what it is without the scan: the same slice, refusal or skipped file."""
    (path,) = write_ct(tmp_path, random_stored((1, 16, 16)), syntax=syntax, edit=with_sequences)
    whole, draw = path.read_bytes(), random.Random(syntax)
    end = whole.rindex(b"\xe0\x7f\x10\x00") + 16
    damaged, scans = tmp_path / "damaged.dcm", 0
    for _ in range(ROUNDS):
        data = bytearray(whole)
        for _ in range(draw.choice((1, 1, 2, 8))):
            place, lost = draw.randrange(132, end), draw.choice((0, 1, 1, 2, 2))
            new = draw.choice((lost, lost, lost, lost, 1))
            data[place : place + lost] = bytes(draw.choices((0, 1, 2, 32, 48, 65, 92, 255), k=new))
        damaged.write_bytes(data[: draw.choice([len(data)] * 5 + [draw.randrange(len(data))])])
        seen = examine.examine(str(damaged))
        with monkeypatch.context() as patched:
            patched.setattr(examine, "scan", lambda *_: None)
            expected = examine.examine(str(damaged))
        scans += scanned(damaged) is not None
        kept = [None if each.header is None else described(each.header) for each in (seen, expected)]
        assert kept[0] == kept[1]
        assert (seen.kind, seen.reason, seen.found, seen.series_uid, seen.number) == (
            *(expected.kind, expected.reason, expected.found, expected.series_uid, expected.number),
        )
    assert scans > 0.2 * ROUNDS


def test_what_is_not_kept_is_read_from_the_file_when_it_is_asked_for(tmp_path):
    """Attributes beyond those that are kept have their values, until the file is gone; an absent one has none."""

    def edit(dataset, z):
        dataset.Exposure, dataset.SoftwareVersions = 100 + z, ["a", "b"]

    paths = write_ct(tmp_path, random_stored((2, 8, 6)), edit=edit)
    (files,) = find_series(tmp_path).series
    assert "Exposure" not in KEPT
    assert [instance.header.get("Exposure") for instance in files.instances] == [100, 101]
    assert list(files.first.SoftwareVersions) == ["a", "b"]
    assert "Exposure" in files.first
    assert "XRayTubeCurrent" not in files.first
    assert files.first.get("XRayTubeCurrent", 5) == 5
    with pytest.raises(AttributeError):
        _ = files.first.ContrastBolusAgent
    paths[0].write_bytes(paths[0].read_bytes().replace(b"100 ", b"300 "))
    assert files.first.get("Exposure") == 300
    paths[0].unlink()
    with pytest.raises(Refused, match="unreadable"):
        files.first.get("Exposure")


def test_a_kept_header_goes_to_other_processes(tmp_path):
    """A header that is pickled, or copied, says the same."""
    write_ct(tmp_path, random_stored((1, 8, 6)))
    header = find_series(tmp_path).series[0].first
    for other in (pickle.loads(pickle.dumps(header)), copy.deepcopy(header)):
        assert described(other) == described(header)
        assert (other.ConvolutionKernel, other.Rows, other.get("StudyDate")) == ("B", 8, header.get("StudyDate"))


def test_a_slice_takes_less_than_a_kilobyte(tmp_path):
    """What is kept of 300 slices takes less than 1 KB each."""
    write_ct(tmp_path, np.zeros((300, 4, 4), np.int32))
    find_series(tmp_path)
    tracemalloc.start()
    try:
        inventory = find_series(tmp_path)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert inventory.slices == 300
    assert 100 < used / 300 < 1024


def test_a_position_of_another_vr_is_refused(tmp_path):
    """Text that calls itself floating-point numbers is no position, for the scan as for pydicom."""
    odd = ["-100", "-90.5", "100"]  # 14 bytes, which are no whole number of FL
    path = write_ct(tmp_path, random_stored((1, 8, 6)), edit=lambda ds, z: setattr(ds, "ImagePositionPatient", odd))[0]
    path.write_bytes(path.read_bytes().replace(b"\x20\0\x32\0DS", b"\x20\0\x32\0FL"))
    found = find_series(tmp_path)
    assert (found.slices, [refusal.reason for refusal in found.refusals]) == (0, ["no_geometry"])
