"""From masks on disk to the tables of regions."""

import csv

import commands
import numpy as np
import pydicom
import pytest

from stan_ct.dicom.find import find_series
from stan_ct.dicom.series import load_series
from stan_ct.errors import NotComparable
from stan_ct.evaluation.measure.region_features import EMPTY, Loss, Measure
from stan_ct.evaluation.measure.regions import RoiSettings, measure_regions
from stan_ct.evaluation.measure.series import SeriesSettings
from stan_ct.evaluation.tables.regions import loss_sentence, roi_tables
from stan_ct.features.glcm_region import fixed_bin_size, roi_features

nibabel = pytest.importorskip("nibabel", reason="nibabel is not installed: pip install 'stan-ct[masks]'")


@pytest.fixture
def scan(tmp_path, write_series):
    """Source and target of 4 slices of 20 x 24 pixels, and a NIfTI of two regions: the settings, and the masks' folder."""
    rng = np.random.default_rng(1)
    source, target = (rng.normal(0, scale, (4, 20, 24)).round().clip(-900, 800) for scale in (30, 90))
    write_series(tmp_path / "source", source, series=1, SliceThickness=2.0)
    write_series(tmp_path / "target", target, series=2, SliceThickness=2.0)
    labels = np.zeros((24, 20, 4), np.uint8)  # x, y, z
    labels[2:9, 3:12, 1:3], labels[12:20, 5:15, 0:4] = 1, 2
    affine = np.diag([-0.7, -0.7, 2.0, 1.0])  # LPS -> RAS
    affine[:3, 3] = [50.0, 50.0, 0.0]
    (tmp_path / "masks").mkdir()
    nibabel.save(nibabel.Nifti1Image(labels, affine), tmp_path / "masks/lesions.nii.gz")
    return SeriesSettings(tmp_path / "source", {"copy": tmp_path / "target"}, tmp_path / "target"), tmp_path / "masks"


def test_regions_are_those_of_the_mask(scan):
    """Every feature of a region is that of its voxels, by the same definitions; a copy of the target has the target's."""
    compared, masks = scan
    rows = measure_regions(compared.directories, RoiSettings((masks,)))
    assert [name.split()[-1] for name in rows.rois] == ["1", "2"]
    volume = load_series(find_series(compared.target_dir).series[0]).volume
    mask = np.zeros(volume.shape, bool)
    mask[1:3, 3:12, 2:9] = True
    expected = roi_features(fixed_bin_size(volume, mask, 25.0, -1000.0), mask, "2.5D merged").values
    texture = {m.feature: i for i, m in enumerate(rows.measures) if "2.5D" in m.group}
    target, copy = rows.images.index("target"), rows.images.index("copy")
    assert rows.values[0, target, texture["contrast"]] == pytest.approx(expected["contrast"], rel=1e-12)
    np.testing.assert_array_equal(rows.values[:, copy], rows.values[:, target])


def test_regions_belong_to_their_patients(tmp_path, write_series):
    """Two series of one patient and one of another: the regions go by the Patient ID."""
    rng = np.random.default_rng(1)
    (tmp_path / "masks").mkdir()
    labels = np.zeros((24, 20, 2), np.uint8)  # x, y, z
    labels[2:9, 3:12] = 1
    affine = np.diag([-0.7, -0.7, 2.0, 1.0])  # LPS -> RAS
    affine[:3, 3] = [50.0, 50.0, 0.0]
    nibabel.save(nibabel.Nifti1Image(labels, affine), tmp_path / "masks/lesion.nii.gz")
    for side in ("source", "target"):
        for number, patient in enumerate(("Zoe", "Zoe", "Ann"), 1):
            hu, study = rng.normal(0, 60, (2, 20, 24)).round().clip(-900, 800), f"1.2.826.0.1.3680043.8.498.{number}"
            folder, series = tmp_path / side / str(number), 1 + (side == "target")
            write_series(folder, hu, series, study, PatientID=patient, SliceThickness=2.0)
    rows = measure_regions({"source": tmp_path / "source", "target": tmp_path / "target"}, RoiSettings((tmp_path / "masks",)))
    assert sorted(rows.patients) == ["Ann", "Zoe", "Zoe"]
    tables = roi_tables(rows, resamples=200)
    assert "over 2 patients" in tables[0].caption
    assert not any("Zoe" in name for table in tables for name in table.rows)


def test_two_regions_of_one_name(scan):
    """The same mask given twice is refused, not overwritten."""
    compared, masks = scan
    with pytest.raises(NotComparable, match="two regions are called"):
        measure_regions(compared.directories, RoiSettings((masks, masks)))


@pytest.fixture
def three(scan, write_series):
    """`scan` with a synthesized series of its own: directories by name, and the masks' folder."""
    compared, masks = scan
    made = compared.source_dir.parent / "made"
    write_series(made, np.random.default_rng(3).normal(0, 50, (4, 20, 24)).round(), series=3, SliceThickness=2.0)
    return compared.directories | {"copy": made}, masks


