"""Many series through the pipeline, to DICOM and back."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from cohorts import files_of, run_cohort
from synthesizers import Scripted, scripted_model
from synthetic import random_stored, write_ct

from stan_ct.dicom.find import find_series
from stan_ct.dicom.series import load_series
from stan_ct.reconstruction import accounts, panels, report, standardize
from stan_ct.reconstruction.cohort import OutputError, Run, check_output, standardize_cohort
from stan_ct.reconstruction.selection import ModelSet

ACCOUNTS = ["failures.csv", "log.jsonl", "manifest.json", "report.html", "report_files", "series", "series.csv"]
CONTENT = [".stan_ct", *ACCOUNTS]
"""Of an output directory."""

FORMATS = {
    "12-bit unsigned": {},
    "16-bit signed, padding": {"bits": 16, "signed": True, "padding": (-2000,)},
    "intercept 0, signed": {"bits": 16, "signed": True, "intercept": "0"},
    "intercept -1000": {"intercept": "-1000"},
    "fractional slope": {"slope": "2.0002442", "intercept": "-4047"},
    "big endian": {"syntax": "big endian"},
    "JPEG 2000": {"syntax": "JPEG 2000"},
    "tilted": {"tilt": 15.0},
}


@pytest.mark.parametrize("layout", ["random", "grid", "slice"])
@pytest.mark.parametrize("form", FORMATS)
def test_the_identity_gives_the_same_hu_through_dicom_and_back(tmp_path, form, layout):
    """With the identity in place of G the written HU equal the source's exactly; values outside the window too."""
    options = FORMATS[form]
    stored = random_stored((2, 70, 90), options.get("bits", 12), options.get("signed", False))
    write_ct(tmp_path / "in", stored, **options)
    outcome = run_cohort(tmp_path / "in", tmp_path / "out", patch_layout=layout)
    assert outcome.exit_code == 0
    source, written = (
        load_series(find_series(folder, accept_standardized=True).series[0]) for folder in (tmp_path / "in", tmp_path / "out")
    )
    np.testing.assert_array_equal(written.volume, source.volume)
    np.testing.assert_array_equal(written.padding, source.padding)
    assert np.ptp(source.volume) > 3000


def test_source_files_are_not_touched_and_series_folders_hold_dicom_alone(tmp_path):
    """The input is bit for bit as before; below `series` lie one folder a series and nothing but slices in it."""
    for series in (1, 2):
        write_ct(tmp_path / "in" / str(series), random_stored((3, 40, 40)), series=series)
    before = files_of(tmp_path / "in")
    run_cohort(tmp_path / "in", tmp_path / "out", Scripted(30.0))
    assert files_of(tmp_path / "in") == before
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == CONTENT
    folders = sorted((tmp_path / "out" / "series").glob("*/*"))
    assert [len(list(f.iterdir())) for f in folders] == [3, 3]


