"""The discriminator D: a fully convolutional network with five hidden layers (paper Fig. 1)."""

from __future__ import annotations

from typing import Literal

import keras
from keras import layers, ops

from stan_ct.networks.blocks import KERNEL_SIZE, HiddenLayer, Initialization, initializer

HIDDEN_FILTERS = (1, 2, 4, 8, 8)
"""Filters of the five hidden layers, in units of `base_filters`."""
HIDDEN_STRIDES = (2, 2, 2, 1, 1)

DETAIL_SIZE, DETAIL_GAIN = 7, 10.0
"""What `high_pass` shows D: a patch minus its mean over so many pixels squared, times so much."""

Lipschitz = Literal["none", "spectral", "clip", "gradient_penalty"]


class Discriminator(keras.Model):
    """Five hidden 4 x 4 convolutions with LeakyReLU, then two channels and a softmax over [fake, real].

    D sees one image, not the pair (Eqs. 1 and 4). The softmax is over two classes at each position, so it is the
    sigmoid of the logit difference, and that difference is the critic value f of Eqs. 1 and 4.

    Args:
        base_filters: Filters of the first layer.
        spectral: Spectral normalization of every convolution: the Lipschitz switch `spectral`.
        high_pass: D judges the fine detail of a patch alone, which is what a kernel changes, and not its anatomy.
        initialization: Where weights start: `normal`, N(0, 0.02), or `he`.
        compute_dtype: Policy of the hidden layers; the output stays float32.
    """

    def __init__(
        self,
        base_filters: int = 64,
        spectral: bool = False,
        high_pass: bool = False,
        initialization: Initialization = "normal",
        compute_dtype: str = "float32",
        name: str = "discriminator",
    ) -> None:
        super().__init__(name=name)
        self.high_pass = high_pass

        def convolution(filters: int, stride: int, dtype: str) -> keras.Layer:
            start = initializer(initialization)
            layer = layers.Conv2D(filters, KERNEL_SIZE, stride, "same", kernel_initializer=start, dtype=dtype)
            return layers.SpectralNormalization(layer, dtype="float32") if spectral else layer

        # Keras normalizes in the outer layer's type and writes the result back: float32, or weights lose their digits.
        outer = "float32" if spectral else compute_dtype
        self.hidden = [
            HiddenLayer(convolution(n * base_filters, stride, compute_dtype), "none", outer, name=f"hidden_{i + 1}")
            for i, (n, stride) in enumerate(zip(HIDDEN_FILTERS, HIDDEN_STRIDES, strict=True))
        ]
        self.output_layer = convolution(2, 1, "float32")

    def features(self, x, training: bool = False):
        """phi of Eq. 2: activations of the last hidden layer, (B, H / 8, W / 8, 8 base_filters)."""
        if self.high_pass:
            x = DETAIL_GAIN * (x - ops.average_pool(x, DETAIL_SIZE, 1, "same"))
        for layer in self.hidden:
            x = layer(x, training=training)
        return x

    def call(self, x, training: bool = False):
        """Judges patches.

        Args:
            x: (B, H, W, 1) float32 in [-1, 1].
            training: Whether spectral normalization updates its estimates.
        Returns:
            Features phi, and logits [fake, real], (B, H / 8, W / 8, 2) float32.
        """
        phi = self.features(x, training=training)
        return phi, self.output_layer(ops.cast(phi, "float32"))


def critic_value(logits):
    """f of Eqs. 1 and 4: logit of real minus logit of fake, mean over positions, (B,)."""
    return ops.mean(logits[..., 1] - logits[..., 0], axis=(1, 2))


def p_real(logits):
    """P(real) of each patch: the softmax's real channel, mean over positions, (B,) in [0, 1]."""
    return ops.mean(ops.softmax(logits, axis=-1)[..., 1], axis=(1, 2))


def build_discriminator(channels: int = 1, **settings) -> Discriminator:
    """A discriminator with its weights created; two channels: source and patch, for a conditional one."""
    discriminator = Discriminator(**settings)
    discriminator(ops.zeros((1, 256, 256, channels)))
    return discriminator
