"""`benchmarks/faults.py` in small: damaged files, runs that meet, kills at random moments, disks that fail."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_faults(tmp_path):
    """Every run ends with the right word and exit code, and leaves what is whole; the benchmark finds no fault."""
    measurements = ("files:20", "together:1", "kills:1", "cohort:8")
    command = [sys.executable, ROOT / "benchmarks/faults.py", *measurements, f"--work_dir={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("files", "together", "kills", "cohort"):
        assert f"{name}: 0 faults" in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_cohort(tmp_path):
    """`benchmarks/cohort.py` in small: two processes, a kill, and a cluster that loses a worker make the same bytes."""
    command = [sys.executable, ROOT / "benchmarks/cohort.py", "--series=8", "--kills=1", "--rounds=1", f"--work_dir={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 without fault, 4 named" in done.stdout
    assert "dask: one of 2 workers killed" in done.stdout
    assert "0 faults" in done.stdout
    assert not list(tmp_path.iterdir())
