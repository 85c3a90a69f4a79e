"""A mask comes back on the voxels on which it was drawn, whatever the file's order of frames and axes, or is refused."""

import sys

import numpy as np
import pydicom
import pytest

from stan_ct.dicom.find import find_series
from stan_ct.dicom.series import Series, SeriesFiles, load_series
from stan_ct.errors import NotComparable
from stan_ct.evaluation.measure.mask_grid import step_of
from stan_ct.evaluation.measure.mask_nifti import LABEL_TOLERANCE
from stan_ct.evaluation.measure.masks import read_masks, read_rois

SHAPE, SPACING = (4, 5, 7), (0.7, 0.9)  # slices, rows, columns; mm between rows and between columns
NEEDED = {"StudyID": "", "StudyDate": "", "StudyTime": "", "AccessionNumber": "", "ReferringPhysicianName": ""}
NEEDED |= {"PatientName": "", "PatientBirthDate": "", "PatientSex": "", "SliceThickness": 2, "FrameOfReferenceUID": "1.2.3.4"}
COS, SIN = np.cos(np.deg2rad(20)), np.sin(np.deg2rad(20))
OBLIQUE = [COS, SIN, 0, -SIN * 0.6, COS * 0.6, 0.8]
GEOMETRIES = {  # orientation of rows and columns, from a slice to the next in mm
    "axial": ([1, 0, 0, 0, 1, 0], [0, 0, 2]),
    "files from head to feet": ([1, 0, 0, 0, 1, 0], [0, 0, -2]),
    "rows to the right": ([-1, 0, 0, 0, -1, 0], [0, 0, 2]),
    "sagittal": ([0, 1, 0, 0, 0, -1], [-2, 0, 0]),
    "oblique": (OBLIQUE, 2 * np.cross(OBLIQUE[:3], OBLIQUE[3:])),
    "tilted gantry": ([1, 0, 0, 0, COS, SIN], [0, 0, 2]),
}
AXIAL = GEOMETRIES["axial"]


def drawn():
    """Two ROIs that overlap and look different from every side, (4, 5, 7) each in the order of the files."""
    first, second = np.zeros((2, *SHAPE), bool)
    first[1, 1:4, 2], first[1, 1, 3:6], first[2, 1, 2] = True, True, True
    second[1, 1, 5], second[2:, 0, 0], second[0, 4, 6] = True, True, True
    return np.stack([first, second])


@pytest.fixture
def make_ct(tmp_path, write_series):
    """`make_ct(orientation, step)`: a series of noise -> the files' headers in the order of the files, and the series."""

    def make(orientation, step, name="ct", series=1, spacing=SPACING, first=(-50.0, -40.0, 30.0), shape=SHAPE, **attributes):
        volume = np.random.default_rng(7).integers(-1000, 1000, shape)
        write_series(tmp_path / name, volume, series, PixelSpacing=list(spacing), **NEEDED | attributes)
        headers = []
        for z in range(len(volume)):
            header = pydicom.dcmread(path := tmp_path / name / f"{series}-{z}.dcm")
            header.ImageOrientationPatient = [round(float(x), 10) for x in orientation]
            header.ImagePositionPatient = [round(float(x), 8) for x in np.add(first, z * np.asarray(step))]
            header.save_as(path)
            headers.append(header)
        (files,) = find_series(tmp_path / name).series
        return headers, load_series(files)

    return make


def write_seg(path, headers, masks, kind="BINARY", labels=("core", "rim"), **options):
    """A SEG of masks (N, Z, H, W), in the order of `headers`."""
    highdicom = pytest.importorskip("highdicom", reason="needs stan-ct[masks]")
    tissue = highdicom.sr.CodedConcept("85756007", "SCT", "Tissue")
    described = [
        highdicom.seg.SegmentDescription(n, label, tissue, tissue, highdicom.seg.SegmentAlgorithmTypeValues.MANUAL)
        for n, label in enumerate(labels, 1)
    ]
    pixels = np.moveaxis(np.asarray(masks), 0, -1)
    uids = {"series_instance_uid": "1.2.3.5", "sop_instance_uid": "1.2.3.6", "series_number": 9, "instance_number": 1}
    maker = {"manufacturer": "a", "manufacturer_model_name": "b", "software_versions": "1", "device_serial_number": "2"}
    pixels = pixels if pixels.dtype.kind == "f" else pixels.astype(np.uint8)
    highdicom.seg.Segmentation(headers, pixels, kind, described, **uids, **maker, **options).save_as(path)
    return path


