"""A generator on top of filters, trained without pairs, and kept if it wins on patients that trained nothing.

D compares G's output of source patches with target patches of other patients, matched by tissue and noise; G's low frequencies
are held to those of its input. The competition is that of `stan-ct train`, with its checkpoints: a run that was stopped goes
on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stan_ct.adaptation.matching import MARGIN, Patches, cut_patches, held_back, match
from stan_ct.adaptation.scans import Patient
from stan_ct.ct.hounsfield import HUWindow
from stan_ct.features.errors import five_features, relative_error
from stan_ct.features.glcm import FEATURES
from stan_ct.files import write_atomically
from stan_ct.models.config import ModelConfig
from stan_ct.models.folder import load_weights
from stan_ct.networks.config import DiscriminatorConfig, GeneratorConfig, LossSettings
from stan_ct.patches.record_folder import INDEX
from stan_ct.patches.sampling import PATCH_SIZE
from stan_ct.patches.tfrecord import write_records
from stan_ct.training.phases import PhaseRules
from stan_ct.training.settings import TrainSettings

RESAMPLES = 2000
"""Bootstrap samples of the validation patients."""
SURE = 0.8
"""Share of the samples in which G must win to be kept."""

if TYPE_CHECKING:
    from stan_ct.networks.generator import Generator

Map = Callable[[Callable, Sequence[tuple]], list]


@dataclass(frozen=True)
class Trial:
    """What training was worth, on validation patches of patients that did not train.

    Attributes:
        kept: Whether G is part of the model.
        before: Relative differences of the mean features from those of matched target patches, after the filters alone:
            dissimilarity, contrast, homogeneity, energy, correlation; empty if nothing was trained.
        after: The same of G.
        share: Share of the bootstrap samples in which G's mean difference is the smaller one.
        patients: Number of validation patients, or of the fewest patients of a kernel if nothing was trained.
        patches: Numbers of training and validation patches.
    """

    kept: bool
    before: tuple[float, ...]
    after: tuple[float, ...]
    share: float
    patients: int
    patches: tuple[int, int] = (0, 0)


def untrained(patients: int) -> Trial:
    """That nothing was trained, with the number of patients of the kernel that has the fewest."""
    return Trial(False, (), (), 0.0, patients)


@dataclass(frozen=True)
class Matched:
    """Matched patches, those that train on disk.

    Attributes:
        patches: Numbers of training and validation patches.
        validation: Validation records, (N, 3, S, S) int16 HU: source, filtered, target.
        units: (N,) number of the patient of each of them.
    """

    patches: tuple[int, int]
    validation: np.ndarray
    units: np.ndarray


def settings_for(records: Path, folder: Path, name: str, minutes: float) -> TrainSettings:
    """Settings of the competition without pairs."""
    return TrainSettings(
        records_dir=str(records),
        output_dir=str(folder),
        name=name,
        generator=GeneratorConfig(base_filters=16),
        discriminator=DiscriminatorConfig(base_filters=8, high_pass=True),
        competition="joint",
        phases=PhaseRules(warm_up_steps=20, g_phase_steps=50),
        losses=LossSettings(
            adversarial="relativistic",
            adversarial_ratio=0.5,
            lipschitz="zero_centered",
            penalty_weight=0.005,
            discriminator_shift=8,
            feature_weight=0,
            latent_weight=0,
            l1_weight=0,
            texture_weight=0,
            low_pass_weight=1,
            squared_weight=10,
            mask_losses=False,
            unpaired=True,
        ),
        discriminator_learning_rate=1e-3,
        batch_size=4,
        lr_schedule="cosine",
        max_epochs=100_000,
        max_minutes=minutes,
        validation_patches=0,
    )


def train_on_top(
    config: ModelConfig, records: Matched, folder: Path, minutes: float
) -> tuple[Trial, ModelConfig, Generator | None]:
    """Trains G on what the filters of a model make of its sources.

    Args:
        config: The model of filters.
        records: Matched patches, in `folder / "records"`.
        folder: Folder of records, checkpoints and versions; a run that finds its own checkpoint goes on.
        minutes: Time for training.
    Returns:
        What it was worth, the configuration of the model, and G if it is kept.
    Raises:
        Stopped: After SIGTERM; KeyboardInterrupt after Ctrl-C. The same call goes on.
    """
    from stan_ct.training.trainer import train

    if not min(records.patches):
        return untrained(0), config, None
    trained = train(settings_for(folder / "records", folder / "model", config.name, minutes), population_errors)
    generator = trained.build_generator()
    load_weights(folder / "model", "generator", generator)
    trial = judge(records, generator, trained.hu_window)
    if not trial.kept:
        return trial, config, None
    return trial, replace(config, method="unet", generator=trained.generator), generator


def population_errors(target: np.ndarray) -> Callable[[np.ndarray], dict[str, float]]:
    """Prepares errors of mean features: patches of different patients cannot be compared one by one.

    Args:
        target: (N, 256, 256) HU.
    Returns:
        Function of output patches, same shape, that returns feature -> relative difference of the means.
    """
    wanted = _features(target).mean(0)
    return lambda output: dict(zip(FEATURES, relative_error(_features(output).mean(0), wanted).tolist(), strict=True))


def _features(patches: np.ndarray) -> np.ndarray:
    """The five features of patches, (N, 256, 256) HU -> (N, 5); 0 where one is undefined."""
    return np.nan_to_num(five_features(patches))


def judge(records: Matched, generator: Callable, window: HUWindow) -> Trial:
    """Compares a generator with the filters alone on validation patches, patients resampled.

    Args:
        records: Matched patches.
        generator: Takes and returns patches, (N, 256, 256, 1) in [-1, 1].
        window: HU <-> [-1, 1].
    """
    middle = slice(MARGIN, MARGIN + PATCH_SIZE)
    _, filtered, target = np.moveaxis(records.validation[:, :, middle, middle].astype(np.float32), 1, 0)
    shown = np.clip(window.normalize(filtered), -1, 1)[..., None]
    made = [np.asarray(generator(shown[i : i + 8]))[..., 0] for i in range(0, len(shown), 8)]
    patches = {"before": shown[..., 0], "after": np.clip(np.concatenate(made), -1, 1)}
    of = {name: _features(window.to_hu(values)) for name, values in patches.items()} | {"target": _features(target)}
    units = [records.units == unit for unit in np.unique(records.units)]
    sums = {name: np.stack([values[unit].sum(0) for unit in units]) for name, values in of.items()}
    rng = np.random.default_rng(0)
    weights = rng.multinomial(len(units), np.full(len(units), 1 / len(units)), RESAMPLES)
    errors = {name: relative_error(weights @ sums[name], weights @ sums["target"]).mean(1) for name in ("before", "after")}
    share = float(np.mean(errors["after"] < errors["before"]))
    before, after = (
        tuple(relative_error(of[name].mean(0), of["target"].mean(0)).round(4).tolist()) for name in ("before", "after")
    )
    kept = share >= SURE and sum(after) < sum(before)
    return Trial(kept, before, after, share, len(units), records.patches)


def write_matched(
    folder: Path,
    config: ModelConfig,
    sources: Mapping[str, Sequence[Patient]],
    targets: Sequence[Patient],
    run: Map,
    partner_of: Callable[[np.ndarray, np.ndarray, int], np.ndarray] = match,
) -> Matched:
    """Writes patches of sources with target patches of other patients, as records that `stan-ct train` reads.

    Args:
        folder: The folder.
        config: The model of filters.
        sources: Source kernel -> its patients.
        targets: Patients of the target kernel.
        run: Calls a function on tasks.
        partner_of: Chooses the target patch of each source patch, see :func:`~stan_ct.adaptation.matching.match`.
    """
    front_end = config.front_end
    if front_end is None:
        raise ValueError("expected a model of filters")
    others = _split(run(cut_patches, [(patient, None, seed) for seed, patient in enumerate(targets)]))
    pairs, counts, kept, units, number = [], {"train": 0, "validation": 0}, [], [], 0
    folder.mkdir(parents=True, exist_ok=True)
    for kernel, patients in sources.items():
        curve = front_end.filters[kernel]
        cuts = _split(run(cut_patches, [(patient, curve, 1000 + seed) for seed, patient in enumerate(patients)]))
        for part, (cut, patient) in cuts.items():
            other = others[part][0]
            if not (len(cut.images) and len(other.images)):
                continue
            partner = other.images[partner_of(cut.traits, other.traits, number)]
            images = np.concatenate([cut.images, partner], axis=1)
            shard = f"{part}-{number:03}.tfrecord"
            counts[part] += write_records(folder / shard, images)
            if part == "validation":
                kept.append(images)
                units.append(patient + 10**6 * number)
            digest = hashlib.sha256(images.tobytes()).hexdigest()  # tells these records from others when a run goes on
            source, target = {"kernel": kernel, "series_uid": digest}, {"kernel": config.target_kernel}
            pairs.append({"source": source, "target": target, "split": part, "shard": shard, "patches": len(images)})
            number += 1
    _write_index(folder, config, pairs, counts)
    side = PATCH_SIZE + 2 * MARGIN
    validation = np.concatenate(kept) if kept else np.zeros((0, 3, side, side), np.int16)
    return Matched((counts["train"], counts["validation"]), validation, np.concatenate(units) if units else np.zeros(0, int))


def _split(patients: Sequence[Patches]) -> dict[str, tuple[Patches, np.ndarray]]:
    """Patches that train and that validate, with the number of the patient of each."""
    held, found = held_back(len(patients)), {}
    for part, chosen in (("train", ~held), ("validation", held)):
        members = [each for each, taken in zip(patients, chosen, strict=True) if taken]
        cut = [np.concatenate([getattr(each, name) for each in members]) for name in ("images", "traits")]
        found[part] = Patches(*cut), np.repeat(np.flatnonzero(chosen), [len(each.traits) for each in members])
    return found


def _write_index(folder: Path, config: ModelConfig, pairs: list[dict], counts: dict[str, int]) -> None:
    """The index of the records, with what training has to know of them."""
    if config.front_end is None or config.standard is None:
        raise ValueError("expected a model of filters that knows its protocols")
    side = PATCH_SIZE + 2 * MARGIN
    index = {
        "settings": {"source_kernels": config.source_kernel.split(", "), "target_kernel": config.target_kernel},
        "images": ["source", "filtered", "target"],
        "record_side": {"train": side, "validation": side},
        "patches": counts,
        "slices": {},
        "pairs": pairs,
        "front_end": config.front_end.to_json(),
        "sharpens": config.sharpens,
        "fingerprints": {"sources": [asdict(each) for each in config.sources], "target": [asdict(config.standard)]},
    }
    write_atomically(folder / INDEX, json.dumps(index, indent=1) + "\n")
