"""Cohorts in several processes, in shards and on clusters: the bytes of one process, and accounts of everything."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest
from faulty.runs import EPOCH, save_filter
from synthetic import random_stored, write_ct

from stan_ct.cli.main import main
from stan_ct.reconstruction.lock import OutputError, locked

ROOT = Path(__file__).parents[2]
SERIES, BAD = 6, 2
"""Number of series, of which one has no rescale."""


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Series of their own folders, one of them bad; a model that only filters; what one process makes of them."""
    root = tmp_path_factory.mktemp("cohort")
    for number in range(1, SERIES + 1):
        edit = (lambda dataset, z: setattr(dataset, "RescaleSlope", None)) if number == BAD else None
        write_ct(root / "in" / f"p{number}", random_stored((2, 64, 64)) // 16 + 1000, series=number, edit=edit)
    save_filter(root / "model")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("SOURCE_DATE_EPOCH", EPOCH)
        assert reconstruct(root, root / "alone") == 2
    return root


@pytest.fixture(autouse=True)
def _fixed_time(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", EPOCH)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def reconstruct(root: Path, output: Path, *flags: str) -> int:
    """Standardizes the cohort; returns the exit code."""
    return main(["reconstruct", str(root / "in"), str(output), f"--model={root / 'model'}", "--precision=float32", *flags])


def slices_of(output: Path) -> dict[str, bytes]:
    """The derived slices."""
    return {str(path.relative_to(output)): path.read_bytes() for path in (output / "series").rglob("*.dcm")}


def rows_of(output: Path, name: str = "series.csv") -> list[dict[str, str]]:
    """A table, without the seconds."""
    with open(output / name, newline="") as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


def events_of(output: Path) -> list[dict]:
    """The lines of the log."""
    return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]


def test_failures_and_log_of_one_process(cohort):
    """What was refused is named with reason and advice; the log has a line for each series, and names no file."""
    (failure,) = rows_of(cohort / "alone", "failures.csv")
    assert (failure["source_folder"], failure["reason"], failure["slices"]) == (f"p{BAD}", "no_rescale", "2")
    assert "export from the scanner" in failure["what_to_do"]
    events = events_of(cohort / "alone")
    assert [event["event"] for event in events] == ["started", *["series"] * (SERIES - 1), "finished"]
    assert (events[0]["series"], events[0]["slices"]) == (SERIES - 1, 2 * (SERIES - 1))
    assert events[-1] | {"written": SERIES - 1, "refused": 0, "failed": 0, "left_alone": 0} == events[-1]
    assert all(event["status"] == "written" and event["slices"] == 2 and event["seconds"] > 0 for event in events[1:-1])
    assert str(cohort) not in (cohort / "alone" / "log.jsonl").read_text()


def test_workers_make_the_same_bytes_and_accounts(cohort, tmp_path):
    """Two processes write what one writes, and account for it in the same order; run again, they keep it."""
    for kept in (False, True):
        assert reconstruct(cohort, tmp_path, "--workers=2") == 2
        assert slices_of(tmp_path) == slices_of(cohort / "alone")
        assert [row["source_folder"] for row in rows_of(tmp_path)] == [
            row["source_folder"] for row in rows_of(cohort / "alone")
        ]
        assert all(entry.get("kept", False) == kept for entry in json.loads((tmp_path / "manifest.json").read_text())["series"])
    assert not (tmp_path / ".incomplete").exists()


def test_shards_come_together(cohort, tmp_path, capsys):
    """Three shards write what one run writes; merged before the last one, they name what is missing; after it, nothing."""
    for shard in ("1/3", "2/3"):
        assert reconstruct(cohort, tmp_path, f"--shard={shard}") == 2
    assert not (tmp_path / "manifest.json").exists()
    assert main(["merge", str(tmp_path)]) == 2
    missing = [row["source_folder"] for row in rows_of(tmp_path, "failures.csv") if row["verdict"] == "not yet done"]
    assert missing == ["p4"]
    assert "1 series are not yet done" in capsys.readouterr().out
    assert reconstruct(cohort, tmp_path, "--shard=3/3") == 2
    assert not (tmp_path / "manifest.json").exists()  # of a merge that is no longer true
    assert main(["merge", str(tmp_path)]) == 2
    assert slices_of(tmp_path) == slices_of(cohort / "alone")
    assert rows_of(tmp_path) == rows_of(cohort / "alone")
    assert rows_of(tmp_path, "failures.csv") == rows_of(cohort / "alone", "failures.csv")
    assert {event.get("shard") for event in events_of(tmp_path)} == {"1/3", "2/3", "3/3", None}


def edit_all(folder: Path, **values: object) -> None:
    """Sets attributes of the slices in a folder."""
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        for keyword, value in values.items():
            setattr(dataset, keyword, value)
        dataset.save_as(path)


@pytest.mark.parametrize("change", ["output", "kernel", "slice", "refused"])
def test_shards_are_compared_with_what_lies_there_now(cohort, tmp_path, change, capsys):
    """A series whose output lost a slice, or whose source has other headers or slices since its shard, is not yet done."""
    shutil.copytree(cohort / "in", tmp_path / "in")
    shutil.copytree(cohort / "model", tmp_path / "model")
    out = tmp_path / "out"
    source = tmp_path / "in" / "p5"
    if change == "refused":
        edit_all(source, BitsStored=12, HighBit=11)  # fewer than the values need
    assert reconstruct(tmp_path, out, "--shard=1/1") == 2
    main(["merge", str(out)])
    assert "not yet done" not in capsys.readouterr().out
    if change == "output":
        next((out / "series" / "p5").rglob("IM*.dcm")).unlink()
    elif change == "slice":
        next(source.iterdir()).unlink()
    else:
        edit_all(source, ConvolutionKernel="C")
    assert main(["merge", str(out)]) == 2
    assert "1 series are not yet done" in capsys.readouterr().out
    missing = [row["source_folder"] for row in rows_of(out, "failures.csv") if row["verdict"] == "not yet done"]
    assert missing == [source.name]


def test_shards_have_the_same_flags(cohort, tmp_path, capsys):
    """A shard that is asked for something else than the others is refused, and what differs is named."""
    assert reconstruct(cohort, tmp_path, "--shard=1/2") == 2
    assert reconstruct(cohort, tmp_path, "--shard=2/2", "--flat") == 1
    assert "(flat)" in capsys.readouterr().err
    assert main(["merge", str(cohort)]) == 1
    assert "holds no shards" in capsys.readouterr().err


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "a/2", "1/"])
def test_a_shard_that_is_none_is_refused(cohort, tmp_path, shard, capsys):
    """I/N with 1 <= I <= N is expected."""
    assert reconstruct(cohort, tmp_path / "out", f"--shard={shard}") == 1
    assert "--shard expects I/N" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_shards_run_beside_each_other_but_not_beside_a_whole_run(tmp_path):
    """Two shards hold the directory at once; the same shard twice, and a whole run beside a shard, are refused."""
    with locked(tmp_path, shard="1-of-2"), locked(tmp_path, shard="2-of-2"):
        with pytest.raises(OutputError, match="in use by process"), locked(tmp_path, shard="1-of-2"):
            pass
        with pytest.raises(OutputError, match="in use by process"), locked(tmp_path):
            pass
    with locked(tmp_path), pytest.raises(OutputError, match="in use by process"), locked(tmp_path, shard="1-of-2"):
        pass
    with locked(tmp_path), pytest.raises(OutputError), locked(tmp_path):
        pass


