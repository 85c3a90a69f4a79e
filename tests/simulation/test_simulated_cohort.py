"""Many simulated patients: the same bytes whoever makes them, nothing half made, and errors before the work."""

import hashlib
import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import commands
import numpy as np
import pydicom
import pytest

from stan_ct.ct.filters import fit_radial_filter
from stan_ct.ct.kernels import KERNELS, Kernel
from stan_ct.dicom.find import find_series
from stan_ct.dicom.series import load_series
from stan_ct.simulation import cohort as cohorts
from stan_ct.simulation.cohort import Cohort, CohortError, check, cost, simulate
from stan_ct.simulation.refilter import kernel_ratio, refilter_tree
from stan_ct.simulation.study import Patient, Scan

ROOT = Path(__file__).resolve().parents[2]
SCAN = Scan((KERNELS["BR40"], KERNELS["BL64"]), (1.0,), slices=3, increment=0.5)


def tree(folder):
    """Relative path -> digest of every file."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def run(*flags):
    return commands.run("simulate", *flags)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A training and a test patient, made in this process: the folder, the images counted, the new folders."""
    folder = tmp_path_factory.mktemp("cohort") / "out"
    cohort, counted = Cohort(SCAN, folder, (1, 0, 1), workers=1), []
    check(cohort)
    new = simulate(cohort, counted.append)
    return folder, counted, new


def test_patients_lie_where_they_belong(made):
    """OUT/<split>/<patient>/<kernel>_<thickness>mm/IM0001.dcm, the truth beside it, nothing else."""
    folder, counted, new = made
    series = [f"{name}/IM{n:04d}.dcm" for name in ("BL64_1mm", "BR40_1mm") for n in (1, 2, 3)]
    patients = ("test/SIM000002", "train/SIM000001")
    expected = {f"{patient}/{name}" for patient in patients for name in series} | {f"{patient}.json" for patient in patients}
    assert set(tree(folder)) == {*expected, "simulation.json"}
    assert sorted(new) == [folder / patient for patient in patients]
    assert sum(counted) == 12
    assert json.loads((folder / "test/SIM000002.json").read_text())["seed"] == 2


def test_same_bytes_whatever_the_number_of_workers(made, tmp_path):
    """Two workers that share the first two slices of a patient make the files of one process that makes two patients."""
    scan = replace(SCAN, slices=2, start=Patient(1, SCAN).start)
    cohort, counted = Cohort(scan, tmp_path, (1, 0, 0), first_seed=1, workers=2), []
    check(cohort)
    simulate(cohort, counted.append)
    shared = {path: digest for path, digest in tree(tmp_path).items() if path.startswith("train")}
    assert shared.items() <= tree(made[0]).items()
    assert (len(shared), sum(counted)) == (5, 4)


def test_a_stopped_run_is_completed(made, tmp_path):
    """Files of a stopped run are used, half-written ones are not, and the outcome is that of a run without a stop."""
    out = tmp_path / "out"
    shutil.copytree(made[0], out)
    stopped = out / ".incomplete" / "SIM000001"
    stopped.parent.mkdir()
    (out / "train/SIM000001").rename(stopped)
    (out / "train/SIM000001.json").unlink()
    (stopped / "half.4711.partial").touch()
    (stopped / "BL64_1mm/IM0002.dcm").unlink()
    (stopped / "BR40_1mm/IM0003.dcm").rename(stopped / "BR40_1mm/IM0003.dcm.4711.partial")
    before = (stopped / "BR40_1mm/IM0001.dcm").stat().st_mtime_ns
    cohort, counted = Cohort(SCAN, out, (1, 0, 1), workers=1), []
    assert cohort.missing() == {1: out / "train/SIM000001"}
    check(cohort)
    assert simulate(cohort, counted.append) == [out / "train/SIM000001"]
    assert tree(out) == tree(made[0])
    assert (out / "train/SIM000001/BR40_1mm/IM0001.dcm").stat().st_mtime_ns == before
    assert sum(counted) == 6


def test_complete_patients_are_left_alone(made):
    """A second run makes nothing."""
    cohort = Cohort(SCAN, made[0], (1, 0, 1))
    before = tree(made[0])
    check(cohort)
    assert cost(cohort) == cohorts.Cost(0, 0, 0.0, 0.0)
    assert simulate(cohort) == []
    assert tree(made[0]) == before


