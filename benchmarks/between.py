"""Slices that are interpolated between others, against those that are there: python benchmarks/between.py DIR [PROTOCOL]

Of each series in DIR (of a protocol such as "BL64 1 mm") every third slice is kept, and the two between are made again: by
repeating the nearest, by the weighted mean, and as `stan-ct reconstruct --slice_thickness` does, which gives the mean its
neighbours' power spectrum. Prints errors of texture features (Eq. 8) and HU RMSE over patches
of 256 x 256 pixels with soft tissue.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from stan_ct.ct.interpolation import slice_between
from stan_ct.dicom.find import find_series
from stan_ct.dicom.series import Series, load_series
from stan_ct.features.errors import texture_errors
from stan_ct.patches.fusion import extract
from stan_ct.patches.protocol import protocol_of
from stan_ct.patches.sampling import PATCH_SIZE, grid_patches

STEP = 3
"""Every such slice is kept."""
SOFT_TISSUE = 0.7
"""Least share of soft tissue in a patch."""


def measure(series: Series, found: dict[str, list[np.ndarray]]) -> None:
    """Adds the patches of the slices between to those of each method, and to the truth."""
    volume, spacing = series.volume, series.files.pixel_spacing
    for below in range(0, len(volume) - STEP, STEP):
        above = below + STEP
        for z in range(below + 1, above):
            fraction, tissue = (z - below) / STEP, series.soft_tissue(z)
            patches = [p for p in grid_patches(tissue.shape, PATCH_SIZE, 128) if tissue[p.window].mean() >= SOFT_TISSUE]
            made = {
                "truth": volume[z],
                "nearest slice": volume[below] if fraction < 0.5 else volume[above],
                "weighted mean": (1 - fraction) * volume[below] + fraction * volume[above],
                "with the power spectrum of both": slice_between(volume[below], volume[above], fraction, spacing),
            }
            for name, image in made.items():
                found[name] += list(extract(image, patches, None)) if patches else []


def main(folder: str, protocol: str = "") -> None:
    """Prints a row for each method."""
    found: dict[str, list[np.ndarray]] = defaultdict(list)
    chosen = [files for files in find_series(Path(folder)).series if protocol in ("", str(protocol_of(files)))]
    for files in chosen:
        measure(load_series(files), found)
    truth = np.stack(found.pop("truth"))
    errors = texture_errors(truth)
    print(f"{len(chosen)} series, {len(truth)} patches of slices between\n\n| | errors | mean | HU RMSE |\n|---|---|---|---|")
    for name, patches in found.items():
        made = np.stack(patches)
        values = list(errors(made).values())
        rmse = np.sqrt(np.mean((made - truth) ** 2))
        print(f"| {name} | {' '.join(f'{value:.3f}' for value in values)} | {np.mean(values):.3f} | {rmse:.1f} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
