"""Planted lesions stay what they are, with the model that ships, on a simulated patient that it has not seen."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_planted_lesions_stay(tmp_path):
    """Contrast, diameter and detectability index are within the limits of `benchmarks/nodules.py`, for both kernels."""

    def script(name, *flags):
        return subprocess.run([sys.executable, ROOT / name, *flags], capture_output=True, text=True, check=False, cwd=ROOT)

    flags = ("--patients=0", "--test_patients=2", "--first_seed=900100", "--slices=4", "--increment=8")
    made = script("data/simulate.py", f"--output_dir={tmp_path}", *flags)
    assert made.returncode == 0, made.stderr
    done = script("benchmarks/nodules.py", f"--patients={tmp_path / 'test'}", "--slices=4")
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("soft tissue 5 mm") == 2
