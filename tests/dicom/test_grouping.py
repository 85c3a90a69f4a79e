"""Tests of what a series is, and of plausibility."""

from contextlib import nullcontext

import numpy as np
import pytest
from pydicom.dataset import Dataset

from stan_ct.dicom.acceptance import MATERIALS, PROJECTIONS, REFORMATS, check_axial, image_type_with
from stan_ct.dicom.find import find_series
from stan_ct.dicom.grouping import patient_key
from stan_ct.dicom.plausibility import implausible_hu, implausible_spacing, missing_slices, uneven_spacing
from stan_ct.dicom.refusal import Refused
from stan_ct.dicom.series import load_series
from stan_ct.reconstruction.source_checks import source_findings
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


def judged(*parts: tuple[float, int]) -> str:
    """What is implausible of so many pixels of each HU, beside one of -3000 HU, which counts as padding."""
    volume = np.concatenate([[-3000.0], *(np.full(count, hu) for hu, count in parts)])[None, None]
    return implausible_hu(volume, np.zeros(volume.shape, bool))


@pytest.mark.parametrize(
    ("inside", "outside", "reason"),
    [
        (((701, 200), (0, 800)), ((701, 201), (0, 799)), "lie above 700 HU"),
        (((700, 499), (0, 501)), ((701, 499), (0, 501)), "lie above 700 HU"),
        (((-1301, 200), (0, 800)), ((-1301, 201), (0, 799)), "lie below -1300 HU"),
        (((-1300, 900), (0, 100)), ((-1301, 900), (0, 100)), "lie below -1300 HU"),
        (((-1000, 995), (0, 5)), ((-1000, 996), (0, 4)), "lie above -500 HU"),
        (((-1000, 900), (-499, 49), (0, 51)), ((-1000, 900), (-499, 51), (0, 49)), "median of the body"),
        (((-200, 1000),), ((-201, 1000),), "median of the body"),
        (((450, 1000),), ((451, 1000),), "median of the body"),
    ],
)
def test_limits_of_plausible_hu(inside, outside, reason):
    """Each limit passes what lies on it and not what lies beyond."""
    assert judged(*inside) == ""
    assert reason in judged(*outside)


def test_a_slice_of_one_value_is_implausible():
    """Nothing can be said for an image without contrast."""
    assert implausible_hu(np.zeros((1, 8, 8)), np.zeros((1, 8, 8), bool)) == "all pixels are equal"


@pytest.mark.parametrize(
    ("kind", "passes"),
    [
        (["DERIVED", "SECONDARY", "MPR", "CSA MPR"], False),
        (["DERIVED", "SECONDARY", "REFORMATTED", "AVERAGE"], False),
        (["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"], True),
    ],
)
def test_resampled_images_are_no_originals(kind, passes):
    """A reformat is told by Image Type too, whatever its orientation."""
    header = Dataset()
    header.ImageOrientationPatient, header.ImageType = [1, 0, 0, 0, 1, 0], kind
    with nullcontext() if passes else pytest.raises(Refused, match="not_axial"):
        check_axial(header)


@pytest.mark.parametrize("word", ["HEADWATERS", "SUMMIT", "MONOTONE", "AXIAL", "RHODES"])
def test_words_within_other_words_mean_nothing(word):
    """Words of Image Type count as a whole."""
    header = Dataset()
    header.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL", word]
    assert not any(image_type_with(header, words) for words in (PROJECTIONS, MATERIALS, REFORMATS))


def test_gaps_are_counted_and_placed():
    """Two lost slices are told with where; jitter within 0.1 mm is none, beyond it uneven."""
    assert missing_slices([0, 5, 10, 25, 30]) == (2, "2 slices missing between 10 mm and 25 mm")
    assert missing_slices([0, 5, 12.4, 17.4]) == (0, "")
    assert missing_slices([0, 5, 12.5, 17.5]) == (1, "1 slice missing between 5 mm and 12.5 mm")
    locations = np.delete(np.arange(60.0), [5, 15, 25, 35])
    assert missing_slices(locations)[1].endswith("; 1 slice missing between 24 mm and 26 mm; 1 more gap")
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
    (series,) = inventory.series
    assert series.damaged == refused
    assert [f.name for f in source_findings(load_series(series)) if f.name == "unreadable_slices"] == [
        "unreadable_slices"
    ] * refused


def test_damaged_slices_count_for_their_own_series(tmp_path):
    """A damaged file that names its series counts there alone, one that does not for every series in its folder."""
    for number in (1, 2):
        write_ct(tmp_path / str(number), random_stored((2, 8, 6)), series=number)
        for path in sorted((tmp_path / str(number)).iterdir()):
            path.rename(tmp_path / f"{number}-{path.name}")
    cut = (tmp_path / "1-1.dcm").read_bytes()[:-40]
    (tmp_path / "1-1.dcm").write_bytes(cut)
    assert [series.damaged for series in find_series(tmp_path).series] == [1, 0]
    (tmp_path / "1-1.dcm").write_bytes(cut[:200])
    assert [series.damaged for series in find_series(tmp_path).series] == [1, 1]


@pytest.mark.parametrize(("value", "lossy"), [("01", 1), ("00", 0), ("", 0)])
def test_lossy_compression_is_a_finding(tmp_path, value, lossy):
    """A slice whose header says that it went through lossy compression is told of."""
    write_ct(tmp_path, random_stored((2, 8, 6)), edit=lambda ds, z: setattr(ds, "LossyImageCompression", value) if z else None)
    (series,) = find_series(tmp_path).series
    found = [f.detail for f in source_findings(load_series(series)) if f.name == "lossy_compression"]
    assert found == ["1 slice"] * lossy


def test_a_slice_cut_anywhere_is_refused(tmp_path):
    """However early a copy ended, its series has a finding, and the file is not skipped in silence."""
    write_ct(tmp_path, random_stored((2, 8, 6)))
    whole = (tmp_path / "1.dcm").read_bytes()
    for length in [*range(0, 1100, 23), 1100]:
        (tmp_path / "1.dcm").write_bytes(whole[:length])
        inventory = find_series(tmp_path)
        assert [len(refusal.paths) for refusal in inventory.refusals] == [1], length
        assert (inventory.series[0].damaged, inventory.skipped) == (1, {}), length


def test_implausible_spacing():
    """From a tenth of a millimetre to five, and square; a little beyond is told."""
    for sides in ((0.1, 0.1), (5.0, 5.0), (0.7, 0.71)):
        assert implausible_spacing(sides) == ""
    assert implausible_spacing((0.099, 0.1)) == "0.099 x 0.1 mm"
    assert implausible_spacing((5.0, 5.01)) == "5 x 5.01 mm"
    assert implausible_spacing((0.7, 0.72)) == "0.7 x 0.72 mm"
