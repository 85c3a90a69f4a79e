"""Tests of which series are two reconstructions of one scan."""

import doctest
from contextlib import nullcontext
from pathlib import Path

import pytest

from stan_ct.dicom import times
from stan_ct.dicom.find import find_series
from stan_ct.patches.pairs import PairingError, PairingRule, pair_series
from tests.dicom.synthetic import random_stored, write_ct


def pairs(folder: Path, keyword: str, source: str, target: str) -> int:
    """Number of pairs of a series of kernel B and one of L whose headers hold these values."""
    for kernel, value, series in (("B", source, 3), ("L", target, 4)):
        edit = lambda ds, z, value=value: setattr(ds, keyword, value)  # noqa: E731
        write_ct(folder / kernel, random_stored((2, 8, 6)), kernel=kernel, series=series, edit=edit)
    return len(pair_series(find_series(folder).series, PairingRule(("B",), "L")))


@pytest.mark.parametrize(
    ("keyword", "one", "other"),
    [
        ("PatientID", "A", "B"),
        ("AcquisitionTime", "100000", "100045"),
        ("IrradiationEventUID", "1.2.3", "1.2.4"),
        ("AcquisitionNumber", "1", "2"),
        ("ContrastBolusAgent", "arterial", "venous"),
    ],
)
def test_other_patients_and_phases_never_pair(tmp_path, keyword, one, other):
    """Series in one study and frame pair where they agree, or one states nothing, and not where they differ."""
    assert pairs(tmp_path / "equal", keyword, one, one) == 1
    assert pairs(tmp_path / "unstated", keyword, one, "") == 1
    with pytest.raises(PairingError):
        pairs(tmp_path / "different", keyword, one, other)


@pytest.mark.parametrize("keyword", ["AcquisitionTime", "AcquisitionDateTime"])
@pytest.mark.parametrize(("other", "paired"), [("100000.50", True), ("100001", True), ("100001.1", False)])
def test_times_of_one_acquisition_are_near(tmp_path, keyword, other, paired):
    """Times compare as numbers: up to a second apart they are of one acquisition, however they are written."""
    day = "20240102" * (keyword == "AcquisitionDateTime")
    with nullcontext() if paired else pytest.raises(PairingError):
        assert pairs(tmp_path, keyword, f"{day}100000", f"{day}{other}") == 1


def test_spans_of_times_that_overlap_are_of_one_acquisition(tmp_path):
    """Slices are stamped one after the other, and those of two reconstructions at different times."""
    for kernel, start, series in (("B", 0, 3), ("L", 5, 4)):
        edit = lambda ds, z, start=start: setattr(ds, "AcquisitionTime", f"1000{start + 10 * z:02d}")  # noqa: E731
        write_ct(tmp_path / kernel, random_stored((2, 8, 6)), kernel=kernel, series=series, edit=edit)
    assert len(pair_series(find_series(tmp_path).series, PairingRule(("B",), "L"))) == 1


def test_examples_of_times():
    """The examples in the docstring hold."""
    assert doctest.testmod(times).attempted > 0
    assert doctest.testmod(times).failed == 0
