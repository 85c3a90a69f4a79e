"""Slices meet by study and place, whatever their files are called; what does not meet is counted or refused."""

import numpy as np
import pydicom
import pytest

from stan_ct.dicom.find import find_series
from stan_ct.errors import NotComparable
from stan_ct.evaluation.measure import pairs as pairs_module
from stan_ct.evaluation.measure.pairs import find_pairs, load_slices, read_headers, read_instances
from stan_ct.patches.pairs import PairingRule, pair_series

OTHER_STUDY = "1.2.826.0.1.3680043.8.498.2"
UID = "1.2.826.0.1.3680043.8.498.1"
SOURCE, TARGET = (np.random.default_rng(seed).integers(-200, 200, (3, 6, 8)) for seed in (1, 2))


@pytest.fixture
def directories(tmp_path, write_series):
    """Source, synthesized (as STAN-CT marks what it writes) and target."""
    write_series(tmp_path / "source", SOURCE, series=1)
    write_series(tmp_path / "made", TARGET, series=2, DerivationDescription="STAN-CT 1.0")
    write_series(tmp_path / "target", TARGET, series=3)
    return tmp_path / "source", {"made": tmp_path / "made", "target": tmp_path / "target"}


def edit(path, **attributes):
    """Changes the header of a file."""
    dataset = pydicom.dcmread(path)
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)


def test_slices_meet_by_place_not_by_name_or_number(tmp_path, write_series):
    """A target in reverse order, with slices beyond the source's, is found by position."""
    write_series(tmp_path / "a", SOURCE)
    write_series(tmp_path / "b", np.concatenate([TARGET, SOURCE + 5])[::-1], series=2)
    for z in range(6):  # the volume was written upside down: mirror the positions
        edit(tmp_path / f"b/2-{z}.dcm", ImagePositionPatient=[-50.0, -50.0, 2.0 * (5 - z)])
    pairing = find_pairs(tmp_path / "a", {"target": tmp_path / "b"})
    assert [place["source"].location for place in pairing.together] == [0, 2, 4]
    assert [place["target"].path.name for place in pairing.together] == ["2-5.dcm", "2-4.dcm", "2-3.dcm"]
    np.testing.assert_array_equal([load_slices(place)["target"].volume[0] for place in pairing.together], TARGET)
    assert not +pairing.excluded


@pytest.mark.parametrize(("shift", "paired"), [(0.099, 3), (0.101, 0)])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_tolerance_of_the_place(tmp_path, write_series, axis, shift, paired):
    """Slices meet at a distance of 0.099 mm in any direction, and no longer at 0.101 mm."""
    shift = np.eye(3)[axis] * shift
    write_series(tmp_path / "a", SOURCE)
    write_series(tmp_path / "b", TARGET, series=2, shift=shift)
    if paired:
        assert len(find_pairs(tmp_path / "a", {"target": tmp_path / "b"}).together) == paired
    else:
        with pytest.raises(NotComparable, match="same matrix, pixel spacing, orientation and position"):
            find_pairs(tmp_path / "a", {"target": tmp_path / "b"})


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"PixelSpacing": [0.71, 0.71]}, "6 x 8 at 0.71/0.71 mm"),
        ({"ImageOrientationPatient": [0, 1, 0, -1, 0, 0]}, "same matrix, pixel spacing, orientation"),
        ({"study": OTHER_STUDY}, "give directories of the same study"),
    ],
)
def test_other_grid_or_study_is_refused(tmp_path, write_series, attributes, message):
    """Slices on another grid or of another study are never compared; the message says which."""
    write_series(tmp_path / "a", SOURCE)
    write_series(tmp_path / "b", TARGET, series=2, **attributes)
    with pytest.raises(NotComparable, match=message):
        find_pairs(tmp_path / "a", {"target": tmp_path / "b"})


APART = {"study": OTHER_STUDY, "PatientID": "ANOTHER", "FrameOfReferenceUID": "1.2.9"}