def write_nifti(path, labels, orientation, step, first=(-50.0, -40.0, 30.0), spacing=SPACING, canonical=False, code=1):
    """A NIfTI of labels (Z, H, W): voxels (column, row, slice) with their affine in RAS, worked out here from DICOM's words."""
    nibabel = pytest.importorskip("nibabel", reason="needs stan-ct[masks]")
    right, down = np.multiply(orientation[:3], spacing[1]), np.multiply(orientation[3:], spacing[0])
    affine = np.eye(4)
    affine[:3] = np.stack([right, down, step, first], axis=1) * [[-1], [-1], [1]]  # mm RAS
    image = nibabel.Nifti1Image(np.asarray(labels).T, affine)
    image.set_sform(affine, code)
    image.set_qform(None, 0)
    nibabel.save(nibabel.as_closest_canonical(image) if canonical else image, path)
    return path


def in_order_of(series, masks):
    """Masks in the order of the files -> in the order of the slices; the SOP Instance UID ends in the file's number."""
    return masks[[int(instance.uid.split(".")[-1]) - 1 for instance in series.instances]]


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL"])
def test_a_seg_comes_back_voxel_for_voxel(geometry, kind, make_ct, tmp_path):
    """Overlapping segments, frames in any order, slices in any direction: every voxel where it was drawn."""
    headers, series = make_ct(*GEOMETRIES[geometry])
    shuffled = [2, 0, 3, 1]
    path = write_seg(tmp_path / "seg.dcm", [headers[z] for z in shuffled], drawn()[:, shuffled], kind)
    found = read_masks(path, series)
    assert list(found) == ["core", "rim"]
    for mask, expected in zip(found.values(), drawn(), strict=True):
        assert mask.dtype == bool
        assert mask.tolist() == in_order_of(series, expected).tolist()
    assert [int(mask.sum()) for mask in found.values()] == [7, 4]


def test_a_label_map_comes_back_voxel_for_voxel(make_ct, tmp_path):
    """A SEG of type LABELMAP, whose pixels are segment numbers, holds the same as one of bits."""
    headers, series = make_ct(*GEOMETRIES["files from head to feet"])
    masks = drawn()
    masks[1] &= ~masks[0]
    path = write_seg(tmp_path / "seg.dcm", headers, masks, "LABELMAP")
    found = read_masks(path, series)
    assert {roi: mask.tolist() for roi, mask in found.items()} == {
        "core": masks[0, ::-1].tolist(),
        "rim": masks[1, ::-1].tolist(),
    }


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("canonical", [False, True])
@pytest.mark.parametrize("name", ["lesion.nii", "lesion.nii.gz"])
def test_a_nifti_comes_back_voxel_for_voxel(geometry, canonical, name, make_ct, tmp_path):
    """Labels 2 and 5, axes as DICOM has them or turned to RAS: every voxel where it was drawn."""
    _, series = make_ct(*GEOMETRIES[geometry])
    first, second = drawn()
    labels = np.where(first, 2, np.where(second, 5, 0)).astype(np.uint8)
    found = read_masks(write_nifti(tmp_path / name, labels, *GEOMETRIES[geometry], canonical=canonical), series)
    assert list(found) == ["lesion 2", "lesion 5"]
    assert found["lesion 2"].tolist() == in_order_of(series, first).tolist()
    assert found["lesion 5"].tolist() == in_order_of(series, second & ~first).tolist()


@pytest.mark.parametrize("label", [1, 2, 7])
@pytest.mark.parametrize(("error", "read"), [(9e-4, True), (-9e-4, True), (1.1e-3, False), (-1.1e-3, False)])
def test_labels_as_rounded_floats(label, error, read, make_ct, tmp_path):
    """A label within 0.001 of a whole number is that number, in float32 and float64; a value farther off is none."""
    _, series = make_ct(*AXIAL)
    mask = drawn()[0]
    for dtype in (np.float32, np.float64):
        path = write_nifti(tmp_path / "organ.nii", (mask * (label + error)).astype(dtype), *AXIAL)
        if read:
            assert {roi: found.tolist() for roi, found in read_masks(path, series).items()} == {f"organ {label}": mask.tolist()}
        else:
            with pytest.raises(NotComparable, match="holds fractions or numbers below 0, expected labels: choose a threshold"):
                read_masks(path, series)