def test_cost_counts_what_is_missing(tmp_path, monkeypatch):
    """Images and gigabytes are exact; the time is that of the phantom and the first slice, and a share of it for each other."""
    clock = iter((10.0, 12.0, 15.0))  # 2 s for the phantom, 3 s for the slice
    monkeypatch.setattr(cohorts, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    monkeypatch.setattr("stan_ct.simulation.cohort.usable_cores", lambda: 2)
    expected = cost(Cohort(SCAN, tmp_path, (2, 0, 0), workers=2))
    assert (expected.patients, expected.images) == (2, 12)
    assert expected.gigabytes == pytest.approx(12 * 0.526e-3, rel=0.01)
    assert 2 + 3 < expected.seconds < 2 + 3 * SCAN.slices  # two patients, two workers


def test_other_settings_do_not_mix(made):
    """A folder holds one simulation: other flags are refused by name."""
    with pytest.raises(CohortError, match=r"other settings \(thicknesses\).*another --output_dir"):
        check(Cohort(replace(SCAN, thicknesses=(3.0,)), made[0], (1, 0, 1)))


def test_patients_of_unknown_settings_do_not_mix(made, tmp_path):
    """Without the record of its settings, a folder with patients is not added to."""
    shutil.copytree(made[0], tmp_path / "out")
    (tmp_path / "out/simulation.json").unlink()
    with pytest.raises(CohortError, match=r"holds train, test but no simulation\.json.*another --output_dir"):
        check(Cohort(SCAN, tmp_path / "out", (1, 0, 1)))


@pytest.mark.parametrize("lost", ["BR40_1mm/IM0002.dcm", "BL64_1mm", "../SIM000001.json"])
def test_a_patient_that_lost_files_is_not_taken_for_complete(made, tmp_path, lost):
    """A slice, a series or the truth that was removed is missed, and the message says how it comes back."""
    shutil.copytree(made[0], tmp_path / "out")
    path = tmp_path / "out/train/SIM000001" / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(CohortError, match=r"SIM000001 lacks [13] of its files: remove it"):
        check(Cohort(SCAN, tmp_path / "out", (1, 0, 1)))


def test_a_patient_stays_in_its_split(made):
    """The same seed in training and test would leak: refused."""
    with pytest.raises(CohortError, match="SIM000002 is in test already and would now be in train"):
        check(Cohort(SCAN, made[0], (2, 0, 0)))


def test_too_little_room_is_said_before_the_work(tmp_path, monkeypatch):
    """Gigabytes needed and free, and nothing is made."""
    usage = shutil.disk_usage(tmp_path)._replace(free=10**6)
    monkeypatch.setattr(cohorts.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(CohortError, match=r"0\.0 GB are needed .* 0\.0 GB are free"):
        check(Cohort(SCAN, tmp_path, (1, 0, 0)))
    assert list(tmp_path.iterdir()) == []


def test_script_says_the_cost_and_stops_there(tmp_path):
    """--dry_run prints patients, images, GB and minutes, and makes no patient."""
    result = run(f"--output_dir={tmp_path / 'out'}", "--patients=3", "--slices=10", "--thicknesses=0.5,1", "--dry_run")
    assert result.returncode == 0, result.stderr
    assert "3 patients to make: 180 images in 18 series, 0.09 GB, about" in result.stdout
    assert not (tmp_path / "out").exists()


def test_script_makes_what_its_flagfile_repeats(tmp_path):
    """The effective flags are left beside the result and give the same bytes; user-defined kernels work."""
    flags = [
        "--patients=0",
        "--test_patients=1",
        "--slices=1",
        "--kernels=BR40,MINE:5:8:0.1",
        "--dose=1",
        "--start=0",
        "--thicknesses=0.5",
    ]
    assert run(f"--output_dir={tmp_path / 'a'}", *flags).returncode == 0
    assert run(f"--flagfile={tmp_path / 'a' / 'simulate.flags'}", f"--output_dir={tmp_path / 'b'}").returncode == 0
    first, second = tree(tmp_path / "a"), tree(tmp_path / "b")
    assert first.pop("simulate.flags") != second.pop("simulate.flags")  # names the other folder
    assert first == second
    (ds,) = [pydicom.dcmread(tmp_path / "a" / path) for path in first if "MINE" in path]
    assert (ds.ConvolutionKernel, ds.SliceLocation) == ("MINE", 0)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--kernels=BR99"], "kernel 'BR99' is unknown: expected BR40"),
        (["--kernels=X:9:5"], "expected 0 < f50 < f10"),
        (["--thicknesses=thin"], "--thicknesses: expected numbers, got 'thin'"),
        (["--dose=1,2,3"], "one number or a range of two"),
        (["--dose=1e-6"], "expected a range of doses within 0.01"),
        (["--noise_factor=nan"], "expected finite numbers"),
        (["--kernels=A:0.42:0.7"], "lp/cm, not in lp/mm"),
        (["--start=-400"], "must lie within -170 to 130 mm"),
        (["--start=1.3"], "multiple of 0.5 mm"),
        (["--thicknesses=0.5,0.5000001"], "different thicknesses"),
        (["--patients=0"], "expected one patient or more"),
        (["--patients=2", "--first_seed=999999"], "seeds up to 999999"),
        (["--input_dir=data", "--patients=2"], "--patients is for simulated patients"),
        (["--increment=0.3"], "multiple of 0.5 mm"),
        (["stray"], "unexpected argument 'stray'"),
        (["--input_dir=nowhere"], "nowhere does not exist"),
        (["--kernel_file=nowhere.json"], "nowhere.json"),
    ],
)
def test_script_refuses_in_the_users_words(tmp_path, flags, words):
    """Exit code 1, one line, nothing written."""
    result = run(f"--output_dir={tmp_path / 'out'}", *flags)
    assert result.returncode == 1
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_fit_kernel_finds_the_kernel_of_a_pair(made, tmp_path):
    """From a pair of series and the curve of one, `fit-kernel` gives the other's, and `simulate` takes it."""
    table = tmp_path / "kernels.json"
    flags = [f"--input_dir={made[0]}", f"--kernel_file={table}", "--known_kernel=BL64", "--fit_kernel=BR40"]
    result = commands.run("fit-kernel", *flags)
    assert result.returncode == 0, result.stderr
    found = Kernel("BR40", **json.loads(table.read_text())["BR40"])
    assert found.f50 == pytest.approx(4.2, rel=0.03)
    assert found.f10 == pytest.approx(7.0, rel=0.05)
    refiltered = (f"--input_dir={made[0] / 'train/SIM000001/BL64_1mm'}", f"--output_dir={tmp_path / 'out'}")
    assert run(*refiltered, f"--kernel_file={table}", "--kernels=BR40").returncode == 0


