"""Step 2: HU patches -> standardized HU patches and P(real). The pipeline's seam to TensorFlow."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import tensorflow as tf

from stan_ct.baselines.loading import load_baseline
from stan_ct.models.config import ModelConfig
from stan_ct.models.folder import load_judge, load_weights, read_config
from stan_ct.networks.discriminator import p_real
from stan_ct.networks.precision import Precision, compute_dtype
from stan_ct.reconstruction.qualification import Synthesizer

BATCH_PIXELS, BATCH_PIXELS_OF_A_THREAD = 16 * 256 * 256, 2 * 256 * 256
"""Pixels that go through the networks at once: what all cores or a GPU share, and what one thread keeps in its cache."""


class NetworkSynthesizer:
    """A trained generator, whose patches are judged by the judge of its folder or, without one, by its discriminator.

    Args:
        folder: Model folder.
        config: Its configuration.
        precision: Of the hidden layers; HU are float32 in any case.
        single_thread: Whether TensorFlow keeps to one thread for each that calls it; it does not where it has started already.
    """

    def __init__(self, folder: Path, config: ModelConfig, precision: Precision = "auto", single_thread: bool = False) -> None:
        if single_thread:
            with suppress(RuntimeError):  # it has started
                tf.config.threading.set_intra_op_parallelism_threads(1)
        alone = single_thread and not tf.config.list_physical_devices("GPU")
        self._batch_pixels = BATCH_PIXELS_OF_A_THREAD if alone else BATCH_PIXELS
        dtype = compute_dtype(precision)
        self.config, self.adjacent_slices = config, config.generator.adjacent_slices
        self.generator = config.build_generator(dtype)
        load_weights(folder, "generator", self.generator)
        self.judge = load_judge(folder)
        self.discriminator = None if config.method == "unet" or self.judge else config.build_discriminator(dtype)
        if self.discriminator is not None:
            load_weights(folder, "discriminator", self.discriminator)
        channels = config.generator.channels
        self._run = tf.function(self._networks, input_signature=[tf.TensorSpec((None, None, None, channels), tf.float32)])

    def prepare(self, hu: np.ndarray, pixel_spacing: tuple[float, float], kernel: str = "") -> np.ndarray:
        """The kernel front end, where the model has one: (H, W) HU -> (H, W) HU."""
        return hu if self.config.front_end is None else self.config.front_end(hu, pixel_spacing, kernel)

    def __call__(self, patches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, h, w) float32 HU, h and w multiples of 256 -> (N, h, w) float32 HU, and P(real), (N,) in [0, 1].

        A model that sees adjacent slices takes (N, h, w, C): the slice itself, then those before and after it.

        With a judge, its plausibility stands for P(real). HU above the window, which networks do not see, pass by: what is
        standardized is their part inside it.
        """
        window, step = self.config.hu_window, max(1, self._batch_pixels // (patches.shape[1] * patches.shape[2]))
        seen = patches if patches.ndim == 4 else patches[..., None]
        if seen.shape[-1] != self.config.generator.channels:
            raise ValueError(f"the model sees {self.config.generator.channels} slices at once, not {seen.shape[-1]}")
        gray, patches = window.to_network(seen), seen[..., 0]
        parts = [self._run(gray[i : i + step]) for i in range(0, len(gray), step)]
        synthesized, judged = (np.concatenate([part[k].numpy() for part in parts]) for k in (0, 1))
        standardized = window.to_hu(synthesized[..., 0]) + np.maximum(patches - window.high, 0)
        return standardized, judged if self.judge is None else self.judge(patches, standardized)

    def explain(self, patches: np.ndarray, outputs: np.ndarray) -> list[str]:
        """What the judge finds wrong with each output, in words; nothing where there is none. (N, h, w) HU each."""
        return [""] * len(patches) if self.judge is None else self.judge.explain(patches, outputs)

    def _networks(self, gray: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        synthesized = tf.clip_by_value(self.generator(gray, training=False), -1.0, 1.0)
        if self.discriminator is None:
            return synthesized, tf.ones(tf.shape(gray)[:1])
        seen = tf.concat([gray[..., :1], synthesized], -1) if self.config.discriminator.conditional else synthesized
        return synthesized, p_real(self.discriminator(seen, training=False)[1])


def load_synthesizer(folder: Path | str, precision: Precision = "auto", single_thread: bool = False) -> Synthesizer:
    """The synthesizer of a model folder: networks, or a classical baseline.

    Args:
        folder: Model folder.
        precision: Of the hidden layers.
        single_thread: Whether TensorFlow keeps to one thread for each that calls it; it does not where it has started already.
    Raises:
        FileNotFoundError: If the folder holds no complete model.
        ValueError: If it is not one of this version.
    """
    return load_baseline(folder) or NetworkSynthesizer(Path(folder), read_config(folder), precision, single_thread)