@pytest.mark.parametrize(("largest", "read"), [(7, True), (25, True), (26, False), (1.0, False)])
def test_labels_in_steps_of_a_scale(largest, read, make_ct, tmp_path):
    """Floats that nibabel stores in 255 steps: labels that this has rounded are read where a step is 0.1 at most.

    Probabilities, whose steps are as small, are no labels.
    """
    nibabel = pytest.importorskip("nibabel", reason="needs stan-ct[masks]")
    _, series = make_ct(*AXIAL)
    first, second = drawn()
    values = np.where(first, 4.0 if largest > 1 else 0.7, np.where(second, float(largest), 0.0))
    image = nibabel.load(write_nifti(tmp_path / "exact.nii", values, *AXIAL))
    image.set_data_dtype(np.uint8)
    nibabel.save(image, tmp_path / "organ.nii.gz")
    read_back = nibabel.load(tmp_path / "organ.nii.gz")
    assert read_back.dataobj.slope == pytest.approx(largest / 255)
    assert np.abs(np.asarray(read_back.dataobj) - values.T).max() > 1.5 * LABEL_TOLERANCE
    if read:
        found = read_masks(tmp_path / "organ.nii.gz", series)
        assert list(found) == ["organ 4", f"organ {largest}"]
        assert found["organ 4"].tolist() == first.tolist()
    else:
        with pytest.raises(NotComparable, match="holds fractions"):
            read_masks(tmp_path / "organ.nii.gz", series)


def test_a_background_just_below_zero_is_background(make_ct, tmp_path):
    """Zeros that a scale and intercept made -0.0004 and 0.0004 are no label of their own."""
    _, series = make_ct(*AXIAL)
    values = np.where(drawn()[0], 3.0, np.random.default_rng(1).choice([-4e-4, 4e-4], SHAPE))
    found = read_masks(write_nifti(tmp_path / "organ.nii", values, *AXIAL), series)
    assert {roi: mask.tolist() for roi, mask in found.items()} == {"organ 3": drawn()[0].tolist()}


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, -1.0])
def test_values_that_are_no_labels(odd, make_ct, tmp_path):
    """Not a number, infinity, or below 0: refused."""
    _, series = make_ct(*AXIAL)
    values = drawn()[0].astype(np.float64)
    values[0, 0, 0] = odd
    with pytest.raises(NotComparable, match="holds fractions or numbers below 0"):
        read_masks(write_nifti(tmp_path / "odd.nii", values, *AXIAL), series)


def test_colours_are_no_labels(make_ct, tmp_path):
    """A NIfTI of red, green and blue is refused as one of fractions is."""
    _, series = make_ct(*AXIAL)
    colours = np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    with pytest.raises(NotComparable, match="expected labels"):
        read_masks(write_nifti(tmp_path / "rgb.nii", colours, *AXIAL), series)


def test_a_voxel_in_millimetres(make_ct, tmp_path):
    """Voxel (3, 1, 2) of a NIfTI file that begins in the hindmost corner: by hand, slice 2, row 3, column 3.

    The CT's columns lie at x = -50, -49.1 ... -44.6 mm to the left, its rows at y = -40 ... -37.2 mm to the back. A file that
    counts its voxels to the right from the last column and to the front from the last row has voxel (3, 1, 2) 3 columns before
    the last one, 1 row before the last one, and in slice 2.
    """
    nibabel = pytest.importorskip("nibabel", reason="needs stan-ct[masks]")
    _, series = make_ct(*AXIAL)
    affine = np.array([[0.9, 0, 0, 44.6], [0, 0.7, 0, 37.2], [0, 0, 2, 30], [0, 0, 0, 1]])  # mm right, anterior, head
    labels = np.zeros((7, 5, 4), np.uint8)
    labels[3, 1, 2] = 1
    nibabel.save(nibabel.Nifti1Image(labels, affine), tmp_path / "a.nii")
    assert np.argwhere(read_masks(tmp_path / "a.nii", series)["a 1"]).tolist() == [[2, 3, 3]]


