"""The out-of-protocol guard on small series of known noise."""

import json
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from scipy import ndimage
from synthesizers import scripted_model
from synthetic import write_ct

from stan_ct.ct.fingerprint import Fingerprint, SeriesCharacteristics
from stan_ct.ct.kernel_shape import OF_STRUCTURE, SIZE
from stan_ct.ct.noise import BANDS
from stan_ct.dicom import series as dicom_series
from stan_ct.dicom.characteristics import read_characteristics
from stan_ct.dicom.find import find_series
from stan_ct.dicom.pixels import decode
from stan_ct.dicom.series import load_series
from stan_ct.reconstruction.cohort import Run, standardize_cohort
from stan_ct.reconstruction.guard import Guard
from stan_ct.reconstruction.selection import ModelSet

BLUR = {"SOFT": 1.0, "MID": 0.6, "SHARP": 0.3}
"""Kernel -> standard deviation, px, of the Gaussian that stands for it."""


def write_kernel(folder, kernel, called=None, seed=0, **options):
    """Eight slices of uniform tissue with the noise of one kernel, under its own name or another's."""
    noise = np.random.default_rng(seed).normal(0, 60, (8, 96, 96))
    hu = 40 + ndimage.gaussian_filter(noise, (0, BLUR[kernel], BLUR[kernel]))
    write_ct(folder, np.rint(hu).astype(int) + 1024, kernel=called or kernel, **options)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model for SOFT and MID -> SHARP, as its guard sees it."""
    folder, found = tmp_path_factory.mktemp("kernels"), {}
    for kernel in BLUR:
        for seed in range(3):
            write_kernel(folder / f"{kernel}{seed}", kernel, seed=seed)
        found[kernel] = [read_characteristics(find_series(folder / f"{kernel}{seed}").series[0]) for seed in range(3)]
    return {kernel: Fingerprint.from_series(kernel, seen) for kernel, seen in found.items()}


def guard_of(model):
    return Guard((model["SOFT"], model["MID"]), model["SHARP"])


def judged(model, folder):
    return guard_of(model)(load_series(find_series(folder).series[0]))


@pytest.mark.parametrize("kernel", ["SOFT", "MID"])
def test_series_of_the_protocol_pass(model, tmp_path, kernel):
    """A series that the model was made for has no reason against it, and is treated as what it is."""
    verdict = judged(model, write_kernel(tmp_path, kernel, seed=9))
    assert (verdict.kernel, verdict.standard, verdict.reasons) == (kernel, False, ())


def test_the_standard_is_recognised(model, tmp_path):
    """The target's kernel with the target's noise is the standard protocol; with another's noise it is not."""
    assert judged(model, write_kernel(tmp_path / "a", "SHARP", seed=9)).standard
    verdict = judged(model, write_kernel(tmp_path / "b", "SOFT", called="SHARP", seed=9))
    assert not verdict.standard
    assert verdict.kernel == "SOFT"
    assert verdict.reasons[0] == "kernel SHARP is the standard one, but"
    assert "noise spectrum" in verdict.reasons[1]


def spectrum(level, thickness=1.0):
    return SeriesCharacteristics(thickness, 0.7, np.full(len(BANDS), float(level)))


@pytest.mark.parametrize(
    ("level", "thickness", "standard", "reasons"),
    [
        (4.4, 1.0, False, ""),
        (4.21, 1.0, False, ""),
        (4.19, 1.0, True, ""),
        (4.0, 1.0, True, ""),
        (np.nan, 1.0, True, ""),
        (4.0, 3.0, False, ""),
        (4.0, 9.0, False, "kernel B is the standard one, but slice thickness 9 mm"),
    ],
)
def test_two_protocols_of_one_kernel(level, thickness, standard, reasons):
    """Source and standard of one kernel, which differ by dose or thickness: the ranges tell, then the nearer noise."""
    doses = {"low": [spectrum(4.4), spectrum(4.4, 3.0)], "full": [spectrum(4.0)]}
    source, full = (Fingerprint.from_series("B", seen) for seen in doses.values())
    verdict = Guard((source,), full).judge("B", spectrum(level, thickness))
    assert (verdict.standard, " ".join(verdict.reasons)[: len(reasons)], bool(verdict.reasons)) == (
        standard,
        reasons,
        bool(reasons),
    )


