"""The same command again: what is whole is kept, what is not is made again, what is not ours is left alone."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pydicom
import pytest
from cohorts import files_of, run_cohort
from synthesizers import Scripted
from synthetic import random_stored, write_ct

from stan_ct.reconstruction import accounts, cohort, one_series
from stan_ct.reconstruction.ledger import RECORDS
from stan_ct.reconstruction.lock import OutputError, locked
from stan_ct.reconstruction.rerun import recover

FLAT: Mapping = MappingProxyType({"flat": True})
OVERWRITE: Mapping = MappingProxyType({"overwrite": True})
SHOW: Mapping = MappingProxyType({"show_identifiers": True})


@pytest.fixture(autouse=True)
def _fixed_time(monkeypatch):
    """Bytes do not depend on the time."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")


@pytest.fixture
def source(tmp_path) -> Path:
    """Three series of two slices, in folders a, b and c."""
    for number, folder in enumerate("abc", 1):
        write_ct(tmp_path / "in" / folder, random_stored((2, 40, 40), seed=number), series=number)
    return tmp_path / "in"


@pytest.fixture
def undisturbed(source, tmp_path) -> dict[str, bytes]:
    """Files of one run without a disturbance."""
    run_cohort(source, tmp_path / "undisturbed", Scripted(25.0))
    return files_of(tmp_path / "undisturbed")


@pytest.fixture
def output(source, tmp_path) -> Path:
    """Finished output of the three series."""
    run_cohort(source, tmp_path / "out", Scripted(25.0))
    return tmp_path / "out"


def rerun(source: Path, output: Path, options: Mapping = MappingProxyType({}), **switches) -> list[bool]:
    """Runs again; whether each series was kept."""
    outcome = run_cohort(source, output, Scripted(25.0), options, **switches)
    assert outcome.kept == sum(bool(record.entry.get("kept")) for record in outcome.records)
    return [bool(record.entry.get("kept")) for record in outcome.records]


def derived(output: Path, folder: str) -> Path:
    """Folder of the derived series of a source folder."""
    (found,) = (output / "series" / folder).iterdir()
    return found


def record_of(output: Path, folder: str) -> Path:
    """Record of that series."""
    return output / RECORDS / f"{derived(output, folder).name}.json"


