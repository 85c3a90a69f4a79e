"""Validation of generators: errors on validation patches, and the threshold of the real/fake check."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from stan_ct.ct.hounsfield import HUWindow
from stan_ct.networks.discriminator import p_real
from stan_ct.networks.generator import Generator
from stan_ct.networks.losses import mask_to_target, mean_absolute
from stan_ct.patches.dataset import read_patches
from stan_ct.training.competition import Competition

QC_QUANTILE = 0.01
"""Quantile of P(real) over G's validation outputs from which the QC threshold is extrapolated."""

Errors = dict[str, float]
Metric = Callable[[np.ndarray], Callable[[np.ndarray], Errors]]
"""Takes target patches, (N, 256, 256) HU; returns a function from output patches, same shape, to errors by name."""


def absolute_error(target: np.ndarray) -> Callable[[np.ndarray], Errors]:
    """Mean absolute error in HU, the default metric."""
    return lambda output: {"mae": float(np.mean(np.abs(output - target)))}


@dataclass(frozen=True)
class Judgement:
    """Validation result of one copy of G.

    Attributes:
        errors: Errors by name.
        p_real: P(real) under each D, (Ds, N).
    """

    errors: Errors
    p_real: np.ndarray

    @property
    def error(self) -> float:
        """Mean of the errors, by which versions are compared; infinite if one is undefined."""
        return float(np.nan_to_num(np.mean(list(self.errors.values())), nan=np.inf))

    @property
    def strictest(self) -> int:
        """Number of the D that is deceived least."""
        return int(np.argmin(self.p_real.mean(1))) if len(self.p_real) else 0

    @property
    def qc_threshold(self) -> float:
        """Twice as far below the median P(real) under the strictest D as the `QC_QUANTILE` quantile; 0 without D.

        Patches of one patient are alike, and validation has few patients: at the quantile itself, whole slices of a new
        patient would be rejected.
        """
        if not len(self.p_real):
            return 0.0
        low, median = np.quantile(self.p_real[self.strictest], (QC_QUANTILE, 0.5))
        return round(max(float(2 * low - median), 0.0), 6)


class Validation:
    """Measures generators on validation patches.

    Args:
        folder: Folder of patch records.
        window: HU <-> [-1, 1].
        limit: Largest number of patches, evenly spread over the records; 0 for all.
        metric: Metric, given the target patches.
        filtered: Whether sources have passed the records' front end.
        mask_losses: Whether pixels that losses ignore are ignored here too.
    Attributes:
        source: (N, 256, 256, 1) float32 in [-1, 1].
        target: Same shape.
        source_errors: Errors of the source patches (after the front end, if there is one).
    """

    def __init__(
        self,
        folder: Path | str,
        window: HUWindow,
        limit: int,
        metric: Metric = absolute_error,
        filtered: bool = False,
        mask_losses: bool = False,
    ) -> None:
        batches = read_patches(folder, "validation", window, 64, filtered=filtered)
        pairs = [pair for batch in batches for pair in zip(*batch, strict=True)]
        step = max(len(pairs) / limit, 1.0) if limit else 1.0
        chosen = [pairs[int(i * step)] for i in range(int(len(pairs) / step))]
        self.source, self.target = (np.stack([pair[k] for pair in chosen]) for k in (0, 1))
        self.window, self._mask_losses = window, mask_losses
        self._errors = metric(window.to_hu(self.target[..., 0]))
        judged = mask_to_target(self.source, self.target, self.source, window) if mask_losses else self.source
        self.source_errors = self._errors(window.to_hu(np.asarray(judged)[..., 0]))

    def latent(self, model: Competition, batch: int = 4) -> float:
        """L_lat (Eq. 5) of the first G on one fixed batch, as in Fig. 5: it falls in G-phases and is constant in D-phases."""
        return float(_latent(model.generators[0], *(tf.constant(patches[:batch]) for patches in (self.source, self.target))))

    def __call__(self, model: Competition, copy: int, batch: int = 8) -> Judgement:
        """Errors of one generator, and P(real) of its outputs under each D."""
        made, judged = [], []
        for i in range(0, len(self.source), batch):
            source, target = (tf.constant(patches[i : i + batch]) for patches in (self.source, self.target))
            patches, real = _judge(model, copy, source, target, self.window, self._mask_losses)
            made.append(np.asarray(patches)[..., 0])
            judged.append(np.asarray(real))
        return Judgement(self._errors(self.window.to_hu(np.concatenate(made))), np.concatenate(judged, axis=1))


@tf.function
def _judge(
    model: Competition, copy: int, source: tf.Tensor, target: tf.Tensor, window: HUWindow, mask_losses: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """Masked output of one generator, (B, 256, 256, 1), and its P(real) under each D, (Ds, B)."""
    # Clipped as the pipeline does, which judges what can be written.
    patches = tf.clip_by_value(model.generators[copy](source, training=False), -1.0, 1.0)
    patches = mask_to_target(source, target, patches, window) if mask_losses else patches
    real = [p_real(model.judge(d, source, patches)[1]) for d in range(len(model.discriminators))]
    return patches, tf.stack(real) if real else tf.zeros((0, tf.shape(source)[0]))


@tf.function
def _latent(generator: Generator, source: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    made = generator(source, training=False)
    return mean_absolute(generator.latent(target), generator.latent(made))
