"""`benchmarks/fuzz.py` in small: every kind of input, no fault; and a fault is one."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_fuzz(tmp_path):
    """The summary counts what was tried, and nothing is left behind."""
    command = [sys.executable, ROOT / "benchmarks/fuzz.py", "--inputs=50", f"--work_dir={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fuzz: 50 inputs, seed 0" in done.stdout
    for kind in ("damaged files", "conversations", "damaged archives", "damaged NIfTI files", "damaged model folders"):
        assert kind in done.stdout
    assert not list(tmp_path.iterdir())


def test_time_that_is_over_is_said(tmp_path):
    """Without time nothing is tried, and the summary says of how many."""
    command = [sys.executable, ROOT / "benchmarks/fuzz.py", "--inputs=3", "--minutes=0", f"--work_dir={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fuzz: 0 inputs of 3: the time was over" in done.stdout
