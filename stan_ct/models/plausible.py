"""What no trained model has, though the types are right: curves that are none, networks that no machine holds."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from stan_ct.ct.filters import HIGHEST_FLOOR
from stan_ct.ct.kernel_shape import SIZE
from stan_ct.ct.noise import BANDS

if TYPE_CHECKING:
    from stan_ct.ct.filters import RadialFilter
    from stan_ct.ct.fingerprint import Fingerprint
    from stan_ct.models.config import ModelConfig

MAX_FILTERS = 1024
"""Filters of a network's first layer, at most; the paper has 64."""
MAX_GAIN = 1000.0
"""Gain of a radial filter, at most; between the kernels of the table it is below 100."""
MAX_THICKNESS = 100.0
"""Slice thickness, mm, at most."""
MAX_NAME = 200
"""Characters of a name, at most."""
MAX_HU = 40_000.0
"""HU at the ends of the window, at most in amount: what 16 bits can hold, and some."""


def check_plausible(config: ModelConfig) -> None:
    """Compares the values of a configuration with what a trained model can have.

    Raises:
        ValueError: For the first that is out of its range, with the range.
    """
    for name in ("name", "source_kernel", "target_kernel"):
        text = getattr(config, name)
        if not text or len(text) > MAX_NAME or not text.isprintable():
            raise ValueError(f"{name} must be 1 to {MAX_NAME} printable characters, not {text[:40]!a}")
    if not 0 <= config.qc_threshold <= 1:
        raise ValueError(f"qc_threshold must be between 0 and 1, not {config.qc_threshold:g}")
    if not 0 <= config.target_thickness <= MAX_THICKNESS:
        raise ValueError(f"target_thickness must be between 0 and {MAX_THICKNESS:g} mm, not {config.target_thickness:g}")
    for label, filters in (
        ("generator", config.generator.base_filters),
        ("discriminator", config.discriminator.base_filters),
    ):
        if filters > MAX_FILTERS:
            raise ValueError(f"the {label} must have at most {MAX_FILTERS} base_filters, not {filters}")
    if max(abs(config.hu_window.low), abs(config.hu_window.high)) > MAX_HU:
        raise ValueError(f"the ends of hu_window must be within {MAX_HU:g} HU, not {config.hu_window}")
    for kernel, curve in (config.front_end.filters if config.front_end else {}).items():
        _check_curve(f"the filter of kernel {ascii(kernel)[:40]}", curve)
    for fingerprint in (*config.sources, *([config.standard] if config.standard else [])):
        _check_fingerprint(f"the fingerprint of kernel {ascii(fingerprint.kernel)[:40]}", fingerprint)
    _check_baseline(config)


def _check_curve(label: str, curve: RadialFilter) -> None:
    points = len(curve.frequency)
    if points < 2 or len(curve.gain) != points or len(curve.ceiling) not in (0, points):
        raise ValueError(f"{label} must have a gain, and a ceiling or none, at each of two frequencies or more")
    if curve.frequency[0] < 0 or any(a >= b for a, b in pairwise(curve.frequency)):
        raise ValueError(f"{label} must have frequencies that grow from 0")
    if max(map(abs, curve.gain)) > MAX_GAIN:
        raise ValueError(f"{label} must have gains up to {MAX_GAIN:g}, not {max(curve.gain, key=abs):g}")
    if any(value < 0 for value in curve.ceiling):
        raise ValueError(f"{label} must have a ceiling of 0 or more, not {min(curve.ceiling):g}")
    if curve.floor is not None and not -MAX_HU <= curve.floor <= HIGHEST_FLOOR:
        raise ValueError(f"{label} must have a floor between {-MAX_HU:g} and {HIGHEST_FLOOR:g} HU or none, not {curve.floor:g}")


def _check_fingerprint(label: str, fingerprint: Fingerprint) -> None:
    if len(fingerprint.spectrum) != len(BANDS):
        raise ValueError(f"{label} must have {len(BANDS)} values in its spectrum, not {len(fingerprint.spectrum)}")
    if len(fingerprint.shape) not in (0, SIZE) or fingerprint.shape_spread < 0:
        raise ValueError(f"{label} must have {SIZE} values in its shape or none, and a shape_spread of 0 or more")
    for name in ("slice_thickness", "pixel_spacing", "slice_spacing"):
        low, high = getattr(fingerprint, name)
        if not 0 <= low <= high:
            raise ValueError(f"{label} must have a smallest and a largest {name}, not {low:g} and {high:g}")
    if fingerprint.level[0] > fingerprint.level[1] or fingerprint.spread < 0:
        raise ValueError(f"{label} must have a smallest and a largest level, and a spread of 0 or more")


def _check_baseline(config: ModelConfig) -> None:
    """A classical baseline has what it consists of."""
    if config.method == "kernel_filter" and config.front_end is None:
        raise ValueError("a kernel_filter model must have a front_end")
    if config.method == "histogram" and len(config.histogram) < 2:
        raise ValueError("a histogram model must have the quantiles of its target in histogram")
    if any(a > b for a, b in pairwise(config.histogram)):
        raise ValueError("the quantiles of histogram must not fall")
