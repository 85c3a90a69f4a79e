"""Protocols, and pairing two reconstructions of one scan."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from synthetic import random_stored, write_ct

from stan_ct.ct.protocol import Protocol, same_thickness
from stan_ct.dicom.find import find_series
from stan_ct.dicom.series import Instance, SeriesFiles
from stan_ct.patches.pairs import PairingError, PairingRule, pair_series, pair_slices
from stan_ct.patches.protocol import protocol_of


def at(*locations: float | tuple[float, float, float]) -> list[Instance]:
    """Instances along z, or at positions."""
    found = []
    for n, location in enumerate(locations):
        header = Dataset()
        header.ImagePositionPatient = list(location) if isinstance(location, tuple) else [0, 0, location]
        header.Rows, header.Columns, header.PixelSpacing = 512, 512, [0.7, 0.7]
        header.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        found.append(Instance(Path(f"{n}.dcm"), header))
    return found


def test_pairs_by_position():
    """Slices pair where their positions agree, whatever their number in the series: 5, 10 and 20 mm of 0..20."""
    assert pair_slices(at(5, 10, 12, 20), at(0, 5, 10, 15, 20)) == ((0, 1), (1, 2), (3, 4))


def test_pairs_need_all_three_coordinates():
    """A shift of 0.101 mm in any direction is another place, one of 0.099 mm the same."""
    for axis in range(3):
        for shift, expected in ((0.101, ()), (0.099, ((0, 0),))):
            moved = tuple(shift if i == axis else 0.0 for i in range(3))
            assert pair_slices(at((0, 0, 0)), at(moved)) == expected


def test_positions_that_occur_twice_pair_with_nothing():
    """Twice among the targets or among the sources: nobody knows which is meant, so neither is used."""
    assert pair_slices(at(0, 5), at(0, 5, 5)) == ((0, 0),)
    assert pair_slices(at(0, 5, 5), at(0, 5)) == ((0, 0),)


def test_nothing_in_common_pairs_nothing():
    """No slices on either side, or none at common positions, is no error here."""
    assert pair_slices([], at(0, 5)) == ()
    assert pair_slices(at(0, 5), []) == ()
    assert pair_slices(at(0, 5), at(2.5, 7.5)) == ()


@given(st.permutations(range(6)), st.permutations(range(6)))
def test_order_does_not_matter(ours, theirs):
    """Each slice finds the one at its own place, in the order of the sources."""
    pairs = pair_slices(at(*(5.0 * k for k in ours)), at(*(5.0 * k for k in theirs)))
    assert [s for s, _ in pairs] == list(range(6))
    assert [theirs[t] for _, t in pairs] == list(ours)


def write_study(folder: Path, **target) -> list[SeriesFiles]:
    """A soft series 3 of 4 slices and a sharp series 4 that `target` describes."""
    write_ct(folder / "soft", random_stored((4, 8, 6)), kernel="B")
    write_ct(folder / "sharp", target.pop("stored", random_stored((4, 8, 6))), series=4, kernel="L", **target)
    return find_series(folder).series


def test_series_pair_by_kernel(tmp_path):
    """Source and target are the series of the kernels asked for; asked the other way round they change places."""
    series = write_study(tmp_path)
    (pair,) = pair_series(series, PairingRule(("B",), "L"))
    assert (pair.source.kernel, pair.target.kernel) == ("B", "L")
    assert pair.slices == ((0, 0), (1, 1), (2, 2), (3, 3))
    assert pair_series(series, PairingRule(("L",), "B"))[0].source.kernel == "L"


@pytest.mark.parametrize(("shift", "pairs"), [(0.099, 4), (0.101, 0)])
def test_series_pair_within_the_tolerance(tmp_path, shift, pairs):
    """Series 0.099 mm apart in x pair slice by slice; at 0.101 mm they are other images."""
    series = write_study(
        tmp_path, edit=lambda ds, z: setattr(ds, "ImagePositionPatient", [f"{shift - 100:g}", "-90.5", 2.5 * z])
    )
    if pairs:
        assert len(pair_series(series, PairingRule(("B",), "L"))[0].slices) == pairs
    else:
        with pytest.raises(PairingError, match="slices at the same positions"):
            pair_series(series, PairingRule(("B",), "L"))


@pytest.mark.parametrize(("other", "same"), [(1.0149, True), (0.9851, True), (1.0151, False), (0.9849, False), (0.0, False)])
def test_tolerance_of_the_thickness(other, same):
    """1 mm is the same as what differs by up to 0.015 mm, either way, and 0 (not stated) is the same as 0 alone."""
    assert same_thickness(1.0, other) is same
    assert same_thickness(0.0, 0.0)


@pytest.mark.parametrize(("thickness", "pairs"), [(1.01, True), (1.02, False), (1.1, False)])
def test_kernel_pairs_need_equal_thickness(thickness, pairs):
    """1.01 mm pairs with 1 mm, as rounded headers have it; 1.02 mm and 1.1 mm are other thicknesses."""
    series, rule = protocols(Protocol("BL57", 1.0), Protocol("BL64", thickness)), PairingRule(("BL57",), "BL64")
    if pairs:
        assert paired(series, rule) == [f"BL57 1 mm > BL64 {thickness:g} mm"]
    else:
        with pytest.raises(PairingError, match="of the same thickness"):
            pair_series(series, rule)


@pytest.mark.parametrize(
    "target",
    [
        {"stored": random_stored((4, 8, 7))},
        {"spacing": (0.8, 0.8)},
        {"edit": lambda ds, z: setattr(ds, "StudyInstanceUID", "1.2.3")},
        {"edit": lambda ds, z: setattr(ds, "ImagePositionPatient", ["-100", "-90.5", str(1000 + z)])},
        {"edit": lambda ds, z: setattr(ds, "ConvolutionKernel", "YA")},
    ],
    ids=["matrix", "spacing", "study", "positions", "kernel"],
)
def test_what_does_not_match_does_not_pair(tmp_path, target):
    """Another matrix, spacing, study, place or kernel gives an error that names kernels asked for, found, and flags."""
    series = write_study(tmp_path, **target)
    with pytest.raises(
        PairingError, match=r"'B' and one of 'L'.*protocols found: B 2\.5 mm, (L|YA) 2\.5 mm\..*--source_kernels"
    ):
        pair_series(series, PairingRule(("B",), "L"))


def test_no_series_at_all():
    """Nothing found is said as such."""
    with pytest.raises(PairingError, match="protocols found: none"):
        pair_series([], PairingRule(("B",), "L"))


def protocols(*of_one_study: Protocol) -> list[SeriesFiles]:
    """One series of three slices at the same positions for each protocol, in one study."""
    found = []
    for number, protocol in enumerate(of_one_study):
        instances = at(0, 1, 2)
        for instance in instances:
            header = instance.header
            header.StudyInstanceUID, header.SeriesInstanceUID = "1.1", f"1.1.{number}"
            header.ConvolutionKernel = protocol.kernel
            if protocol.thickness:
                header.SliceThickness = protocol.thickness
        found.append(SeriesFiles(tuple(instances)))
    return found


STUDY = protocols(*(Protocol(kernel, thickness) for kernel in ("BR40", "BL57", "BL64") for thickness in (0.5, 1.0, 3.0)))


def paired(series: list[SeriesFiles], rule: PairingRule) -> list[str]:
    """The pairs as text."""
    pairs = pair_series(series, rule)
    assert {pair.slices for pair in pairs} == {((0, 0), (1, 1), (2, 2))}
    return [f"{protocol_of(pair.source)} > {protocol_of(pair.target)}" for pair in pairs]


def test_kernel_pairs_at_equal_thickness():
    """Two kernels at three thicknesses give six pairs, each with the target kernel of its own thickness."""
    assert paired(STUDY, PairingRule(("BR40", "BL57"), "BL64")) == [
        f"{kernel} {mm} mm > BL64 {mm} mm" for kernel in ("BR40", "BL57") for mm in ("0.5", "1", "3")
    ]
    assert paired(STUDY, PairingRule(("BL57",), "BL64", thicknesses=(3.0, 0.5))) == [
        f"BL57 {mm} mm > BL64 {mm} mm" for mm in ("0.5", "3")
    ]


def test_any_protocol_to_the_standard():
    """Every source kernel and thickness, and the target kernel at other thicknesses, pair with the standard protocol."""
    rule = PairingRule(("BR40", "BL57"), "BL64", "standard", target_thickness=1.0)
    every = [f"{kernel} {mm} mm > BL64 1 mm" for kernel in ("BR40", "BL57") for mm in ("0.5", "1", "3")]
    assert paired(STUDY, rule) == [*every, "BL64 0.5 mm > BL64 1 mm", "BL64 3 mm > BL64 1 mm"]
    thick = PairingRule(("BR40",), "BL64", "standard", target_thickness=1.0, thicknesses=(3.0,))
    assert paired(STUDY, thick) == ["BR40 3 mm > BL64 1 mm", "BL64 3 mm > BL64 1 mm"]


def test_thickness_not_stated_equals_itself_alone():
    """Without Slice Thickness a series pairs with others without it, not with one of 1 mm."""
    assert paired(protocols(Protocol("A", 0), Protocol("B", 0), Protocol("B", 1)), PairingRule(("A",), "B")) == ["A > B"]


def test_rules_that_contradict_themselves():
    """Each is refused with the flag to change."""
    with pytest.raises(PairingError, match="give --target_thickness"):
        PairingRule(("A",), "B", "standard")
    with pytest.raises(PairingError, match=r"--target_thickness=1 is for --pairing=standard.*--thicknesses"):
        PairingRule(("A",), "B", target_thickness=1.0)
    with pytest.raises(PairingError, match="both name 'B'"):
        PairingRule(("A", "B"), "B")


def test_other_frames_of_reference_do_not_pair():
    """Equal positions in two frames of reference are two places; a frame that is not stated forbids nothing."""
    for frame, count in (("1.9", 0), ("1.8", 1), ("", 1)):
        source, target = protocols(Protocol("A", 1), Protocol("B", 1))
        source.first.FrameOfReferenceUID, target.first.FrameOfReferenceUID = "1.8", frame
        if count:
            assert len(pair_series([source, target], PairingRule(("A",), "B"))) == 1
        else:
            with pytest.raises(PairingError, match=r"protocols found: A 1 mm, B 1 mm\."):
                pair_series([source, target], PairingRule(("A",), "B"))


def test_other_acquisitions_do_not_pair():
    """Two contrast phases are two scans; an Acquisition Number that is not stated forbids nothing."""
    for number, count in (("2", 0), ("1", 1), ("", 1)):
        source, target = protocols(Protocol("A", 1), Protocol("B", 1))
        source.first.AcquisitionNumber, target.first.AcquisitionNumber = "1", number
        if count:
            assert len(pair_series([source, target], PairingRule(("A",), "B"))) == 1
        else:
            with pytest.raises(PairingError, match=r"protocols found: A 1 mm, B 1 mm\."):
                pair_series([source, target], PairingRule(("A",), "B"))


@pytest.mark.parametrize(
    ("header", "protocol"),
    [
        ({"ConvolutionKernel": "BL64", "SliceThickness": "1"}, Protocol("BL64", 1.0)),
        ({"ConvolutionKernel": ["Br40d", "3"], "SliceThickness": "0.6249"}, Protocol("Br40d/3", 0.62)),
        ({"ConvolutionKernel": "B"}, Protocol("B", 0.0)),
        ({"SliceThickness": "0"}, Protocol("?", 0.0)),
    ],
)
def test_protocol_from_the_header(header, protocol):
    """Kernel and thickness as the header states them; what is missing is "?" and 0."""
    dataset = Dataset()
    for keyword, value in header.items():
        setattr(dataset, keyword, value)
    assert protocol_of(SeriesFiles((Instance(Path("0.dcm"), dataset),))) == protocol


def test_protocol_in_words():
    """As people write it."""
    assert [str(Protocol(*p)) for p in (("BL64", 1.0), ("B", 0.0), ("I", 0.625))] == ["BL64 1 mm", "B", "I 0.625 mm"]


def test_real_kernels_pair_slice_by_slice(real_ct):
    """The Philips chest gives 36 pairs in order; the phantom's 5 mm series of the same kernel pairs with nothing of 1 mm."""
    (pair,) = pair_series(find_series(real_ct / "pair_philips_5mm").series, PairingRule(("B",), "L"))
    assert pair.slices == tuple((z, z) for z in range(36))
    (thin,) = pair_series(find_series(real_ct / "phantom_philips").series, PairingRule(("UB",), "YA"))
    assert thin.slices == tuple((z, z) for z in range(8))
    assert thin.source.slice_thickness == 1.0