@pytest.mark.parametrize("kernel", ["SOFT", "MID"])
def test_a_relative_of_another_name_passes_with_a_caution(model, tmp_path, kernel):
    """A foreign name with a kernel's noise, thickness and pixels is treated as that kernel, and the verdict says so."""
    verdict = judged(model, write_kernel(tmp_path, kernel, called="B31f", seed=9))
    assert (verdict.kernel, verdict.reasons) == (kernel, ())
    assert verdict.relative == f"kernel B31f: its noise is that of {kernel}"


def test_a_foreign_name_with_the_noise_of_the_standard_is_refused(model, tmp_path):
    """What looks like the standard already must not be sharpened again, not even where a source would do too."""
    near = replace(model["SHARP"], kernel="SOFT")
    verdict = Guard((near,), model["SHARP"])(load_series(find_series(write_kernel(tmp_path, "SHARP", "X", seed=9)).series[0]))
    assert verdict.reasons == ("kernel X, the model standardizes SOFT", "its noise is nearer to that of the standard, SHARP")


def test_a_relative_needs_noise_that_can_be_measured(model):
    """Without a spectrum a foreign name is refused, whatever the headers."""
    unknown = SeriesCharacteristics(2.5, 0.7, np.full(len(BANDS), np.nan))
    assert guard_of(model).judge("B31f", unknown).reasons[1:] == ("its noise cannot be measured",)
    assert guard_of(model).judge("SOFT", unknown).reasons == ()


@pytest.mark.parametrize(("shift", "allowed"), [(0.11, True), (0.13, False)])
def test_low_frequencies_count_where_a_model_knows_them(shift, allowed):
    """Noise from 3.5 lp/cm on is the same; edges below differ by less than .12 or by more: the right name does not help."""
    shape = np.zeros(SIZE)
    seen = [replace(spectrum(4.0), shape=shape)]
    guard = Guard((Fingerprint.from_series("SOFT", seen),))
    moved = replace(spectrum(4.0), shape=shape + np.where(np.arange(SIZE) < len(OF_STRUCTURE), shift, 0))
    for kernel in ("SOFT", "X"):
        verdict = guard.judge(kernel, moved)
        assert (verdict.reasons == ()) == allowed
    assert allowed or verdict.reasons[1].startswith("edges and noise 0.13 from those of SOFT")
    assert not guard.judge("X", replace(moved, shape=None)).relative


def test_strangers_are_refused_with_the_reason(model, tmp_path):
    """Another name, the right name on another kernel's noise, and another thickness; each is treated as what is nearest."""
    unknown = judged(model, write_kernel(tmp_path / "a", "SHARP", called="B31f", seed=9))
    assert unknown.reasons == (
        "kernel B31f, the model standardizes SOFT and MID",
        *model[unknown.kernel].deviations(read_characteristics(find_series(tmp_path / "a").series[0])),
    )
    assert len(unknown.reasons) > 1
    spectrum, level = judged(model, write_kernel(tmp_path / "b", "SHARP", called="SOFT", seed=9)).reasons
    assert spectrum.startswith("noise spectrum")
    assert "times the mean noise of SOFT" in level
    (reason,) = judged(model, write_kernel(tmp_path / "c", "SOFT", seed=9, thickness=5.0)).reasons
    assert reason == "slice thickness 5 mm, expected 2.5 to 2.5 mm"


