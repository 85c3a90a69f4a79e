"""What is trained: the networks of a competition, or a classical baseline that is fitted at once."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from stan_ct import __version__
from stan_ct.ct.hounsfield import quantiles
from stan_ct.models.folder import ModelConfig, find_model, load_weights, read_config
from stan_ct.networks.precision import compute_dtype
from stan_ct.patches.dataset import read_patches
from stan_ct.training.competition import Competition
from stan_ct.training.settings import TrainSettings

CLASSICAL = ("kernel_filter", "histogram")
"""Methods without networks."""

HISTOGRAM_BATCHES = 64
"""Batches of eight training patches that give the histogram of the standard protocol."""


def competition(settings: TrainSettings, config: ModelConfig) -> Competition:
    """The networks, of equal shape and different starts, and their optimizers."""
    dtype = compute_dtype(settings.precision)

    def optimizer() -> keras.optimizers.Optimizer:
        average = {"use_ema": True, "ema_momentum": settings.ema} if settings.ema else {}
        adam = keras.optimizers.Adam(settings.learning_rate, beta_1=0.5, **average)
        return keras.optimizers.LossScaleOptimizer(adam) if dtype == "mixed_float16" else adam

    number = settings.rules.number
    generators = [config.generator(dtype, settings.initialization) for _ in range(number)]
    opponents = 0 if settings.method == "unet" else number
    discriminators = [config.discriminator(dtype, settings.initialization) for _ in range(opponents)]
    if settings.init_model:
        _start_from(find_model(settings.init_model), config, generators, discriminators)
    return Competition(generators, discriminators, settings.losses, optimizer, settings.conditional, settings.hu_window)


ALIKE = ("window", "base_filters", "discriminator_filters", "normalization", "residual", "spectral", "conditional", "high_pass")
"""What two models must agree in for one to start from the other's networks."""


def _start_from(folder: Path, config: ModelConfig, generators: list, discriminators: list) -> None:
    """Gives networks the weights of a model.

    Raises:
        FileNotFoundError: If there is no such model.
        ValueError: If its networks are not of the same kind.
    """
    before = read_config(folder)
    differ = [name for name in ALIKE if getattr(before, name) != getattr(config, name)]
    if before.method in CLASSICAL or differ:
        told = ", ".join(f"{name}={getattr(before, name)}" for name in differ) or f"method={before.method}"
        raise ValueError(f"--init_model={folder} has other networks than these flags ask for; it has {told}")
    for label, networks in (("generator", generators), ("discriminator", discriminators)):
        if label == "generator" or before.method != "unet":
            for network in networks:
                load_weights(folder, label, network)


def classical(settings: TrainSettings, config: ModelConfig, index: dict) -> ModelConfig:
    """Fits a baseline without networks.

    Raises:
        ValueError: If the records hold no fitted filter, or no training patches.
    """
    config = replace(config, qc_threshold=0.0, training=record(settings, index))
    if settings.method == "kernel_filter":
        if config.front_end is None:
            raise ValueError("kernel_filter needs records made with --front_end=amplitude or --front_end=wiener")
        return config
    batches = read_patches(settings.records_dir, "train", settings.hu_window, 8, seed=settings.seed)
    patches = (settings.hu_window.to_hu(np.asarray(target)) for _, target in batches.take(HISTOGRAM_BATCHES))
    return replace(config, front_end=None, histogram=quantiles(patches))


def record(settings: TrainSettings, index: dict) -> dict:
    """Settings, data and versions, for the model folder."""
    versions = {"stan_ct": __version__, "tensorflow": tf.__version__, "keras": keras.__version__, "numpy": np.__version__}
    flags = {k: v for k, v in asdict(settings).items() if k not in ("records_dir", "output_dir")}
    made_with = {k: v for k, v in index["settings"].items() if k not in ("input_dir", "output_dir")}
    data = {"patches": index["patches"], "slices": index["slices"], "pairs": index["pairs"], **made_with}
    return {"settings": flags, "data": data, "versions": versions}
