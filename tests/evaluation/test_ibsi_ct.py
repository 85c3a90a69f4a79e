"""`benchmarks/ibsi_ct.py`: a contour is the voxels in it, resampled grids share their centre, and what is outside is told."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from stan_ct.features.first_order import HISTOGRAM, STATISTICS
from stan_ct.features.glcm import ALL_FEATURES

SPEC = importlib.util.spec_from_file_location("ibsi_ct", Path(__file__).parents[2] / "benchmarks" / "ibsi_ct.py")
ibsi_ct = importlib.util.module_from_spec(SPEC)
sys.modules["ibsi_ct"] = ibsi_ct  # its dataclass looks itself up
SPEC.loader.exec_module(ibsi_ct)

CORNER, SPACING = -50.0, 0.7
"""Center of the first voxel of `write_series`, mm, and from one voxel to the next."""


def square(z, low, high):
    """A contour, (4, 3) mm, that runs half a voxel outside the rows and columns low .. high of slice z."""
    start, end = CORNER + (low - 0.5) * SPACING, CORNER + (high + 0.5) * SPACING
    return np.array([[start, start, 2.0 * z], [end, start, 2.0 * z], [end, end, 2.0 * z], [start, end, 2.0 * z]])


def write_structures(path, polygons):
    """An RT Structure Set of one ROI, GTV-1."""
    ds = FileDataset(None, {}, file_meta=FileMetaDataset(), preamble=b"\0" * 128)
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = "1.2.3"
    ds.Modality, roi, name = "RTSTRUCT", Dataset(), Dataset()
    name.ROINumber, name.ROIName, roi.ReferencedROINumber, roi.ContourSequence = 7, "GTV-1", 7, []
    for polygon in polygons:
        contour = Dataset()
        contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(polygon)
        contour.ContourData = [pydicom.valuerep.format_number_as_ds(x) for x in polygon.ravel().tolist()]
        roi.ContourSequence.append(contour)
    ds.StructureSetROISequence, ds.ROIContourSequence = [name], [roi]
    ds.save_as(path, enforce_file_format=True)


@pytest.fixture
def tumour(tmp_path, write_series):
    """Three slices of noise in soft tissue, and a square with a hole in the middle one."""
    hu = np.random.default_rng(2).normal(40, 60, (3, 20, 24)).round()
    write_series(tmp_path, hu, SliceThickness=2.0)
    write_structures(tmp_path / "structures.dcm", [square(1, 2, 15), square(1, 6, 8)])
    return tmp_path


def test_a_contour_is_the_voxels_whose_centres_are_in_it(tumour):
    """Rows and columns 2 .. 15 of the second slice, without 6 .. 8: 14 * 14 - 3 * 3 voxels."""
    expected = np.zeros((3, 20, 24), bool)
    expected[1, 2:16, 2:16] = True
    expected[1, 6:9, 6:9] = False
    series, mask = ibsi_ct.load(tumour)
    assert mask.sum() == 187
    np.testing.assert_array_equal(mask, expected)
    with pytest.raises(ValueError, match="contours in the slices, got one 1 mm from the next"):
        ibsi_ct.rasterize([square(0.5, 2, 15)], series)


def test_grids_share_their_centre():
    """0, 3 and 6 HU, 3 mm apart, become 5 voxels of 2 mm at -4, -2, 0, 2 and 4 mm from 3 HU; the ends go on as they are."""
    volume = np.array([0.0, 3.0, 6.0]).reshape(3, 1, 1)
    found = ibsi_ct.resample(volume, np.array([3.0, 1.0, 1.0]), np.array([2.0, 1.0, 1.0]), ibsi_ct.LINEAR)
    assert found.ravel() == pytest.approx([0, 1, 3, 5, 6])
    assert ibsi_ct.resample(volume, np.ones(3), np.ones(3), ibsi_ct.CUBIC) == pytest.approx(volume)


def test_outliers_leave_the_roi(tumour):
    """Of HU in the range, those 3 standard deviations from the mean of the others leave too: 900 first, then 150."""
    series, mask = ibsi_ct.load(tumour)
    series.volume[mask], (first, second) = np.tile([0, 10], 94)[:187], np.argwhere(mask)[:2]
    series.volume[tuple(first)], series.volume[tuple(second)] = 900, 150
    configuration = ibsi_ct.Configuration((), ibsi_ct.NUMBER, hu_range=(-1000, 400), sigmas=3)
    _, kept = ibsi_ct.prepare(configuration, series, mask)
    assert np.argwhere(mask & ~kept).tolist() == [first.tolist(), second.tolist()]


def test_every_feature_has_its_published_values():
    """Seven features of texture for each aggregation, and all statistics: 48 + 48 + 34 + 34 + 34 values."""
    assert set(ibsi_ct.INTENSITY) == {*STATISTICS, *HISTOGRAM}
    numbers = []
    for name, configuration in ibsi_ct.CONFIGURATIONS.items():
        assert set(ibsi_ct.TEXTURE[name]) == {*ALL_FEATURES} - {"energy"}
        assert {len(row) for row in ibsi_ct.TEXTURE[name].values()} == {len(configuration.aggregations)}
        numbers.append(len(ibsi_ct.INTENSITY) + sum(map(len, ibsi_ct.TEXTURE[name].values())))
    assert numbers == [48, 48, 34, 34, 34]
    assert {len(row) for row in ibsi_ct.INTENSITY.values()} == {5}


def test_published_digits_count():
    """5.954 is 5.95, within 0 of it; 5.956 is not, nor within 0.009 of 5.97."""
    assert ibsi_ct.Row("contrast", 5.954, 5.95, 0).within
    assert not ibsi_ct.Row("contrast", 5.956, 5.95, 0).within
    assert not ibsi_ct.Row("contrast", 5.956, 5.97, 0.009).within
    assert ibsi_ct.Row("contrast", 5.956, 5.97, 0.01).within


def test_another_ct_is_outside(tumour, monkeypatch, capsys):
    """Noise has not the tumour's features: exit code 1, and a table for each configuration."""
    monkeypatch.setattr(sys, "argv", ["ibsi_ct.py", str(tumour)])
    assert ibsi_ct.main() == 1
    said = capsys.readouterr().out
    assert said.startswith("GTV-1: 187 voxels\n")
    assert [said.count(f"\nConfiguration {name}, ") for name in "ABCDE"] == [1] * 5
    assert said.count("**outside**") == int(said.splitlines()[-1].split()[0]) > 100
