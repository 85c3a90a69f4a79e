"""The one rule for slices in the same place: each tolerance with a case on either side."""

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from stan_ct.dicom.positions import SlicePositions, same_position
from stan_ct.dicom.series import Instance

DEFAULTS = {
    "ImagePositionPatient": [-180.0, -180.0, 12.5],
    "ImageOrientationPatient": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
    "PixelSpacing": [0.7, 0.7],
    "Rows": 512,
    "Columns": 512,
}


def instance(**changes) -> Instance:
    """A slice with some values of the header changed."""
    header = Dataset()
    for keyword, value in (DEFAULTS | changes).items():
        setattr(header, keyword, value)
    return Instance(Path("a.dcm"), header)


def test_distance_by_hand():
    """0.06 and 0.08 mm along two axes are 0.1 mm, which 1 % more and less leave and keep; NaN is nowhere."""
    offset = np.array([0.06, 0.08, 0.0])
    assert same_position([[0, 0, 0]], [offset * 0.99, offset * 1.01, [np.nan, 0, 0]]).tolist() == [True, False, False]


def test_headers_rounded_to_tenths_are_in_the_same_place():
    """Rounding every coordinate to 0.1 mm moves a slice by 0.087 mm at most."""
    assert same_position(np.array([10.05, -3.15, 7.25]) + 1e-9, [10.1, -3.1, 7.3])


@pytest.mark.parametrize(
    ("inside", "outside"),
    [
        ({"ImagePositionPatient": [-180.099, -180, 12.5]}, {"ImagePositionPatient": [-180.101, -180, 12.5]}),
        ({"ImagePositionPatient": [-180, -180, 12.599]}, {"ImagePositionPatient": [-180, -180, 12.601]}),
        ({"PixelSpacing": [0.7, 0.7000099]}, {"PixelSpacing": [0.7, 0.7000101]}),
        ({"PixelSpacing": [0.6999901, 0.7]}, {"PixelSpacing": [0.6999899, 0.7]}),
        ({"ImageOrientationPatient": [1, 0.00099, 0, 0, 1, 0]}, {"ImageOrientationPatient": [1, 0.00101, 0, 0, 1, 0]}),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 1, -0.00099]}, {"ImageOrientationPatient": [1, 0, 0, 0, 1, -0.00101]}),
        ({}, {"Rows": 511}),
        ({}, {"Columns": 511}),
    ],
)
def test_tolerances(inside, outside):
    """Position within 0.1 mm, spacing within 1e-5 mm, direction cosines within 1e-3, and the same matrix."""
    assert SlicePositions([instance(), instance(**inside), instance(**outside)]).at(instance()).tolist() == [0, 1]


def test_no_slices():
    """Among no slices none is found."""
    assert SlicePositions([]).at(instance()).size == 0