def rows_of(output: Path) -> list[dict[str, str]]:
    """Lines of `series.csv`."""
    with open(output / "series.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def flip_bit(path: Path, position: int = -9) -> None:
    """Flips a bit of a file."""
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def spoil(path: Path) -> None:
    """Overwrites the start of the JPEG 2000 codestream: the header can be read, the pixels cannot."""
    data = bytearray(path.read_bytes())
    start = data.find(b"\xff\x4f\xff\x51")
    data[start : start + 60] = bytes(60)
    path.write_bytes(data)


# What is kept


def test_a_rerun_keeps_what_is_whole_and_computes_nothing(source, output):
    """No patch reaches the network, no file is written again; the accounts tell of all series, and that they were kept."""
    before = {path: path.stat().st_mtime_ns for path in (output / "series").rglob("*.dcm")}
    synthesizer = Scripted(25.0)
    outcome = run_cohort(source, output, synthesizer)
    assert (outcome.kept, outcome.count("written"), outcome.exit_code) == (3, 3, 0)
    assert synthesizer.seen == []
    assert {path: path.stat().st_mtime_ns for path in (output / "series").rglob("*.dcm")} == before
    assert [entry["kept"] for entry in json.loads((output / "manifest.json").read_text())["series"]] == [True] * 3
    assert [row["verdict"] for row in rows_of(output)] == ["1 finding, kept from an earlier run"] * 3
    assert all("kept from an earlier run" in record.summary() for record in outcome.records)


def test_a_series_with_a_refused_slice_is_kept_too(tmp_path):
    """Its slices that were refused are part of what it was made of; the exit code stays 2. Repaired, it is made again."""
    path = write_ct(tmp_path / "in", random_stored((3, 40, 40)), syntax="JPEG 2000")[1]
    whole = path.read_bytes()
    spoil(path)
    for kept in (False, True):
        outcome = run_cohort(tmp_path / "in", tmp_path / "out", Scripted(25.0))
        (record,) = outcome.records
        assert (outcome.exit_code, bool(record.entry.get("kept")), len(record.entry["slices"])) == (2, kept, 2)
    path.write_bytes(whole)
    assert rerun(tmp_path / "in", tmp_path / "out") == [False]
    assert rerun(tmp_path / "in", tmp_path / "out") == [True]


@pytest.mark.parametrize("change", ["bit", "missing", "slice"])
def test_a_changed_source_is_made_again(source, output, change):
    """A flipped bit of a pixel, a missing slice, or one more: that series alone is made again."""
    if change == "bit":
        flip_bit(source / "b" / "0.dcm")
    elif change == "missing":
        (source / "b" / "1.dcm").unlink()
    else:
        write_ct(source / "b", random_stored((3, 40, 40), seed=2), series=2)
    assert rerun(source, output) == [True, False, True]
    assert rerun(source, output) == [True] * 3
    assert len(list(derived(output, "b").iterdir())) == {"bit": 2, "missing": 1, "slice": 3}[change]


@pytest.mark.parametrize("damage", ["bit", "missing", "slice", "empty", "folder"])
def test_a_damaged_output_is_made_again(source, output, undisturbed, damage):
    """A flipped bit, a missing or one more slice, an empty folder or none: the same bytes as before come back."""
    folder = derived(output, "b")
    if damage == "bit":
        flip_bit(folder / "IM0002.dcm")
    elif damage == "missing":
        (folder / "IM0001.dcm").unlink()
    elif damage == "slice":
        shutil.copy(folder / "IM0001.dcm", folder / "IM0003.dcm")
    else:
        shutil.rmtree(folder)
        if damage == "empty":
            folder.mkdir()
    assert rerun(source, output) == [True, False, True]
    assert files_of(output) == undisturbed


@pytest.mark.parametrize("damage", ["gone", "bit", "text", "nested", "type"])
def test_a_folder_without_a_record_that_can_be_read_is_made_again(source, output, undisturbed, damage):
    """A record that is missing or damaged counts for nothing, and ends no run."""
    path = record_of(output, "b")
    if damage == "gone":
        path.unlink()
    elif damage == "bit":
        path.write_text(path.read_text().replace('"out_of_protocol"', '"out_of_protokol"'))
    else:
        path.write_text({"text": "{", "nested": "[" * 100_000, "type": '{"sha256": 1, "record": 2}'}[damage])
    assert rerun(source, output) == [True, False, True]
    assert files_of(output) == undisturbed


def test_a_record_without_its_folder_counts_for_nothing(source, output, undisturbed):
    """All folders gone: all series are made again, with the numbers that they had."""
    shutil.rmtree(output / "series")
    assert rerun(source, output) == [False] * 3
    assert files_of(output) == undisturbed


def test_missing_images_of_the_report_make_a_series_again(source, output, undisturbed):
    """The report is complete after every run."""
    image = sorted((output / "report_files").glob("2-*.jpg"))[0]
    image.unlink()
    assert rerun(source, output) == [True, False, True]
    assert image.is_file()
    assert files_of(output) == undisturbed


# Settings


def test_other_settings_need_overwrite(source, output, undisturbed):
    """Another switch is refused and nothing is touched; with --overwrite all series are made with it."""
    with pytest.raises(OutputError, match="--overwrite to replace it"):
        rerun(source, output, seed=1, patch_layout="random")
    assert files_of(output) == undisturbed
    assert rerun(source, output, OVERWRITE, seed=1, patch_layout="random") == [False] * 3
    assert rerun(source, output, seed=1, patch_layout="random") == [True] * 3
    with pytest.raises(OutputError, match="--overwrite to replace it"):
        rerun(source, output)


@pytest.mark.parametrize("damage", ["bit", "record"])
def test_other_settings_need_overwrite_though_something_is_damaged(source, output, damage):
    """Neither a damaged slice nor a missing record makes a result free to be replaced by one of other settings."""
    for folder in "abc":
        flip_bit(derived(output, folder) / "IM0001.dcm") if damage == "bit" else record_of(output, folder).unlink()
    before = files_of(output)
    with pytest.raises(OutputError, match="--overwrite to replace it"):
        rerun(source, output, patch_layout="random")
    assert files_of(output) == before


def test_settings_are_compared_again_under_the_lock(source, tmp_path, monkeypatch):
    """A run with other settings that ends between this run's first look and its lock is not overwritten."""
    original, others = cohort.recover, []

    def late(output, *names):
        if not others:
            others.append(1)
            shutil.copytree(
                tmp_path / "other", output, dirs_exist_ok=True, ignore=shutil.ignore_patterns("lock", "holder.json")
            )
        original(output, *names)

    run_cohort(source, tmp_path / "other", Scripted(25.0), patch_layout="random")
    monkeypatch.setattr(cohort, "recover", late)
    with pytest.raises(OutputError, match="--overwrite to replace it"):
        run_cohort(source, tmp_path / "out", Scripted(25.0))
    assert files_of(tmp_path / "out") == files_of(tmp_path / "other")


def test_a_failed_overwrite_keeps_the_earlier_result(source, output, undisturbed):
    """Another model that fails replaces nothing; manifest and table name the earlier result."""

    def fail(patches):
        raise RuntimeError("out of luck")

    outcome = run_cohort(source, output, Scripted(fail), OVERWRITE, seed=1)
    assert outcome.exit_code == 3
    assert files_of(output) == undisturbed
    assert [row["earlier_output"] for row in rows_of(output)] == [f"series/{f}/{derived(output, f).name}" for f in "abc"]
    assert all("earlier_result" in entry for entry in json.loads((output / "manifest.json").read_text())["series"])
    assert rerun(source, output) == [True] * 3


# Foreign files


def test_foreign_files_are_never_touched(source, output):
    """Notes, and what file managers leave, lie wherever they were, also in the folder of a series that is replaced."""
    series = derived(output, "b")
    foreign = [output / "notes.txt", output / "series" / ".DS_Store", output / "series" / "b" / "Thumbs.db"]
    foreign += [series / "notes.txt", series / "sub" / "deep" / "mask.nii", output / "report_files" / "mine.png"]
    foreign += [output / "download.zip.1.partial", output / RECORDS / "mine.txt"]
    for path in foreign:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(path))
    assert rerun(source, output) == [True] * 3
    flip_bit(source / "b" / "0.dcm")
    assert rerun(source, output) == [True, False, True]
    assert rerun(source, output, OVERWRITE, patch_layout="random") == [False] * 3
    assert {path: path.read_text() for path in foreign} == {path: str(path) for path in foreign}
    assert rerun(source, output, patch_layout="random") == [True] * 3


