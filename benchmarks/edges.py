"""Where contrast is too high or too low: python benchmarks/edges.py SYNTHESIZED TARGET

Two trees of DICOM with a series of each patient at the same positions. Prints for each patient the excess of the squared
difference of neighbouring pixels, which contrast is the mean of, in soft tissue that is uniform and at edges of growing height,
and the part of the target's contrast that lies there.
"""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pydicom
from scipy import ndimage

from stan_ct.ct.hounsfield import SOFT_TISSUE, soft_tissue_mask

SIGMA = 3.0
"""Standard deviation of the smoothing before the target's gradient is taken, px."""
STEPS = (0, 8, 20, 50, np.inf)
"""Bounds of the classes of gradients, HU/px."""


def volumes(folder: Path) -> dict[str, np.ndarray]:
    """Patient ID -> its slices in the order of their positions, (Z, H, W) HU."""
    found = defaultdict(list)
    for root, _, names in os.walk(folder, followlinks=True):
        for name in names:
            slice_ = pydicom.dcmread(Path(root) / name)
            hu = slice_.pixel_array * float(slice_.RescaleSlope) + float(slice_.RescaleIntercept)
            found[slice_.PatientID].append((float(slice_.ImagePositionPatient[2]), hu.astype(np.float32)))
    return {patient: np.stack([hu for _, hu in sorted(slices, key=lambda s: s[0])]) for patient, slices in found.items()}


def squares(synthesized: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Sums of squared differences of horizontal neighbours in each class of gradients, (classes, 2) HU^2."""
    gradient = np.stack([ndimage.gaussian_gradient_magnitude(hu, SIGMA) for hu in target])
    rows = []
    for low, high in pairwise(STEPS):
        chosen = soft_tissue_mask(target) & (gradient >= low) & (gradient < high)
        chosen = chosen[..., :-1] & chosen[..., 1:]
        rows.append([np.square(np.diff(np.clip(hu, *SOFT_TISSUE), axis=2)[chosen]).sum() for hu in (synthesized, target)])
    return np.array(rows, np.float64)


def main() -> int:
    """Prints the table."""
    if len(sys.argv) != 3:
        print(__doc__)
        return 1
    made, targets = (volumes(Path(folder)) for folder in sys.argv[1:])
    classes = [f"{low:g} to {high:g} HU/px" for low, high in pairwise(STEPS)]
    print(f"| patient | {' | '.join(classes)} |\n|---{'|---' * len(classes)}|")
    for patient in sorted(made):
        sums = squares(made[patient], targets[patient])
        cells = [f"{m / t - 1:+.1%} of {t / sums[:, 1].sum():.0%}" for m, t in sums]
        print(f"| {patient} | {' | '.join(cells)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