def test_refiltered_series_come_near_the_scan(made, tmp_path):
    """BL64 re-filtered to BR40 is close to the scan's own BR40, says that it is simulated, and leaves its source alone."""
    before = tree(made[0])
    source = made[0] / "train/SIM000001/BL64_1mm"
    result = run(f"--input_dir={source}", f"--output_dir={tmp_path / 'out'}", "--kernels=BR40,BL64")
    assert result.returncode == 0, result.stderr
    assert "1 re-filtered series" in result.stdout
    (files,) = find_series(tmp_path / "out").series
    (truth,) = find_series(made[0] / "train/SIM000001/BR40_1mm").series
    ours, theirs, sharp = (load_series(s).volume for s in (files, truth, *find_series(source).series))
    inside = (slice(None), slice(128, 384), slice(128, 384))
    error, before_error = ((v - theirs)[inside].std() for v in (ours, sharp))
    assert error < 0.15 * before_error
    assert (ours - theirs)[inside].mean() == pytest.approx(0, abs=2)
    ds = files.first
    assert (files.kernel, ds.ImageType[0]) == ("BR40", "DERIVED")
    assert ds.DerivationDescription.startswith("Simulated: re-filtered by STAN-CT from kernel BL64, taken for BL64 (f50 9.6")
    assert "gain at most 3" in ds.ImageComments
    assert "simulated BR40" in ds.SeriesDescription
    assert files.study_uid == truth.study_uid
    assert tree(made[0]) == before


def test_refiltering_caps_the_gain(made, tmp_path):
    """Sharpening lifts no frequency by more than --max_gain, and what is not known by name is left out with advice."""
    soft = made[0] / "train/SIM000001/BR40_1mm"
    result = run(f"--input_dir={soft}", f"--output_dir={tmp_path / 'out'}", "--kernels=BL64", "--max_gain=2")
    assert result.returncode == 0, result.stderr
    (ours,), (theirs,) = (find_series(folder).series for folder in (tmp_path / "out", soft))
    pairs = zip(load_series(theirs).volume, load_series(ours).volume, strict=True)
    measured = fit_radial_filter([(a, b, (0.7, 0.7)) for a, b in pairs])
    ratio = kernel_ratio(KERNELS["BR40"], KERNELS["BL64"], 2.0)
    assert max(ratio.gain) == 2
    assert np.interp([2, 4, 5], measured.frequency, measured.gain) == pytest.approx(
        np.interp([2, 4, 5], ratio.frequency, ratio.gain), rel=0.05
    )
    unknown = run(f"--input_dir={soft}", f"--output_dir={tmp_path / 'none'}", "--kernels=BL64", "--input_kernel=BR98")
    assert unknown.returncode == 1
    assert "BR98" in unknown.stderr


