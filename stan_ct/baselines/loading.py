"""Model folders -> the classical baselines, which need no TensorFlow."""

from __future__ import annotations

from pathlib import Path

from stan_ct.baselines.histogram import HistogramMatching
from stan_ct.baselines.kernel_filter import KernelFilter
from stan_ct.models.folder import read_config


def load_baseline(folder: Path | str) -> KernelFilter | HistogramMatching | None:
    """The baseline of a model folder; None if its method is a network.

    Raises:
        FileNotFoundError: If the folder holds no complete model.
        ValueError: If it is not one of this version.
    """
    config = read_config(folder)
    if config.method == "kernel_filter":
        if config.front_end is None:
            raise ValueError(f"{folder}: a kernel_filter model needs a front end, and this one has none")
        return KernelFilter(config.front_end)
    return HistogramMatching(config.histogram) if config.method == "histogram" else None