def test_rois_of_a_directory(make_ct, tmp_path):
    """All masks of a directory, but neither its CT nor the SEG of another study."""
    headers, series = make_ct(*AXIAL)
    others, _ = make_ct(*AXIAL, name="other", study="1.2.9")
    folder = tmp_path / "masks" / "deep"
    folder.mkdir(parents=True)
    write_seg(folder / "seg", headers, drawn())
    write_seg(folder / "another", others, drawn(), labels=("foreign", "strange"))
    headers[0].save_as(folder / "ct.dcm")
    write_nifti(folder / "lung.nii.gz", drawn()[1].astype(np.uint8), *AXIAL)
    (folder / "notes.txt").write_text("drawn on Monday")
    found = read_masks(tmp_path / "masks", series)
    assert sorted(found) == ["core", "lung 1", "rim"]
    assert (found["lung 1"] == found["rim"]).all()
    write_nifti(folder / "rim 1.nii", drawn()[1].astype(np.uint8), *AXIAL)
    write_seg(folder / "seg2", headers, drawn(), labels=("new", "rim"))
    with pytest.raises(NotComparable, match=r"seg2 holds the ROI 'rim', and so does another file: rename one"):
        read_masks(tmp_path / "masks", series)


def test_segments_without_pixels_and_of_one_name(make_ct, tmp_path):
    """A segment that is described but not drawn is all False; segments of one label have their number."""
    headers, series = make_ct(*AXIAL)
    masks = [*drawn(), np.zeros(SHAPE, bool)]
    found = read_masks(write_seg(tmp_path / "seg", headers, masks, labels=("node", "node", "cyst")), series)
    assert {roi: int(mask.sum()) for roi, mask in found.items()} == {"node (1)": 7, "node (2)": 4, "cyst": 0}


def test_frames_of_one_segment_in_one_place_add_up(make_ct, tmp_path):
    """A segment may have several frames on a slice: the ROI is all of them."""
    headers, series = make_ct(*AXIAL)
    seg = pydicom.dcmread(path := write_seg(tmp_path / "seg", headers, drawn()))
    for frame in seg.PerFrameFunctionalGroupsSequence:
        frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber = 1
    seg.save_as(path)
    found = read_masks(path, series)
    assert found["core"].tolist() == drawn().any(axis=0).tolist()
    assert not found["rim"].any()


def test_a_roi_on_slices_apart(make_ct, tmp_path):
    """Slices 0 and 2 alone are marked, and the SEG says that its planes are 2 mm apart as the slices are: that is as drawn."""
    headers, series = make_ct(*AXIAL)
    masks = drawn()[:1]
    masks[0, 0], masks[0, 1] = masks[0, 1], False
    path = write_seg(tmp_path / "seg", headers, masks, labels=("core",))
    assert read_masks(path, series)["core"].tolist() == masks[0].tolist()
    seg = pydicom.dcmread(path)
    del seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices
    seg.save_as(path)
    with pytest.raises(NotComparable, match=r"planes nan mm apart \(nan: it does not say\), expected 2 mm"):
        read_masks(path, series)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"spacing": (0.7, 0.95)}, r"5 x 7 pixels with corners \(-50, -40, 30\) \(-44.6, .* Came: .* \(-44.3, -40, "),
        ({"spacing": (0.9, 0.7)}, "Came"),
        (
            {"first": (-50.0, -39.5, 30.0)},
            r"Came: .*\(-50, -39.5, 3\d\).*, in the place of 0\. Masks are not resampled: draw it",
        ),
        ({"first": (-50.0, -40.0, 31.0)}, "in the place of 0"),
        ({"first": (-50.0, -40.0, 22.0)}, "in the place of 0"),
        ({"orientation": [0, 1, 0, 1, 0, 0], "step": [0, 0, 2]}, "not on the grid of series"),
        ({"orientation": [1, 0, 0, 0, COS, SIN]}, "not on the grid"),
        ({"shape": (4, 5, 8)}, "Came: 5 x 8 pixels"),
        ({"step": [0, 0, 4]}, "in the place of 0|planes 4 mm apart"),
    ],
)
@pytest.mark.parametrize("form", ["SEG", "NIfTI"])
def test_a_mask_on_another_grid_is_refused(form, other, message, make_ct, tmp_path):
    """Other spacing, position, orientation, matrix or distance of slices: refused with both grids, never resampled."""
    _, series = make_ct(*AXIAL)
    other = {"orientation": AXIAL[0], "step": AXIAL[1], **other}
    masks = np.pad(drawn(), [(0, 0)] * 3 + [(0, other.get("shape", SHAPE)[2] - 7)])
    if form == "SEG":
        headers, _ = make_ct(name="other", series=2, **other)
        path = write_seg(tmp_path / "mask", headers, masks)
    else:
        other.pop("shape", None)
        path = write_nifti(tmp_path / "mask.nii", masks[0].astype(np.uint8), **other)
    with pytest.raises(NotComparable, match=message):
        read_masks(path, series)


