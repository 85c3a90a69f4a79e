"""`benchmarks/department.py` in small: kills, and a PACS that is away (damaged conversations: test_fuzz.py)."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_department(tmp_path):
    """Every series is in the PACS once or named; the node survives; the benchmark finds no fault."""
    flags = ("--series=5", "--kills=1", "--away=1", "--bad=1")
    command = [sys.executable, ROOT / "benchmarks/department.py", *flags, f"--work_dir={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 faults" in done.stdout
    assert not list(tmp_path.iterdir())