def test_running_twice_gives_the_same_bytes(tmp_path, monkeypatch):
    """UIDs and pixels are determined by source, model and flags; SOURCE_DATE_EPOCH fixes the times too."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    write_ct(tmp_path / "in", random_stored((3, 300, 280)))
    synthesizer = Scripted(lambda p: p * 0.1)
    outputs = []
    for name in ("first", "second"):
        run_cohort(tmp_path / "in", tmp_path / name, synthesizer, patch_layout="random")
        outputs.append(files_of(tmp_path / name))
    assert outputs[0] == outputs[1]
    run_cohort(tmp_path / "in", tmp_path / "other", synthesizer, patch_layout="grid")
    uids = [
        json.loads((tmp_path / n / "manifest.json").read_text())["series"][0]["derived_series_uid"] for n in ("first", "other")
    ]
    assert uids[0] != uids[1], "other flags, other UIDs"


def test_one_series_that_fails_does_not_stop_the_others(tmp_path):
    """A failing synthesizer is accounted for by name, leaves nothing behind, and gives exit code 2; all failing, 3."""
    write_ct(tmp_path / "in" / "a", random_stored((2, 40, 40)), series=1)
    write_ct(tmp_path / "in" / "b", random_stored((3, 40, 40)), series=2)

    def fail_once(patches):
        if not calls:
            calls.append(1)
            raise RuntimeError("out of luck")
        return 0.0

    calls: list = []
    outcome = run_cohort(tmp_path / "in", tmp_path / "out", Scripted(fail_once))
    assert [r.status for r in outcome.records] == ["failed", "written"]
    assert outcome.exit_code == 2
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["series"][0]["refusal"]["found"] == "RuntimeError: out of luck"
    assert len(list((tmp_path / "out" / "series").iterdir())) == 1

    def always(patches):
        raise RuntimeError("never")

    assert run_cohort(tmp_path / "in", tmp_path / "out2", Scripted(always)).exit_code == 3


def test_a_slice_that_cannot_be_read_is_named_and_the_rest_is_written(tmp_path):
    """A damaged compressed slice: the others are standardized, exit code 2, the manifest says which file and why."""
    paths = write_ct(tmp_path / "in", random_stored((3, 40, 40)), syntax="JPEG 2000")
    data = bytearray(paths[1].read_bytes())
    start = data.find(b"\xff\x4f\xff\x51")  # start of the JPEG 2000 codestream
    data[start : start + 60] = bytes(60)
    paths[1].write_bytes(data)
    outcome = run_cohort(tmp_path / "in", tmp_path / "out")
    assert outcome.exit_code == 2
    entry = json.loads((tmp_path / "out" / "manifest.json").read_text())["series"][0]
    assert [r["reason"] for r in entry["refused_slices"]] == ["undecodable"]
    assert entry["refused_slices"][0]["num_files"] == 1
    assert "files" not in entry["refused_slices"][0], "names of files may be those of patients"
    assert len(entry["slices"]) == 2


def test_the_manifest_accounts_for_every_slice(tmp_path):
    """Inputs with SHA-256, derived UIDs, patches and findings; the numbers are those of the run."""
    import hashlib

    paths = write_ct(tmp_path / "in", random_stored((2, 300, 300)) // 8 + 900)
    rejecting = Scripted(12.0, lambda p: np.zeros(len(p)))
    run_cohort(tmp_path / "in", tmp_path / "out", rejecting, qc_threshold=0.5, patch_layout="grid")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    entry = manifest["series"][0]
    assert [s["sha256"] for s in entry["slices"]] == [hashlib.sha256(p.read_bytes()).hexdigest() for p in paths]
    assert entry["kept_fraction"] == 0
    assert entry["findings"] == {"low_pass_difference": 1, "mean_soft_tissue": 1, "unqualified_patches": 2}
    assert entry["mean_hu_change"] == pytest.approx(12, abs=0.01)
    places = [[r[name] for name in ("row", "column", "height", "width")] for r in entry["slices"][0]["rejected"]]
    assert places[:4] == [[0, 0, 256, 256], [0, 44, 256, 256], [44, 0, 256, 256], [44, 44, 256, 256]]
    assert {(r["p_real"], r["reason"]) for s in entry["slices"] for r in s["rejected"]} == {(0.0, "")}
    assert entry["lattice"] == {
        "periods": {p: {"ratio": 1.0, "limit": limit} for p, limit in (("2", 4.31), ("4", 3.15), ("8", 2.58))},
        "mean": 0.0,
        "mean_limit": 0.15,
    }
    assert manifest["models"][0]["sha256"] == "0" * 64
    report = (tmp_path / "out" / "report.html").read_text()
    assert "unqualified_patches" in report
    assert len(list((tmp_path / "out" / "report_files").iterdir())) == 2  # two of two slices
    assert report.count("report_files/") >= 2


def test_the_last_report_is_complete_and_images_are_written_once(tmp_path, monkeypatch):
    """Even if the run was so fast that reports between were left out; images are let go, residuals not computed again."""
    monkeypatch.setattr(accounts, "INTERVAL", 1e9)
    monkeypatch.setattr(panels, "residual", None)  # the ones of the fidelity check are used
    for series in (3, 4):
        write_ct(tmp_path / "in" / str(series), random_stored((2, 40, 40)), series=series)
    written = []
    monkeypatch.setattr(accounts, "report_page", lambda *content: written.append(content) or "page")
    outcome = run_cohort(tmp_path / "in", tmp_path / "out")
    assert [len(manifest["not_yet_done"]) for manifest, _ in written] == [1, 0]
    assert [panel.jpeg for record in outcome.records for panel in record.panels] == [b""] * 4
    assert len(list((tmp_path / "out" / "report_files").iterdir())) == 4


def test_each_of_many_series_has_a_page_that_is_written_once(tmp_path, monkeypatch):
    """The report links to it; a rerun, which keeps the series, writes it again if it went away."""
    monkeypatch.setattr(report, "PAGES_ABOVE", 1)
    for series in (3, 4):
        write_ct(tmp_path / "in" / str(series), random_stored((1, 40, 40)), series=series)
    original, made = accounts.series_page, []
    monkeypatch.setattr(accounts, "series_page", lambda *content: made.append(content[1]["name"]) or original(*content))
    run_cohort(tmp_path / "in", tmp_path / "out")
    pages = sorted((tmp_path / "out" / "report_files").glob("*.html"))
    assert sorted(made) == [page.stem for page in pages]
    text = (tmp_path / "out" / "report.html").read_text()
    assert [text.count(f'href="report_files/{page.name}"') for page in pages] == [1, 1]
    assert "report_files" not in pages[0].read_text()
    assert all((pages[0].parent / name).is_file() for name in re.findall(r'src="([^"]+)"', pages[0].read_text()))
    pages[0].unlink()
    assert all(record.entry["kept"] for record in run_cohort(tmp_path / "in", tmp_path / "out").records)
    assert pages[0].is_file()
    assert (tmp_path / "out" / "report.html").read_text().count("kept from an earlier run") == 2


def test_derived_series_get_numbers_of_their_own(tmp_path):
    """Two series of one study: new numbers, neither used in the study before."""
    for series in (3, 1003):
        write_ct(tmp_path / "in" / str(series), random_stored((2, 40, 40)), series=series)
    run_cohort(tmp_path / "in", tmp_path / "out")
    numbers = [s["series_number"] for s in json.loads((tmp_path / "out" / "manifest.json").read_text())["series"]]
    assert len(set(numbers)) == 2
    assert not set(numbers) & {3, 1003}


def test_outputs_and_other_data_never_mix(tmp_path):
    """The output may not be, or hold, the input; nor hold series of another run. Inside the input it is left out."""
    write_ct(tmp_path / "in" / "a", random_stored((2, 40, 40)), series=1)
    inventory = find_series(tmp_path / "in")
    for output in (tmp_path / "in", tmp_path):
        with pytest.raises(OutputError, match="contains the input"):
            check_output(Run(tmp_path / "in", output, ModelSet((scripted_model(),))), inventory)
    inside = tmp_path / "in" / "out"
    for _ in range(2):
        assert len(run_cohort(tmp_path / "in", inside).records) == 1
    with pytest.raises(OutputError, match=r"holds files of the input, such as '.*\.dcm'"):
        run_cohort(tmp_path / "in", tmp_path / "in" / "a")
    assert {path.suffix for path in (tmp_path / "in" / "a").iterdir()} == {".dcm"}
    write_ct(tmp_path / "b", random_stored((2, 40, 40)), series=9)
    with pytest.raises(OutputError, match="choose an empty directory"):
        run_cohort(tmp_path / "b", inside)


KILLED = """
import sys
import time
from pathlib import Path
sys.path[:0] = [{tests!r}, {synthetic!r}]
from cohorts import run_cohort
from synthesizers import Scripted
until = time.monotonic() + {hold}
def change(patches):
    while time.monotonic() < until and len(list(Path({output!r}, "series").glob("*/*"))) == 3:
        time.sleep(0.01)
    return 25.0
