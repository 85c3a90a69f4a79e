"""Building blocks of generator and discriminator."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from stan_ct.networks.config import Initialization, Normalization, Upsampling
from stan_ct.networks.shapes import GROUPS, KERNEL_SIZE, LEAK, NORMALIZATION_EPSILON


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
        return layers.BatchNormalization(epsilon=NORMALIZATION_EPSILON, dtype=dtype)
    if kind == "group":
        return layers.GroupNormalization(groups=GROUPS, epsilon=NORMALIZATION_EPSILON, dtype=dtype)
    raise ValueError(f"normalization must be none, batch or group, not {kind!r}")


class ResizeConvolution(layers.Layer):
    """Doubles height and width by nearest neighbour, then convolves with 3 x 3 pixels; writes no lattice on flat input.

    Both steps are one transposed convolution with stride 2, whose 4 x 4 kernel is the 3 x 3 kernel summed over 2 x 2 shifts:
    the price of the paper's layer, without its freedom to treat even and odd pixels differently.

    Args:
        filters: Channels of the output.
        kernel_initializer: Start of the 3 x 3 kernel.
        dtype: Policy.

    Reference: Odena, Dumoulin, Olah: Deconvolution and Checkerboard Artifacts, Distill 2016; Sugawara, Shiota, Kiya:
    Super-Resolution Using Convolutional Neural Networks Without Any Checkerboard Artifacts, ICIP 2018.
    """

    def __init__(
        self, filters: int, kernel_initializer: keras.initializers.Initializer, dtype: str, name: str | None = None
    ) -> None:
        super().__init__(dtype=dtype, name=name)
        self.filters, self.kernel_initializer = filters, kernel_initializer

    def build(self, input_shape: tuple) -> None:
        """Creates the weights."""
        # The initializer sees a convolution's kernel, (3, 3, in, out): transposed ones have the filters before the channels.
        self.kernel = self.add_weight(
            shape=(3, 3, input_shape[-1], self.filters), initializer=self.kernel_initializer, name="kernel"
        )
        self.bias = self.add_weight(shape=(self.filters,), initializer="zeros", name="bias")

    def call(self, x: Any) -> Any:
        """(B, h, w, c) -> (B, 2 h, 2 w, filters)."""
        flipped = ops.flip(ops.transpose(ops.cast(self.kernel, self.compute_dtype), (0, 1, 3, 2)), axis=(0, 1))
        padded = ops.pad(flipped, ((1, 1), (1, 1), (0, 0), (0, 0)))
        kernel = padded[1:, 1:] + padded[:-1, 1:] + padded[1:, :-1] + padded[:-1, :-1]  # (4, 4, filters, c)
        return ops.conv_transpose(x, kernel, strides=2, padding="same") + ops.cast(self.bias, self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Twice the size."""
        return (input_shape[0], *(n and 2 * n for n in input_shape[1:3]), self.filters)


class PixelShuffle(layers.Layer):
    """3 x 3 convolution to four times the channels, which become 2 x 2 pixels; all four start alike (ICNR), without a lattice.

    Args:
        filters: Channels of the output.
        kernel_initializer: Start of the kernel of one of the four.
        dtype: Policy.

    Reference: Aitken et al.: Checkerboard artifact free sub-pixel convolution, arXiv 1707.02937.
    """

    def __init__(
        self, filters: int, kernel_initializer: keras.initializers.Initializer, dtype: str, name: str | None = None
    ) -> None:
        super().__init__(dtype=dtype, name=name)
        self.filters = filters

        def four_alike(shape: tuple, dtype: str | None = None) -> Any:
            return ops.tile(kernel_initializer((*shape[:3], filters), dtype=dtype), (1, 1, 1, 4))

        self.convolution = layers.Conv2D(4 * filters, 3, padding="same", kernel_initializer=four_alike, dtype=dtype)

    def build(self, input_shape: tuple) -> None:
        """Creates the weights."""
        self.convolution.build(input_shape)
        self.built = True

    def call(self, x: Any) -> Any:
        """(B, h, w, c) -> (B, 2 h, 2 w, filters)."""
        height, width = x.shape[1:3] if None not in x.shape[1:3] else ops.shape(x)[1:3]
        parts = ops.reshape(self.convolution(x), (-1, height, width, 2, 2, self.filters))
        return ops.reshape(ops.transpose(parts, (0, 1, 3, 2, 4, 5)), (-1, 2 * height, 2 * width, self.filters))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Twice the size."""
        return (input_shape[0], *(n and 2 * n for n in input_shape[1:3]), self.filters)


def upsampling_layer(
    kind: Upsampling, filters: int, start: keras.initializers.Initializer, dtype: str, name: str | None = None
) -> keras.Layer:
    """A layer that doubles height and width, (B, h, w, c) -> (B, 2 h, 2 w, filters), without activation."""
    if kind == "transposed":
        return layers.Conv2DTranspose(filters, KERNEL_SIZE, 2, "same", kernel_initializer=start, dtype=dtype, name=name)
    return {"resize": ResizeConvolution, "pixel_shuffle": PixelShuffle}[kind](filters, start, dtype, name)


class HiddenLayer(layers.Layer):
    """(Transposed) 4 x 4 convolution, or another that doubles the size, optional normalization, LeakyReLU(0.2)."""

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
