"""A judge of check 2 for a model that has none, or one of an earlier version, fitted to validation patches."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stan_ct.ct.filters import FrontEnd
from stan_ct.errors import UsageError
from stan_ct.models.config import ModelConfig
from stan_ct.models.folder import NETWORKS, load_weights
from stan_ct.models.judge import Judge
from stan_ct.networks.precision import compute_dtype
from stan_ct.patches.record_index import read_index
from stan_ct.training.validation import Validation

BATCH = 8
SAME_GAIN = 0.01
"""Relative difference of gains up to which filters are the same: those of records made anew on another machine are rounded."""


def fit_judge(
    folder: Path, config: ModelConfig, records_dir: Path | str, validation_patches: int
) -> tuple[Judge, dict[str, float]]:
    """Fits a judge as training does: to targets of validation patches, and to what the model makes of their sources.

    Args:
        folder: Model folder.
        config: Its configuration.
        records_dir: Folder of patch records of the model's protocols, with its front end.
        validation_patches: Largest number of validation patches; 0 for all.
    Returns:
        The judge, and the shares of these targets and outputs that it lets pass, by `targets` and `outputs`.
    Raises:
        UsageError: If the model has no network, or there are too few validation patches.
    """
    if config.method not in NETWORKS:
        raise UsageError(f"{folder} has no network: a {config.method} needs no judge")
    front_end = read_index(records_dir).get("front_end")
    if config.front_end is not None and not same_filters(FrontEnd.from_json(front_end or {}), config.front_end):
        raise UsageError(f"{records_dir} was made with another front end than {folder}'s: take the records that trained it")
    adjacent, filtered = config.generator.adjacent_slices, config.front_end is not None
    generator = config.build_generator(compute_dtype("auto"))
    load_weights(folder, "generator", generator)
    try:
        patches = Validation(records_dir, config.hu_window, validation_patches, filtered=filtered, adjacent=adjacent)
        parts = [patches.source[i : i + BATCH] for i in range(0, len(patches.source), BATCH)]
        made = np.concatenate([np.asarray(generator(part, training=False), np.float32) for part in parts])
        source, target = patches.hu
        outputs = config.hu_window.to_hu(np.clip(made[..., 0], -1, 1))
        judge = Judge.fit(source, [target, outputs])
    except ValueError as error:
        raise UsageError(str(error)) from error
    return judge, {name: judge.passed(source, images) for name, images in (("targets", target), ("outputs", outputs))}


def same_filters(made: FrontEnd | None, known: FrontEnd) -> bool:
    """Whether the filters of records are those of a model, but for rounding."""
    if made is None or made.filters.keys() != known.filters.keys():
        return False
    pairs = [(made.filters[kernel], known.filters[kernel]) for kernel in known.filters]
    return all(
        a.frequency == b.frequency and a.floor == b.floor and np.allclose(a.gain, b.gain, rtol=SAME_GAIN, atol=0)
        for a, b in pairs
    )
