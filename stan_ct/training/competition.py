"""The competition of N generators and N discriminators as one Keras model, whose training step is that of the current phase."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache

import keras
import tensorflow as tf

from stan_ct.ct.hounsfield import HUWindow
from stan_ct.networks.config import LossSettings
from stan_ct.networks.discriminator import Discriminator
from stan_ct.networks.generator import Generator
from stan_ct.networks.losses import (
    CLIP_VALUE,
    added_terms,
    adversarial_loss_d,
    adversarial_loss_g,
    critic,
    feature_loss,
    latent_loss,
    mask_to_target,
    mean_absolute,
    total_loss_d,
    total_loss_g,
    verdicts,
)
from stan_ct.training.phases import Phase
from stan_ct.training.step_logs import Logs, collect, flatten, mean_of

Batch = tuple[tf.Tensor, tf.Tensor]
"""Source and target patches, (B, 256, 256, C) and (B, 256, 256, 1), in [-1, 1]; the source's first channel is the slice."""
PENALTIES = ("gradient_penalty", "zero_centered")


class Competition(keras.Model):
    """Generators against discriminators, each with an optimizer of its own.

    `compile` it with the losses and an optimizer for each side. A training step trains the copies whose turn it is, `phase` and
    `active`, and leaves all others as they are; :class:`~stan_ct.training.referee.PhaseReferee` changes turns between steps.
    There is one graph for each turn, chosen in Python: a condition within one graph fails under `MirroredStrategy`.

    Args:
        generators: The Gs.
        discriminators: The Ds; without any, the Gs train unopposed.
        hu_window: HU <-> [-1, 1], for losses that depend on HU.
    Attributes:
        phase: Which side trains in the next step: `d` or `g`.
        active: Numbers of the copies that train.
        penalized: Whether the loss of D holds its penalty in the next step.
    """

    def __init__(
        self, generators: Sequence[Generator], discriminators: Sequence[Discriminator], hu_window: HUWindow | None = None
    ) -> None:
        super().__init__(name="competition")
        self.generators, self.discriminators = list(generators), list(discriminators)
        self.hu_window = hu_window or HUWindow()
        self.phase: Phase = "d" if self.discriminators else "g"
        self.active: tuple[int, ...] = (0,)
        self.penalized = True
        self.built = True

    def compile(
        self,
        losses: LossSettings,
        d_optimizer: keras.optimizers.Optimizer | None = None,
        g_optimizer: keras.optimizers.Optimizer | None = None,
        run_eagerly: bool = False,
    ) -> None:
        """Sets losses and optimizers; every copy gets an optimizer of its own, equal to the one given.

        Args:
            losses: Weights and switches.
            d_optimizer: Optimizer of the Ds; None: Adam as in the paper (learning rate 1e-4, "momentum 0.5").
            g_optimizer: Optimizer of the Gs, likewise.
            run_eagerly: Whether steps run without being compiled into graphs.
        """
        super().compile(optimizer=None, run_eagerly=run_eagerly, jit_compile=False)
        self.loss_settings = losses
        self.d_optimizers = _optimizers(d_optimizer, self.discriminators)
        self.g_optimizers = _optimizers(g_optimizer, self.generators)
        self._compiled_step = cache(self._compile_step)

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Standardizes patches (B, H, W, C) with the first generator."""
        return self.generators[0](x, training=training)

    def train_step(self, data: Batch) -> Logs:
        """Trains the copies whose turn it is on one batch, on one replica.

        Returns:
            Scalars: terms of the loss, means over these copies; P(real) by opponents, `p_real_synthesized_d0_g0` and so on.
        """
        source, target = data
        step = self.d_step if self.phase == "d" else self.g_step
        return flatten(self.phase, self.active, step(source, target, self.active))

    def run_step(self, batch: Batch) -> Logs:
        """`train_step` over all replicas, compiled once for each turn; returns means over replicas."""
        self.penalized = self._penalty_is_due()
        return self._compiled_step(self.phase, self.active, self.penalized)(batch)

    def make_train_function(self, force: bool = False) -> Callable[[Iterator[Batch]], Logs]:
        """Makes `fit` call :meth:`run_step` for every batch, since one compiled function cannot serve both phases."""
        if force:
            self._compiled_step.cache_clear()
        self.train_function = lambda iterator: self.run_step(next(iterator))
        return self.train_function

    def _penalty_is_due(self) -> bool:
        """Whether this step of D is one of every `penalty_interval`; counted by its optimizer, so that a resumed run agrees."""
        interval = self.loss_settings.penalty_interval
        if interval == 1 or self.phase == "g":
            return True
        steps = self.distribute_strategy.experimental_local_results(self.d_optimizers[self.active[0]].iterations.value)
        return int(steps[0]) % interval == 0

    def _compile_step(self, phase: Phase, active: tuple[int, ...], penalized: bool) -> Callable[[Batch], Logs]:
        """The step of one turn; the arguments tell the graphs apart in the cache."""

        def run(batch: Batch) -> Logs:
            strategy = self.distribute_strategy
            logs = strategy.run(self.train_step, args=(batch,))
            return {name: strategy.reduce(tf.distribute.ReduceOp.MEAN, value, axis=None) for name, value in logs.items()}

        return run if self.run_eagerly else tf.function(run, autograph=False)

    def d_step(self, source: tf.Tensor, target: tf.Tensor, active: Sequence[int] = (0,)) -> Logs:
        """Trains some Ds on one batch; all else stays as it is.

        Losses are divided by the number of replicas, since Keras optimizers sum gradients over them.

        Returns:
            Loss terms (Eqs. 1 - 3), means over the copies; `p_real_target` (active,) and `p_real_synthesized` (active, Gs).
        """
        synthesized = [self._masked(source, target, generator(source, training=False)) for generator in self.generators]
        return collect([self._train_d(copy, source, target, synthesized) for copy in active], axis=0)

    def g_step(self, source: tf.Tensor, target: tf.Tensor, active: Sequence[int] = (0,)) -> Logs:
        """Trains some Gs on one batch; all else stays as it is.

        Returns:
            Loss terms (Eqs. 4 - 6), means over the copies; `p_real_synthesized` (Ds, active).
        """
        return collect([self._train_g(copy, source, target) for copy in active], axis=1)

    def judge(self, copy: int, source: tf.Tensor, patches: tf.Tensor, training: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
        """Features and logits of patches (B, H, W, 1) under one D, which sees the source's slice too if it is conditional."""
        discriminator = self.discriminators[copy]
        return discriminator(
            tf.concat([source[..., :1], patches], -1) if discriminator.conditional else patches, training=training
        )

    def _masked(self, source: tf.Tensor, target: tf.Tensor, synthesized: tf.Tensor) -> tf.Tensor:
        if not self.loss_settings.mask_losses:
            return synthesized
        return mask_to_target(source, target, synthesized, self.hu_window)

    def _shifted(self, optimizer: keras.optimizers.Optimizer, *patches: tf.Tensor) -> list[tf.Tensor]:
        """Patches as D sees them in this step: all rolled by the same number of rows and columns."""
        most = self.loss_settings.discriminator_shift
        if not most:
            return list(patches)
        seed = tf.stack([tf.cast(optimizer.iterations, tf.int32), most])  # a resumed run draws the same
        shift = tf.random.stateless_uniform((2,), seed, 0, most, tf.int32)
        return [tf.roll(each, shift, (1, 2)) for each in patches]

    def _train_d(self, copy: int, source: tf.Tensor, target: tf.Tensor, synthesized: list[tf.Tensor]) -> Logs:
        network, optimizer, num_synthesized = self.discriminators[copy], self.d_optimizers[copy], len(synthesized)
        source, target, *synthesized = self._shifted(optimizer, source, target, *synthesized)
        with tf.GradientTape() as tape:
            patches = tf.concat([target, *synthesized], 0)
            sources = tf.concat([source] * (num_synthesized + 1), 0)
            features, logits = self.judge(copy, sources, patches, training=True)
            target_logits, *synthesized_logits = tf.split(logits, num_synthesized + 1)
            target_features, *synthesized_features = tf.split(features, num_synthesized + 1)
            terms = {
                "adversarial_d": mean_of(
                    adversarial_loss_d(target_logits, each, self.loss_settings) for each in synthesized_logits
                ),
                "feature": mean_of(feature_loss(phi, target_features) for phi in synthesized_features),
            }
            if self.penalized and self.loss_settings.lipschitz in PENALTIES:
                terms["penalty"] = self._penalty(copy, source, target, synthesized)
            total = total_loss_d(terms, self.loss_settings)
            scaled = optimizer.scale_loss(total) / _num_replicas()
        variables = network.trainable_variables
        optimizer.apply(tape.gradient(scaled, variables), variables)
        if self.loss_settings.lipschitz == "clip":
            for variable in variables:
                variable.assign(tf.clip_by_value(variable, -CLIP_VALUE, CLIP_VALUE))
        judged = [verdicts(target_logits, each, self.loss_settings) for each in synthesized_logits]
        return {
            **terms,
            "total_d": total,
            "p_real_target": tf.reduce_min([tf.reduce_mean(of_target) for of_target, _ in judged]),
            "p_real_synthesized": tf.stack([tf.reduce_mean(of_synthesized) for _, of_synthesized in judged]),  # (Gs,)
        }

    def _train_g(self, copy: int, source: tf.Tensor, target: tf.Tensor) -> Logs:
        network, optimizer, losses = self.generators[copy], self.g_optimizers[copy], self.loss_settings
        shown_source, shown_target = self._shifted(optimizer, source, target)
        target_logits = [self._target_logits(d, shown_source, shown_target) for d in range(len(self.discriminators))]
        with tf.GradientTape(persistent=losses.adversarial_ratio > 0) as tape:
            output = network(source, training=True)
            synthesized = self._masked(source, target, output)
            (shown,) = self._shifted(optimizer, synthesized)
            logits = [self.judge(d, shown_source, shown)[1] for d in range(len(self.discriminators))]
            pairs = list(zip(target_logits, logits, strict=True))
            expected = source[..., :1] if losses.unpaired else target
            terms = {
                "adversarial_g": mean_of(adversarial_loss_g(each, losses, of_target) for of_target, each in pairs),
                "latent": self._latent_loss(network, expected, synthesized),
                "l1": mean_absolute(expected, synthesized),
                **added_terms(target, expected, synthesized, losses, self.hu_window),
            }
            if losses.adversarial_ratio and logits:
                with tape.stop_recording():
                    terms["adversarial_weight"] = _balanced_weight(tape, output, terms, losses)
            total = total_loss_g(terms, losses)
            scaled = optimizer.scale_loss(total) / _num_replicas()
        variables = network.trainable_variables
        optimizer.apply(tape.gradient(scaled, variables), variables)
        judged = [tf.reduce_mean(verdicts(*pair, losses)[1]) for pair in pairs]
        return {**terms, "total_g": total, "p_real_synthesized": tf.stack(judged) if judged else tf.zeros((0,))}  # (Ds,)

    def _target_logits(self, copy: int, source: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
        """Logits of the targets under one D; zeros unless the loss compares pairs."""
        if self.loss_settings.adversarial != "relativistic":
            return tf.zeros((1, 1, 1, 2))
        return self.judge(copy, source, target)[1]

    def _latent_loss(self, network: Generator, target: tf.Tensor, synthesized: tf.Tensor) -> tf.Tensor:
        """L_lat; not computed without weight, since it costs two passes through the encoder."""
        if self.loss_settings.latent_weight == 0:
            return tf.zeros(())
        return latent_loss(network.latent(target), network.latent(synthesized), self.loss_settings)

    def _penalty(self, copy: int, source: tf.Tensor, target: tf.Tensor, synthesized: list[tf.Tensor]) -> tf.Tensor:
        if self.loss_settings.lipschitz == "gradient_penalty":
            return mean_of(self._gradient_penalty(copy, source, target, s) for s in synthesized)
        at_synthesized = mean_of(self._squared_gradient(copy, source, s) for s in synthesized)
        return self._squared_gradient(copy, source, target) + at_synthesized

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

    def _squared_gradient(self, copy: int, source: tf.Tensor, patches: tf.Tensor) -> tf.Tensor:
        """Mean ||grad f||^2 at patches: R1 at targets, R2 at synthesized ones.

        Reference: Mescheder, Geiger, Nowozin: Which training methods for GANs do actually converge? ICML 2018.
        """
        with tf.GradientTape() as tape:
            tape.watch(patches)
            _, logits = self.judge(copy, source, patches, training=True)
            value = tf.reduce_sum(critic(logits, self.loss_settings))
        return tf.reduce_mean(tf.reduce_sum(tape.gradient(value, patches) ** 2, axis=(1, 2, 3)))


def _balanced_weight(tape: tf.GradientTape, output: tf.Tensor, terms: Logs, losses: LossSettings) -> tf.Tensor:
    """Weight at which the gradient of L_adv(G) at G's output has `adversarial_ratio` times the norm of that of L1.

    It is a number to the gradient of G: as an adaptive weight it follows D's scale, which a fixed one cannot. Without pairs L1
    holds G to its input, where a G that starts as the identity has no gradient: the norm that L1 has elsewhere stands for it.

    Reference: Esser, Rombach, Ommer: Taming transformers for high-resolution image synthesis, CVPR 2021, Eq. 7.
    """
    adversarial = tf.norm(tape.gradient(terms["adversarial_g"], output))
    if losses.unpaired:
        norm = tf.math.rsqrt(tf.cast(tf.size(output), tf.float32))
    else:
        norm = losses.l1_weight * tf.norm(tape.gradient(terms["l1"], output))
    return tf.stop_gradient(losses.adversarial_ratio * norm / (adversarial + 1e-12))


def _optimizers(
    optimizer: keras.optimizers.Optimizer | None, networks: Sequence[keras.Model]
) -> list[keras.optimizers.Optimizer]:
    """An optimizer for each network, with its slots: they must exist before the first step is traced."""
    optimizer = optimizer or keras.optimizers.Adam(1e-4, beta_1=0.5)
    copies = [type(optimizer).from_config(optimizer.get_config()) for _ in networks]
    for each, network in zip(copies, networks, strict=True):
        each.build(network.trainable_variables)
    return copies


def _num_replicas() -> int:
    return tf.distribute.get_strategy().num_replicas_in_sync
