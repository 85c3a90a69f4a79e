"""Contours of an RT Structure Set become the voxels whose centres they enclose, or are refused."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from structure_sets import square, structure_set, write_structures

from stan_ct.dicom.find import find_series
from stan_ct.dicom.series import SeriesFiles, load_series
from stan_ct.errors import NotComparable
from stan_ct.evaluation.measure.masks import read_masks, read_rois
from stan_ct.evaluation.measure.region_features import Loss
from stan_ct.evaluation.measure.regions import RoiSettings, measure_regions

COS, SIN = np.cos(np.deg2rad(20)), np.sin(np.deg2rad(20))
OBLIQUE = np.array([COS, SIN, 0, -SIN * 0.6, COS * 0.6, 0.8])
GEOMETRIES = {  # directions of rows and columns, from a slice to the next in mm
    "files from head to feet": ([1, 0, 0, 0, 1, 0], [0, 0, -2]),
    "rows to the right": ([-1, 0, 0, 0, -1, 0], [0, 0, 2]),
    "oblique": (OBLIQUE, 2 * np.cross(OBLIQUE[:3], OBLIQUE[3:])),
    "tilted gantry": ([1, 0, 0, 0, COS, SIN], [0, 0, 2]),
}


@pytest.fixture
def ct(tmp_path, write_series):
    """Five slices of 12 x 16 pixels, 2 mm apart: the folder."""
    hu = np.random.default_rng(2).normal(40, 60, (5, 12, 16)).round()
    write_series(tmp_path / "ct", hu, SliceThickness=2.0, FrameOfReferenceUID="1.2.3.4")
    return tmp_path / "ct"


def series_of(folder):
    (files,) = find_series(folder).series
    return load_series(files)


def drawn(*parts):
    """(5, 12, 16) bool: parts are a slice and the first and last row and column of a square; each turns its voxels over."""
    mask = np.zeros((5, 12, 16), bool)
    for z, low, high in parts:
        mask[z, low : high + 1, low : high + 1] ^= True
    return mask


def test_contours_become_voxels(ct, tmp_path):
    """Squares with a hole and an island in it, on two slices; a second ROI overlaps the first: each by its name."""
    structures = {
        "GTV-1": [square(2, 1, 10), square(2, 3, 8), square(2, 5, 6), square(4, 2, 2)],
        "Lung, left": [square(4, 0, 5)],
    }
    found = read_masks(write_structures(tmp_path / "rs.dcm", structures), series_of(ct))
    assert list(found) == ["GTV-1", "Lung, left"]
    assert found["GTV-1"].tolist() == drawn((1, 1, 10), (1, 3, 8), (1, 5, 6), (2, 2, 2)).tolist()
    assert found["GTV-1"].sum() == 100 - 36 + 4 + 1
    assert found["Lung, left"].tolist() == drawn((2, 0, 5)).tolist()


def test_two_contours_side_by_side_are_both_in(ct, tmp_path):
    """Neither is a hole in the other."""
    found = read_masks(write_structures(tmp_path / "rs.dcm", {"nodes": [square(2, 1, 3), square(2, 5, 8)]}), series_of(ct))
    assert found["nodes"].tolist() == drawn((1, 1, 3), (1, 5, 8)).tolist()


def test_a_keyhole_is_a_hole(ct, tmp_path):
    """One contour that runs into the square, around the hole and back out, as planning systems write it."""
    outer, inner = square(2, 1, 10), square(2, 4, 6)[::-1]
    points = np.concatenate([outer, outer[:1], inner[-1:], inner, outer[:1]])
    (mask,) = read_masks(write_structures(tmp_path / "rs.dcm", {"wall": [points]}), series_of(ct)).values()
    assert mask.tolist() == drawn((1, 1, 10), (1, 4, 6)).tolist()


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_contours_of_any_orientation(geometry, tmp_path, write_series):
    """Rows, columns and slices in any direction: the voxels around which the contour was drawn."""
    orientation, step = GEOMETRIES[geometry]
    right, down = np.multiply(orientation[:3], 0.9), np.multiply(orientation[3:], 0.7)
    write_series(tmp_path / "ct", np.zeros((4, 12, 16)), PixelSpacing=[0.7, 0.9], SliceThickness=2.0)
    for z in range(4):
        header = pydicom.dcmread(path := tmp_path / f"ct/1-{z}.dcm")
        header.ImageOrientationPatient = [round(float(x), 10) for x in orientation]
        header.ImagePositionPatient = [round(float(x), 8) for x in np.array([-50, -40, 30]) + z * np.asarray(step)]
        header.save_as(path)
    corners = [(1.5, 2.5), (1.5, 9.5), (6.5, 9.5), (6.5, 2.5)]  # rows and columns: 2 .. 6 and 3 .. 9
    contour = np.array([[-50, -40, 30] + 1 * np.asarray(step) + r * down + c * right for r, c in corners])
    series = series_of(tmp_path / "ct")
    (mask,) = read_masks(write_structures(tmp_path / "rs.dcm", {"a": [contour]}), series).values()
    expected = np.zeros((4, 12, 16), bool)
    expected[[i.path.name for i in series.instances].index("1-1.dcm"), 2:7, 3:10] = True
    assert mask.tolist() == expected.tolist()


def test_a_vertex_beside_a_centre_by_rounding_is_on_it(ct, tmp_path):
    """Through centres, a millionth of a pixel off in this direction or that: the same voxels."""
    masks = []
    for off in (-2e-7, 0, 2e-7):
        contour = square(2, 2.5 + off, 7.5 - off)
        masks.append(read_masks(write_structures(tmp_path / "rs.dcm", {"a": [contour]}), series_of(ct))["a"].tolist())
    assert masks[0] == masks[1] == masks[2]


def test_a_contour_beyond_the_image_is_cut(ct, tmp_path):
    """What is in the image is in the ROI."""
    (mask,) = read_masks(write_structures(tmp_path / "rs.dcm", {"body": [square(2, -5, 3)]}), series_of(ct)).values()
    assert mask.tolist() == drawn((1, 0, 3)).tolist()


def test_names_and_what_encloses_nothing(ct, tmp_path):
    """ROIs of one name have their number; one without contours, of points, or of an open line is empty, not forgotten."""
    rois = [("node", [square(2, 1, 3)]), ("node", [square(4, 1, 4)]), ("cyst", [])]
    structures = structure_set(rois)
    for number, kind in ((20, "POINT"), (21, "OPEN_PLANAR")):
        extra = structure_set([(kind, [square(2, 1, 3)])], kind)
        extra.StructureSetROISequence[0].ROINumber = extra.ROIContourSequence[0].ReferencedROINumber = number
        structures.StructureSetROISequence.append(extra.StructureSetROISequence[0])
        structures.ROIContourSequence.append(extra.ROIContourSequence[0])
    del structures.ROIContourSequence[2].ContourSequence
    structures.save_as(tmp_path / "rs.dcm", enforce_file_format=True)
    found = read_masks(tmp_path / "rs.dcm", series_of(ct))
    assert {roi: int(mask.sum()) for roi, mask in found.items()} == {
        "node (7)": 9,
        "node (8)": 16,
        "cyst": 0,
        "POINT": 0,
        "OPEN_PLANAR": 0,
    }


@pytest.mark.parametrize(("shift", "fits"), [(0.099, True), (-0.099, True), (0.101, False), (-0.101, False)])
@pytest.mark.parametrize("points", [slice(None), slice(1)])
def test_tolerance_of_the_plane(points, shift, fits, ct, tmp_path):
    """A contour, or one point of it, 0.099 mm from the plane of a slice is in it, one 0.101 mm away in none."""
    contour = square(2, 1, 3)
    contour[points, 2] += shift
    path = write_structures(tmp_path / "rs.dcm", {"a": [contour]})
    if fits:
        assert read_masks(path, series_of(ct))["a"].tolist() == drawn((1, 1, 3)).tolist()
    else:
        with pytest.raises(NotComparable, match=r"a contour of 'a' 0\.101 mm from the plane of the nearest slice of series"):
            read_masks(path, series_of(ct))


def test_contours_on_missing_slices_are_counted(ct, tmp_path):
    """The series lacks its second slice: what is drawn there is counted; with no slice of a contour at all it is refused."""
    path = write_structures(tmp_path / "rs.dcm", {"a": [square(2, 1, 3), square(2, 2, 2), square(4, 1, 4)]})
    (files,) = find_series(ct).series
    files = SeriesFiles(files.instances[:1] + files.instances[2:])
    roi = read_rois(path, files)["a"]
    assert roi.mask.tolist() == drawn((2, 1, 4))[[0, 2, 3, 4]].tolist()
    assert roi.elsewhere == {2: 8}
    beyond = write_structures(tmp_path / "other.dcm", {"a": [square(12, 1, 3)]})
    with pytest.raises(NotComparable, match="not on the grid of series"):
        read_rois(beyond, files)


def test_contours_of_thicker_slices_are_refused(ct, tmp_path):
    """On every other slice only, the ROI would lack every other slice of its middle."""
    path = write_structures(tmp_path / "rs.dcm", {"a": [square(z, 1, 3) for z in (0, 4, 8)]})
    with pytest.raises(NotComparable, match=r"planes 4 mm apart.*expected 2 mm as the slices"):
        read_masks(path, series_of(ct))


def test_single_slices_here_and_there_are_taken_as_drawn(ct, tmp_path):
    """Three nodules, each on one slice, at distances that differ."""
    path = write_structures(tmp_path / "rs.dcm", {"nodules": [square(0, 1, 3), square(4, 1, 3), square(10, 1, 3)]})
    assert read_rois(path, find_series(ct).series[0])["nodules"].elsewhere == {10: 9}
    path = write_structures(tmp_path / "rs.dcm", {"nodule": [square(4, 1, 3)]})
    assert read_masks(path, series_of(ct))["nodule"].tolist() == drawn((2, 1, 3)).tolist()


def test_structure_sets_of_a_folder(ct, tmp_path):
    """Those of the study are read, beside its CT; one of another study is not."""
    write_structures(ct / "rs.dcm", {"GTV": [square(2, 1, 3)]})
    write_structures(ct / "foreign.dcm", {"foreign": [square(2, 1, 3)]}, study="1.2.9")
    assert list(read_masks(ct, series_of(ct))) == ["GTV"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"study": "1.2.9"}, "has StudyInstanceUID 1.2.9, expected 1.2.826"),
        ({"frame": "1.2.8"}, r"has FrameOfReferenceUID 1\.2\.8, expected 1\.2\.3\.4: give a mask drawn on this scan"),
    ],
)
def test_contours_of_another_scan_are_refused(options, message, ct, tmp_path):
    """As those of a SEG are."""
    with pytest.raises(NotComparable, match=message):
        read_masks(write_structures(tmp_path / "rs.dcm", {"a": [square(2, 1, 3)]}, **options), series_of(ct))


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        (["1", "2", "3", "4"], "cannot be read as RTSTRUCT: cannot reshape"),
        (["1", "2", "nan"] * 3, "cannot be read as RTSTRUCT"),
        (["1e400", "2", "2"] * 3, "cannot be read as RTSTRUCT"),
    ],
)
def test_damaged_contours_are_refused(numbers, message, ct, tmp_path):
    """Half a point, or a point at infinity."""
    structures = structure_set([("a", [square(2, 1, 3)])])
    contour = structures.ROIContourSequence[0].ContourSequence[0]
    contour[0x30060050] = pydicom.DataElement(0x30060050, "DS", ["0"])
    contour[0x30060050]._value = numbers
    with pydicom.config.disable_value_validation():
        structures.save_as(tmp_path / "rs.dcm", enforce_file_format=True)
    with pytest.raises(NotComparable, match=message):
        read_masks(tmp_path / "rs.dcm", series_of(ct))


def test_a_structure_set_that_draws_nothing_is_refused(ct, tmp_path):
    """As an empty SEG is; so is one without ROIs at all."""
    for rois in ({}, {"a": []}):
        with pytest.raises(NotComparable, match="marks no voxel: draw at least one ROI"):
            read_masks(write_structures(tmp_path / "rs.dcm", rois), series_of(ct))


def test_regions_of_a_structure_set(ct, tmp_path, write_series):
    """`--masks` measures them, without any extra; a slice that the target lacks is counted."""
    write_series(tmp_path / "target", np.full((5, 12, 16), 30), series=2, SliceThickness=2.0)
    (tmp_path / "target/2-2.dcm").unlink()
    path = write_structures(tmp_path / "rs.dcm", {"GTV": [square(2, 1, 3), square(4, 1, 4)]})
    rows = measure_regions({"source": ct, "target": tmp_path / "target"}, RoiSettings((path,)))
    assert (rows.rois, rows.drawn.tolist(), rows.voxels.tolist()) == (("GTV",), [25], [9])
    assert rows.lost == {"GTV": (Loss(4.0, 16, "target has no slice"),)}


def inside(points, rows, columns):
    """Whether pixel centres are in a polygon of (row, column) vertices: crossings of a ray to the right, counted by hand."""
    odd = np.zeros((len(rows), len(columns)), bool)
    for (r0, c0), (r1, c1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        crossed = np.flatnonzero((r0 > rows) != (r1 > rows))
        at = c0 + (rows[crossed] - r0) * (c1 - c0) / (r1 - r0)
        odd[crossed] ^= columns < at[:, None]
    return odd


PATIENTS = [*(f"SOFT/STS_00{n}" for n in (1, 4, 6, 7)), *(f"STANDARD/STS_00{n}" for n in (2, 3, 5))]
LONGEST = "STANDARD/STS_009"
"""Of 150,000 points, which takes as long as the seven others together."""


@pytest.mark.parametrize("patient", [*PATIENTS, pytest.param(LONGEST, marks=pytest.mark.slow)])
def test_tumours_of_real_patients(patient, real_ct):
    """GTV_Mass_CT of a soft-tissue sarcoma: each slice is that of an independent rule, and the area that of the polygons."""
    folder = real_ct / "unpaired_ge_limb" / patient
    (files,) = find_series(folder).series
    rois = read_rois(folder / "mask", files)
    assert list(rois) == ["GTV_Mass_CT"]
    roi = rois["GTV_Mass_CT"]
    assert not roi.elsewhere
    structures = pydicom.dcmread(Path(folder / "mask/RS.dcm"))
    contours = [np.array(c.ContourData, float).reshape(-1, 3) for c in structures.ROIContourSequence[0].ContourSequence]
    expected = np.zeros(roi.mask.shape, bool)
    spacing = files.pixel_spacing[0]
    for points in contours:
        z = int(np.argmin([abs(i.position[2] - points[0, 2]) for i in files.instances]))
        pixels = (points[:, :2] - files.instances[z].position[:2])[:, ::-1] / spacing
        expected[z] ^= inside(pixels, *map(np.arange, expected[z].shape))
    assert np.array_equal(roi.mask, expected)
    areas = [abs(np.sum(p[:, 0] * np.roll(p[:, 1], -1) - p[:, 1] * np.roll(p[:, 0], -1))) / 2 for p in contours]
    assert roi.mask.sum() * spacing**2 == pytest.approx(sum(areas), rel=0.01)