@pytest.mark.parametrize("place", ["series", "series/other", "series of b"])
def test_foreign_dicom_is_refused_and_left_where_it_is(source, output, place):
    """Slices of something else never lie among ours: the run is refused before it writes, and names them."""
    folder = derived(output, "b") if place == "series of b" else output / place
    (stranger,) = write_ct(folder, random_stored((1, 40, 40)), series=9)
    before = files_of(output)
    flip_bit(source / "b" / "0.dcm")
    with pytest.raises(OutputError, match="not made of this input"):
        rerun(source, output)
    assert files_of(output) == before
    assert stranger.exists()


@pytest.mark.parametrize("name", ["report.html", "series.csv", "manifest.json"])
def test_accounts_of_another_program_are_not_replaced(source, tmp_path, name):
    """A directory that another program wrote a report or table to is refused."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("[]")
    with pytest.raises(OutputError, match=f"holds a {name} of something else"):
        rerun(source, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]


def test_an_output_whose_source_went_away_stays(source, output):
    """A source that was removed, or is damaged so that it is no series any more, ends no rerun; another input does."""
    before = files_of(output)
    shutil.rmtree(source / "b")
    assert rerun(source, output) == [True] * 2
    assert files_of(output) == before
    (output.parent / "other").mkdir()
    shutil.copytree(source / "a", output.parent / "other" / "a")
    with pytest.raises(OutputError, match="not made of this input"):
        rerun(output.parent / "other", output)
    assert files_of(output) == before


# Killed runs


@pytest.mark.parametrize("moment", ["before the record", "before the first rename", "between the renames", "before the end"])
def test_a_kill_at_any_step_of_replacing_a_series_loses_nothing(source, output, undisturbed, moment, monkeypatch):
    """At each step the former or the new series is whole, and a rerun gives the same bytes as an undisturbed run."""

    class Killed(BaseException):
        pass

    def kill(*arguments):
        raise Killed

    flip_bit(derived(output, "b") / "IM0001.dcm")
    former = files_of(output)
    with monkeypatch.context() as patch:
        patch.setattr(cohort.shutil, "rmtree", lambda *a, **k: None)  # a killed process clears nothing
        if moment == "before the record":
            patch.setattr(one_series, "write_record", kill)
        elif moment == "before the first rename":
            patch.setattr(one_series, "replace_folder", kill)
        elif moment == "between the renames":
            patch.setattr(one_series, "replace_folder", lambda complete, folder, former: kill(folder.rename(former)))
        else:
            add = cohort.Accounts.add
            patch.setattr(cohort.Accounts, "add", lambda self, *content: kill() if self.records else add(self, *content))
        with pytest.raises(Killed):
            rerun(source, output)
    if moment == "between the renames":
        assert not list((output / "series" / "b").iterdir())
        recover(output)
    assert files_of(output / "series") == {
        name.removeprefix("series/"): data for name, data in (undisturbed if moment == "before the end" else former).items()
    }
    assert rerun(source, output)[::2] == [True, True]
    assert files_of(output) == undisturbed
    assert not (output / ".incomplete").exists()


def test_unfinished_files_of_a_killed_run_are_cleared(source, output):
    """What a kill left of manifest, report, table, records and images goes with the next run."""
    left = [output / f"{name}.77.partial" for name in ("manifest.json", "report.html", "series.csv")]
    left += [output / RECORDS / "x.json.77.partial", output / "report_files" / "x.jpg.77.partial", output / ".incomplete" / "x"]
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.write_text("half")
    assert rerun(source, output) == [True] * 3
    assert [path for path in left if path.exists()] == []


def test_series_numbers_do_not_depend_on_what_fails(tmp_path):
    """Two series of one number, the first of which fails at first: the rerun equals an undisturbed run."""
    for name, seed in (("a", 1), ("b", 2)):
        write_ct(tmp_path / "in" / name, random_stored((2, 40, 40), seed=seed), series=seed, edit=_same_number)
    run_cohort(tmp_path / "in", tmp_path / "undisturbed", Scripted(25.0))
    calls = []

    def fail_once(patches):
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("out of luck")
        return 25.0

    first = run_cohort(tmp_path / "in", tmp_path / "out", Scripted(fail_once))
    assert [record.status for record in first.records] == ["failed", "written"]
    assert rerun(tmp_path / "in", tmp_path / "out") == [False, True]
    assert files_of(tmp_path / "out") == files_of(tmp_path / "undisturbed")
    numbers = {int(pydicom.dcmread(path).SeriesNumber) for path in (tmp_path / "out" / "series").rglob("*.dcm")}
    assert len(numbers) == 2


def test_a_series_keeps_its_number_when_others_come(tmp_path):
    """A source that is found before the others, with their number, gets another one; the kept ones stay as they are."""
    write_ct(tmp_path / "in" / "b", random_stored((2, 40, 40), seed=2), series=2, edit=_same_number)
    run_cohort(tmp_path / "in", tmp_path / "out", Scripted(25.0))
    before = files_of(tmp_path / "out")
    write_ct(tmp_path / "in" / "a", random_stored((2, 40, 40), seed=1), series=1, edit=_same_number)
    assert rerun(tmp_path / "in", tmp_path / "out") == [False, True]
    assert {name: data for name, data in files_of(tmp_path / "out").items() if name in before} == before
    numbers = [entry["series_number"] for entry in json.loads((tmp_path / "out" / "manifest.json").read_text())["series"]]
    assert len(set(numbers)) == 2


def _same_number(dataset: pydicom.Dataset, z: int) -> None:
    dataset.SeriesNumber = "5"


# The lock

HOLDER = """
import sys
from pathlib import Path
from stan_ct.reconstruction.lock import locked
with locked(Path({output!r})):
    print("held", flush=True)
    sys.stdin.read()  # until it is killed, however slow the machine is
