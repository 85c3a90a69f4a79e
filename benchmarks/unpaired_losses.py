"""What each part of the competition without pairs is worth, left out in turn: rows of benchmarks/unpaired.py losses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from stan_ct.adaptation.matching import match
from stan_ct.adaptation.page import worth
from stan_ct.adaptation.run import adapt
from stan_ct.adaptation.scans import find_patients
from stan_ct.adaptation.training import judge, population_errors, settings_for, write_matched
from stan_ct.models.folder import load_weights, save_model
from stan_ct.parallel import Workers, usable_cores
from stan_ct.training.settings import TrainSettings
from stan_ct.training.trainer import train

SLICES = 8
"""Slices of a patient that are cut into patches."""


def _losses(**changed: float) -> Callable[[TrainSettings], TrainSettings]:
    return lambda settings: replace(settings, losses=replace(settings.losses, **changed))


def _whole(settings: TrainSettings) -> TrainSettings:
    return replace(settings, discriminator=replace(settings.discriminator, high_pass=False))


PARTS: dict[str, Callable[[TrainSettings], TrainSettings]] = {
    "all of it": lambda settings: settings,
    "patches not matched": lambda settings: settings,
    "D sees the whole patch": _whole,
    "patches not shifted": _losses(discriminator_shift=0),
    "no low-pass loss": _losses(low_pass_weight=0),
    "no squared difference": _losses(squared_weight=0),
    "with the latent loss": _losses(latent_weight=0.01),
    "no D": _losses(adversarial_ratio=0, adversarial_weight=0),
}
"""Row -> what it changes."""


def any_patch(sources: np.ndarray, targets: np.ndarray, seed: int) -> np.ndarray:
    """A target patch for each source patch, drawn from all of them."""
    return np.random.default_rng(seed).integers(0, len(targets), len(sources))


def losses(
    sources: list[str], targets: list[str], scratch: Path, steps: int, parts: list[str], report: Callable[[str, str], None]
) -> None:
    """Trains a generator on top of one filter, with each part left out in turn.

    Args:
        sources: Trees of the source kernel.
        targets: Trees of the target kernel, of other patients.
        scratch: Folder for all that is made.
        steps: Steps of G.
        parts: Rows of `PARTS`.
        report: Prints the row of a model folder, given the row's name.
    """
    made = adapt(sources, targets, scratch / "filter", workers=usable_cores())
    ((kernel, of_source),) = find_patients(sources, SLICES).items()
    (of_target,) = find_patients(targets, SLICES).values()
    report(str(made.folder), "the filter alone")
    for number, part in enumerate(parts):
        folder = scratch / str(number)
        with Workers(usable_cores()) as pool:
            partner = any_patch if part == "patches not matched" else match
            records = write_matched(
                folder / "records",
                made.config,
                {kernel: of_source},
                of_target,
                lambda function, tasks, pool=pool: pool.map(function, tasks, [1] * len(tasks), "cut patches"),
                partner,
            )
        settings = settings_for(folder / "records", folder / "model", made.config.name, 0)
        trained = train(PARTS[part](replace(settings, max_steps=steps)), population_errors)
        generator = trained.build_generator()
        load_weights(folder / "model", "generator", generator)
        config = replace(made.config, method="unet", generator=trained.generator)
        save_model(folder / "whole", config, generator, storage="float16")
        print(f"{part}: {worth(judge(records, generator, trained.hu_window))}", flush=True)
        report(str(folder / "whole"), part)