def spoil(path):
    """A pixel above what its bits hold: found when the pixels are read."""
    slice_ = pydicom.dcmread(path)
    slice_.BitsStored, slice_.HighBit = 12, 11
    slice_.PixelData = np.full((20, 24), 60000, "<u2").tobytes()
    slice_.save_as(path)


@pytest.mark.parametrize("image", ["source", "copy", "target"])
@pytest.mark.parametrize("how", ["missing", "unreadable"])
def test_regions_are_measured_on_the_slices_that_all_images_have(three, image, how):
    """Slice 2 of one image is not there, or unreadable: of every image the others are measured; what is lost is said."""
    directories, masks = three
    (path,) = directories[image].glob("*-2.dcm")
    path.unlink() if how == "missing" else spoil(path)
    rows = measure_regions(directories, RoiSettings((masks,)))
    lost = Loss(4.0, 63, f"{image} has no slice" if how == "missing" else f"{image} is unreadable (stored_value_overflow)")
    assert rows.drawn.tolist() == [2 * 63, 4 * 80]
    assert rows.voxels.tolist() == [63, 3 * 80]
    assert rows.lost == {rows.rois[0]: (lost,), rows.rois[1]: (lost._replace(voxels=80),)}
    volume = load_series(find_series(directories["copy"], accept_standardized=True).series[0]).volume
    copy = rows.of(rows.rois[0], "copy")
    assert copy[Measure("first-order", "mean")] == pytest.approx(volume[1, 3:12, 2:9].mean(dtype=np.float64))


def test_a_region_all_of_whose_slices_are_missing(three):
    """It has no features, in any image, with the reason; the other region has its own."""
    directories, masks = three
    (directories["copy"] / "3-1.dcm").unlink()
    spoil(directories["target"] / "2-2.dcm")
    rows = measure_regions(directories, RoiSettings((masks,)))
    assert rows.voxels.tolist() == [0, 2 * 80]
    assert {note for (roi, _, _), note in rows.notes.items() if roi == rows.rois[0]} == {EMPTY}
    assert [loss.reason for loss in rows.lost[rows.rois[0]]] == [
        "copy has no slice",
        "target is unreadable (stored_value_overflow)",
    ]
    sentence = loss_sentence(rows, rows.rois[0])
    assert sentence.startswith(
        f"{rows.rois[0]}: 126 of 126 voxels are measured in no image: copy has no slice at 2 mm (63 voxels)"
    )
    assert not np.isnan(rows.column("target", Measure("first-order", "mean"))[1])


def test_no_slice_of_an_image_is_readable(three):
    """All regions are lost, and the reason is that of the image."""
    directories, masks = three
    for path in directories["target"].iterdir():
        spoil(path)
    rows = measure_regions(directories, RoiSettings((masks,)))
    assert rows.voxels.tolist() == [0, 0]
    assert {loss.reason for losses in rows.lost.values() for loss in losses} == {"target is unreadable (stored_value_overflow)"}


def test_regions_on_the_slices_to_compare(three):
    """Slices of the training do not count, and are named as such."""
    directories, masks = three
    series = find_series(directories["source"]).series[0]
    rows = measure_regions(directories, RoiSettings((masks,)), [i.uid for i in series.instances[2:]])
    assert rows.voxels.tolist() == [63, 2 * 80]
    assert rows.lost[rows.rois[0]] == (Loss(2.0, 63, "the slice is not to compare"),)


def run_script(compared, masks, out, **more):
    """`stan-ct evaluate` on the scan."""
    flags = {"source_dir": compared.source_dir, "synthesized_dir": f"copy={compared.target_dir}", "masks": masks}
    flags |= {"target_dir": compared.target_dir, "output_dir": out, "patch_size": 16, "stride": 8, "workers": 1, **more}
    return commands.run("evaluate", *(f"--{name}={value}" for name, value in flags.items()))