"""


def test_the_second_run_says_who_holds_the_lock_and_a_dead_holder_is_taken_over(source, output):
    """It names process, host and time, touches nothing, and goes on once the holder was killed."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", HOLDER.format(output=str(output))], text=True, **pipes)
    try:
        assert process.stdout.readline() == "held\n"
        before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
        with pytest.raises(OutputError, match=rf"in use by process {process.pid} on \S+, started 20.*wait for it"):
            rerun(source, output)
        assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == before
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
    assert (output / ".stan_ct" / "holder.json").exists()
    assert rerun(source, output) == [True] * 3
    assert not (output / ".stan_ct" / "holder.json").exists()


def test_a_lock_without_a_name_is_a_lock(tmp_path):
    """Between taking the lock and writing its name, a holder is another run."""
    with locked(tmp_path):
        (tmp_path / ".stan_ct" / "holder.json").write_text("{")
        with pytest.raises(OutputError, match="in use by another run"), locked(tmp_path):
            pass


# Layout and accounts


def test_the_layout_of_the_input_and_flat(source, output, tmp_path):
    """Outputs lie in the folders of the input; with --flat side by side, byte for byte the same."""
    write_ct(source / "deep" / "er", random_stored((2, 40, 40), seed=7), series=7)
    rerun(source, output)
    folders = {path.parent.parent.relative_to(output).as_posix() for path in (output / "series").rglob("*.dcm")}
    assert folders == {"series/a", "series/b", "series/c", "series/deep/er"}
    run_cohort(source, tmp_path / "flat", Scripted(25.0), FLAT)
    assert {path.parent.parent.relative_to(tmp_path).as_posix() for path in tmp_path.glob("flat/**/*.dcm")} == {"flat/series"}
    assert [row["output_folder"] for row in rows_of(tmp_path / "flat")] == [
        f"series/{Path(row['output_folder']).name}" for row in rows_of(output)
    ]
    assert sorted(files_of(tmp_path / "flat").values()) == sorted(files_of(output).values())