@pytest.mark.parametrize("marked", [1, 2])
@pytest.mark.parametrize("form", ["SEG", "NIfTI"])
def test_a_mask_of_thicker_slices_is_refused(form, marked, make_ct, tmp_path):
    """Planes 4 mm apart all lie on slices 2 mm apart; the ROI would lack every other slice, and its end."""
    _, series = make_ct(*AXIAL)
    thick = np.zeros((2, *SHAPE[1:]), bool)
    thick[:marked, 1:4, 2:5] = True
    if form == "SEG":
        headers, _ = make_ct(AXIAL[0], [0, 0, 4], "thick", 2, shape=thick.shape)
        path = write_seg(tmp_path / "seg", headers, thick[None], labels=("core",))
    else:
        path = write_nifti(tmp_path / "mask.nii", thick.astype(np.uint8), AXIAL[0], [0, 0, 4])
    with pytest.raises(NotComparable, match=r"planes 4 mm apart .*, expected 2 mm as the slices of series"):
        read_masks(path, series)


def test_frames_of_reference_that_differ_by_slice_say_nothing(make_ct, tmp_path):
    """Anonymized LIDC-IDRI has a Frame of Reference UID for each slice: the place decides, and fits."""
    headers, _ = make_ct(*AXIAL)
    path = write_seg(tmp_path / "seg", headers, drawn())
    for number in range(4):
        header = pydicom.dcmread(file := tmp_path / "ct" / f"1-{number}.dcm")
        header.FrameOfReferenceUID = f"1.2.8.{number + 1}"
        header.save_as(file)
    (files,) = find_series(tmp_path / "ct").series
    assert read_masks(path, load_series(files))["core"].tolist() == drawn()[0].tolist()


def test_small_differences_are_rounding(make_ct, tmp_path):
    """0.05 mm in the plane and along the normal, as rounded headers have it, is the same place."""
    _, series = make_ct(*AXIAL)
    labels = drawn()[0].astype(np.uint8)
    path = write_nifti(tmp_path / "mask.nii", labels, *AXIAL, first=(-50.05, -39.95, 30.05), spacing=(0.7001, 0.8999))
    assert read_masks(path, series)["mask 1"].tolist() == drawn()[0].tolist()


@pytest.mark.parametrize(("shift", "fits"), [(0.099, True), (0.101, False)])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("form", ["SEG", "NIfTI"])
def test_tolerance_of_the_place_of_a_mask(form, axis, shift, fits, make_ct, tmp_path):
    """A mask 0.099 mm beside the series, in any direction, is taken as drawn on it; one 0.101 mm beside it is refused."""
    _, series = make_ct(*AXIAL)
    first = np.array([-50.0, -40.0, 30.0]) + np.eye(3)[axis] * shift
    if form == "SEG":
        headers, _ = make_ct(*AXIAL, name="other", series=2, first=first)
        path = write_seg(tmp_path / "mask", headers, drawn()[:1], labels=("core",))
    else:
        path = write_nifti(tmp_path / "mask.nii", drawn()[0].astype(np.uint8), *AXIAL, first=first)
    if fits:
        (mask,) = read_masks(path, series).values()
        assert mask.tolist() == drawn()[0].tolist()
    else:
        with pytest.raises(NotComparable, match="in the place of 0"):
            read_masks(path, series)


