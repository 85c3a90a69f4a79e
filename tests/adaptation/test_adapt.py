"""Scans of two sites, of different patients -> a model that reconstructs, knows its limits and says what the data allow."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
from bodies import PITCH
from patients_in_kernels import KERNELS, sharp, soft, write_patient
from scipy import ndimage
from synthetic import write_ct

import stan_ct
from stan_ct.adaptation.page import verdict
from stan_ct.adaptation.scans import find_patients
from stan_ct.adaptation.settings import AdaptationError
from stan_ct.cli.main import main
from stan_ct.reconstruction.loading import load_model


@pytest.fixture(scope="module")
def made(sites):
    return stan_ct.adapt(sites / "A", sites / "B", sites / "model")


def test_every_source_kernel_gets_the_filter_of_its_curve(made):
    """Two kernels in A give two filters, each the ratio of the curves to 12 % from 0.5 to 4 lp/cm, and the dose is left."""
    assert set(made.filters) == {"SOFT", "SOFTER"}
    f = np.linspace(0.5, 4, 15)
    for kernel, fitted in made.filters.items():
        gain = np.interp(f, fitted.filter.frequency, fitted.filter.gain)
        assert np.abs(np.log(gain * KERNELS[kernel](f) / sharp(f))).max() < 0.12
        assert fitted.dose == pytest.approx(1.4, rel=0.15)
        assert (fitted.low <= fitted.high).all()


def test_the_model_reconstructs(made, sites, tmp_path):
    """A patient that it has not seen becomes what the sharp kernel makes of the same scan, to half the difference or less."""
    source, wanted = (write_patient(tmp_path / k, k, 9) for k in ("SOFT", "SHARP"))
    (files,), (target,) = (stan_ct.find_series(folder).series for folder in (source, wanted))
    model = load_model(sites / "model")
    output = model.standardize(stan_ct.load_series(files), allow_out_of_protocol=True).volume
    before, truth = (stan_ct.load_series(each).volume for each in (files, target))
    smooth = ndimage.gaussian_filter(before, (0, 3, 3))
    tissue = ndimage.binary_erosion((smooth > 20) & (smooth < 80), np.ones((1, 9, 9)))
    assert tissue.sum() > 5000
    rmse = [float(np.sqrt(np.mean((volume - truth)[tissue] ** 2))) for volume in (before, output)]
    assert rmse[1] < 0.5 * rmse[0]
    assert abs(output[tissue].mean() - truth[tissue].mean()) < 2


def test_the_model_knows_its_protocols(made):
    """Fingerprints of both sides, exposures and intervals are stored; what was measured counts as seen."""
    config = made.config
    assert [source.kernel for source in config.sources] == ["SOFT", "SOFTER"]
    assert config.standard.kernel == "SHARP"
    assert config.standard.pixel_spacing == (PITCH, PITCH)
    assert config.training["exposure_mas"] == {"SOFT": [100.0] * 2, "SOFTER": [100.0] * 2, "SHARP": [71.0] * 3}
    assert config.training["unpaired"]["SOFT"]["patients"] == [2, 3]
    text = (made.folder / "training_slices.txt").read_text()
    assert text.count("train ") == 7 * 3


def test_same_scans_same_bytes_whatever_the_workers(made, sites, tmp_path):
    """Every file of a second model, made by two processes, is that of the first."""
    again = stan_ct.adapt(sites / "A", sites / "B", tmp_path / "model", workers=2)

    def hashes(folder: Path) -> dict[str, str]:
        files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix not in {".png", ".svg"})
        return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    assert (again.folder / "config.json").read_bytes() == (made.folder / "config.json").read_bytes()
    assert hashes(again.folder) == hashes(made.folder)


def test_the_report_says_how_sure_it_is(made):
    """Numbers of patients, the interval, and how many more are needed; names of patients stay out."""
    text = (made.folder / "report" / "report.md").read_text()
    for kernel, fitted in made.filters.items():
        said = verdict(kernel, "SHARP", fitted)
        assert said in text
        assert "2 source and 3 target patients" in said
        assert f"{fitted.missing_patients} more patient" in said
    assert made.missing_patients >= 1  # two patients of a side are too few to know how patients differ
    assert "times the noise of SOFT beyond what kernels make" in text
    page = (made.folder / "report" / "report.html").read_text()
    assert "P1" not in text
    assert page.count("<img") == 2


def test_one_patient_a_side_is_said_to_be_one(sites, tmp_path):
    """The interval is over slices then, and says that it does not know how patients differ."""
    for seed, kernel in ((1, "SOFT"), (5, "SHARP")):
        write_patient(tmp_path / kernel, kernel, seed)
    made = stan_ct.adapt(tmp_path / "SOFT", tmp_path / "SHARP", tmp_path / "model")
    (fitted,) = made.filters.values()
    assert (fitted.over, fitted.patients, fitted.missing_patients) == ("slices", (1, 1), 2)
    assert "cannot be seen: 2 more" in verdict("SOFT", "SHARP", fitted)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"target_kernel": "B"}, "--target_dir holds no series of kernel B; it holds SHARP (3 patients)"),
        (
            {"source_kernels": ("B",)},
            "--source_dir holds no series of kernel B; it holds SOFT (2 patients), SOFTER (2 patients)",
        ),
    ],
)
def test_what_cannot_be_done_is_refused(sites, tmp_path, options, said):
    """The message says what is there; nothing is written."""
    with pytest.raises(AdaptationError) as error:
        stan_ct.adapt(sites / "A", sites / "B", tmp_path / "model", **options)
    assert said in str(error.value)
    assert not (tmp_path / "model").exists()


def test_several_target_kernels_are_refused(sites, tmp_path):
    """A standard is one kernel."""
    with pytest.raises(AdaptationError, match=r"several kernels, SOFT \(2 patients\), SOFTER .*--target_kernel"):
        stan_ct.adapt(sites / "B", sites / "A", tmp_path / "model")


def test_scans_on_both_sides_are_refused(sites, tmp_path):
    """A series teaches nothing about itself; a tree that holds both kernels does, since each side takes its own."""
    with pytest.raises(AdaptationError, match=r"share \d+ slices"):
        stan_ct.adapt(sites / "B", sites / "B", tmp_path / "model")
    assert not (tmp_path / "model").exists()
    both = [sites / "A", sites / "B"]
    options = {"source_kernels": ("SOFT",), "target_kernel": "SHARP", "slices": 2}
    assert set(stan_ct.adapt(both, both, tmp_path / "model", **options).filters) == {"SOFT"}


def test_scans_without_tissue_are_refused(sites, tmp_path):
    """Air alone has no spectra."""
    write_ct(tmp_path / "air", np.full((3, 64, 64), 24), kernel="AIR")
    with pytest.raises(AdaptationError, match="no slice of kernel AIR can be measured"):
        stan_ct.adapt(tmp_path / "air", sites / "B", tmp_path / "model")


def test_one_slice_is_enough_if_its_parts_can_be_measured(sites, tmp_path):
    """Its halves tell how far the gain is known."""
    write_patient(tmp_path / "one", "SOFT", 1, slices=1)
    fitted = stan_ct.adapt(tmp_path / "one", sites / "B", tmp_path / "model").filters["SOFT"]
    assert fitted.over == "parts of a slice"
    assert fitted.missing_patients == 2
    assert 0 < fitted.uncertainty < 1
    assert np.abs(np.log(fitted.filter.gain[8] / (sharp(2.0) / soft(2.0)))) < 0.2


def test_one_slice_with_little_tissue_is_too_few(sites, tmp_path, monkeypatch):
    """What cannot tell how sure a filter is makes no model."""
    monkeypatch.setattr("stan_ct.adaptation.scans.spectra_of_parts", lambda *_: [])
    write_patient(tmp_path / "one", "SOFT", 1, slices=1)
    with pytest.raises(AdaptationError, match=r"one slice alone, and too little tissue in it.*two slices or more"):
        stan_ct.adapt(tmp_path / "one", sites / "B", tmp_path / "model")
    write_patient(tmp_path / "two", "SOFT", 1, slices=2)
    assert stan_ct.adapt(tmp_path / "two", sites / "B", tmp_path / "model").filters["SOFT"].over == "slices"


def test_one_side_alone_says_what_it_can_do(sites, capsys):
    """What is there, and what would make a model of it."""
    assert main(["adapt", f"--source_dir={sites / 'A'}"]) == 1
    out, error = capsys.readouterr()
    assert "kernel SOFT: 2 patients, 2.5 mm; 3 or more would show how patients differ" in out
    assert "add the standard that they are to look like" in out
    assert "add --target_dir" in error


def test_the_command(sites, tmp_path, capsys):
    """Makes the model, says how sure it is, and what to do next."""
    arguments = [f"--source_dir={sites / 'A'}", f"--target_dir={sites / 'B'}", f"--output_dir={tmp_path / 'model'}"]
    assert main(["adapt", *arguments, "--source_kernels=SOFT", "--workers=1"]) == 0
    out = capsys.readouterr().out
    assert "SOFT to SHARP: the gain is known to" in out
    assert f"--model={tmp_path / 'model'}" in out
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["method"] == "kernel_filter"
    assert list(config["front_end"]) == ["SOFT"]


def test_patients_are_grouped_by_kernel_and_identity(sites):
    """Kernels and patients in ascending order; slices are the middles of equal parts."""
    found = find_patients([str(sites / "A")], 2)
    assert {kernel: [patient.name for patient in patients] for kernel, patients in found.items()} == {
        "SOFT": ["P1", "P2"],
        "SOFTER": ["P3", "P4"],
    }
    assert found["SOFT"][0].chosen == ((0, 2),)
    header = pydicom.dcmread(found["SOFT"][0].series[0].instances[0].path, stop_before_pixels=True)
    assert header.PatientID == "P1"