def test_an_archive_gives_what_its_folder_gives(cohort, tmp_path, capsys):
    """A .zip is standardized as the folder that was packed, kept when it is run again, and leaves nothing beside the output."""
    archive = shutil.make_archive(str(tmp_path / "ct"), "zip", cohort / "in")
    arguments = ["reconstruct", archive, f"--model={cohort / 'model'}", "--precision=float32"]
    assert [main(arguments) for _ in range(2)] == [2, 2]
    assert slices_of(tmp_path / "ct_standardized") == slices_of(cohort / "alone")
    assert f"{SERIES - 1} of them kept" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ct.zip", "ct_standardized"]
    assert main([*arguments, "--shard=1/2"]) == 1
    assert "shards cannot share an archive" in capsys.readouterr().err


def test_chosen_series_have_the_bytes_that_they_have_among_all(cohort, tmp_path, capsys):
    """What is left out still counts for Series Numbers; nothing that is chosen is bad usage, as is a condition that is none."""
    assert reconstruct(cohort, tmp_path, "--exclude=SeriesNumber<5", "--limit=1") == 2
    assert "not chosen: 4 series" in capsys.readouterr().out
    expected = {name: data for name, data in slices_of(cohort / "alone").items() if name.startswith("series/p5/")}
    assert slices_of(tmp_path) == expected
    assert [row["source_folder"] for row in rows_of(tmp_path)] == ["p5", f"p{BAD}"]
    assert reconstruct(cohort, tmp_path, "--include=SeriesNumber>99") == 1
    assert "no series is chosen" in capsys.readouterr().err
    assert reconstruct(cohort, tmp_path, "--include=soft") == 1
    assert "--include expects conditions" in capsys.readouterr().err


DIES_ONCE = """
import os, sys
from pathlib import Path
import stan_ct.reconstruction.one_series as one_series

original = one_series.write_record

def dying(output_dir, name, finished):
    original(output_dir, name, finished)
    mark = Path(os.environ["DIES_ONCE"])
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return
    os._exit(9)

one_series.write_record = dying
"""
"""A module that makes the first process that has written the slices of a series, but not moved them, end."""


@pytest.mark.parametrize("flags", [("--workers=2",), ("--workers=2", "--scheduler=local")])
def test_a_worker_that_dies_costs_nothing(cohort, tmp_path, flags):
    """Killed in the middle of a series, a worker is replaced and the series made anew: the bytes of an undisturbed run."""
    (tmp_path / "sitecustomize.py").write_text(DIES_ONCE)
    arguments = ["reconstruct", str(cohort / "in"), str(tmp_path / "out"), f"--model={cohort / 'model'}", "--precision=float32"]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "DIES_ONCE": str(tmp_path / "mark")}
    command = [sys.executable, "-m", "stan_ct", *arguments, *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert (tmp_path / "mark").exists()
    assert slices_of(tmp_path / "out") == slices_of(cohort / "alone")
    assert not (tmp_path / "out" / ".incomplete").exists()
    assert "Traceback" not in done.stderr
