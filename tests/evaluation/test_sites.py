"""Folders of DICOM of two sites -> one page: scans, masks, standardized series, covariates, and what is said of each."""

import json
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from scipy import ndimage
from structure_sets import square, write_structures

from stan_ct.cli import sites as sites_command
from stan_ct.cli.main import main
from stan_ct.errors import NotComparable, UsageError
from stan_ct.evaluation.sites.cohort import VOLUME, measure_cohort
from stan_ct.evaluation.sites.covariates import read_covariates
from stan_ct.evaluation.sites.features import AFTER, BEFORE
from stan_ct.evaluation.sites.images import compare_images, shape_distance, spectrum_shapes
from stan_ct.evaluation.sites.measure import FREQUENCIES, measure_scan
from stan_ct.evaluation.sites.scans import Scan, find_scans
from stan_ct.evaluation.sites.settings import SiteSettings
from stan_ct.evaluation.sites.tables import patient_labels
from stan_ct.patches.where import parse_conditions

SHAPE = (3, 48, 48)


def tissue(patient: int, blur: float) -> np.ndarray:
    """Soft tissue with noise, (3, 48, 48) HU, that a soft kernel (blur, px) makes smooth; sparse patients are softer."""
    rng = np.random.default_rng(patient)
    noise = ndimage.gaussian_filter(rng.normal(size=SHAPE), (0, blur, blur))
    return np.round(50 + patient + (20 + patient) * noise / noise.std())


def write_patient(write_series, folder, patient, blur, roi="Tumour", size=20, **attributes):
    """A series and its RTSTRUCT; the series' SOP Instance UIDs."""
    study = f"1.2.826.0.1.3680043.8.498.{patient + 10}"
    about = {"PatientID": f"P{patient}", "ConvolutionKernel": "X", "SliceThickness": 2, **attributes}
    uids = write_series(folder / "image", tissue(patient, blur), study=study, **about)
    (folder / "mask").mkdir()
    write_structures(folder / "mask" / "rs.dcm", {roi: [square(2.0 * z, 8, 8 + size) for z in (0, 1)]}, study=study)
    return uids