def test_another_layout_moves_what_is_kept(source, output, tmp_path):
    """--flat in the same directory, or a source folder that was renamed: moved, not made again, and never there twice."""
    run_cohort(source, tmp_path / "flat", Scripted(25.0), FLAT)
    assert rerun(source, output, FLAT) == [True] * 3
    assert files_of(output) == files_of(tmp_path / "flat")
    assert rerun(source, output, FLAT) == [True] * 3
    assert rerun(source, output) == [True] * 3
    (source / "b").rename(source / "renamed")
    assert rerun(source, output) == [True] * 3
    assert sorted(path.name for path in (output / "series").iterdir()) == ["a", "c", "renamed"]
    assert [row["output_folder"].split("/")[1] for row in rows_of(output)] == ["a", "renamed", "c"]


def test_series_csv_has_a_line_per_source_series(tmp_path):
    """Folder, pseudonym, kernel, verdict, reason, output and findings; with --show_identifiers the Patient IDs."""

    def patient(dataset, z):
        dataset.PatientID = {1: "0042", 2: "7", 3: " 42"}[int(dataset.SeriesNumber)]

    for number, folder in enumerate("abc", 1):
        stored = random_stored((2, 40, 40), seed=number)
        paths = write_ct(tmp_path / "in" / folder, stored, series=number, edit=patient, syntax="JPEG 2000")
    for path in paths:
        spoil(path)
    for path in write_ct(tmp_path / "in" / "d", random_stored((2, 40, 40)), series=4):
        path.write_bytes(path.read_bytes()[:-100])
    run_cohort(tmp_path / "in", tmp_path / "out")
    *rows, last = rows_of(tmp_path / "out")
    assert tuple(last) == accounts.COLUMNS
    assert last["series_uid"] == "1.2.826.0.1.3680043.8.498.1.4", "of which no slice could be taken for one"
    assert [last[key] for key in ("source_folder", "slices", "verdict", "reason")] == [
        "d",
        "2",
        "refused: truncated",
        "truncated",
    ]
    assert last["what_to_do"]
    assert [row["source_folder"] for row in rows] == ["a", "b", "c"]
    assert rows[0]["patient"] == rows[2]["patient"] != rows[1]["patient"], "as people compare them"
    assert {row["patient"] for row in rows} == {"P0001", "P0002"}
    assert [row["verdict"] for row in rows][2] == "refused: undecodable"
    assert [row["reason"] for row in rows] == ["", "", "undecodable"]
    assert [bool(row["output_folder"]) for row in rows] == [True, True, False]
    assert [row["slices"] for row in rows] == ["2"] * 3
    run_cohort(tmp_path / "in", tmp_path / "out", options=SHOW)
    assert [row["patient"] for row in rows_of(tmp_path / "out")] == ["0042", "7", " 42", ""]


