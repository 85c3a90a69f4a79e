"""Many simulated patients: what it will cost, who makes which slices, and folders that appear complete or not at all."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from stan_ct import __version__
from stan_ct.simulation.acquisition import Z_STEP, slice_sensitivity
from stan_ct.simulation.study import Patient, Scan, acquire, dicom_slice

SETTINGS, TRUTH = "simulation.json", "patient.json"
SPLITS = ("train", "validation", "test")
IMAGE_BYTES = 2 * 512 * 512 + 2048


class CohortError(ValueError):
    """What was asked for cannot be made there; the message says why and what to do."""


@dataclass(frozen=True)
class Cohort:
    """Patients, each in one split, and where they go: OUT/<split>/SIM000001/<kernel>_<thickness>mm/IM0001.dcm.

    Attributes:
        scan: What is made of each patient.
        output_dir: OUT.
        patients: Number for train, validation and test; their seeds follow each other in this order.
        first_seed: Seed of the first patient.
        workers: Processes.
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
        """The folders that are not there yet."""
        return {seed: folder for seed, folder in self.folders().items() if not folder.exists()}


@dataclass(frozen=True)
class Cost:
    """What a cohort takes: files and bytes exactly, seconds from a trial."""

    patients: int
    images: int
    gigabytes: float
    seconds: float


def prepare(cohort: Cohort) -> None:
    """Checks that the output directory can hold this cohort, and writes the settings there.

    Raises:
        CohortError: If there is a cohort of other settings, a patient in another split, or too little room.
    """
    settings = json.loads(json.dumps({"stan_ct": __version__, **asdict(cohort.scan)}))
    cohort.output_dir.mkdir(parents=True, exist_ok=True)
    path = cohort.output_dir / SETTINGS
    if path.exists() and (there := json.loads(path.read_text())) != settings:
        other = ", ".join(key for key in settings if there.get(key) != settings[key])
        raise CohortError(
            f"{cohort.output_dir} holds a simulation with other settings ({other}): repeat its flags to go on with it, or "
            "choose another --output_dir"
        )
    for seed, folder in cohort.folders().items():
        for split in SPLITS:
            if split != folder.parent.name and (cohort.output_dir / split / folder.name).exists():
                raise CohortError(
                    f"patient {folder.name} is in {split} already and would now be in {folder.parent.name} too: keep the "
                    f"number of patients, or choose another --output_dir or a --first_seed other than {seed}"
                )
    need, free = _bytes(cohort), shutil.disk_usage(cohort.output_dir).free
    if need > free:
        raise CohortError(f"{need / 1e9:.1f} GB are needed in {cohort.output_dir} and {free / 1e9:.1f} GB are free")
    path.write_text(json.dumps(settings, indent=1) + "\n")


def _bytes(cohort: Cohort) -> int:
    return len(cohort.missing()) * len(cohort.scan.series) * cohort.scan.slices * IMAGE_BYTES


def cost(cohort: Cohort) -> Cost:
    """Tries a slice of the first missing patient to see how long the rest will take."""
    missing = cohort.missing()
    images = len(missing) * len(cohort.scan.series) * cohort.scan.slices
    seconds = _seconds_per_patient(cohort, min(missing)) * len(missing) / cohort.workers if missing else 0.0
    return Cost(len(missing), images, _bytes(cohort) / 1e9, seconds)


def _seconds_per_patient(cohort: Cohort, seed: int) -> float:
    scan, start = cohort.scan, time.perf_counter()
    patient = Patient(seed, scan)
    patient.phantom.slice(patient.start)
    built = time.perf_counter()
    next(acquire(patient, [0]))
    one = time.perf_counter() - built  # the raw slices of one image, and its images
    return built - start + one * (1 + (scan.slices - 1) * _new_share(scan))


def _new_share(scan: Scan) -> float:
    """Share of the raw slices of an image which the image before did not need."""
    needed = max(len(slice_sensitivity(thickness)) for thickness in scan.thicknesses)
    return min(scan.increment / Z_STEP / needed, 1)


