"""Many simulated patients: cost, distribution over processes, and folders that appear complete or not at all."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from stan_ct import __version__
from stan_ct.errors import StanCTError
from stan_ct.files import remove_partial, write_atomically
from stan_ct.parallel import Workers, report, usable_cores
from stan_ct.simulation.acquisition import Z_STEP, slice_sensitivity
from stan_ct.simulation.study import Patient, Scan, acquire, dicom_slice

SETTINGS, INCOMPLETE = "simulation.json", ".incomplete"
LAST_SEED = 999_999
SPLITS = ("train", "validation", "test")
IMAGE_BYTES = 2 * 512 * 512 + 2048


class CohortError(StanCTError, ValueError):
    """The cohort cannot be made in that directory; the message says why and what to do."""


@dataclass(frozen=True)
class Cohort:
    """Patients, each in one split, and their files: OUT/<split>/SIM000001/<kernel>_<thickness>mm/IM0001.dcm.

    The ground truth about a patient is in OUT/<split>/SIM000001.json.

    Attributes:
        scan: Settings of each patient's scan.
        output_dir: OUT.
        patients: Numbers of patients for train, validation and test; their seeds follow each other in this order.
        first_seed: Seed of the first patient.
        workers: Number of processes.
    """

    scan: Scan
    output_dir: Path
    patients: tuple[int, int, int]
    first_seed: int = 1
    workers: int = 2

    def folders(self) -> dict[int, Path]:
        """Seed -> folder of the patient."""
        splits = [split for split, count in zip(SPLITS, self.patients, strict=True) for _ in range(count)]
        seeds = range(self.first_seed, self.first_seed + len(splits))
        return {seed: self.output_dir / split / f"SIM{seed:06d}" for seed, split in zip(seeds, splits, strict=True)}

    def missing(self) -> dict[int, Path]:
        """Seed -> folder of the patients that have not been made yet."""
        return {seed: folder for seed, folder in self.folders().items() if not folder.exists()}


@dataclass(frozen=True)
class Cost:
    """Cost of a cohort: files and bytes are exact, seconds are estimated from a trial."""

    patients: int
    images: int
    gigabytes: float
    seconds: float


def check(cohort: Cohort) -> None:
    """Checks that the output directory can hold this cohort; changes nothing.

    Raises:
        CohortError: If there is a cohort of other or unknown settings, a patient in another split, one that lacks files, no
            patient, or too little space.
    """
    if not cohort.folders() or max(cohort.folders()) > LAST_SEED:
        raise CohortError(f"expected one patient or more, with seeds up to {LAST_SEED}; got {sum(cohort.patients)}")
    _check_settings(cohort)
    for seed, folder in cohort.folders().items():
        for split in SPLITS:
            if split != folder.parent.name and (cohort.output_dir / split / folder.name).exists():
                raise CohortError(
                    f"patient {folder.name} is in {split} already and would now be in {folder.parent.name} too: keep the "
                    f"number of patients, or choose another --output_dir or a --first_seed other than {seed}"
                )
        _check_files(cohort, folder)
    there = next(path for path in (cohort.output_dir, *cohort.output_dir.absolute().parents) if path.exists())
    need, free = _bytes(cohort), shutil.disk_usage(there).free
    if need > free:
        raise CohortError(f"{need / 1e9:.1f} GB are needed in {cohort.output_dir} and {free / 1e9:.1f} GB are free")


def _check_settings(cohort: Cohort) -> None:
    """Refuses a folder that holds patients of other settings."""
    path, out = cohort.output_dir / SETTINGS, cohort.output_dir
    holds = [name for name in (*SPLITS, INCOMPLETE) if (out / name).exists()]
    if not holds:
        return
    if not path.exists():
        raise CohortError(
            f"{out} holds {', '.join(holds)} but no {SETTINGS}, so that nobody knows how they were made: choose another "
            "--output_dir"
        )
    try:
        there = dict(json.loads(path.read_text()))
    except (TypeError, ValueError) as error:
        raise CohortError(f"{path} is damaged ({error}): choose another --output_dir") from error
    settings = _settings(cohort)
    if there != settings:
        other = ", ".join(key for key in settings if there.get(key) != settings[key])
        raise CohortError(
            f"{out} holds a simulation with other settings ({other}): repeat its flags to go on with it, or choose another "
            "--output_dir"
        )


def _check_files(cohort: Cohort, folder: Path) -> None:
    """Refuses a patient that was complete once and has lost files."""
    if not folder.exists():
        return
    names = {f"IM{index + 1:04d}.dcm" for index in range(cohort.scan.slices)}
    lost = sum(len(names - {path.name for path in (folder / name).glob("*")}) for name in cohort.scan.folders)
    if lost or not folder.with_suffix(".json").exists():
        raise CohortError(f"{folder} lacks {lost or 1} of its files: remove it and its .json, and it will be made again")


def _settings(cohort: Cohort) -> dict:
    return json.loads(json.dumps({"stan_ct": __version__, **asdict(cohort.scan)}))


def _bytes(cohort: Cohort) -> int:
    return len(cohort.missing()) * len(cohort.scan.series) * cohort.scan.slices * IMAGE_BYTES


def cost(cohort: Cohort) -> Cost:
    """Estimates the cost of the missing patients; times one slice of the first of them."""
    missing = cohort.missing()
    images = len(missing) * len(cohort.scan.series) * cohort.scan.slices
    at_once = min(cohort.workers, usable_cores(), len(_parts(cohort, list(missing))) or 1)
    seconds = _seconds_per_patient(cohort, min(missing)) * len(missing) / at_once if missing else 0.0
    return Cost(len(missing), images, _bytes(cohort) / 1e9, seconds)


def _seconds_per_patient(cohort: Cohort, seed: int) -> float:
    scan, threads = cohort.scan, cv2.getNumThreads()
    cv2.setNumThreads(1)  # as in a worker
    try:
        start = time.perf_counter()
        patient = Patient(seed, scan)
        patient.phantom.slice(patient.start)
        built = time.perf_counter()
        next(acquire(patient, [0]))
        one = time.perf_counter() - built  # the raw slices of one image, and its images
    finally:
        cv2.setNumThreads(threads)
    return built - start + one * (1 + (scan.slices - 1) * _new_share(scan))


def _new_share(scan: Scan) -> float:
    """Fraction of the raw slices of an image that the image before did not need."""
    needed = max(len(slice_sensitivity(thickness)) for thickness in scan.thicknesses)
    return min(scan.increment / Z_STEP / needed, 1)


def simulate(cohort: Cohort, progress: Callable[[int], None] = lambda images: None) -> list[Path]:
    """Makes the patients that are missing; :func:`check` first.

    A patient's files are made in OUT/.incomplete and moved together when they are complete. Files that a stopped run has
    left there are used by the next.

    Args:
        cohort: The cohort.
        progress: Called with the number of images made since the last call.
    Returns:
        The new folders.
    Raises:
        OSError: If the output cannot be written.
        BrokenProcessPool: If a worker was killed.
    """
    missing = cohort.missing()
    cohort.output_dir.mkdir(parents=True, exist_ok=True)
    write_atomically(cohort.output_dir / SETTINGS, json.dumps(_settings(cohort), indent=1) + "\n")
    parts = _parts(cohort, list(missing))
    unfinished, done = Counter(seed for seed, _ in parts), []
    with Workers(cohort.workers) as pool:
        for number, _ in pool.as_completed(_make, [(cohort, *part) for part in parts], progress):
            seed, _ = parts[number]
            unfinished[seed] -= 1
            if not unfinished[seed]:
                done.append(_finish(cohort, seed, missing[seed]))
    with suppress(OSError):
        (cohort.output_dir / INCOMPLETE).rmdir()
    return sorted(done)


def _parts(cohort: Cohort, seeds: list[int]) -> list[tuple[int, range]]:
    """Tasks, (seed, slices): whole patients, or parts of them where there are too few patients for the workers."""
    number = 1 if len(seeds) % cohort.workers == 0 or len(seeds) > 4 * cohort.workers else cohort.workers
    edges = np.linspace(0, cohort.scan.slices, min(number, cohort.scan.slices) + 1).astype(int).tolist()
    return [(seed, range(a, b)) for seed in seeds for a, b in pairwise(edges)]


@lru_cache(1)
def _patient(seed: int, scan: Scan) -> Patient:
    return Patient(seed, scan)


def _incomplete(cohort: Cohort, seed: int) -> Path:
    return cohort.output_dir / INCOMPLETE / f"SIM{seed:06d}"


def _make(cohort: Cohort, seed: int, indices: range) -> None:
    """Runs in a worker: makes those slices of a patient that do not exist yet."""
    patient, folder = _patient(seed, cohort.scan), _incomplete(cohort, seed)
    names = cohort.scan.folders
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
    wanted = [i for i in indices if not all((folder / name / f"IM{i + 1:04d}.dcm").exists() for name in names)]
    report((len(indices) - len(wanted)) * len(names))
    for index, images in acquire(patient, wanted):
        for number, (name, image) in enumerate(zip(names, images, strict=True)):
            write_atomically(folder / name / f"IM{index + 1:04d}.dcm", dicom_slice(patient, number, index, image))
        report(len(names))
    if 0 in indices:
        write_atomically(folder.with_suffix(".json"), json.dumps(patient.description(), indent=1) + "\n")


def _finish(cohort: Cohort, seed: int, folder: Path) -> Path:
    incomplete = _incomplete(cohort, seed)
    remove_partial(incomplete)  # of a run that was killed
    folder.parent.mkdir(parents=True, exist_ok=True)
    incomplete.with_suffix(".json").replace(folder.with_suffix(".json"))
    incomplete.rename(folder)
    return folder
