"""Series that were de-identified apart pair by position when that is asked for, and never of two patients."""

import pytest

from stan_ct.dicom.find import find_series
from stan_ct.patches.pairs import PairingError, PairingRule, pair_series
from tests.dicom.synthetic import random_stored, write_ct

RULE = PairingRule(("B",), "L")


def write(folder, kernel, patient, number, first=0.0, **attributes):
    """A series of four slices from `first` mm on, in a study and frame of reference of its own."""

    def edit(dataset, z):
        dataset.StudyInstanceUID, dataset.FrameOfReferenceUID, dataset.PatientID = f"1.2.{number}", f"1.3.{number}", patient
        dataset.ImagePositionPatient = ["-100", "-90.5", f"{first + 2.5 * z:g}"]
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)

    write_ct(folder / f"{number}", random_stored((4, 8, 6)), kernel=kernel, series=number, edit=edit)


def slices(folder, pair_by="position", rule=RULE):
    """Source and target number of each pair, and the number of their slices."""
    found = pair_series(find_series(folder).series, rule, pair_by)
    return [(pair.source.number, pair.target.number, len(pair.slices)) for pair in found]


def test_refused_by_default_with_the_way_on(tmp_path):
    """Another study, patient and frame: no pair, and the message names the flag; with it there is one."""
    write(tmp_path, "B", "one", 1)
    write(tmp_path, "L", "other", 2, first=2.5)
    with pytest.raises(PairingError, match=r"de-identified apart, give --pair_by=position\.$"):
        slices(tmp_path, "study")
    assert slices(tmp_path) == [(1, 2, 3)]


def test_no_advice_that_does_not_help(tmp_path):
    """Series elsewhere do not pair either way; neither message names the flag."""
    write(tmp_path, "B", "one", 1)
    write(tmp_path, "L", "other", 2, first=100.0)
    for pair_by in ("study", "position"):
        with pytest.raises(PairingError, match="slices at the same positions; protocols found") as refused:
            slices(tmp_path, pair_by)
        assert "pair_by" not in str(refused.value)


def test_a_target_of_the_same_study_comes_first(tmp_path):
    """By position a source pairs with what it pairs with anyway, and only else with another study."""
    write(tmp_path, "B", "one", 1)
    write(tmp_path, "L", "one", 2, StudyInstanceUID="1.2.1", FrameOfReferenceUID="1.3.1")
    write(tmp_path, "L", "other", 3)
    assert slices(tmp_path) == slices(tmp_path, "study") == [(1, 2, 4)]


def test_two_patients_in_one_place_are_not_guessed(tmp_path):
    """Two targets, or two sources, of several patients at the same positions are refused with both folders."""
    write(tmp_path, "B", "one", 1)
    write(tmp_path, "L", "other", 2)
    write(tmp_path, "L", "third", 3, first=2.5)
    with pytest.raises(
        PairingError, match=r"source series .* the positions of 2 studies or patients: .*/2, .*/3\. .* one patient"
    ):
        slices(tmp_path)
    write(tmp_path / "more", "B", "one", 1)
    write(tmp_path / "more", "B", "third", 3)
    write(tmp_path / "more", "L", "other", 2)
    with pytest.raises(PairingError, match=r"target series .* the positions of 2 studies or patients"):
        slices(tmp_path / "more")


@pytest.mark.parametrize(
    ("keyword", "one", "other", "paired"),
    [
        ("AcquisitionNumber", "3", "3", True),
        ("AcquisitionNumber", "3", "4", False),
        ("AcquisitionTime", "182247.150", "182247.15", True),
        ("AcquisitionTime", "182247.150", "182248.150", True),
        ("AcquisitionTime", "182247.150", "182248.200", False),
        ("ContrastBolusAgent", "arterial", "venous", False),
        ("IrradiationEventUID", "1.2.3", "1.2.4", True),
        ("AcquisitionDateTime", "20240102100000", "20210304100000", True),
    ],
)
def test_another_acquisition_never_pairs(tmp_path, keyword, one, other, paired):
    """Contrast phases stay apart by number and time; UIDs and dates, which de-identification replaces, say nothing."""
    write(tmp_path, "B", "one", 1, **{keyword: one})
    write(tmp_path, "L", "other", 2, **{keyword: other})
    if paired:
        assert slices(tmp_path) == [(1, 2, 4)]
    else:
        with pytest.raises(PairingError):
            slices(tmp_path)


def test_one_of_several_identities_differs(tmp_path):
    """A pair of one study whose patients or frames differ is one of position too."""
    write(tmp_path, "B", "one", 1)
    write(tmp_path, "L", "other", 2, StudyInstanceUID="1.2.1", FrameOfReferenceUID="1.3.1")
    with pytest.raises(PairingError, match="--pair_by=position"):
        slices(tmp_path, "study")
    assert slices(tmp_path) == [(1, 2, 4)]


def test_the_toshiba_pair(real_ct):
    """FC13 and FC51 of one scan of a phantom, published under two identities: 4 pairs of slices, when asked for."""
    series, rule = find_series(real_ct / "pair_toshiba_phantom").series, PairingRule(("FC13",), "FC51")
    with pytest.raises(PairingError, match="--pair_by=position"):
        pair_series(series, rule)
    pairs = pair_series(series, rule, "position")
    assert sum(len(pair.slices) for pair in pairs) == 4
    for pair in pairs:
        for z, t in pair.slices:
            assert pair.source.instances[z].path.name == pair.target.instances[t].path.name
