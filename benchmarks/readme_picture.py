"""The picture of README.md, docs/example.png: source | output | target of the simulated chest of `make demo`.

make demo && python benchmarks/readme_picture.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

import stan_ct
from stan_ct.ct.display_windows import LUNG_WINDOW
from stan_ct.evaluation.measure.slice_images import image_panel

ROOT = Path(__file__).resolve().parents[1]
CHEST = ROOT / "demo_output" / "simulated_chest"
PICTURE = ROOT / "docs" / "example.png"
SLICE = 4
SHOWN = np.s_[150:310, 80:240]
"""Part of the slice, so that texture shows: rows and columns, px."""
DPI = 68
"""Resolution, which keeps the picture below 300 KB."""


def main() -> int:
    """Draws the picture; returns the exit code."""
    folders = [*CHEST.glob("patients/test/*/BR40_1mm"), CHEST / "output" / "series", *CHEST.glob("patients/test/*/BL64_1mm")]
    if len(folders) != 3:
        print(f"{CHEST} does not hold the simulated chest: run `make demo` first", file=sys.stderr)
        return 1
    figure = image_panel(*(_slice(folder) for folder in folders), windows={"lung": LUNG_WINDOW})
    figure.savefig(PICTURE, dpi=DPI)
    Image.open(PICTURE).convert("RGB").save(PICTURE, optimize=True)
    print(f"{PICTURE}: {PICTURE.stat().st_size / 1000:.0f} KB")
    return 0


def _slice(folder: Path) -> np.ndarray:
    """The part of the slice that is shown, (H, W) HU, of the only series in a folder."""
    (files,) = stan_ct.find_series(folder, accept_standardized=True).series
    return stan_ct.load_series(files).volume[SLICE][SHOWN]


if __name__ == "__main__":
    sys.exit(main())
