"""How far patients differ from each other, beside what a filter misses: rows of benchmarks/unpaired.py patients."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stan_ct.adaptation.matching import MARGIN, cut_patches, match
from stan_ct.adaptation.run import adapt
from stan_ct.adaptation.scans import find_patients
from stan_ct.ct.filters import RadialFilter
from stan_ct.dicom.characteristics import series_characteristics
from stan_ct.dicom.find import find_series
from stan_ct.dicom.series import SeriesFiles, load_series
from stan_ct.features.errors import five_features
from stan_ct.parallel import usable_cores
from stan_ct.patches.sampling import PATCH_SIZE

SLICES = 8
"""Slices of a patient that are measured."""
MIDDLE = slice(MARGIN, MARGIN + PATCH_SIZE)


def patients(folder: Path, scratch: Path, kernels: tuple[str, str], number: int) -> None:
    """Mean features of each source patient's filtered patches beside those of like patches of others, and its own target's.

    Then distances of the spectra of all patients, in all kernels, from those of both kernels, by which the guard judges.
    """
    source, target = kernels
    people = sorted(path for path in (folder / "train").iterdir() if path.is_dir())[: 2 * number]
    mine, others = people[:number], people[number:]
    series = [[str(path / f"{kernel}_1mm") for path in side] for side, kernel in ((mine, source), (others, target))]
    made = adapt(*series, scratch / "model", workers=usable_cores())
    curve = made.filters[source].filter
    theirs = [_measured(path / f"{target}_1mm", None, seed) for seed, path in enumerate(others)]
    pool = [np.concatenate(part) for part in zip(*theirs, strict=True)]
    print("| patient | from like patches of others, % | from its own target, % |\n|---|---|---|")
    for seed, path in enumerate(mine):
        found, traits = _measured(path / f"{source}_1mm", curve, seed)
        like = pool[0][match(traits, pool[1], seed)]
        own, _ = _measured(path / f"{target}_1mm", None, seed)
        cells = [100 * (found.mean(0) / values.mean(0) - 1) for values in (like, own)]
        print(f"| {path.name} | {' | '.join(' '.join(f'{v:+.1f}' for v in cell) for cell in cells)} |", flush=True)
    sides = (*made.config.sources, made.config.standard)
    tested = (folder / "test").iterdir() if (folder / "test").is_dir() else ()
    everyone = [*people, *sorted(path for path in tested if path.is_dir())]
    for kernel in sorted({path.name.removesuffix("_1mm") for path in people[0].glob("*_1mm")}):
        shapes = [_shape(path / f"{kernel}_1mm") for path in everyone]
        for side in sides:
            away = [side.shape_distance(shape) for shape in shapes]
            print(f"{kernel}, {len(away)} patients: {min(away):.2f} to {max(away):.2f} from {side.kernel}", flush=True)


def _measured(folder: Path, curve: RadialFilter | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The five features of a patient's patches, (N, 5), and the traits by which they are matched."""
    ((patient,),) = find_patients([str(folder)], SLICES).values()
    patches = cut_patches(patient, curve, seed)
    shown = patches.images[:, -1, MIDDLE, MIDDLE].astype(np.float32)
    return five_features(shown), patches.traits


def _shape(folder: Path) -> np.ndarray | None:
    (files,) = find_series(folder).series
    some = files.instances[:: max(len(files.instances) // SLICES, 1)][:SLICES]
    return series_characteristics(load_series(SeriesFiles(some, files.grid))).shape
