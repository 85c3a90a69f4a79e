"""`benchmarks/ibsi_ct.py`: the tumour is its contour, resampled grids share their centre, and what is outside is told."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from structure_sets import square, write_structures

from stan_ct.features.first_order import HISTOGRAM, STATISTICS
from stan_ct.features.glcm import ALL_FEATURES

SPEC = importlib.util.spec_from_file_location("ibsi_ct", Path(__file__).parents[2] / "benchmarks" / "ibsi_ct.py")
ibsi_ct = importlib.util.module_from_spec(SPEC)
sys.modules["ibsi_ct"] = ibsi_ct  # its dataclass looks itself up
SPEC.loader.exec_module(ibsi_ct)


@pytest.fixture
def tumour(tmp_path, write_series):
    """Three slices of noise in soft tissue, and a square with a hole in the middle one."""
    hu = np.random.default_rng(2).normal(40, 60, (3, 20, 24)).round()
    write_series(tmp_path, hu, SliceThickness=2.0)
    write_structures(tmp_path / "structures.dcm", {"GTV-1": [square(2, 2, 15), square(2, 6, 8)]})
    return tmp_path


def test_the_tumour_is_its_contour(tumour):
    """Rows and columns 2 .. 15 of the second slice, without 6 .. 8: 14 * 14 - 3 * 3 voxels."""
    _, mask = ibsi_ct.load(tumour)
    assert (mask.sum(), mask[1, 2, 2], mask[1, 7, 7]) == (187, True, False)


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
