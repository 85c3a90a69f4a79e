"""Trees of scans of two sites -> a model folder: what `stan-ct adapt` and `stan_ct.adapt` do."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from stan_ct import __version__
from stan_ct.adaptation.fit import AdaptedFilter, adapt_filter
from stan_ct.adaptation.matching import VALIDATING
from stan_ct.adaptation.page import adaptation_report
from stan_ct.adaptation.scans import Measured, Patient, find_patients, measure
from stan_ct.adaptation.settings import AdaptationError, AdaptSettings
from stan_ct.adaptation.training import Matched, Trial, train_on_top, untrained, write_matched
from stan_ct.ct.filters import FrontEnd
from stan_ct.ct.fingerprint import Fingerprint
from stan_ct.dicom.apart import check_apart
from stan_ct.models.config import ModelConfig
from stan_ct.models.folder import save_model
from stan_ct.parallel import Workers
from stan_ct.patches.training_slices import TrainingSlices, uid_hash
from stan_ct.report.files import write_report

REPORT = "report"
"""Folder of the report in the model folder."""
MARKER = "model.sha256"
"""File that tells the folder of a training from others: the hash of the model that is trained on."""


@dataclass(frozen=True)
class Adaptation:
    """A model made of scans without pairs.

    Attributes:
        folder: Model folder, for `stan-ct reconstruct --model` and :func:`stan_ct.load_model`.
        config: What it holds.
        filters: Source kernel -> its filter, with its interval.
        left_out: Patients without a slice that could be measured, by kernel and name.
        trial: What training was worth; None without.
    """

    folder: Path
    config: ModelConfig
    filters: dict[str, AdaptedFilter]
    left_out: tuple[str, ...] = ()
    trial: Trial | None = None

    @property
    def missing_patients(self) -> int:
        """How many more patients each side needs for filters that are known to 5 %; 0 if there are enough."""
        return max(each.missing_patients for each in self.filters.values())


@dataclass(frozen=True)
class _Side:
    """Patients of one kernel with what was measured of them."""

    patients: tuple[Patient, ...]
    measured: tuple[Measured, ...]


def adapt(
    source_dir: str | Path | Sequence[str | Path],
    target_dir: str | Path | Sequence[str | Path],
    output_dir: str | Path,
    *,
    workers: int = 1,
    **options: Any,
) -> Adaptation:
    """Makes a model of scans of two sites: of different patients, without pairs.

    Every source kernel gets a filter, fitted to the spectra of noise and of edges of both sides, with the range of protocols
    for which it was made. The same scans give the same bytes, whatever the number of workers.

    Args:
        source_dir: Tree, or trees, of DICOM with scans to be standardized, of any number of patients and kernels.
        target_dir: The same of the standard protocol, of one kernel or with `target_kernel`.
        output_dir: Model folder; it appears complete or not at all.
        workers: Number of processes.
        options: Further fields of :class:`~stan_ct.adaptation.settings.AdaptSettings`: `source_kernels`, `target_kernel`,
            `slices`, `name`, `minutes`.
    Raises:
        AdaptationError: If a side holds no scan that can be measured, or the target several kernels; the message says what
            would do.
        OSError: If a tree does not exist or the folder cannot be written.
    """
    sources, targets = (tuple(map(str, [side] if isinstance(side, str | Path) else side)) for side in (source_dir, target_dir))
    return adapt_with(AdaptSettings(sources, targets, str(output_dir), **options), workers)


def adapt_with(settings: AdaptSettings, workers: int = 1, command: str = "") -> Adaptation:
    """Makes a model as settings say, see :func:`adapt`.

    Args:
        settings: Scans and model.
        workers: Number of processes.
        command: Command line, for the report.
    """
    check_settings(settings)
    found = {side: _find(side, trees, settings.slices) for side, trees in settings.sides.items()}
    target = _target_kernel(found["target_dir"], settings.target_kernel)
    kernels = _source_kernels(found["source_dir"], settings.source_kernels, target)
    _check_apart([patient for kernel in kernels for patient in found["source_dir"][kernel]], found["target_dir"][target])
    with Workers(workers) as pool:
        groups = {kernel: found["source_dir"][kernel] for kernel in kernels}
        measured = _measure(pool, [*groups.values(), found["target_dir"][target]])
        sources, standard = dict(zip(groups, measured, strict=False)), measured[-1]
        _require(sources | {target: standard})
        filters = {kernel: _fit(pool, kernel, side, standard) for kernel, side in sources.items()}
        config = _config(settings, sources, target, standard, filters)
        folder = Path(settings.output_dir)
        scratch = scratch_of(settings)
        fewest = min(len(side.patients) for side in (*sources.values(), standard))
        enough = settings.minutes and fewest >= 2 * VALIDATING
        matched = _match(pool, config, sources, standard, scratch) if enough else None
    trial, generator = untrained(fewest) if settings.minutes else None, None
    if matched:
        trial, config, generator = train_on_top(config, matched, scratch, settings.minutes)
        config = replace(config, training=config.training | {"minutes": settings.minutes, "trial": asdict(trial)})
    left_out = _left_out([*groups.values(), found["target_dir"][target]], measured)
    save_model(folder, config, generator, storage="float16", slices=_seen([*sources.values(), standard]))
    write_report(adaptation_report(config, filters, left_out, command, trial), folder / REPORT)
    if matched:
        shutil.rmtree(scratch)
    return Adaptation(folder, config, filters, left_out, trial)


def _match(pool: Workers, config: ModelConfig, sources: dict[str, _Side], standard: _Side, scratch: Path) -> Matched:
    """Patches for training, in the folder of an earlier run of the same model or in a new one."""
    digest = hashlib.sha256(config.to_json().encode()).hexdigest()
    marker = scratch / MARKER
    if scratch.exists() and not (marker.exists() and marker.read_text() == digest):
        shutil.rmtree(scratch)
    scratch.mkdir(parents=True, exist_ok=True)
    marker.write_text(digest)

    def run(function: Any, tasks: Sequence[tuple]) -> list:
        return pool.map(function, tasks, [sum(map(len, patient.chosen)) for patient, *_ in tasks], "cut patches")

    patients = {kernel: side.patients for kernel, side in sources.items()}
    return write_matched(scratch / "records", config, patients, standard.patients, run)


def scratch_of(settings: AdaptSettings) -> Path:
    """Folder of patches and checkpoints, beside the model folder, while a generator is trained."""
    folder = Path(settings.output_dir)
    return folder.with_name(f"{folder.name}.training")


def check_settings(settings: AdaptSettings) -> None:
    """Refuses what cannot be done before anything is read.

    Raises:
        UsageError: If the output would lie among the files of a side.
        AdaptationError: If a side or the output is missing, or something else lies where the patches for training would.
    """
    given = [f"--{side}" for side, trees in settings.sides.items() if trees]
    lacking = [f"--{side}" for side, trees in settings.sides.items() if not trees]
    if lacking:
        has = f"only {given[0]} was given" if given else "neither side was given"
        raise AdaptationError(f"a model needs scans of both sides, and {has}: add {' and '.join(lacking)}")
    if not settings.output_dir:
        raise AdaptationError("--output_dir is missing: the folder of the model")
    check_apart(settings.output_dir, [tree for trees in settings.sides.values() for tree in trees])
    scratch = scratch_of(settings)
    vacant = not scratch.exists() or (scratch.is_dir() and not any(scratch.iterdir()))
    if settings.minutes and not (vacant or (scratch / MARKER).is_file()):
        advice = "move it away, or choose another --output_dir"
        raise AdaptationError(f"{scratch} would be replaced, and holds something else: {advice}")


def _find(side: str, trees: tuple[str, ...], slices: int) -> dict[str, list[Patient]]:
    found = find_patients(trees, slices, lambda paths: tqdm(paths, f"headers of --{side}", unit="file", disable=None))
    if not found:
        raise AdaptationError(f"--{side} holds no axial CT series: {', '.join(trees)}")
    return found


def _target_kernel(found: dict[str, list[Patient]], wanted: str) -> str:
    if wanted and wanted not in found:
        raise AdaptationError(f"--target_dir holds no series of kernel {wanted}; it holds {_listed(found)}")
    if not wanted and len(found) > 1:
        raise AdaptationError(f"--target_dir holds several kernels, {_listed(found)}: choose one with --target_kernel")
    return wanted or next(iter(found))


def _source_kernels(found: dict[str, list[Patient]], wanted: tuple[str, ...], target: str) -> list[str]:
    """Kernels to be standardized; the target's own needs no filter, unless it is asked for or alone."""
    if unknown := [kernel for kernel in wanted if kernel not in found]:
        raise AdaptationError(f"--source_dir holds no series of kernel {unknown[0]}; it holds {_listed(found)}")
    return list(wanted) or [kernel for kernel in found if kernel != target] or list(found)