def source_item(uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", uid
    return item


def standardize(write_series, folder, patient, uids, blur):
    """What STAN-CT would write of a patient: one series per slice, each of which names its source."""
    study = f"1.2.826.0.1.3680043.8.498.{patient + 10}"
    for z, (uid, hu) in enumerate(zip(uids, tissue(patient, blur), strict=True)):
        about = {"PatientID": f"P{patient}", "ConvolutionKernel": "X", "SourceImageSequence": [source_item(uid)]}
        write_series(folder / f"{patient}-{z}", hu[None], series=100 + z, study=study, shift=(0, 0, 2.0 * z), **about)


@pytest.fixture
def sites(tmp_path, write_series):
    """Four patients of a soft kernel at A, three of a sharp one at B; A standardized to what B has."""
    for patient in range(4):
        uids = write_patient(write_series, tmp_path / "A" / f"P{patient}", patient, 1.2, size=16 + patient)
        standardize(write_series, tmp_path / "S", patient, uids, 0.5)
    for patient in range(4, 7):
        write_patient(write_series, tmp_path / "B" / f"P{patient}", patient, 0.5, size=10 + patient)
    return tmp_path


def settings(root, **options) -> SiteSettings:
    return SiteSettings({"A": root / "A", "B": root / "B"}, **options)


def test_before_and_after_are_measured_in_the_same_voxels(sites):
    """Features of the drawn voxels, their volume in ml; the site of the standard is the same before and after."""
    options = settings(sites, standardized=sites / "S", masks_beside=True)
    scans = find_scans(options)
    assert any("Site B was not standardized" in note for note in scans.notes)
    cohort = measure_cohort(scans, options)
    features = cohort.features
    assert features.sites.tolist() == ["A"] * 4 + ["B"] * 3
    mean = features.names.index("first-order mean")
    for patient in range(7):
        side = (16 if patient < 4 else 10) + patient + 1
        drawn = np.s_[:2, 8 : 8 + side, 8 : 8 + side]
        blur = 1.2 if patient < 4 else 0.5
        assert features.before[patient, mean] == pytest.approx(tissue(patient, blur)[drawn].mean())
        assert features.after[patient, mean] == pytest.approx(tissue(patient, 0.5)[drawn].mean())
        assert features.covariates[VOLUME][patient] == pytest.approx(2 * side**2 * 0.7 * 0.7 * 2 / 1000)
    contrast = features.names.index("GLCM contrast")
    assert features.before[:4, contrast].max() < 0.6 * features.before[4:, contrast].min()
    np.testing.assert_array_equal(features.before[4:], features.after[4:])


def test_noise_and_hu_are_compared(sites):
    """Shapes of the noise differ before, and not after, when patients of one population have one kernel."""
    options = settings(sites, standardized=sites / "S")
    measured = [measure_scan(scan, options) for scan in find_scans(options).scans]
    images = compare_images(measured, True, 50)
    before, after = (images.shapes["A", "B"][state].found for state in (BEFORE, AFTER))
    assert before > 0.3 > 0.15 > after
    assert images.noise[BEFORE]["A"].mean == pytest.approx(np.mean([20 + p for p in range(4)]), rel=0.25)
    assert images.tissues[BEFORE]["A"]["soft tissue"].mean == pytest.approx(51.5, abs=1.5)
    assert np.isnan(images.tissues[BEFORE]["A"]["bone"].mean)
    assert set(images.changes) == {"A"}


def test_shapes_of_spectra():
    """A factor (dose) changes no shape; a slope of .1 per lp/cm does, by its standard deviation; lone groups are undefined."""
    power = np.exp(-FREQUENCIES)[None] * np.array([[1.0], [4.0], [1.0]])
    power[2] *= np.exp(0.2 * FREQUENCIES)
    shapes = spectrum_shapes(power)
    assert shape_distance(shapes[:2], np.array([False, True])) == pytest.approx(0, abs=1e-12)
    expected = 0.1 * np.std(FREQUENCIES[FREQUENCIES >= 1])
    assert shape_distance(shapes[1:], np.array([False, True])) == pytest.approx(expected)
    assert np.isnan(shape_distance(shapes, np.zeros(3, bool)))


def test_one_series_per_patient_of_the_commonest_protocol(sites, write_series):
    """A second reconstruction of one patient is not used, and a note says so; a condition chooses otherwise."""
    study = "1.2.826.0.1.3680043.8.498.10"
    about = {"PatientID": "P0", "ConvolutionKernel": "OTHER", "SliceThickness": 2}
    write_series(sites / "A" / "P0" / "more", np.zeros((9, 48, 48)), series=2, study=study, **about)
    found = find_scans(settings(sites))
    assert [scan.files.kernel for scan in found.scans] == ["X"] * 7
    assert "Site A: 1 of 5 series are not used, one for each patient is" in found.notes
    chosen = find_scans(settings(sites, where={"A": parse_conditions(["ConvolutionKernel=OTHER"], "where")}))
    assert [scan.files.kernel for scan in chosen.scans] == ["OTHER", "X", "X", "X"]
    with pytest.raises(NotComparable, match=r"site A .*ConvolutionKernel is OTHER, X"):
        find_scans(settings(sites, where={"A": parse_conditions(["ConvolutionKernel=NONE"], "where")}))


def test_patients_without_a_standardized_series_are_left_out_of_all_states(sites, write_series):
    """Before and after have the same patients; a folder of something else is refused."""
    for z in range(3):
        for file in (sites / "S" / f"2-{z}").iterdir():
            file.unlink()
    found = find_scans(settings(sites, standardized=sites / "S"))
    assert len(found.scans) == 6
    assert any("1 patients without a standardized series" in note for note in found.notes)
    write_series(sites / "other", np.zeros(SHAPE), series=7)
    with pytest.raises(NotComparable, match="holds no series that was made of"):
        find_scans(settings(sites, standardized=sites / "other"))


def test_masks_may_lie_elsewhere_and_regions_are_chosen_by_name(sites, write_series):
    """A folder of patients' folders; of several regions the user chooses, since a guess could mix tumour and oedema."""
    options = settings(sites, masks=(sites / "A", sites / "B"))
    scans = find_scans(options)
    cohort = measure_cohort(scans, options)
    assert cohort.regions == ("Tumour",) * 7
    for patient in range(7):
        folder = sites / ("A" if patient < 4 else "B") / f"P{patient}" / "mask"
        study = f"1.2.826.0.1.3680043.8.498.{patient + 10}"
        write_structures(folder / "more.dcm", {"Oedema": [square(0.0, 4, 40)]}, study=study)
    with pytest.raises(UsageError, match="every patient has regions Oedema, Tumour: choose one with --region=Oedema"):
        measure_cohort(scans, options)
    chosen = measure_cohort(scans, settings(sites, masks_beside=True, region="Tum*"))
    np.testing.assert_array_equal(chosen.features.before, cohort.features.before)


def test_patients_without_the_region_are_left_out_by_name(sites):
    """A site with none left is an error that says why."""
    found = measure_scan(find_scans(settings(sites)).scans[0], settings(sites, masks_beside=True, region="Liver"))
    assert found == "no region Liver is drawn on its slices; there are Tumour"
    for patient in range(4, 7):
        (sites / "B" / f"P{patient}" / "mask" / "rs.dcm").unlink()
    options = settings(sites, masks_beside=True)
    with pytest.raises(NotComparable, match=r"site B has no patient to compare. Site B: 1 patient left out"):
        measure_cohort(find_scans(options), options)


def test_without_masks_soft_tissue_is_compared(sites):
    """No lung here, which is said; volume of a cropped tissue is no covariate."""
    options = settings(sites)
    cohort = measure_cohort(find_scans(options), options)
    assert all(name.startswith("soft tissue: ") for name in cohort.features.names)
    assert cohort.features.covariates == {}
    assert cohort.features.after is None


def test_the_command_writes_a_page(sites, capsys):
    """Verdicts on the terminal; page, tables, and CSV files without Patient IDs unless they are asked for."""
    table = sites / "covariates.csv"
    table.write_text("patient_id,sex\n" + "".join(f"p{p},{'FM'[p % 2]}\n" for p in range(7)))
    command = ["sites", f"--site=A={sites / 'A'}", f"--site=B={sites / 'B'}", "--masks", f"--standardized={sites / 'S'}"]
    command += [f"--covariates={table}", "--permutations=3", "--repeats=1", "--workers=1"]
    assert main([*command, f"--output_dir={sites / 'OUT'}"]) == 0
    printed = capsys.readouterr().out
    assert "Can a classifier tell A and B, before? cannot be told." in printed
    lines = (sites / "OUT" / "features.csv").read_text().splitlines()
    assert lines[0].startswith("site,patient,region,kernel,slice_thickness,state,volume [ml],sex: M,first_order_mean")
    assert lines[1].startswith("A,P001,Tumour,X,2.0,before,")
    assert "p0" not in (sites / "OUT" / "features.csv").read_text()
    assert (sites / "OUT" / "noise_spectra.csv").read_text().startswith("site,patient,state,frequency_lp_per_cm")
    report = json.loads((sites / "OUT" / "report.json").read_text())
    assert {s["key"] for s in report["sections"] if s["kind"] == "table"} >= {
        *("noise", "hu_of_tissues", "distance_a_to_b", "cohen_s_d_a_to_b", "classifier_a_or_b", "ranks_within_sites"),
        *("covariates_and_sites", "effect_of_sex_m"),
    }
    page = (sites / "OUT" / "report.html").read_text()
    assert "What cannot be told" in page
    assert str(sites / "A") not in page.split("Provenance</h2>")[0]
    assert patient_labels(np.array(["q", "p", "q"]), False) == ["P002", "P001", "P002"]
    assert patient_labels(np.array(["q", "p", "q"]), True) == ["q", "p", "q"]


@pytest.mark.parametrize(
    ("given", "masks", "beside"),
    [([], (), False), (["--masks"], (), True), (["--masks=A,B"], (Path("A"), Path("B")), False), (["--nomasks"], (), False)],
)
def test_masks_alone_or_with_paths(given, masks, beside, tmp_path):
    """Both forms, and the flags that are kept repeat them."""
    made = sites_command.command()
    made.parse(["--site=A=x", "--site=B=y", "--output_dir=OUT", *given])
    again = sites_command.command()
    (tmp_path / "flags").write_text(made.effective_flags())
    again.parse([f"--flagfile={tmp_path / 'flags'}"])
    for each in (made, again):
        found = sites_command._settings(each)
        assert (found.masks, found.masks_beside) == (masks, beside)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "two sites or more"),
        (["--site=A=nowhere", "--site=B=nowhere"], "nowhere does not exist"),
        (["--site=A=x", "--site=B=y", "--where=C:Exposure<1"], "--where names C"),
        (["--site=A=x", "--site=B=y", "--where=Exposure<1"], "--where expects NAME:CONDITIONS"),
        (["--site=A=x", "--site=A=y"], "two directories have one name"),
        (["--site=A=x", "--site=B=y", "--aggregation=4D"], "aggregation must be one of"),
    ],
)
def test_bad_usage_is_named(arguments, said, tmp_path, capsys):
    """Exit code 1, what was expected, what came."""
    assert main(["sites", *arguments, f"--output_dir={tmp_path}"]) == 1
    assert said in capsys.readouterr().err


