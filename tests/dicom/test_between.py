"""Slices written between those of a source: where they lie, what they are called, and what their headers say."""

from datetime import UTC, datetime

import numpy as np
import pydicom
import pytest
from synthetic import write_ct

from stan_ct.ct.interpolation import slice_between
from stan_ct.dicom.between import Place, places_at
from stan_ct.dicom.derived import Derivation
from stan_ct.dicom.find import find_series
from stan_ct.dicom.series import load_series
from stan_ct.dicom.write import write_series

DERIVATION = Derivation("kernel L 1 mm", "thin", "key", True, datetime(2026, 1, 1, tzinfo=UTC), thickness=1.0, comments="Ours.")


def test_places():
    """Steps of nearly the distance asked for; none in a gap, and none between slices that lie closer."""
    found = places_at([0.0, 3.0, 6.0, 12.0, 15.0], 1.0)
    assert [(place.below, place.part) for place in found] == [
        *((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0), (3, 0), (3, 1), (3, 2), (4, 0))
    ]
    assert [place.fraction for place in found[:3]] == [0, 1 / 3, 2 / 3]
    assert {place.spacing for place in found} == {1.0}
    assert places_at([0.0, 2.5], 1.0) == (Place(0, 0, 2, 1.25), Place(0, 1, 2, 1.25), Place(1, spacing=1.25))
    assert [place.part for place in places_at([0.0, 0.5, 1.0], 1.0)] == [0, 0, 0]
    assert places_at([4.0], 1.0) == (Place(0),)


@pytest.fixture
def source(tmp_path):
    """Three slices 3 mm apart, numbered from the head down, with padding in a corner of the second."""

    def edit(dataset, z):
        dataset.ImagePositionPatient = ["-100", "-90.5", f"{10 + 3 * z}"]
        dataset.InstanceNumber, dataset.SliceLocation, dataset.SpacingBetweenSlices = 9 - z, f"{-10 - 3 * z}", "3"

    stored = np.random.default_rng(0).integers(900, 1100, (3, 40, 44))
    stored[1, :4, :4] = 0
    write_ct(tmp_path / "in", stored, thickness=3.0, padding=(0,), edit=edit)
    return load_series(find_series(tmp_path / "in").series[0])


def written(source, folder, volume=None, places=None):
    places = places_at([0.0, 3.0, 6.0], 1.0) if places is None else places
    uids = write_series(source, source.volume + 5 if volume is None else volume, folder, DERIVATION, 7, places)
    slices = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    assert [str(ds.SOPInstanceUID) for ds in slices] == list(uids)
    return slices


def test_written_slices(source, tmp_path):
    """Positions, numbers and UIDs of seven slices; three of them are those that are written without any between."""
    slices = written(source, tmp_path / "out")
    assert [float(ds.ImagePositionPatient[2]) for ds in slices] == [10, 11, 12, 13, 14, 15, 16]
    assert all(ds.ImagePositionPatient[:2] == [-100, -90.5] for ds in slices)
    assert [float(ds.SliceLocation) for ds in slices] == [-10, -11, -12, -13, -14, -15, -16]
    assert [ds.InstanceNumber for ds in slices] == [7, 6, 5, 4, 3, 2, 1]
    assert [float(ds.SpacingBetweenSlices) for ds in slices] == [1] * 7
    assert {float(ds.SliceThickness) for ds in slices} == {1.0}
    assert len({ds.SOPInstanceUID for ds in slices}) == 7
    assert [ds.SOPInstanceUID for ds in written(source, tmp_path / "again")] == [ds.SOPInstanceUID for ds in slices]
    alone = written(source, tmp_path / "alone", places=())
    assert [ds.SOPInstanceUID for ds in alone] == [ds.SOPInstanceUID for ds in slices[::3]]
    assert [ds.PixelData for ds in alone] == [ds.PixelData for ds in slices[::3]]
    assert [ds.InstanceNumber for ds in alone] == [9, 8, 7]


def test_what_they_say(source, tmp_path):
    """One between says so, and of which two; the others say that their positions are unchanged."""
    slices = written(source, tmp_path / "out")
    own, between = slices[0], slices[1]
    assert "(source: 3 mm), positions unchanged" in own.DerivationDescription
    assert own.ImageComments == "Ours."
    assert "this slice is interpolated at 0.33 of the way between two slices: linearly" in between.DerivationDescription
    assert "positions unchanged" not in between.DerivationDescription
    assert between.ImageComments == "Ours. This slice is interpolated between two others."
    for ds, sources, kept in ((own, [0], "YES"), (between, [0, 1], "NO")):
        items = ds.SourceImageSequence
        assert [item.ReferencedSOPInstanceUID for item in items] == [source.instances[z].uid for z in sources]
        assert {item.SpatialLocationsPreserved for item in items} == {kept}


def test_their_pixels(source, tmp_path):
    """They are interpolated from the derived slices; padding of the slice below stays, that above gives way to the other."""
    volume = source.volume + 5
    slices = written(source, tmp_path / "out", volume)
    filled = np.where(source.padding[1], volume[0], volume[1])
    expected = slice_between(volume[0], filled, 1 / 3, (0.7, 0.7))
    np.testing.assert_array_equal(slices[1].pixel_array, np.rint(expected + 1024))
    assert (slices[4].pixel_array[:4, :4] == 0).all()
    assert (slices[1].pixel_array[:4, :4] > 800).all()
