"""Tests of which series are two reconstructions of one scan."""

from pathlib import Path

import pytest

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