def thin_guard(model):
    """A guard of a model that makes SHARP 1 mm of SOFT at 1 and 3 mm and of SHARP at 3 mm."""
    sources = [replace(model[kernel], slice_thickness=(t, t)) for kernel, t in (("SOFT", 1.0), ("SOFT", 3.0), ("SHARP", 3.0))]
    return Guard(sources, replace(model["SHARP"], slice_thickness=(1.0, 1.0)), by_thickness=True)


@pytest.mark.parametrize(
    ("kernel", "thickness", "treated_as", "reasons"),
    [
        ("SOFT", 1.0, "SOFT 1 mm", ()),
        ("SOFT", 3.0, "SOFT 3 mm", ()),
        ("SOFT", 2.73, "SOFT 3 mm", ()),
        ("SOFT", 2.72, "SOFT 3 mm", ("slice thickness 2.72 mm, expected 1 to 1 or 3 to 3 mm",)),
        ("SOFT", 1.2, "SOFT 1 mm", ("slice thickness 1.2 mm, expected 1 to 1 or 3 to 3 mm",)),
        ("SHARP", 3.0, "SHARP 3 mm", ()),
        ("SHARP", 5.0, "SHARP 3 mm", ("kernel SHARP is the standard one, but", "slice thickness 5 mm, expected 1 to 1 mm")),
        ("OTHER", 1.0, "SOFT 1 mm", ()),
        (
            "OTHER",
            5.0,
            "SOFT 3 mm",
            ("kernel OTHER, the model standardizes SOFT and SHARP", "slice thickness 5 mm, expected 3 to 3 mm"),
        ),
    ],
)
def test_a_model_of_several_thicknesses(model, tmp_path, kernel, thickness, treated_as, reasons):
    """A series is treated as its kernel and the nearest thickness, and refused where it has neither of them."""
    write_kernel(tmp_path, "SHARP" if kernel == "SHARP" else "SOFT", called=kernel, seed=9, thickness=thickness)
    verdict = thin_guard(model)(load_series(find_series(tmp_path).series[0]))
    assert (verdict.kernel, verdict.standard, verdict.reasons) == (treated_as, False, reasons)


def test_the_standard_of_a_model_of_several_thicknesses(model, tmp_path):
    """The target's kernel is the standard protocol at the target's thickness alone."""
    write_kernel(tmp_path, "SHARP", seed=9, thickness=1.0)
    assert thin_guard(model)(load_series(find_series(tmp_path).series[0])).standard


def test_a_model_without_fingerprints_lets_everything_pass(tmp_path):
    """Nothing is known of what it was made for, so nothing can be said."""
    verdict = Guard()(load_series(find_series(write_kernel(tmp_path, "SHARP", called="any")).series[0]))
    assert (verdict.kernel, verdict.standard, verdict.reasons) == ("any", False, ())


def run_cohort(source, output, guard, allow=False):
    run = Run(source, output, ModelSet((scripted_model(guard=guard),)), "test", allow)
    return standardize_cohort(find_series(source), run, lambda s, _: s, lambda line: None)


def manifest_of(output):
    return json.loads((output / "manifest.json").read_text())["series"]


def test_what_becomes_of_them(model, tmp_path):
    """The known series is written, the standard one left alone, the stranger refused with advice: exit code 2."""
    for number, (kernel, called) in enumerate((("SOFT", "SOFT"), ("SHARP", "SHARP"), ("SOFT", "B31f")), 1):
        thickness = 5.0 if called == "B31f" else 2.5
        write_kernel(tmp_path / "in" / str(number), kernel, called, series=number, thickness=thickness)
    outcome = run_cohort(tmp_path / "in", tmp_path / "out", guard_of(model))
    entries = {entry["kernel"]: entry for entry in manifest_of(tmp_path / "out")}
    assert {kernel: entry["status"] for kernel, entry in entries.items()} == {
        "SOFT": "written",
        "SHARP": "left_alone",
        "B31f": "refused",
    }
    assert entries["B31f"]["refusal"]["reason"] == "out_of_protocol"
    assert "--allow_out_of_protocol" in entries["B31f"]["refusal"]["advice"]
    assert outcome.exit_code == 2
    assert len(list((tmp_path / "out/series").iterdir())) == 1
    report = (tmp_path / "out/report.html").read_text()
    assert "left alone" in report
    assert "kernel B31f, the model standardizes SOFT and MID" in report


