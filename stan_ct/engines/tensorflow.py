"""The networks in TensorFlow: the reference for other engines, and what trains."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import tensorflow as tf

from stan_ct.engines.engine import BATCH_PIXELS, BATCH_PIXELS_OF_A_THREAD
from stan_ct.models.folder import load_weights, read_config
from stan_ct.networks.discriminator import p_real
from stan_ct.networks.precision import Precision, compute_dtype
from stan_ct.parallel import usable_cores


class TensorFlowNetworks:
    """Generator, and discriminator where it judges; see :class:`stan_ct.engines.engine.Engine`.

    Args:
        folder: Model folder.
        precision: Of the hidden layers.
        judged: Whether the discriminator judges.
        shared: Whether several threads call it: each then has a thread of TensorFlow's, unless it has started already.
    """

    def __init__(self, folder: Path, precision: Precision = "auto", judged: bool = False, shared: bool = False) -> None:
        with suppress(RuntimeError):  # it has started
            tf.config.threading.set_intra_op_parallelism_threads(1 if shared else usable_cores())
        alone = shared and not tf.config.list_physical_devices("GPU")
        self.batch_pixels = BATCH_PIXELS_OF_A_THREAD if alone else BATCH_PIXELS
        dtype, config = compute_dtype(precision), read_config(folder)
        self.generator = config.build_generator(dtype)
        load_weights(folder, "generator", self.generator)
        self.conditional = config.discriminator.conditional
        self.discriminator = config.build_discriminator(dtype) if judged else None
        if self.discriminator is not None:
            load_weights(folder, "discriminator", self.discriminator)
        seen = tf.TensorSpec((None, None, None, config.generator.channels), tf.float32)
        self._run = tf.function(self._networks, input_signature=[seen], autograph=False)

    def __call__(self, gray: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, H, W, C) -> (N, H, W, 1), and P(real), (N,)."""
        synthesized, judged = self._run(gray)
        return synthesized.numpy(), judged.numpy()

    def _networks(self, gray: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        synthesized = tf.clip_by_value(self.generator(gray, training=False), -1.0, 1.0)
        if self.discriminator is None:
            return synthesized, tf.ones(tf.shape(gray)[:1])
        seen = tf.concat([gray[..., :1], synthesized], -1) if self.conditional else synthesized
        return synthesized, p_real(self.discriminator(seen, training=False)[1])
