"""Tests of what a series is, and of plausibility."""

from contextlib import nullcontext

import numpy as np
import pytest
from pydicom.dataset import Dataset

from stan_ct.dicom.acceptance import check_axial
from stan_ct.dicom.find import find_series
from stan_ct.dicom.grouping import patient_key
from stan_ct.dicom.plausibility import implausible_hu, missing_slices, uneven_spacing
from stan_ct.dicom.refusal import Refused
from tests.dicom.synthetic import random_stored, write_ct


def shapes(tmp_path, edit) -> list[int]:
    """Number of slices of each series of four slices that were edited."""
    write_ct(tmp_path, random_stored((4, 8, 6)), edit=edit)
    return sorted(len(series.instances) for series in find_series(tmp_path).series)


@pytest.mark.parametrize(
    ("keyword", "value", "expected"),
    [
        ("ConvolutionKernel", "L", [1, 3]),
        ("SliceThickness", "2.52", [1, 3]),
        ("SliceThickness", "2.51", [4]),
        ("PatientID", "P2", [1, 3]),
        ("PatientID", " p1 ", [4]),
        ("StudyInstanceUID", "1.2.3", [1, 3]),
        ("FrameOfReferenceUID", "1.2.3", [1, 3]),
        ("PixelSpacing", ["0.70002", "0.7"], [1, 3]),
        ("PixelSpacing", ["0.700009", "0.7"], [4]),
    ],
)
def test_a_stray_is_a_series_of_its_own(tmp_path, keyword, value, expected):
    """Every slice speaks: one of another patient, scan or protocol parts, one within the tolerance stays."""
    assert shapes(tmp_path, lambda ds, z: setattr(ds, keyword, value) if z == 2 else None) == expected


@pytest.mark.parametrize("keyword", ["AcquisitionNumber", "AcquisitionTime", "ContrastBolusAgent", "ContentTime"])
def test_phases_part_where_a_header_tells(tmp_path, keyword):
    """Two images in each of two places are two phases."""

    def edit(ds: Dataset, z: int) -> None:
        ds.ImagePositionPatient = ["0", "0", str(z % 2)]
        setattr(ds, keyword, f"1{z // 2}")

    assert shapes(tmp_path, edit) == [2, 2]


def test_phases_that_nothing_tells_apart_are_refused(tmp_path):
    """Two images in one place with equal headers are refused by name."""
    write_ct(tmp_path, random_stored((2, 8, 6)), edit=lambda ds, z: setattr(ds, "ImagePositionPatient", ["0", "0", "0"]))
    inventory = find_series(tmp_path)
    assert (inventory.series, [r.reason for r in inventory.refusals]) == ([], ["several_phases"])


@pytest.mark.parametrize(("one", "other", "same"), [("007", "7", True), ("A 1", "a  1 ", True), ("A01", "A1", False)])
def test_patients_compare_as_people_write_them(one, other, same):
    """Case, spaces and leading zeros of a number make no other patient."""
    first, second = Dataset(), Dataset()
    first.PatientID, second.PatientID = one, other
    assert (patient_key(first) == patient_key(second)) == same


@pytest.mark.parametrize(
    ("change", "plausible"),
    [(lambda v: v, True), (lambda v: v + 1024, False), (lambda v: v - 1024, False), (lambda v: v * 0.1 - 900, False)],
)
def test_hu_are_those_of_a_body(change, plausible):
    """Water of 10 HU in noisy air is plausible; not so offset by 1024 or scaled down."""
    volume = np.random.default_rng(0).normal(-1000, 20, (4, 64, 64))
    volume[:, 16:48, 16:48] += 1010
    assert (implausible_hu(change(volume), np.zeros(volume.shape, bool)) == "") == plausible


def test_gaps_are_counted_and_placed():
    """Two lost slices are told with where; jitter within 0.1 mm is none, beyond it uneven."""
    assert missing_slices([0, 5, 10, 25, 30]) == (2, "2 slices missing between 10 mm and 25 mm")
    assert missing_slices([0, 5, 12.4, 17.4]) == (0, "")
    assert uneven_spacing([0, 5, 10.09, 15.09]) == ""
    assert uneven_spacing([0, 5, 10.11, 15.11]) == "slices are 5.00 mm to 5.11 mm apart"


@pytest.mark.parametrize(("angle", "plane"), [(44.9, ""), (45.1, "oblique"), (90, "coronal")])
def test_reformats_are_told_from_tilted_gantries(angle, plane):
    """A slice inclined by up to 45 degrees is axial, one beyond is a reformat and refused by name."""
    header, turn = Dataset(), np.deg2rad(angle)
    header.ImageOrientationPatient = [1, 0, 0, 0, float(np.cos(turn)), float(-np.sin(turn))]
    with pytest.raises(Refused, match=f"not_axial: {plane} slices") if plane else nullcontext():
        check_axial(header)


@pytest.mark.parametrize(("name", "content", "refused"), [
    ("9.dcm", b"", True), ("9.dcm", b"garbage" * 99, True), ("9", b"", True), ("notes.txt", b"garbage", False),
])  # fmt: skip
def test_what_may_have_been_a_slice_is_refused(tmp_path, name, content, refused):
    """An empty file, or one named as DICOM that is none, is not skipped in silence beside the slices of a series."""
    write_ct(tmp_path, random_stored((2, 8, 6)))
    (tmp_path / name).write_bytes(content)
    inventory = find_series(tmp_path)
    assert ([r.reason for r in inventory.refusals], inventory.skipped["not DICOM"]) == (["unreadable"] * refused, 1 - refused)
