"""The competition of G and D as one Keras model: `d_step` trains D alone, `g_step` trains G alone."""

from __future__ import annotations

import keras
import tensorflow as tf

from stan_ct.networks.discriminator import Discriminator, p_real
from stan_ct.networks.generator import Generator
from stan_ct.networks.losses import (
    LossSettings,
    adversarial_loss_d,
    adversarial_loss_g,
    critic,
    feature_loss,
    latent_loss,
    mean_absolute,
    total_loss_d,
    total_loss_g,
)


class Competition(keras.Model):
    """One generator against one discriminator, each with its own Adam optimizer.

    Steps return every loss term (Eqs. 1 - 6) and the two P(real) that end a phase. They are run by
    `strategy.run`, and scale losses by the number of replicas, since Keras optimizers sum gradients over them.

    Args:
        generator: G.
        discriminator: D.
        losses: Weights and switches.
        learning_rate: Of both optimizers.
        beta_1: Adam's first momentum (the paper's "momentum 0.5").
    """

    def __init__(
        self,
        generator: Generator,
        discriminator: Discriminator,
        losses: LossSettings,
        learning_rate: float = 1e-4,
        beta_1: float = 0.5,
    ) -> None:
        super().__init__(name="competition")
        self.generator, self.discriminator, self.loss_settings = generator, discriminator, losses
        self.g_optimizer = keras.optimizers.Adam(learning_rate, beta_1=beta_1)
        self.d_optimizer = keras.optimizers.Adam(learning_rate, beta_1=beta_1)
        # Optimizers must have their slots before the first traced step.
        self.g_optimizer.build(generator.trainable_variables)
        self.d_optimizer.build(discriminator.trainable_variables)

    def d_step(self, source: tf.Tensor, target: tf.Tensor) -> dict[str, tf.Tensor]:
        """Trains D on one batch, (B, 256, 256, 1) each; G stays as it is."""
        synthesized = self.generator(source, training=False)
        with tf.GradientTape() as tape:
            features, logits = self.discriminator(tf.concat([target, synthesized], 0), training=True)
            target_logits, synthesized_logits = tf.split(logits, 2)
            target_features, synthesized_features = tf.split(features, 2)
            terms = {
                "adversarial_d": adversarial_loss_d(target_logits, synthesized_logits, self.loss_settings),
                "feature": feature_loss(synthesized_features, target_features),
            }
            if self.loss_settings.lipschitz == "gradient_penalty":
                terms["penalty"] = self._gradient_penalty(target, synthesized)
            total = total_loss_d(terms, self.loss_settings)
            scaled = total / self._replicas()
        variables = self.discriminator.trainable_variables
        self.d_optimizer.apply(tape.gradient(scaled, variables), variables)
        if self.loss_settings.lipschitz == "clip":
            for variable in variables:
                variable.assign(tf.clip_by_value(variable, -self.loss_settings.clip_value, self.loss_settings.clip_value))
        judged = {"p_real_target": p_real(target_logits), "p_real_synthesized": p_real(synthesized_logits)}
        return {**terms, "total_d": total, **{name: tf.reduce_mean(p) for name, p in judged.items()}}

    def g_step(self, source: tf.Tensor, target: tf.Tensor) -> dict[str, tf.Tensor]:
        """Trains G on one batch, (B, 256, 256, 1) each; D stays as it is."""
        with tf.GradientTape() as tape:
            synthesized = self.generator(source, training=True)
            _, logits = self.discriminator(synthesized, training=False)
            terms = {
                "adversarial_g": adversarial_loss_g(logits, self.loss_settings),
                "latent": self._latent_loss(target, synthesized),
                "l1": mean_absolute(target, synthesized),
            }
            total = total_loss_g(terms, self.loss_settings)
            scaled = total / self._replicas()
        variables = self.generator.trainable_variables
        self.g_optimizer.apply(tape.gradient(scaled, variables), variables)
        return {**terms, "total_g": total, "p_real_synthesized": tf.reduce_mean(p_real(logits))}

    def _latent_loss(self, target: tf.Tensor, synthesized: tf.Tensor) -> tf.Tensor:
        """L_lat; not computed where it has no weight, since it costs two passes through the encoder."""
        if self.loss_settings.latent_weight == 0:
            return tf.zeros(())
        return latent_loss(self.generator.latent(target), self.generator.latent(synthesized), self.loss_settings)

    def _gradient_penalty(self, target: tf.Tensor, synthesized: tf.Tensor) -> tf.Tensor:
        """Mean (||grad f|| - 1)^2 between target and synthesized patches."""
        mix = tf.random.uniform((tf.shape(target)[0], 1, 1, 1))
        between = mix * target + (1 - mix) * synthesized
        with tf.GradientTape() as tape:
            tape.watch(between)
            _, logits = self.discriminator(between, training=True)
            value = tf.reduce_sum(critic(logits, self.loss_settings))
        norm = tf.sqrt(tf.reduce_sum(tape.gradient(value, between) ** 2, axis=(1, 2, 3)) + 1e-12)
        return tf.reduce_mean((norm - 1) ** 2)

    def _replicas(self) -> int:
        return tf.distribute.get_strategy().num_replicas_in_sync