def test_a_stranger_is_refused_by_eight_of_its_slices(model, tmp_path, monkeypatch):
    """Of 20 slices no more than the measured ones are decoded; where one of these is damaged, the others tell."""
    noise = np.random.default_rng(0).normal(0, 60, (20, 96, 96))
    hu = 40 + ndimage.gaussian_filter(noise, (0, BLUR["SOFT"], BLUR["SOFT"]))
    paths = write_ct(tmp_path / "in", np.rint(hu).astype(int) + 1024, kernel="STRANGE", thickness=5.0)
    decoded = []
    monkeypatch.setattr(dicom_series, "decode", lambda data: decoded.append(1) or decode(data))

    def refusal(output, inventory):
        run = Run(tmp_path / "in", tmp_path / output, ModelSet((replace(scripted_model(), guard=guard_of(model)),)))
        (record,) = standardize_cohort(inventory, run, lambda s, _: s, lambda _: None).records
        return record.refusal.reason

    inventory = find_series(tmp_path / "in")
    assert refusal("out", inventory) == "out_of_protocol"
    assert len(decoded) == 8
    paths[0].write_bytes(paths[0].read_bytes()[:-100])  # after it was found
    assert refusal("again", inventory) == "out_of_protocol"
    assert len(decoded) == 8 + 8 + 20


def test_nothing_but_the_standard_is_all_good(model, tmp_path):
    """Where all is of the standard protocol there is nothing to do, and nothing is wrong: exit code 0."""
    outcome = run_cohort(write_kernel(tmp_path / "in", "SHARP"), tmp_path / "out", guard_of(model))
    assert outcome.exit_code == 0
    assert not list((tmp_path / "out").glob("series/*"))


def test_going_on_is_marked(model, tmp_path):
    """With `allow` the stranger is written, and manifest, headers and report say that it is one."""
    write_kernel(tmp_path / "in", "SOFT", "B31f", thickness=5.0)
    outcome = run_cohort(tmp_path / "in", tmp_path / "out", guard_of(model), allow=True)
    assert outcome.exit_code == 0
    (entry,) = manifest_of(tmp_path / "out")
    stranger = "kernel B31f, the model standardizes SOFT and MID"
    assert entry["out_of_protocol"] == [stranger, "slice thickness 5 mm, expected 2.5 to 2.5 mm"]
    assert entry["treated_as"] == "SOFT"
    slices = [pydicom.dcmread(path) for path in (tmp_path / "out/series").glob("*/*.dcm")]
    assert len(slices) == 8
    for dataset in slices:
        assert "CAUTION: out of protocol: kernel B31f, the model standardizes SOFT and MID" in dataset.DerivationDescription
    assert "Out of protocol" in (tmp_path / "out/report.html").read_text()


def test_a_relative_is_written_with_a_finding(model, tmp_path):
    """A foreign name with the noise of SOFT is standardized as SOFT; manifest, headers and report carry the caution."""
    write_kernel(tmp_path / "in", "SOFT", "B31f")
    outcome = run_cohort(tmp_path / "in", tmp_path / "out", guard_of(model))
    assert outcome.exit_code == 0
    (entry,) = manifest_of(tmp_path / "out")
    assert (entry["status"], entry["treated_as"], entry["out_of_protocol"]) == ("written", "SOFT", [])
    assert "kernel B31f: its noise is that of SOFT" in json.dumps(entry)
    headers = [pydicom.dcmread(path) for path in (tmp_path / "out/series").glob("*/*.dcm")]
    assert all("FINDINGS" in header.SeriesDescription for header in headers)
    assert "Kernel of another name" in (tmp_path / "out/report.html").read_text()