@pytest.mark.parametrize(("step", "fits"), [(2.099, True), (2.101, False)])
def test_tolerance_of_the_step_of_a_mask(step, fits, make_ct, tmp_path):
    """Planes may follow each other 0.099 mm farther apart than the slices, 2 mm, not 0.101 mm, where one plane is marked."""
    _, series = make_ct(*AXIAL)
    labels = np.zeros(SHAPE, np.uint8)
    labels[0, 1, 2] = 1
    path = write_nifti(tmp_path / "mask.nii", labels, AXIAL[0], [0, 0, step])
    if fits:
        assert read_masks(path, series)["mask 1"].sum() == 1
    else:
        with pytest.raises(NotComparable, match=rf"planes {step:g} mm apart"):
            read_masks(path, series)


def write_mask(form, folder, headers, mask):
    """A SEG or NIfTI of one ROI on the axial series of `headers`."""
    if form == "SEG":
        return write_seg(folder / "mask", headers, mask[None], labels=("mask 1",))
    return write_nifti(folder / "mask.nii", mask.astype(np.uint8), *AXIAL)


def without(folder, *missing):
    """The series of a folder without some of its slices, as files."""
    (files,) = find_series(folder).series
    return SeriesFiles(tuple(i for z, i in enumerate(files.instances) if z not in missing))


def one_roi():
    """A ROI on all of six slices, more voxels on each than on the one before: (6, 5, 7)."""
    mask = np.zeros((6, 5, 7), bool)
    for z in range(6):
        mask[z, 2, : z + 1] = True
    return mask


@pytest.mark.parametrize("missing", [(1,), (0,), (5,), (2, 3), (0, 2, 5), (1, 3)])
@pytest.mark.parametrize("form", ["SEG", "NIfTI"])
def test_what_is_drawn_on_a_missing_slice_is_counted(form, missing, make_ct, tmp_path):
    """The series lacks slices of the mask, anywhere: the rest is as drawn, their voxels are counted."""
    headers, series = make_ct(*AXIAL, shape=(6, 5, 7))
    path, files = write_mask(form, tmp_path, headers, one_roi()), without(tmp_path / "ct", *missing)
    kept = [z for z in range(6) if z not in missing]
    (roi,) = read_rois(path, files).values()
    assert roi.mask.tolist() == one_roi()[kept].tolist()
    assert roi.elsewhere == {30 + 2.0 * z: z + 1 for z in missing}
    assert roi.drawn == 21
    with pytest.raises(
        NotComparable, match=r"'mask 1' at .* mm along the normal, where series .* has no slice: give the whole"
    ):
        read_masks(path, Series(files, series.volume[kept], series.padding[kept]))


@pytest.mark.parametrize(("marked", "counted"), [((2,), True), ((1, 2), True), ((0, 1), True), ((0,), False)])
@pytest.mark.parametrize("form", ["SEG", "NIfTI"])
def test_a_mask_that_only_continues_a_series_is_refused(form, marked, counted, make_ct, tmp_path):
    """The series lacks slices 0 and 2: a ROI on slice 2, among its own, is counted; one on slice 0 alone may be of another."""
    headers, _ = make_ct(*AXIAL, shape=(6, 5, 7))
    mask = one_roi()
    mask[[z for z in range(6) if z not in marked]] = False
    path, files = write_mask(form, tmp_path, headers, mask), without(tmp_path / "ct", 0, 2)
    if counted:
        (roi,) = read_rois(path, files).values()
        assert roi.elsewhere == {30 + 2.0 * z: z + 1 for z in marked if z != 1}
    else:
        with pytest.raises(NotComparable, match=r"not on the grid of series .*Came: planes at 30 mm along the normal"):
            read_rois(path, files)


@pytest.mark.parametrize(("shift", "fits"), [(0.099, True), (0.101, False)])
def test_tolerance_of_a_missing_slice(shift, fits, make_ct, tmp_path):
    """A plane 0.099 mm from where the missing slice would be is on it, one 0.101 mm from it on another grid."""
    headers, _ = make_ct(*AXIAL, shape=(6, 5, 7))
    mask = one_roi()
    mask[[0, 1, 3, 4, 5]] = False
    headers[2].ImagePositionPatient = [-50, -40, 34 + shift]
    path = write_seg(tmp_path / "mask", headers, mask[None], labels=("core",))
    if fits:
        assert read_rois(path, without(tmp_path / "ct", 2))["core"].elsewhere == {34 + shift: 3}
    else:
        with pytest.raises(NotComparable, match="not on the grid"):
            read_rois(path, without(tmp_path / "ct", 2))


