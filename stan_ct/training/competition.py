"""The competition of N generators and N discriminators as one Keras model: `d_step` trains Ds alone, `g_step` Gs alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from stan_ct.ct.hounsfield import HUWindow
from stan_ct.networks.config import LossSettings
from stan_ct.networks.discriminator import Discriminator, p_real
from stan_ct.networks.generator import Generator
from stan_ct.networks.losses import (
    CLIP_VALUE,
    adversarial_loss_d,
    adversarial_loss_g,
    critic,
    feature_loss,
    latent_loss,
    mask_to_target,
    mean_absolute,
    total_loss_d,
    total_loss_g,
)
from stan_ct.networks.texture_loss import texture_loss

Logs = dict[str, tf.Tensor]


class Competition(keras.Model):
    """Generators against discriminators, each with an optimizer of its own.

    Steps train some copies and return every loss term (Eqs. 1 - 6), as means over those copies, and their P(real). They are run
    by `strategy.run`, and scale losses by the number of replicas, since Keras optimizers sum gradients over them.

    Args:
        generators: The Gs.
        discriminators: The Ds; none at all trains Gs without an opponent.
        losses: Weights and switches.
        optimizer: Makes the optimizer of each network; None: Adam as in the paper (learning rate 1e-4, "momentum 0.5").
        conditional: D sees the source beside the patch it judges, as two channels (cGAN).
        window: HU <-> [-1, 1], for the texture loss.
    """

    def __init__(
        self,
        generators: Sequence[Generator],
        discriminators: Sequence[Discriminator],
        losses: LossSettings,
        optimizer: Callable[[], keras.optimizers.Optimizer] | None = None,
        conditional: bool = False,
        window: HUWindow | None = None,
    ) -> None:
        super().__init__(name="competition")
        self.generators, self.discriminators = list(generators), list(discriminators)
        self.loss_settings, self.conditional, self.window = losses, conditional, window or HUWindow()
        optimizer = optimizer or (lambda: keras.optimizers.Adam(1e-4, beta_1=0.5))
        self.g_optimizers = [optimizer() for _ in self.generators]
        self.d_optimizers = [optimizer() for _ in self.discriminators]
        # Optimizers must have their slots before the first traced step.
        for chosen, network in zip(self.g_optimizers + self.d_optimizers, self.generators + self.discriminators, strict=True):
            chosen.build(network.trainable_variables)

    def d_step(self, source: tf.Tensor, target: tf.Tensor, active: Sequence[int] = (0,)) -> Logs:
        """Trains some Ds on one batch, (B, 256, 256, 1) each; all else stays as it is.

        Returns:
            Loss terms; `p_real_target` (active,) and `p_real_synthesized` (active, Gs).
        """
        synthesized = [self._judged(source, target, generator(source, training=False)) for generator in self.generators]
        return _collect([self._train_d(copy, source, target, synthesized) for copy in active], axis=0)

    def g_step(self, source: tf.Tensor, target: tf.Tensor, active: Sequence[int] = (0,)) -> Logs:
        """Trains some Gs on one batch, (B, 256, 256, 1) each; all else stays as it is.

        Returns:
            Loss terms; `p_real_synthesized` (Ds, active).
        """
        return _collect([self._train_g(copy, source, target) for copy in active], axis=1)

    def judge(self, copy: int, source: tf.Tensor, patches: tf.Tensor, training: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
        """Features and logits of patches (B, H, W, 1) under one D."""
        seen = tf.concat([source, patches], -1) if self.conditional else patches
        return self.discriminators[copy](seen, training=training)

    def _judged(self, source: tf.Tensor, target: tf.Tensor, synthesized: tf.Tensor) -> tf.Tensor:
        return mask_to_target(source, target, synthesized, self.window) if self.loss_settings.mask_losses else synthesized

    def _train_d(self, copy: int, source: tf.Tensor, target: tf.Tensor, synthesized: list[tf.Tensor]) -> Logs:
        network, optimizer, number = self.discriminators[copy], self.d_optimizers[copy], len(synthesized)
        with tf.GradientTape() as tape:
            everything = tf.concat([target, *synthesized], 0)
            sources = tf.concat([source] * (number + 1), 0)
            features, logits = self.judge(copy, sources, everything, training=True)
            target_logits, *their_logits = tf.split(logits, number + 1)
            target_features, *their_features = tf.split(features, number + 1)
            terms = {
                "adversarial_d": _mean(
                    adversarial_loss_d(target_logits, judged, self.loss_settings) for judged in their_logits
                ),
                "feature": _mean(feature_loss(phi, target_features) for phi in their_features),
            }
            if self.loss_settings.lipschitz == "gradient_penalty":
                terms["penalty"] = _mean(self._gradient_penalty(copy, source, target, s) for s in synthesized)
            total = total_loss_d(terms, self.loss_settings)
            scaled = optimizer.scale_loss(total) / self._replicas()
        variables = network.trainable_variables
        optimizer.apply(tape.gradient(scaled, variables), variables)
        if self.loss_settings.lipschitz == "clip":
            for variable in variables:
                variable.assign(tf.clip_by_value(variable, -CLIP_VALUE, CLIP_VALUE))
        judged = tf.stack([tf.reduce_mean(p_real(one)) for one in their_logits])  # (Gs,)
        return {
            **terms,
            "total_d": total,
            "p_real_target": tf.reduce_mean(p_real(target_logits)),
            "p_real_synthesized": judged,
        }

    def _train_g(self, copy: int, source: tf.Tensor, target: tf.Tensor) -> Logs:
        network, optimizer = self.generators[copy], self.g_optimizers[copy]
        with tf.GradientTape() as tape:
            synthesized = self._judged(source, target, network(source, training=True))
            logits = [self.judge(d, source, synthesized)[1] for d in range(len(self.discriminators))]
            terms = {
                "adversarial_g": _mean(adversarial_loss_g(judged, self.loss_settings) for judged in logits),
                "latent": self._latent_loss(network, target, synthesized),
                "l1": mean_absolute(target, synthesized),
            }
            if self.loss_settings.texture_weight:
                terms["texture"] = texture_loss(target, synthesized, self.window)
            total = total_loss_g(terms, self.loss_settings)
            scaled = optimizer.scale_loss(total) / self._replicas()
        variables = network.trainable_variables
        optimizer.apply(tape.gradient(scaled, variables), variables)
        judged = [tf.reduce_mean(p_real(one)) for one in logits]
        return {**terms, "total_g": total, "p_real_synthesized": tf.stack(judged) if judged else tf.zeros((0,))}  # (Ds,)

    def _latent_loss(self, network: Generator, target: tf.Tensor, synthesized: tf.Tensor) -> tf.Tensor:
        """L_lat; not computed where it has no weight, since it costs two passes through the encoder."""
        if self.loss_settings.latent_weight == 0:
            return tf.zeros(())
        return latent_loss(network.latent(target), network.latent(synthesized), self.loss_settings)

    def _gradient_penalty(self, copy: int, source: tf.Tensor, target: tf.Tensor, synthesized: tf.Tensor) -> tf.Tensor:
        """Mean (||grad f|| - 1)^2 between target and synthesized patches."""
        seed = tf.stack([copy, tf.cast(self.d_optimizers[copy].iterations, tf.int32)])  # a resumed run draws the same
        mix = tf.random.stateless_uniform((tf.shape(target)[0], 1, 1, 1), seed)
        between = mix * target + (1 - mix) * synthesized
        with tf.GradientTape() as tape:
            tape.watch(between)
            _, logits = self.judge(copy, source, between, training=True)
            value = tf.reduce_sum(critic(logits, self.loss_settings))
        norm = tf.sqrt(tf.reduce_sum(tape.gradient(value, between) ** 2, axis=(1, 2, 3)) + 1e-12)
        return tf.reduce_mean((norm - 1) ** 2)

    def _replicas(self) -> int:
        return tf.distribute.get_strategy().num_replicas_in_sync


def _mean(values) -> tf.Tensor:
    """Mean of scalars over copies; 0 without any."""
    values = list(values)
    return tf.add_n(values) / len(values) if values else tf.zeros(())


def _collect(logs: list[Logs], axis: int) -> Logs:
    """Terms as means over the copies that trained, P(real) stacked along `axis`."""
    shown = {name: _mean(log[name] for log in logs) for name in logs[0] if not name.startswith("p_real")}
    for name in ("p_real_target", "p_real_synthesized"):
        if name in logs[0]:
            values = [log[name] for log in logs]
            shown[name] = tf.stack(values, axis=min(axis, len(values[0].shape)))
    return shown


def full_matrix(values: np.ndarray, active: Sequence[int], shape: tuple[int, ...], axis: int) -> np.ndarray:
    """P(real) of the copies that trained, among those of all; the others are NaN."""
    everything = np.full(shape, np.nan)
    everything[(slice(None),) * axis + (list(active),)] = values
    return everything