run_cohort(Path({source!r}), Path({output!r}), Scripted(change))
"""


def test_a_killed_run_leaves_nothing_half_written_and_a_rerun_completes(tmp_path, monkeypatch):
    """kill -9 at many moments: whatever lies in `series` is complete; the rerun equals an undisturbed run."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    source, output = tmp_path / "in", tmp_path / "out"
    for series in range(1, 5):
        write_ct(source / str(series), random_stored((12, 128, 128)), series=series)
    run_cohort(source, tmp_path / "undisturbed", Scripted(25.0))
    expected = files_of(tmp_path / "undisturbed")
    here = Path(__file__).parent
    where = {"tests": str(here), "synthetic": str(here.parent / "dicom"), "source": str(source), "output": str(output)}
    complete = []
    for delay in (0.0, 0.05, 0.1, 0.2, 0.4):
        code = KILLED.format(hold=0 if delay else 600, **where)  # the first does not end before it is killed, however late
        process = subprocess.Popen([sys.executable, "-c", code], cwd=here, env=os.environ)
        deadline = time.monotonic() + 300
        while not (output / ".incomplete").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        folders = list((output / "series").glob("*/*"))
        complete.append(len(folders))
        for folder in folders:
            assert len(list(folder.iterdir())) == 12
        written = files_of(output / "series")
        assert all(expected[f"series/{name}"] == data for name, data in written.items())
    assert min(complete) < 4, "at least one run was killed before its end"
    run_cohort(source, output, Scripted(25.0))
    assert files_of(output) == expected
    assert sorted(p.name for p in output.iterdir()) == CONTENT


