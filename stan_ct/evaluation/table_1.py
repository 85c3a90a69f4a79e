"""Models as rows of Table 1: test patches through every model."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from stan_ct.evaluation.measure.patches import Method, Synthesize
from stan_ct.quiet import quiet_start


def load_methods(models: Mapping[str, Path | Method]) -> list[Method]:
    """Model folders as rows of Table 1; rows that are methods already stay as they are."""
    return [model if isinstance(model, Method) else load_method(name, model) for name, model in models.items()]


def load_method(name: str, folder: Path) -> Method:
    """A model folder, or a model that ships, as a row of Table 1; its weights are loaded when it is measured.

    Raises:
        FileNotFoundError: If there is no such model.
        ValueError: If its configuration cannot be read.
    """
    with quiet_start():
        from stan_ct.models.folder import NETWORKS, find_model, model_hash, read_config
    folder = find_model(folder)
    config = read_config(folder)
    front_end = config.front_end.to_json() if config.front_end else {}
    load = _histogram_matching if config.method == "histogram" else _synthesizer
    adjacent_slices = config.generator.adjacent_slices if config.method in NETWORKS else 0
    return Method(name, model_hash(folder), front_end, partial(load, folder), adjacent_slices)


def model_sha256(folder: Path) -> str:
    """SHA-256 of a model folder, or of a model that ships."""
    with quiet_start():
        from stan_ct.models.folder import find_model, model_hash
    return model_hash(find_model(folder))


def _synthesizer(folder: Path) -> Synthesize:
    with quiet_start():
        from stan_ct.reconstruction.synthesis import load_synthesizer
    return load_synthesizer(folder)


def _histogram_matching(folder: Path) -> Synthesize:
    """Histogram matching patch by patch: `reconstruct.py` matches whole slices, which records do not hold."""
    with quiet_start():
        from stan_ct.reconstruction.synthesis import load_synthesizer
    matching = load_synthesizer(folder)
    return lambda patches: (np.stack([matching.prepare(patch, (1.0, 1.0)) for patch in patches]), np.ones(len(patches)))
