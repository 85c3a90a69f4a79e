"""Synthesizers whose answer is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stan_ct.reconstruction.guard import Guard
from stan_ct.reconstruction.qualification import Synthesizer
from stan_ct.reconstruction.settings import method_settings
from stan_ct.reconstruction.standardize import Model, ModelIdentity


class Scripted:
    """Adds `change(patches)` HU and judges by `p_real(patches)`; the identity by default."""

    def __init__(self, change: Callable | float = 0.0, p_real: Callable | None = None) -> None:
        self.change, self.p_real, self.seen = change, p_real, []

    def prepare(self, hu: np.ndarray, pixel_spacing: tuple[float, float], kernel: str = "") -> np.ndarray:
        """Leaves the slice alone."""
        return hu

    def __call__(self, patches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Changes and judges patches."""
        self.seen.append(patches)
        change = self.change(patches) if callable(self.change) else self.change
        p = np.ones(len(patches)) if self.p_real is None else np.asarray(self.p_real(patches))
        return (patches + np.float32(change)).astype(np.float32), p.astype(np.float32)


def scripted_model(synthesizer: Synthesizer | None = None, guard: Guard | None = None, **switches: object) -> Model:
    """A model of a synthesizer, by default the identity; without a guard it accepts every series."""
    identity = ModelIdentity("scripted", "0" * 64, "B", "L", True)
    return Model(identity, synthesizer or Scripted(), method_settings("stan_ct", **switches), "float32", guard or Guard())