def test_series_de_identified_apart_meet_by_position_when_asked(tmp_path, write_series):
    """Other study, patient and frame: refused, with the flag that pairs them; with it every slice has its partner."""
    write_series(tmp_path / "a", SOURCE)
    write_series(tmp_path / "b", np.concatenate([TARGET, SOURCE]), series=2, **APART)
    with pytest.raises(
        NotComparable, match=r"give directories of the same study\. .*de-identified apart, give --pair_by=position$"
    ):
        find_pairs(tmp_path / "a", {"target": tmp_path / "b"})
    pairing = find_pairs(tmp_path / "a", {"target": tmp_path / "b"}, pair_by="position")
    assert [place["target"].path.name for place in pairing.together] == ["2-0.dcm", "2-1.dcm", "2-2.dcm"]


@pytest.mark.parametrize(("shift", "paired"), [(0.099, 3), (0.101, 0)])
def test_pairing_by_position_has_the_same_tolerance(tmp_path, write_series, shift, paired):
    """0.099 mm is the same place, 0.101 mm is not; then the flag is not advised, for it would not help."""
    write_series(tmp_path / "a", SOURCE)
    write_series(tmp_path / "b", TARGET, series=2, shift=(0, 0, shift), **APART)
    if paired:
        assert len(find_pairs(tmp_path / "a", {"target": tmp_path / "b"}, pair_by="position").together) == paired
        return
    for pair_by in ("study", "position"):
        with pytest.raises(NotComparable) as refused:
            find_pairs(tmp_path / "a", {"target": tmp_path / "b"}, pair_by=pair_by)
        assert "pair_by" not in str(refused.value)


@pytest.mark.parametrize(
    ("keyword", "one", "other", "paired"),
    [
        ("AcquisitionNumber", 1, 2, False),
        ("AcquisitionTime", "100000", "100001", True),
        ("AcquisitionTime", "100000", "100001.1", False),
        ("ContrastBolusAgent", "arterial", "venous", False),
        ("IrradiationEventUID", "1.2", "1.3", True),
    ],
)
def test_another_phase_is_no_partner_by_position(tmp_path, write_series, keyword, one, other, paired):
    """Contrast phases lie at the same positions: number, time and agent keep them apart; replaced UIDs do not."""
    write_series(tmp_path / "a", SOURCE, **{keyword: one})
    write_series(tmp_path / "b", TARGET, series=2, **APART, **{keyword: other})
    if paired:
        assert len(find_pairs(tmp_path / "a", {"target": tmp_path / "b"}, pair_by="position").together) == 3
    else:
        with pytest.raises(NotComparable, match="no source slice has a partner everywhere"):
            find_pairs(tmp_path / "a", {"target": tmp_path / "b"}, pair_by="position")


def test_of_two_phases_the_right_one_is_the_partner(tmp_path, write_series):
    """Of two target series at the same positions that of the source's acquisition is taken."""
    write_series(tmp_path / "a", SOURCE, AcquisitionNumber=2)
    write_series(tmp_path / "b", TARGET, series=2, **APART, AcquisitionNumber=1)
    write_series(tmp_path / "b", TARGET, series=3, **APART, AcquisitionNumber=2)
    pairing = find_pairs(tmp_path / "a", {"target": tmp_path / "b"}, pair_by="position")
    assert {place["target"].path.name[0] for place in pairing.together} == {"3"}


def test_two_patients_at_the_same_positions_are_not_guessed(tmp_path, write_series):
    """Two targets, or two sources, in one place are refused by position too."""
    write_series(tmp_path / "a", SOURCE)
    write_series(tmp_path / "b", TARGET, series=2, **APART)
    write_series(tmp_path / "b", TARGET, series=3, study="1.2.7", PatientID="THIRD")
    for source, target in (("a", "b"), ("b", "a")):
        with pytest.raises(NotComparable, match=r"2 slices in the place of .*leave only one patient's series to compare there"):
            find_pairs(tmp_path / source, {"target": tmp_path / target}, pair_by="position")


def test_series_that_train_can_be_evaluated(tmp_path, write_series):
    """Two series 0.05 mm apart in x pair for training and for evaluation alike."""
    write_series(tmp_path / "all/a", SOURCE, ConvolutionKernel="B")
    write_series(tmp_path / "all/b", TARGET, series=2, shift=(0.05, 0, 0), ConvolutionKernel="L")
    (trained,) = pair_series(find_series(tmp_path / "all").series, PairingRule(("B",), "L"))
    assert trained.slices == ((0, 0), (1, 1), (2, 2))
    assert len(find_pairs(tmp_path / "all/a", {"target": tmp_path / "all/b"}).together) == 3