def test_covariates_are_numbers(tmp_path):
    """Numbers, words as 0 and 1, unknown ones as NaN, patients in any order and case, a semicolon for a comma."""
    path = tmp_path / "c.csv"
    path.write_text("Stage;Patient_ID;age;name;sex\nII;p02;61.5;Ann;M\nI;P1;n/a;Bob;F\nIII;9;50;Cleo;F\n")
    found, notes = read_covariates(path, ["P1", "P02", "009", "P7"])
    assert list(found) == ["Stage: II", "Stage: III", "age", "name: Bob", "name: Cleo", "sex: M"]
    np.testing.assert_array_equal(found["age"], [np.nan, 61.5, 50, np.nan])
    np.testing.assert_array_equal(found["sex: M"], [0, 1, 0, np.nan])
    np.testing.assert_array_equal(found["Stage: II"], [0, 1, 0, np.nan])
    assert notes == ["1 patients have no line in the table of covariates"]
    with pytest.raises(NotComparable, match=r"has no line for any of the 1 patients, such as X"):
        read_covariates(path, ["X"])
    path.write_text("age\n3\n")
    with pytest.raises(NotComparable, match="has columns age, expected one named patient_id"):
        read_covariates(path, ["X"])
    path.write_text("id,age\n1,3\n01,4\n")
    with pytest.raises(NotComparable, match="two lines for patient 01"):
        read_covariates(path, ["1"])


def test_the_limb_cohort(real_ct):
    """Tumours of one real patient at each of two kernels: the masks beside the series are found and measured."""
    root = real_ct / "unpaired_ge_limb"
    folders = {"SOFT": root / "SOFT" / "STS_001", "STANDARD": root / "STANDARD" / "STS_002"}
    options = SiteSettings(folders, masks_beside=True, slices=4)
    scans = find_scans(options)
    assert [scan.protocol for scan in scans.scans] == ["SOFT, 3.27 mm", "STANDARD, 3.27 mm"]
    found = measure_scan(Scan("SOFT", scans.scans[0].files), options)
    assert list(found.regions) == ["GTV_Mass_CT"]
    assert found.volumes["GTV_Mass_CT"] > 10
    assert np.isfinite([of[BEFORE] for of in found.regions["GTV_Mass_CT"].values()]).all()
