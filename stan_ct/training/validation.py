"""Validation of generators: errors on validation patches, and the threshold of the real/fake check."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from stan_ct.ct.hounsfield import HUWindow
from stan_ct.networks.discriminator import critic_value
from stan_ct.networks.generator import Generator
from stan_ct.networks.losses import mask_to_target, mean_absolute, verdicts
from stan_ct.patches.dataset import read_patches
from stan_ct.training.competition import Competition
from stan_ct.training.quality import QUALITY, SPECTRUM, Quality

QC_QUANTILE = 0.01
"""Quantile of P(real) over G's validation outputs from which the QC threshold is extrapolated."""

TOLERANCE = {"error": 0.005, "hu_rmse": 0.5, "spectrum_error": 0.05, "tissue_bias": 2.0}
"""Added to each part of the score and to its baseline, so that what is well within limits on both sides compares as equal."""

EXCESS = 10.0
"""Weight of what the relative HU RMSE exceeds 1: better texture is not to be paid for with images further from the target."""

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
        outputs: Output patches, (N, 256, 256) HU.
        quality: HU RMSE, error of the power spectrum, bias of tissues; see :mod:`stan_ct.training.quality`.
        baseline: Mean error and quality of the sources, after the front end if there is one.
    """

    errors: Errors
    p_real: np.ndarray
    outputs: np.ndarray
    quality: Errors
    baseline: Errors

    @property
    def error(self) -> float:
        """Mean of the errors; infinite if one is undefined."""
        return float(np.nan_to_num(np.mean(list(self.errors.values())), nan=np.inf))

    @property
    def score(self) -> float:
        """Score by which versions are compared, 1 for the baseline: half the error and half the quality, relative to it.

        By the errors of texture alone a version could win that is further from the target in HU than the filter in front of it.
        Quality is the mean over HU RMSE, spectrum and bias. HU RMSE above the baseline's counts `EXCESS` times more.
        """
        found = {"error": self.error, **self.quality}
        relative = {
            name: (found[name] + more) / (self.baseline[name] + more) for name, more in TOLERANCE.items() if name in found
        }
        if "hu_rmse" in relative:
            relative["hu_rmse"] += EXCESS * max(relative["hu_rmse"] - 1, 0.0)
        error = relative.pop("error")
        return float(error + np.mean(list(relative.values()))) / 2 if np.isfinite(self.error) else float("inf")

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
        adjacent: Number of slices before and after the source's that come with it.
        unpaired: Whether targets show other patients than sources, so that of quality the spectrum alone can be compared.
    Attributes:
        source: (N, 256, 256, 1 + 2 adjacent) float32 in [-1, 1].
        target: (N, 256, 256, 1).
        hu: Sources and targets, (N, 256, 256) HU each.
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
        adjacent: int = 0,
        unpaired: bool = False,
    ) -> None:
        batches = read_patches(folder, "validation", window, 64, filtered=filtered, adjacent=adjacent)
        pairs = [pair for batch in batches for pair in zip(*batch, strict=True)]
        step = max(len(pairs) / limit, 1.0) if limit else 1.0
        chosen = [pairs[int(i * step)] for i in range(int(len(pairs) / step))]
        self.source, self.target = (np.stack([pair[k] for pair in chosen]) for k in (0, 1))
        self.window, self._mask_losses = window, mask_losses
        self.hu = window.to_hu(self.source[..., 0]), window.to_hu(self.target[..., 0])
        self._errors, self._quality = metric(self.hu[1]), Quality(self.hu[1], SPECTRUM if unpaired else QUALITY)
        masked = mask_to_target(self.source, self.target, self.source[..., :1], window) if mask_losses else self.source
        shown = window.to_hu(np.asarray(masked)[..., 0])
        self.source_errors, source_quality = self._errors(shown), self._quality(shown)
        self._baseline = {"error": float(np.mean(list(self.source_errors.values()))), **source_quality}

    def of_source(self) -> Judgement:
        """Result of a G that is the identity."""
        quality = {name: value for name, value in self._baseline.items() if name != "error"}
        return Judgement(self.source_errors, np.zeros((0, len(self.source))), self.hu[0], quality, self._baseline)

    def latent(self, model: Competition, batch: int = 4) -> float:
        """L_lat (Eq. 5) of the first G on one fixed batch, as in Fig. 5: it falls in G-phases and is constant in D-phases."""
        return float(_latent(model.generators[0], *(tf.constant(patches[:batch]) for patches in (self.source, self.target))))

    def accuracy(self, model: Competition, limit: int = 48) -> dict[str, float]:
        """Share of places where each D orders the target above another patch.

        That is the output of each G, `accuracy_d0_g0` and so on, and the source as the Gs see it, `accuracy_d0_source`: what
        the filter alone makes, if there is one.

        Args:
            model: The copies.
            limit: Number of validation patches, evenly spread, at most.
        """
        chosen = np.linspace(0, len(self.source) - 1, min(limit, len(self.source))).astype(int)
        shares: dict[str, float] = {}
        for g in range(len(model.generators)):
            parts = np.array_split(chosen, -(-len(chosen) // 8))
            ordered = np.concatenate([np.asarray(self._judged(model, g, part)[3]) for part in parts], axis=1)
            shares |= {f"accuracy_d{d}_g{g}": float(share) for d, share in enumerate(ordered.mean(1))}
        for d in range(len(model.discriminators)):
            parts = np.array_split(chosen, -(-len(chosen) // 8))
            ordered = np.concatenate([_above_source(model, d, self.source[part], self.target[part]) for part in parts])
            shares[f"accuracy_d{d}_source"] = float(ordered.mean())
        return shares

    def _judged(self, model: Competition, copy: int, chosen: np.ndarray | slice) -> tuple[tf.Tensor, ...]:
        """Output of one generator for some validation patches, and what each D makes of it, see `_judge`."""
        source, target = (tf.constant(patches[chosen]) for patches in (self.source, self.target))
        return _judge(model, copy, source, target, self.window, self._mask_losses)

    def __call__(self, model: Competition, copy: int, batch: int = 8) -> Judgement:
        """Errors and quality of one generator, its outputs, and their P(real) under each D."""
        outputs, masked, judged = [], [], []
        for i in range(0, len(self.source), batch):
            patches, shown, real, _ = self._judged(model, copy, slice(i, i + batch))
            outputs.append(self.window.to_hu(np.asarray(patches)[..., 0]))
            masked.append(self.window.to_hu(np.asarray(shown)[..., 0]))
            judged.append(np.asarray(real))
        judged_hu = np.concatenate(masked)
        return Judgement(
            self._errors(judged_hu),
            np.concatenate(judged, axis=1),
            np.concatenate(outputs),
            self._quality(judged_hu),
            self._baseline,
        )


@tf.function(autograph=False)
def _judge(
    model: Competition, copy: int, source: tf.Tensor, target: tf.Tensor, window: HUWindow, mask_losses: bool
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Output and masked output of one generator, (B, 256, 256, 1); P(real), and 1 if the target is preferred, by D, (Ds, B)."""
    # Clipped as the pipeline does, which judges what can be written.
    output = tf.clip_by_value(model.generators[copy](source, training=False), -1.0, 1.0)
    patches = mask_to_target(source, target, output, window) if mask_losses else output
    nothing = tf.zeros((0, tf.shape(source)[0]))
    if not model.discriminators:
        return output, patches, nothing, nothing
    logits = [(model.judge(d, source, target)[1], model.judge(d, source, patches)[1]) for d in range(len(model.discriminators))]
    real = tf.stack([verdicts(of_target, made, model.loss_settings)[1] for of_target, made in logits])
    ordered = tf.stack([tf.cast(critic_value(of_target) > critic_value(made), tf.float32) for of_target, made in logits])
    return output, patches, real, ordered


@tf.function(autograph=False)
def _above_source(model: Competition, copy: int, source: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """1 where one D prefers the target to the source, (B,)."""
    of_target, of_source = (critic_value(model.judge(copy, source, patches)[1]) for patches in (target, source[..., :1]))
    return tf.cast(of_target > of_source, tf.float32)


@tf.function(autograph=False)
def _latent(generator: Generator, source: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    made = generator(source, training=False)
    return mean_absolute(generator.latent(target), generator.latent(made))
