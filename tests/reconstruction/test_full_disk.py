"""Disks that are full or cannot be written: what was done stays, the rest is tried, and the right word is said."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cohorts import files_of, run_cohort
from synthesizers import Scripted
from synthetic import random_stored, write_ct

from stan_ct.errors import UsageError
from stan_ct.reconstruction import accounts
from stan_ct.reconstruction.run import ReconstructSettings, reconstruct


@pytest.fixture
def source(tmp_path) -> Path:
    """A small series, a large one, and a small one again."""
    for number, size in ((1, 40), (2, 300), (3, 40)):
        write_ct(tmp_path / "in" / str(number), random_stored((4, size, size), seed=number), series=number)
    return tmp_path / "in"


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of 800 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.name != "posix" or os.geteuid() != 0:
        pytest.skip("only the superuser can mount a small disk")
    command = ["mount", "-t", "tmpfs", "-o", "size=800k", "none", disk]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("this system mounts no tmpfs")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_series_too_large_for_the_disk_leaves_room_for_the_next(source, small_disk):
    """It is `unwritable`, by the system's words and without a path; the others are written, before it and after it."""
    outcome = run_cohort(source, small_disk / "out", Scripted(25.0))
    assert [record.status for record in outcome.records] == ["written", "failed", "written"]
    assert outcome.exit_code == 2
    refusal = json.loads((small_disk / "out" / "manifest.json").read_text())["series"][1]["refusal"]
    assert (refusal["reason"], refusal["found"]) == ("unwritable", "No space left on device")
    assert len(files_of(small_disk / "out")) == 8
    assert not (small_disk / "out" / ".incomplete").exists()
    subprocess.run(["mount", "-o", "remount,size=10M", small_disk], check=True)
    outcome = run_cohort(source, small_disk / "out", Scripted(25.0))
    assert [bool(record.entry.get("kept")) for record in outcome.records] == [True, False, True]
    assert outcome.exit_code == 0


def test_a_disk_that_cannot_be_written(source, small_disk):
    """A usage error that says so, with the way on; finished series stay as they are, and nothing else is left."""
    run_cohort(source / "1", small_disk / "out", Scripted(25.0))
    before = files_of(small_disk)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    for name in ("out", "new"):
        settings = ReconstructSettings(source / "1", small_disk / name, precision="float32", overwrite=True)
        with pytest.raises(UsageError, match=r"could not be written: .*Read-only file system.*choose another --output_dir"):
            reconstruct(settings)
    assert files_of(small_disk) == before


def test_accounts_that_cannot_be_written_do_not_stop_the_run(source, tmp_path, monkeypatch):
    """They are tried again; only if they cannot be written in the end, that is said. Every series is written."""
    monkeypatch.setattr(accounts, "INTERVAL", 0)
    original, failing = accounts.write_together, [True]

    def full(folder, files):
        if failing[0]:
            raise OSError(28, "No space left on device")
        original(folder, files)

    monkeypatch.setattr(accounts, "write_together", full)
    with pytest.raises(OSError, match="No space left"):
        run_cohort(source, tmp_path / "out", Scripted(25.0))
    assert len(files_of(tmp_path / "out")) == 12
    assert not (tmp_path / "out" / "manifest.json").exists()
    failing[0] = False
    assert run_cohort(source, tmp_path / "out", Scripted(25.0)).kept == 3
    assert (tmp_path / "out" / "manifest.json").exists()


def test_source_date_epoch_and_a_missing_input_are_usage_errors(tmp_path, monkeypatch):
    """Nothing is written."""
    with pytest.raises(UsageError, match="nowhere does not exist: expected a folder"):
        reconstruct(ReconstructSettings(tmp_path / "nowhere", tmp_path / "out", precision="float32"))
    write_ct(tmp_path / "in", random_stored((1, 40, 40)))
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(UsageError, match="SOURCE_DATE_EPOCH must be seconds"):
        reconstruct(ReconstructSettings(tmp_path / "in", tmp_path / "out", precision="float32"))
    assert not (tmp_path / "out").exists()