@pytest.mark.parametrize(
    ("locations", "step"),
    [
        ([5], np.nan),
        ([0, 2], 2),
        ([0, 4, 6], 2),
        ([0, 2, 3], 1),
        ([0, 2, 3.5], 1.75),
        ([0, 2, 6.099], 2),
        ([0, 2, 6.101, 8.101], 2),
        ([0, 2, 6.101, 10.202], 4.101),
    ],
)
def test_distance_of_slices(locations, step):
    """The smallest one, of which all are multiples within 0.1 mm; else the median."""
    assert step_of(np.array(locations, np.float64)) == pytest.approx(step, nan_ok=True)


def refused_files(headers, folder):
    """What is no mask of this series -> the message."""
    labels = drawn()[0].astype(np.uint8)
    foreign = pydicom.dcmread(write_seg(folder / "study", headers, drawn()))
    foreign.StudyInstanceUID = "1.2.9"
    foreign.save_as(folder / "study")
    foreign.StudyInstanceUID, foreign.FrameOfReferenceUID = headers[0].StudyInstanceUID, "1.2.8"
    foreign.save_as(folder / "frame")
    headers[0].save_as(folder / "ct")
    (folder / "text").write_text("no mask")
    (folder / "text.nii").write_text("no mask")
    (folder / "folder").mkdir()
    moved = pydicom.dcmread(write_seg(folder / "nowhere", headers, drawn()))
    for frame in moved.PerFrameFunctionalGroupsSequence:
        del frame.PlanePositionSequence
    return {
        folder
        / "study": "study has StudyInstanceUID 1.2.9, expected 1.2.826.0.1.3680043.8.498.1: give a mask drawn on this scan",
        folder / "frame": "frame has FrameOfReferenceUID 1.2.8, expected 1.2.3.4",
        folder / "ct": "neither .nii or .nii.gz nor a DICOM SEG",
        folder / "text": "neither .nii or .nii.gz nor a DICOM SEG",
        folder / "text.nii": "cannot be read as NIfTI",
        folder / "folder": "holds neither .nii or .nii.gz files nor a DICOM SEG or RTSTRUCT of study 1.2.826",
        write_seg(folder / "part", headers, drawn() * 0.5, "FRACTIONAL"): "fractions, expected 0 or 255: choose a threshold",
        write_seg(folder / "empty", headers, 0 * drawn(), omit_empty_frames=False): "empty marks no voxel",
        write_nifti(folder / "empty.nii", 0 * labels, *AXIAL): "empty.nii marks no voxel: draw at least one ROI",
        write_nifti(folder / "part.nii", labels * np.float32(0.4), *AXIAL): "holds fractions or numbers below 0",
        write_nifti(folder / "below.nii", -labels.astype(np.int16), *AXIAL): "holds fractions or numbers below 0",
        write_nifti(folder / "code.nii", labels, *AXIAL, code=0): "does not say where its voxels lie",
        write_nifti(folder / "two.nii", np.stack([labels, labels]), *AXIAL): r"has shape \(7, 5, 4, 2\), expected one volume",
    }


def test_what_is_no_mask_of_the_series_is_refused(make_ct, tmp_path):
    """The message says what came and what to do."""
    headers, series = make_ct(*AXIAL)
    (tmp_path / "masks").mkdir()
    for path, message in refused_files(headers, tmp_path / "masks").items():
        with pytest.raises(NotComparable, match=message):
            read_masks(path, series)
    with pytest.raises(FileNotFoundError, match="gone does not exist"):
        read_masks(tmp_path / "gone", series)


@pytest.mark.parametrize(("name", "package"), [("a.dcm", "highdicom"), ("a.nii.gz", "nibabel")])
def test_a_missing_extra_is_named(name, package, make_ct, tmp_path, monkeypatch):
    """Without the package, the message says how to install it."""
    _, series = make_ct(*AXIAL)
    (tmp_path / name).write_bytes(b"")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(NotComparable, match=rf"reading masks needs {package}: pip install 'stan-ct\[masks\]'"):
        read_masks(tmp_path / name, series)