def _check_apart(sources: Sequence[Patient], targets: Sequence[Patient]) -> None:
    """Refuses sides that share slices: between a series and itself there is nothing to learn."""
    source, target = (
        {instance.uid for patient in side for files in patient.series for instance in files.instances}
        for side in (sources, targets)
    )
    if shared := len(source & target):
        raise AdaptationError(
            f"--source_dir and --target_dir share {shared} slices: give scans to be standardized on one side, and scans of "
            "your standard on the other"
        )


def _listed(found: dict[str, list[Patient]]) -> str:
    return ", ".join(f"{kernel} ({len(patients)} {_patients(len(patients))})" for kernel, patients in found.items())


def _patients(number: int) -> str:
    return "patient" if number == 1 else "patients"


def _measure(pool: Workers, groups: Sequence[Sequence[Patient]]) -> list[_Side]:
    everyone = [patient for group in groups for patient in group]
    weights = [sum(map(len, patient.chosen)) for patient in everyone]
    found = iter(pool.map(measure, [(patient,) for patient in everyone], weights, "measure slices"))
    sides = []
    for group in groups:
        both = [(patient, result) for patient, result in zip(group, found, strict=False) if result is not None]
        sides.append(_Side(tuple(patient for patient, _ in both), tuple(result for _, result in both)))
    return sides