def test_script(scan, tmp_path):
    """`--masks` adds the regions to the report."""
    done = run_script(*scan, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "2 regions of the masks given" in (tmp_path / "out/report.md").read_text()
    assert list((tmp_path / "out").glob("*regions*.csv"))


def test_script_writes_features_for_other_software(scan, tmp_path):
    """A line for each of 2 regions in each of 3 images, with the IDs of the headers and the features of the report."""
    done = run_script(*scan, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "out/features.csv") as file:
        lines = list(csv.DictReader(file))
    assert [(line["patient_id"], line["region"], line["image"]) for line in lines] == [
        ("TEST", region, image) for region in ("lesions 1", "lesions 2") for image in ("source", "copy", "target")
    ]
    study = "1.2.826.0.1.3680043.8.498.1"
    assert {(line["study_instance_uid"], line["source_series_instance_uid"]) for line in lines} == {(study, f"{study}.1")}
    assert [line["series_instance_uid"] for line in lines[:3]] == [f"{study}.1", f"{study}.2", f"{study}.2"]
    assert {line["voxels"] for line in lines[:3]} == {"126"}
    volume = load_series(find_series(scan[0].source_dir).series[0]).volume
    assert float(lines[0]["first_order_mean"]) == pytest.approx(volume[1:3, 3:12, 2:9].mean(dtype=np.float64))
    assert "features.csv" in (tmp_path / "out/report.md").read_text()


def two_patients(tmp_path, write_series):
    """Source and target of patients 007 and 8, on grids of their own."""
    rng = np.random.default_rng(1)
    for side in (1, 2):
        for number, patient in enumerate(("007", "8"), 1):
            hu, study = rng.normal(0, 60, (3, 20, 24)).round(), f"1.2.826.0.1.3680043.8.498.{number}"
            folder = tmp_path / ("source" if side == 1 else "target") / str(number)
            write_series(folder, hu, side, study, (10.0 * number, 0, 0), PatientID=patient, SliceThickness=2.0)
    return {"source": tmp_path / "source", "target": tmp_path / "target"}


def draw(path, x):
    """A NIfTI of one region on a series of `two_patients` that begins at x mm."""
    labels = np.zeros((24, 20, 3), np.uint8)
    labels[2:9, 3:12] = 1
    affine = np.diag([-0.7, -0.7, 2.0, 1.0])
    affine[:3, 3] = [-x, 50.0, 0.0]
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(labels, affine), path)


def test_masks_in_folders_of_patients(tmp_path, write_series):
    """Folder 7 is patient 007's, as people write IDs, and 8 patient 8's: each has its own mask."""
    directories = two_patients(tmp_path, write_series)
    draw(tmp_path / "masks/7/lesion.nii.gz", -40)
    draw(tmp_path / "masks/8/lesion.nii.gz", -30)
    rows = measure_regions(directories, RoiSettings((tmp_path / "masks",)))
    assert rows.rois == ("series 1, lesion 1", "series 2, lesion 1")
    assert [(origin.patient, origin.roi) for origin in rows.origins] == [("007", "lesion 1"), ("8", "lesion 1")]


def test_a_patient_whose_mask_does_not_fit_is_skipped_and_named(tmp_path, write_series):
    """The other's regions are measured; if none fits, that is an error."""
    directories = two_patients(tmp_path, write_series)
    draw(tmp_path / "masks/7/lesion.nii.gz", -40)
    draw(tmp_path / "masks/8/lesion.nii.gz", -41)
    rows = measure_regions(directories, RoiSettings((tmp_path / "masks",)))
    assert rows.rois == ("series 1, lesion 1",)
    assert rows.patients == ("007",)
    assert list(rows.skipped) == ["series 2"]
    assert "8/lesion.nii.gz is not on the grid of series" in rows.skipped["series 2"]
    draw(tmp_path / "masks/7/lesion.nii.gz", -41)
    with pytest.raises(NotComparable, match=r"7/lesion\.nii\.gz is not on the grid of series"):
        measure_regions(directories, RoiSettings((tmp_path / "masks",)))


def test_script_says_what_regions_lost(scan, tmp_path):
    """A slice of the target is missing: on standard error, at the top of the report, and in a table."""
    (scan[0].target_dir / "2-2.dcm").unlink()
    done = run_script(*scan, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    said = "lesions 1: 63 of 126 voxels are measured in no image: copy and target have no slice at 4 mm (63 voxels)"
    assert f"evaluate: warning: {said}\n" in done.stderr
    report = (tmp_path / "out/report.md").read_text()
    assert report.index("## Warnings") < report.index(f"> {said}") < report.index("## DICOM series")
    table = (tmp_path / "out/table_regions_voxels.csv").read_text()
    assert '"Regions, voxels",lesions 1,on missing slices,63.0,' in table


def test_script_with_mirp(scan, tmp_path):
    """`--features=mirp` adds a table of errors, of concordance and of values for each of five families."""
    pytest.importorskip("mirp", reason="MIRP is not installed: pip install 'stan-ct[mirp]'")
    done = run_script(*scan, tmp_path / "out", features="mirp")
    assert done.returncode == 0, done.stderr
    report = (tmp_path / "out/report.md").read_text()
    assert "GLRLM, GLSZM, GLDZM, NGTDM, NGLDM: by MIRP, from the same gray levels." in report
    assert "short_runs_emphasis" in report
    assert len(list((tmp_path / "out").glob("*glszm*.csv"))) == 3


def test_features_of_regions_need_regions(scan, tmp_path):
    """`--features=mirp` without `--masks` is refused."""
    done = run_script(scan[0], "", tmp_path / "out", features="mirp")
    assert (done.returncode, done.stderr) == (1, "evaluate: --features=mirp is of regions: give --masks\n")
