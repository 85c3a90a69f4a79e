"""Models to train: the networks of a competition, or a classical baseline that is fitted at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from stan_ct import __version__
from stan_ct.ct.hounsfield import quantiles
from stan_ct.errors import UsageError
from stan_ct.models.config import ModelConfig
from stan_ct.models.folder import find_model, load_weights, read_config, read_training_slices
from stan_ct.networks.config import DiscriminatorConfig, GeneratorConfig
from stan_ct.networks.discriminator import Discriminator
from stan_ct.networks.generator import Generator
from stan_ct.networks.precision import compute_dtype
from stan_ct.options import Option, options
from stan_ct.patches.dataset import read_patches
from stan_ct.patches.training_slices import TrainingSlices
from stan_ct.training.competition import Competition
from stan_ct.training.settings import TrainSettings

Architecture = GeneratorConfig | DiscriminatorConfig

CLASSICAL = ("kernel_filter", "histogram")
"""Methods without networks."""

HISTOGRAM_BATCHES = 64
"""Number of batches of eight training patches that give the histogram of the standard protocol."""


def competition(settings: TrainSettings, config: ModelConfig) -> Competition:
    """Networks of equal architecture and different starts, compiled with losses and optimizers."""
    dtype = compute_dtype(settings.precision)

    def optimizer(rate: float, **average: Any) -> keras.optimizers.Optimizer:
        adam = keras.optimizers.Adam(rate, beta_1=0.5, **average)
        return keras.optimizers.LossScaleOptimizer(adam) if dtype == "mixed_float16" else adam

    number = settings.rules.num_copies
    opponents = 0 if settings.method == "unet" else number
    generators = [config.build_generator(dtype, settings.initialization) for _ in range(number)]
    discriminators = [config.build_discriminator(dtype, settings.initialization) for _ in range(opponents)]
    if settings.init_model:
        _start_from(find_model(settings.init_model), config, generators, discriminators)
    model = Competition(generators, discriminators, settings.hu_window)
    average = {"use_ema": True, "ema_momentum": settings.ema} if settings.ema else {}
    d_rate = settings.discriminator_learning_rate or settings.learning_rate
    model.compile(settings.losses, optimizer(d_rate), optimizer(settings.learning_rate, **average))
    return model


def _start_from(folder: Path, config: ModelConfig, generators: list[Generator], discriminators: list[Discriminator]) -> None:
    """Gives networks the weights of a model.

    Raises:
        ModelNotFound: If there is no such model.
        UsageError: If its networks are not of the same architecture.
    """
    before = read_config(folder)
    differing = [
        f"{option.flag}={old}"
        for part in ("generator", "discriminator")
        for option, old, new in _compared(getattr(before, part), getattr(config, part))
        if old != new
    ]
    if before.hu_window != config.hu_window:
        differing.append(f"hu_window={before.hu_window}")
    if before.method in CLASSICAL:
        differing = [f"method={before.method}"]
    if differing:
        raise UsageError(f"--init_model={folder} has other networks than these flags ask for; it has {', '.join(differing)}")
    for label, networks in (("generator", generators), ("discriminator", discriminators)):
        if label == "generator" or before.method != "unet":
            for network in networks:
                load_weights(folder, label, network)


def _compared(before: Architecture, now: Architecture) -> Iterator[tuple[Option, object, object]]:
    """Options of an architecture, with the value of each in two configurations."""
    return zip(options(type(now)), asdict(before).values(), asdict(now).values(), strict=True)


def classical(settings: TrainSettings, config: ModelConfig, index: dict) -> ModelConfig:
    """Fits a baseline without networks.

    Raises:
        UsageError: If the records hold no fitted filter.
    """
    config = replace(config, qc_threshold=0.0, training=record(settings, index))
    if settings.method == "kernel_filter":
        if config.front_end is None:
            raise UsageError("kernel_filter needs records made with --front_end=blend, amplitude or wiener")
        return config
    batches = read_patches(settings.records_dir, "train", settings.hu_window, 8, seed=settings.seed)
    patches = (settings.hu_window.to_hu(np.asarray(target)) for _, target in batches.take(HISTOGRAM_BATCHES))
    return replace(config, front_end=None, histogram=quantiles(patches))


def seen_slices(settings: TrainSettings, index: dict) -> TrainingSlices:
    """Slices of the records, and those that the model has seen which the training starts from."""
    seen = TrainingSlices.from_index(index)
    return seen | read_training_slices(find_model(settings.init_model)) if settings.init_model else seen


def record(settings: TrainSettings, index: dict) -> dict:
    """Settings, data and versions, for the model folder."""
    versions = {"stan_ct": __version__, "tensorflow": tf.__version__, "keras": keras.__version__, "numpy": np.__version__}
    flags = {k: v for k, v in asdict(settings).items() if k not in ("records_dir", "output_dir")}
    made_with = {k: v for k, v in index["settings"].items() if k not in ("input_dir", "output_dir")}
    data = {"patches": index["patches"], "slices": index["slices"], "pairs": index["pairs"], **made_with}
    return {"settings": flags, "data": data, "versions": versions}