def _require(sides: dict[str, _Side]) -> None:
    for kernel, side in sides.items():
        if not side.patients:
            raise AdaptationError(
                f"no slice of kernel {kernel} can be measured: what is needed is axial CT of the body in HU, with some square "
                "centimetres of soft tissue in a slice"
            )


def _fit(pool: Workers, kernel: str, side: _Side, standard: _Side) -> AdaptedFilter:
    def run(function: Any, tasks: Sequence[tuple]) -> list:
        weights = [sum(map(len, patient.chosen)) for patient, *_ in tasks]
        return pool.map(function, tasks, weights, f"fit the filter of {kernel}")

    return adapt_filter(side.patients, side.measured, standard.measured, run)


def _fingerprint(kernel: str, side: _Side) -> Fingerprint:
    return Fingerprint.from_series(kernel, [each for measured in side.measured for each in measured.characteristics])


def _config(
    settings: AdaptSettings, sources: dict[str, _Side], target: str, standard: _Side, filters: dict[str, AdaptedFilter]
) -> ModelConfig:
    kernels = ", ".join(sources)
    sides = sources | {target: standard}
    limits = {
        kernel: {
            "patients": list(each.patients),
            "uncertainty": round(each.uncertainty, 4),
            "over": each.over,
            "dose": round(each.dose, 4),
            "gain_low": each.low.round(4).tolist(),
            "gain_high": each.high.round(4).tolist(),
        }
        for kernel, each in filters.items()
    }
    exposure = {kernel: sorted(mas for m in side.measured for mas in m.dose) for kernel, side in sides.items()}
    return ModelConfig(
        name=settings.name or f"{'-'.join(sources)}-to-{target}-unpaired".lower().replace("/", "-"),
        method="kernel_filter",
        source_kernel=kernels,
        target_kernel=target,
        sharpens=any(each.filter.sharpens for each in filters.values()),
        front_end=FrontEnd({kernel: each.filter for kernel, each in filters.items()}),
        sources=tuple(_fingerprint(kernel, side) for kernel, side in sources.items()),
        standard=_fingerprint(target, standard),
        qc_threshold=0.0,
        training={"stan_ct": __version__, "unpaired": limits, "exposure_mas": exposure},
    )


def _seen(sides: Sequence[_Side]) -> TrainingSlices:
    slices = frozenset(uid_hash(uid) for side in sides for measured in side.measured for uid in measured.slices)
    studies = frozenset(uid_hash(f.study_uid) for side in sides for patient in side.patients for f in patient.series)
    return replace(TrainingSlices(), train=slices, study=studies)


def _left_out(groups: Sequence[Sequence[Patient]], sides: Sequence[_Side]) -> tuple[str, ...]:
    """Kernel of each patient that could not be measured, and its number in the group: names stay at home."""
    return tuple(
        f"{patient.kernel}, patient {number}"
        for group, side in zip(groups, sides, strict=True)
        for number, patient in enumerate(group, 1)
        if patient not in side.patients
    )