def test_headers_are_read_once(directories, monkeypatch):
    """Headers that have been read serve several comparisons, which find the same as from the directories."""
    source, others = directories
    headers = {name: read_headers(root, name) for name, root in {"source": source, **others}.items()}
    from_directories = find_pairs(source, others)
    monkeypatch.setattr(pairs_module, "find_series", None)  # nothing may be read now
    for names in (["made", "target"], ["target"]):
        found = find_pairs(headers["source"], {name: headers[name] for name in names})
        assert [{name: place[name].path for name in ("source", *names)} for place in found.together] == [
            {name: place[name].path for name in ("source", *names)} for place in from_directories.together
        ]


def test_two_candidates_are_refused(directories, write_series):
    """Two target slices in one place are an error that names both files: no one is chosen silently."""
    source, others = directories
    write_series(others["target"], SOURCE, series=4)
    with pytest.raises(NotComparable, match=r"2 slices in the place .*3-0\.dcm.*4-0\.dcm"):
        find_pairs(source, others)


def test_two_sources_in_one_place_are_refused(directories, write_series):
    """Two source slices would share their partners, so that is an error too."""
    source, others = directories
    write_series(source, TARGET, series=4)
    with pytest.raises(NotComparable, match="2 slices in the place"):
        find_pairs(source, others)


def test_missing_partners_are_counted_by_what_is_missing(directories):
    """A slice without a partner in any one directory is compared with none, and the count says which one lacks it."""
    source, others = directories
    (others["made"] / "2-0.dcm").unlink()
    (others["made"] / "2-1.dcm").unlink()
    (others["target"] / "3-1.dcm").unlink()
    pairing = find_pairs(source, others)
    assert [place["source"].path.name for place in pairing.together] == ["1-2.dcm"]
    assert pairing.excluded == {
        "source slices without made in their place": 1,
        "source slices without made and target in their place": 1,
    }


def test_stan_ct_is_neither_source_nor_target(directories):
    """What STAN-CT wrote is read under any other name only."""
    source, others = directories
    with pytest.raises(NotComparable, match="already_standardized"):
        find_pairs(others["made"], {"target": source})
    with pytest.raises(NotComparable, match="already_standardized"):
        find_pairs(source, {"target": others["made"]})
    assert len(find_pairs(source, {"other": others["made"]}).together) == 3


def test_only_the_instances_listed(directories):
    """Only the listed source slices are compared; listed ones that are no source slices are counted."""
    pairing = find_pairs(*directories, only_instances=[f"{UID}.1.2", "1.2.3"])
    assert [place["source"].uid for place in pairing.together] == [f"{UID}.1.2"]
    assert pairing.excluded == {
        "source slices not among the instances to compare": 2,
        "instances to compare that are no source slices": 1,
    }
    with pytest.raises(NotComparable, match="none of the 1 SOP Instances"):
        find_pairs(*directories, only_instances=["1.2.3"])


def test_an_empty_list_of_instances_is_refused(tmp_path):
    """A file without UIDs would compare nothing; one a line, blank lines aside, are read."""
    (tmp_path / "list.txt").write_text("\n")
    with pytest.raises(NotComparable, match="lists no SOP Instance UID"):
        read_instances(tmp_path / "list.txt")
    (tmp_path / "list.txt").write_text("1.2\n\n1.3\n")
    assert read_instances(tmp_path / "list.txt") == {"1.2", "1.3"}


def test_stacks_end_where_a_slice_is_missing_and_where_a_series_ends(tmp_path, write_series):
    """Neighbours stay together: five slices of which the third has no partner, then another series right above."""
    write_series(tmp_path / "a", np.zeros((5, 6, 8)), series=1)
    write_series(tmp_path / "a", np.zeros((2, 6, 8)), series=2, shift=(0, 0, 10))
    write_series(tmp_path / "b", np.zeros((7, 6, 8)), series=3)
    (tmp_path / "b/3-2.dcm").unlink()
    stacks = find_pairs(tmp_path / "a", {"target": tmp_path / "b"}).stacks
    assert [[place["source"].path.name for place in stack] for stack in stacks] == [
        ["1-0.dcm", "1-1.dcm"],
        ["1-3.dcm", "1-4.dcm"],
        ["2-0.dcm", "2-1.dcm"],
    ]