def simulate(cohort: Cohort, progress: Callable[[int], None] = lambda images: None) -> list[Path]:
    """Makes the patients that are missing.

    A patient's files are made in OUT/.incomplete and moved to their place together. What a run that was stopped has left
    there is used by the next.

    Args:
        cohort: After :func:`prepare`.
        progress: Called with the number of images made since the last call.
    Returns:
        The new folders.
    Raises:
        OSError: If the output cannot be written.
    """
    missing = cohort.missing()
    parts = _parts(cohort, list(missing))
    left = {seed: sum(s == seed for s, _ in parts) for seed in missing}
    context = multiprocessing.get_context("spawn")
    queue, done = context.SimpleQueue(), []
    with ProcessPoolExecutor(cohort.workers, context, _start_worker, (queue,)) as pool:
        running = {pool.submit(_make, cohort, *part): part[0] for part in parts}
        try:
            while running:
                finished, _ = wait(running, 0.5, FIRST_COMPLETED)
                while not queue.empty():
                    progress(queue.get())
                for future in finished:
                    future.result()
                    seed = running.pop(future)
                    left[seed] -= 1
                    if not left[seed]:
                        done.append(_finish(cohort, seed, missing[seed]))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    with suppress(OSError):
        (cohort.output_dir / ".incomplete").rmdir()
    return sorted(done)


def _parts(cohort: Cohort, seeds: list[int]) -> list[tuple[int, range]]:
    """(seed, slices) to make in one go: whole patients, or parts of them where there are few for the workers."""
    number = 1 if len(seeds) % cohort.workers == 0 or len(seeds) > 4 * cohort.workers else cohort.workers
    edges = np.linspace(0, cohort.scan.slices, min(number, cohort.scan.slices) + 1).astype(int).tolist()
    return [(seed, range(a, b)) for seed in seeds for a, b in pairwise(edges)]


_queue = None


def _start_worker(queue: object) -> None:
    global _queue  # how a process pool hands a queue to its workers
    _queue = queue
    cv2.setNumThreads(1)  # one worker per core
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends a worker without a traceback


@lru_cache(1)
def _patient(seed: int, scan: Scan) -> Patient:
    return Patient(seed, scan)


def _incomplete(cohort: Cohort, seed: int) -> Path:
    return cohort.output_dir / ".incomplete" / f"SIM{seed:06d}"


def _make(cohort: Cohort, seed: int, indices: range) -> None:
    """Runs in a worker: makes the slices of a patient that are not there yet."""
    patient, folder = _patient(seed, cohort.scan), _incomplete(cohort, seed)
    names = [f"{kernel.name}_{thickness:g}mm" for _, kernel, thickness in cohort.scan.series]
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
    wanted = [i for i in indices if not all((folder / name / f"IM{i + 1:04d}.dcm").exists() for name in names)]
    _queue.put((len(indices) - len(wanted)) * len(names))
    for index, images in acquire(patient, wanted):
        for number, (name, image) in enumerate(zip(names, images, strict=True)):
            _write(folder / name / f"IM{index + 1:04d}.dcm", dicom_slice(patient, number, index, image))
        _queue.put(len(names))
    if 0 in indices:
        _write(folder / TRUTH, (json.dumps(patient.description(), indent=1) + "\n").encode())


def _write(path: Path, data: bytes) -> None:
    """The file is there whole or not at all."""
    partial = path.with_suffix(f".{os.getpid()}")
    partial.write_bytes(data)
    partial.replace(path)


def _finish(cohort: Cohort, seed: int, folder: Path) -> Path:
    incomplete = _incomplete(cohort, seed)
    for partial in [path for path in incomplete.rglob("*") if path.suffix[1:].isdigit()]:  # of a run that was killed
        partial.unlink()
    folder.parent.mkdir(parents=True, exist_ok=True)
    incomplete.rename(folder)
    return folder
