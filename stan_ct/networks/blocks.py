"""Building blocks of generator and discriminator."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from stan_ct.networks.config import Initialization, Normalization

KERNEL_SIZE = 4
LEAK = 0.2


def initializer(kind: Initialization) -> keras.initializers.Initializer:
    """`normal`: N(0, 0.02), as in the code of the authors' earlier model; `he`: N(0, 2 / fan-in).

    Without normalization layers the signal of narrow networks all but dies out from `normal`.
    """
    if kind not in ("normal", "he"):
        raise ValueError(f"initialization must be normal or he, not {kind!r}")
    return keras.initializers.RandomNormal(0.0, 0.02) if kind == "normal" else keras.initializers.HeNormal()


def normalization_layer(kind: Normalization, dtype: str) -> keras.Layer | None:
    """A normalization layer, or None.

    `batch` uses its moving averages at inference: the output of a patch must not depend on its neighbours in the batch.
    """
    if kind == "none":
        return None
    if kind == "batch":
        return layers.BatchNormalization(dtype=dtype)
    if kind == "group":
        return layers.GroupNormalization(groups=8, dtype=dtype)
    raise ValueError(f"normalization must be none, batch or group, not {kind!r}")


class HiddenLayer(layers.Layer):
    """(Transposed) 4 x 4 convolution, optional normalization, LeakyReLU(0.2)."""

    def __init__(self, convolution: keras.Layer, normalization: Normalization, dtype: str, name: str) -> None:
        super().__init__(dtype=dtype, name=name)
        self.convolution = convolution
        self.normalization = normalization_layer(normalization, dtype)
        self.activation = layers.LeakyReLU(LEAK, dtype=dtype)

    def build(self, input_shape: tuple) -> None:
        """Creates the weights."""
        self.convolution.build(input_shape)
        if self.normalization is not None:
            self.normalization.build(self.convolution.compute_output_shape(input_shape))
        self.built = True

    def call(self, x: Any, training: bool = False) -> Any:
        """(B, h, w, c) -> (B, h', w', filters)."""
        x = self.convolution(x)
        if self.normalization is not None:
            x = self.normalization(x, training=training)
        return self.activation(x)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Shape after the convolution."""
        return self.convolution.compute_output_shape(input_shape)