def test_one_sop_instance_in_two_series_is_a_conflict(tmp_path):
    """Two series that claim the same SOP Instance UIDs would give two outputs with one UID: all those slices are refused."""
    for series in (1, 2):
        paths = write_ct(tmp_path / "in" / str(series), random_stored((2, 20, 20), seed=series), series=series)
        for number, path in enumerate(paths):
            dataset = pydicom.dcmread(path)
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{number + 1}"
            dataset.save_as(path)
    outcome = run_cohort(tmp_path / "in", tmp_path / "out")
    assert [r.reason for r in outcome.refusals] == ["conflicting_instances"] * 2
    assert outcome.exit_code == 3


def test_an_earlier_result_survives_a_source_that_was_damaged_since(tmp_path):
    """A series that was written before and cannot be read now is refused; its first output stays, and the manifest says so."""
    paths = write_ct(tmp_path / "in", random_stored((1, 40, 40)), syntax="JPEG 2000")
    run_cohort(tmp_path / "in", tmp_path / "out")
    assert len(files_of(tmp_path / "out")) == 1
    data = bytearray(paths[0].read_bytes())
    start = data.find(b"\xff\x4f\xff\x51")
    data[start : start + 60] = bytes(60)
    paths[0].write_bytes(data)
    before = files_of(tmp_path / "out")
    assert run_cohort(tmp_path / "in", tmp_path / "out").exit_code == 3
    assert files_of(tmp_path / "out") == before
    (entry,) = json.loads((tmp_path / "out" / "manifest.json").read_text())["series"]
    earlier = str(Path(next(iter(before))).parent)
    assert (entry["status"], entry["earlier_result"]) == ("refused", earlier)
    with open(tmp_path / "out" / "series.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["output_folder"], row["earlier_output"]) == ("", earlier)
    assert row["verdict"] == f"refused: {entry['refusal']['reason']}, an earlier output stays"
    assert row["what_to_do"] == entry["refusal"]["advice"]
    assert f"source is refused or failed now: {earlier}." in (tmp_path / "out" / "report.html").read_text()


def test_a_full_disk_is_named_and_leaves_no_half_series(tmp_path, monkeypatch):
    """When the slices cannot be written the reason is `unwritable`, and no part of the series stays."""
    write_ct(tmp_path / "in", random_stored((3, 40, 40)))
    write = Path.write_bytes

    def full(path, data):
        if path.name == "IM0003.dcm":
            raise OSError(28, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    outcome = run_cohort(tmp_path / "in", tmp_path / "out")
    assert [r.entry["refusal"]["reason"] for r in outcome.records] == ["unwritable"]
    assert files_of(tmp_path / "out") == {}
    assert not (tmp_path / "out" / ".incomplete").exists()


def test_each_part_of_the_key_gives_other_uids():
    """Two runs that differ in the model's hash, the precision, the version or one switch alone never share a UID."""
    base = scripted_model()
    identity = replace(base.identity, sha256="1" * 64)
    others = {
        "hash": replace(base, identity=identity),
        "precision": replace(base, precision="bfloat16"),
        "qc_threshold": scripted_model(qc_threshold=0.98),
        "mask": scripted_model(mask="air"),
        "seed": scripted_model(seed=1),
        "fusion_weights": scripted_model(fusion_weights="mean"),
        "hu_rescale": scripted_model(hu_rescale="patch"),
        "patch_layout": scripted_model(patch_layout="random"),
        "on_unqualified": scripted_model(on_unqualified="source"),
    }
    keys = {name: model.key for name, model in others.items()}
    assert base.key not in keys.values()
    assert len(set(keys.values())) == len(keys)
    renamed = replace(base, identity=replace(base.identity, name="other"))
    assert renamed.key == base.key, "a name decides no pixel"


def test_the_version_is_part_of_the_key(monkeypatch):
    """Another version of STAN-CT may give other pixels: other UIDs."""
    before = scripted_model().key
    monkeypatch.setattr(standardize, "__version__", "99.0")
    assert scripted_model().key != before


def test_structures_that_came_or_went_reach_manifest_report_and_summary(tmp_path):
    """A lesion that the synthesizer plants in one slice is named, for that slice, wherever people look."""
    rng = np.random.default_rng(0)
    stored = np.full((3, 256, 256), 24)
    stored[:, 20:236, 20:236] = 1064  # a body of soft tissue
    write_ct(tmp_path / "in", stored + rng.normal(0, 8, stored.shape).round().astype(int).clip(-24))

    class Planting(Scripted):
        def __call__(self, patches):
            made, p_real = super().__call__(patches)
            if len(self.seen) == 2:  # the second slice
                made = made.copy()
                made[0, 120:132, 120:132] += 150
            return made, p_real

    lines: list[str] = []
    run = Run(tmp_path / "in", tmp_path / "out", ModelSet((scripted_model(Planting()),)), "test")
    standardize_cohort(find_series(tmp_path / "in"), run, lambda s, _: s, lines.append)
    (entry,) = json.loads((tmp_path / "out" / "manifest.json").read_text())["series"]
    assert [[f["name"] for f in s["findings"]] for s in entry["slices"]] == [[], ["new_structure"], []]
    assert entry["findings"]["new_structure"] == 1
    assert "new_structure" in (tmp_path / "out" / "report.html").read_text()
    assert "new_structure x 1" in lines[-1]


def test_the_tool_fails_with_its_own_word(tmp_path):
    """Only a fault of STAN-CT itself is called one, with the traceback in the manifest."""
    write_ct(tmp_path / "in", random_stored((1, 40, 40)))

    def broken(patches):
        raise ZeroDivisionError("a bug")

    assert run_cohort(tmp_path / "in", tmp_path / "out", Scripted(broken)).exit_code == 3
    (entry,) = json.loads((tmp_path / "out" / "manifest.json").read_text())["series"]
    assert entry["refusal"]["reason"] == "failed"
    assert "ZeroDivisionError" in entry["traceback"]


def test_too_little_memory_is_no_fault_of_the_tool(tmp_path):
    """It has a word of its own, and the other series are tried."""
    for series in (1, 2):
        write_ct(tmp_path / "in" / str(series), random_stored((1, 40, 40)), series=series)
    calls = []

    def once(patches):
        calls.append(1)
        if len(calls) == 1:
            raise MemoryError
        return 0.0

    outcome = run_cohort(tmp_path / "in", tmp_path / "out", Scripted(once))
    assert [record.status for record in outcome.records] == ["failed", "written"]
    assert outcome.records[0].entry["refusal"]["reason"] == "out_of_memory"
    assert "traceback" not in outcome.records[0].entry