PLANTED = ("DOE", "JANE", "SECRET", "MUSTERMANN")
"""Names in folders, files and headers."""


def _plant(dataset: pydicom.Dataset, z: int) -> None:
    dataset.PatientName, dataset.PatientID, dataset.OtherPatientIDs = "Doe^Jane", "SECRET-1", "SECRET-2"
    dataset.AccessionNumber, dataset.ReferringPhysicianName, dataset.InstitutionName = "SECRET-3", "Mustermann", "SECRET-4"
    dataset.PatientBirthDate, dataset.StudyID, dataset.PatientComments = "19500101", "SECRET-5", "SECRET-6"


@pytest.fixture
def planted(tmp_path) -> Path:
    """Sources of every fate, with names of patients in paths and headers: written, part refused, refused, failed, skipped."""
    root = tmp_path / "in_SECRET"
    for number, fate in enumerate(("written", "part", "refused", "failed", "damaged"), 1):
        folder, stored = root / "DOE_JANE" / f"SECRET {fate}", random_stored((2, 40, 40), seed=number)
        syntax = "explicit" if fate == "damaged" else "JPEG 2000"
        for index, path in enumerate(write_ct(folder, stored, series=number, edit=_plant, syntax=syntax)):
            if fate == "refused" or (fate == "part" and index):
                spoil(path)
            if fate == "damaged":
                path.write_bytes(path.read_bytes()[:-100])
            path.rename(path.with_name(f"MUSTERMANN {index}.dcm"))
    return root


def _pages(output: Path) -> str:
    pages = [output / "manifest.json", *output.rglob("*.html")]
    assert len(pages) >= 2
    return "".join(path.read_text(encoding="utf-8") for path in pages).upper()


