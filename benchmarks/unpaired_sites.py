"""Cohorts side by side, as `stan-ct sites` compares them: rows of benchmarks/unpaired.py for limbs, sites and null."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stan_ct.adaptation.run import adapt
from stan_ct.evaluation.sites.cohort import measure_cohort
from stan_ct.evaluation.sites.comparison import CLASSIFIERS, FeatureComparison
from stan_ct.evaluation.sites.features import AFTER, BEFORE, SiteFeatures, undefined_features, without
from stan_ct.evaluation.sites.run import SiteComparison, compare_sites
from stan_ct.evaluation.sites.scans import find_scans
from stan_ct.evaluation.sites.settings import SiteSettings
from stan_ct.evaluation.statistics.effects import median_stability
from stan_ct.evaluation.statistics.separation import Separation, tell_sites
from stan_ct.parallel import Workers, usable_cores
from stan_ct.reconstruction.run import ReconstructSettings, reconstruct

SLICES = 8
"""Slices of a simulated patient that are measured."""


def limbs(folder: Path, scratch: Path) -> None:
    """Tumours of limbs, SOFT to STANDARD: other patients at either side; the filter is fitted to the patients that report."""
    side_by_side({kernel: folder / kernel for kernel in ("SOFT", "STANDARD")}, scratch, masks_beside=True)


def simulated_sites(folder: Path, scratch: Path, kernels: tuple[str, str]) -> None:
    """Lung and soft tissue of simulated chests: half of the patients at either site; and the first as the other scans them."""
    source, target = kernels
    patients = simulated_patients(folder)
    half = len(patients) // 2
    groups = {source: (patients[:half], source), target: (patients[half:], target), "truth": (patients[:half], target)}
    sites = {name: linked(scratch / name, people, kernel) for name, (people, kernel) in groups.items()}
    truth = sites.pop("truth")
    found = side_by_side(sites, scratch, slices=SLICES)
    true = measured({source: truth, target: sites[target]})
    mine, here = found.features.features, found.features.features.sites == source
    columns = [true.names.index(name) for name in mine.names]
    values = {patient: row[columns] for patient, row in zip(true.patients, true.before, strict=True)}
    states = {state: found.features.harmonized.states[state][here] for state in (BEFORE, AFTER)}
    states["truth"] = np.stack([values[patient] for patient in mine.patients[here]])
    for one, other in ((BEFORE, AFTER), (BEFORE, "truth"), (AFTER, "truth")):
        median, interval = median_stability(states[one], states[other])
        print(f"| ranks of {source}, {one} and {other} | {_short(median)} {_ends(interval.low, interval.high)} |", flush=True)


def null(folder: Path, scratch: Path, kernels: tuple[str, str], halves: int = 20, seed: int = 0) -> None:
    """Random halves of the patients of one protocol: what classifiers find where there is nothing."""
    people = simulated_patients(folder)
    folders = {name: linked(scratch / name, people[part::2], kernels[0]) for part, name in enumerate("AB")}
    features = measured(folders)
    rng, n = np.random.default_rng(seed), len(features.patients)
    deals = [rng.permutation(n) < n // 2 for _ in range(halves)]
    tasks = [(features.before, second, features.patients, name) for name in CLASSIFIERS for second in deals]
    with Workers(usable_cores()) as pool:
        found = pool.map(tell_sites, tasks, [1] * len(tasks), "tell halves")
    for place, words in enumerate(CLASSIFIERS.values()):
        these = found[place * halves : (place + 1) * halves]
        aucs = np.array([separation.auc for separation in these])
        held = sum(separation.low <= 0.5 <= separation.high for separation in these)
        about = f"{words}, {n - n // 2} + {n // 2} patients, {len(features.names)} features"
        print(f"| {about} | {_short(aucs.mean())} ± {_short(aucs.std(ddof=1))} | {held} of {halves} |", flush=True)


def side_by_side(sites: Mapping[str, Path], scratch: Path, **options: Any) -> SiteComparison:
    """Standardizes the first site to the second, as a user would; prints rows and verdicts."""
    source, target = sites.values()
    made = adapt(source, target, scratch / "model", workers=usable_cores())
    (fitted,) = made.filters.values()
    reconstruct(ReconstructSettings(source, scratch / "output", (str(scratch / "model"),)))
    settings = SiteSettings(sites, scratch / "output" / "series", **options)
    found = compare_sites(settings, usable_cores())
    print(f"gain known to {100 * fitted.uncertainty:.1f} %; {len(found.features.features.names)} features")
    rows(found.features)
    for verdict in found.verdicts:
        print(f"{verdict.question} {verdict.status.words}. {verdict.sentence}")
    return found


def rows(found: FeatureComparison) -> None:
    """Prints a row for each state: distance, AUC of each classifier, and ranks within the first site."""
    ((pair, separations),) = found.separations.items()
    for state in found.states:
        distance, kept = found.distances[pair][state], found.ranks.get(state, {}).get(pair[0])
        aucs = [_auc(separations[state][name]) for name in CLASSIFIERS]
        ranks = f"{_short(kept.median)} {_ends(kept.interval.low, kept.interval.high)}" if kept else ""
        print(f"| {state} | {_short(float(np.median(np.abs(distance.d))))} | {' | '.join(aucs)} | {ranks} |", flush=True)


def measured(sites: Mapping[str, Path]) -> SiteFeatures:
    """Features of lung and soft tissue, those that are defined in all scans."""
    settings = SiteSettings(sites, slices=SLICES)
    features = measure_cohort(find_scans(settings), settings, usable_cores()).features
    return without(features, undefined_features(features))


def simulated_patients(folder: Path) -> list[Path]:
    """Folders of the training patients."""
    return sorted(path for path in (folder / "train").iterdir() if path.is_dir())


def linked(folder: Path, patients: Sequence[Path], kernel: str) -> Path:
    """A folder of links to the series of some patients, as a site would have them."""
    folder.mkdir(parents=True)
    for path in patients:
        (folder / path.name).symlink_to((path / f"{kernel}_1mm").resolve(), target_is_directory=True)
    return folder


def _auc(found: Separation) -> str:
    return f"{_short(found.auc)} {_ends(found.low, found.high)}"


def _ends(low: float, high: float) -> str:
    return f"[{_short(low)}, {_short(high)}]"


def _short(value: float) -> str:
    """A number of two decimals without a leading 0."""
    return f"{value:.2f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.2f}"