def test_refiltering_takes_no_kernel_for_another(made, tmp_path):
    """A curve given by hand is that of one kernel: a tree with two is refused, and the header names the real one."""
    mixed = run(f"--input_dir={made[0] / 'train'}", f"--output_dir={tmp_path / 'out'}", "--kernels=BL57", "--input_kernel=B31f")
    assert mixed.returncode == 1
    assert "holds series of kernels BL64, BR40" in mixed.stderr
    one = made[0] / "train/SIM000001/BR40_1mm"
    result = run(f"--input_dir={one}", f"--output_dir={tmp_path / 'out'}", "--kernels=BL57", "--input_kernel=B31f")
    assert result.returncode == 0, result.stderr
    ds = find_series(tmp_path / "out").series[0].first
    assert "from kernel BR40, taken for B31f (f50 3.6" in ds.DerivationDescription
    assert ds.ContributingEquipmentSequence[-1].ContributionDescription == "CT kernel simulation"


def test_refiltered_series_get_numbers_of_their_own(made, tmp_path):
    """A second run into the same directory does not use a Series Number again."""
    source = made[0] / "train/SIM000001/BL64_1mm"
    for kernel in ("BR40", "BR44"):
        assert run(f"--input_dir={source}", f"--output_dir={tmp_path / 'out'}", f"--kernels={kernel}").returncode == 0
    numbers = [series.number for series in find_series(tmp_path / "out").series]
    assert len(set(numbers)) == len(numbers) == 2


def refiltered(folder):
    """Last digits of the Series Instance UID -> kernel and Series Number, of every series of a run."""
    return {series.uid[-8:]: (series.kernel, series.number) for series in find_series(folder).series}


def test_refiltering_again_keeps_what_is_there(made, tmp_path):
    """A second run with the same flags changes no byte; a series that was lost comes back with its Series Number."""
    source, out = made[0] / "train/SIM000001/BL64_1mm", tmp_path / "out"
    flags = (f"--input_dir={source}", f"--output_dir={out}", "--kernels=BR40,BR44,BL57")
    assert run(*flags).returncode == 0
    numbers, before = refiltered(out), tree(out)
    assert len({number for _, number in numbers.values()}) == 3
    again = run(*flags)
    assert again.returncode == 0
    assert again.stdout.count("kept: an earlier run made it") == 3
    assert tree(out) == before
    first = next(path for path in sorted((out / "series").iterdir()) if path.name.endswith("BR40"))
    shutil.rmtree(first)
    assert run(*flags).stdout.count("kept") == 2
    assert refiltered(out) == numbers


def test_a_damaged_or_outdated_series_is_made_again(made, tmp_path):
    """A file that was changed, and a source that was, make a series again: same UID, same number."""
    source, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(made[0] / "train/SIM000001/BL64_1mm", source)
    say, kernels = [], [KERNELS["BR40"]]

    def once():
        say.clear()
        return refilter_tree(source, out, kernels, None, KERNELS, say=say.append)

    (folder,) = once()
    numbers, whole = refiltered(out), sorted(tree(folder))
    (folder / whole[1]).write_bytes(b"")
    once()
    assert not any("kept" in line for line in say)
    assert load_series(find_series(out).series[0]).volume.shape[0] == len(whole) == 3
    dataset = pydicom.dcmread(source / whole[0])
    dataset.PixelData = bytes(len(dataset.PixelData))
    dataset.save_as(source / whole[0])
    once()
    assert not any("kept" in line for line in say)
    assert refiltered(out) == numbers
    assert np.ptp(load_series(find_series(out).series[0]).volume[0]) < 1
    once()
    assert any("kept" in line for line in say)


def test_another_curve_of_the_same_name_replaces_nothing(made, tmp_path):
    """A kernel's name is that of its folder: one with another curve is refused, and what is there stays."""
    source, out, say = made[0] / "train/SIM000001/BL64_1mm", tmp_path / "out", []
    refilter_tree(source, out, [Kernel("K", 4.0, 7.0)], None, KERNELS, say=say.append)
    before = tree(out)
    assert refilter_tree(source, out, [Kernel("K", 4.5, 7.0)], None, KERNELS, say=say.append) == []
    assert "was made with another curve, gain or version" in say[-1]
    assert tree(out) == before


def test_workers_end_with_the_script(tmp_path):
    """Killing the script ends its workers, which would go on writing."""
    command = [sys.executable, ROOT / "data" / "simulate.py", f"--output_dir={tmp_path / 'out'}", "--slices=40", "--workers=2"]
    script = subprocess.Popen([*command, "--kernels=BR40", "--thicknesses=0.5"], cwd=ROOT, stdout=subprocess.PIPE)
    while not list(tmp_path.rglob("*.dcm")):
        assert script.poll() is None
        time.sleep(0.2)
    script.kill()
    script.communicate(timeout=300)  # the workers hold its output too: this ends with the last of them
    assert len(list(tmp_path.rglob("*.dcm"))) < 40