@pytest.mark.parametrize("pages", [False, True])
def test_manifest_and_report_name_nobody(planted, tmp_path, monkeypatch, pages):
    """No part of a path, no name and no ID is in them, whatever became of a series; with --show_identifiers paths are."""
    if pages:
        monkeypatch.setattr("stan_ct.reconstruction.report.PAGES_ABOVE", 1)

    message = f"cannot read {planted / 'DOE_JANE' / 'SECRET failed' / 'MUSTERMANN 0.dcm'}"

    def synthesize(patches):
        if len(scripted.seen) == 4:
            raise RuntimeError(message)
        return 25.0

    scripted = Scripted(synthesize)
    outcome = run_cohort(planted, tmp_path / "out", scripted)
    assert sorted(r.status for r in outcome.records) == ["failed", "refused", "written", "written"]
    assert len(outcome.refusals) >= 2
    assert [name for name in PLANTED if name in _pages(tmp_path / "out")] == []
    assert str(tmp_path).upper() not in _pages(tmp_path / "out")
    run_cohort(planted, tmp_path / "out", Scripted(25.0), SHOW)  # keeps two
    shown = json.loads((tmp_path / "out" / "manifest.json").read_text())["series"]
    part = next(entry for entry in shown if entry.get("refused_slices"))
    assert part["slices"][0]["source_file"].endswith("MUSTERMANN 0.dcm")
    assert part["refused_slices"][0]["files"][0].endswith("MUSTERMANN 1.dcm")
    assert "DOE_JANE" in part["folder"]
    run_cohort(planted, tmp_path / "out", Scripted(25.0))  # keeps what was written with --show_identifiers
    assert [name for name in PLANTED if name in _pages(tmp_path / "out")] == []
    records = "".join(path.read_text() for path in (tmp_path / "out" / RECORDS).iterdir())
    assert "MUSTERMANN" not in records.upper()


def test_names_of_folders_that_are_no_text(tmp_path):
    """A folder whose name is not UTF-8, or holds control characters: written, accounted for, kept."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/in/M\xfcller\x1b[31m"))
    write_ct(folder, random_stored((2, 40, 40)))
    for options in (MappingProxyType({}), SHOW):
        outcome = run_cohort(tmp_path / "in", tmp_path / "out", Scripted(25.0), options)
        assert outcome.exit_code == 0
        assert rows_of(tmp_path / "out")[0]["source_folder"] == r"M\xfcller\x1b[31m"
        assert "\x1b" not in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert outcome.kept == 1


def test_manifest_report_and_table_do_not_lag_behind(tmp_path, monkeypatch):
    """They are written while a long series is under way, not only when it ends."""
    monkeypatch.setattr(accounts, "INTERVAL", 0.05)
    for number in (1, 2):
        write_ct(tmp_path / "in" / str(number), random_stored((3, 40, 40), seed=number), series=number)
    seen = []

    def slow(patches):
        time.sleep(0.06)
        path = tmp_path / "out" / "manifest.json"
        seen.append(len(json.loads(path.read_text())["series"]) if path.exists() else None)
        return 25.0

    run_cohort(tmp_path / "in", tmp_path / "out", Scripted(slow))
    assert seen[0] is None
    assert seen[-1] == 1


def test_the_manifest_is_true_while_a_series_is_replaced(source, output, monkeypatch):
    """What an earlier run said of a series is withdrawn before that series is touched."""
    told = []
    original = one_series.replace_folder

    def look(*folders):
        told.append(json.loads((output / "manifest.json").read_text())["series"])
        original(*folders)

    monkeypatch.setattr(one_series, "replace_folder", look)
    run_cohort(source, output, Scripted(25.0), {"overwrite": True}, seed=1)
    assert told[0] == []
    assert all(entry["derived_series_uid"] for entry in json.loads((output / "manifest.json").read_text())["series"])
