"""What a long series costs."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from synthetic import write_ct

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_a_series_of_300_slices_needs_its_volumes_and_2_gb(tmp_path):
    """The peak memory of the whole process stays below the source and the output volume plus 2 GB."""
    rng = np.random.default_rng(0)
    some = np.rint(rng.normal(1000, 60, (4, 512, 512))).astype(np.int32)
    write_ct(tmp_path / "in", some[np.arange(300) % 4])
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    flags = [f"--input_dir={tmp_path / 'in'}", f"--output_dir={tmp_path / 'out'}", "--allow_out_of_protocol"]
    assert subprocess.run([sys.executable, ROOT / "reconstruct.py", *flags], check=False).returncode == 0
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    assert peak > before * 1024, "the measurement is this child's"
    volume = 300 * 512 * 512 * 4
    print(f"peak {peak / 2**20:.0f} MiB, volumes {2 * volume / 2**20:.0f} MiB")
    assert peak < 2 * volume + 2e9
    entry = json.loads((tmp_path / "out" / "manifest.json").read_text())["series"][0]
    assert len(entry["slices"]) == 300
