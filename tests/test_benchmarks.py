"""Scripts behind the numbers in docs/ keep up with what they measure."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from synthetic import write_ct

ROOT = Path(__file__).resolve().parents[1]


def test_guards(tmp_path):
    """Noise on a slope: tiles, stretched apart by Eq. 7, show; patches of the shipped model do not."""
    stored = np.random.default_rng(0).normal(1064, 20, (1, 512, 512)).round().astype(int)
    stored += np.linspace(0, 400, 512).astype(int)
    write_ct(tmp_path, stored, kernel="B30f")
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks/guards.py", tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    row = done.stdout.splitlines()[-1]
    assert "B30f" in row
    least, most, grid, random, free, limited = map(float, re.findall(r"(-?\d+(?:\.\d)?)(?=[ ,]|$)", row.split("B30f")[1]))
    assert least == most > 10 > max(grid, random)
    assert free >= limited > 0
