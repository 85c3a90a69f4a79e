"""The discriminator D: a fully convolutional network with five hidden layers (paper Fig. 1)."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from stan_ct.networks.blocks import HiddenLayer, initializer
from stan_ct.networks.config import DiscriminatorConfig, Initialization
from stan_ct.networks.shapes import DETAIL_GAIN, DETAIL_SIZE, HIDDEN_FILTERS, HIDDEN_STRIDES, KERNEL_SIZE


class Discriminator(keras.Model):
    """Five hidden 4 x 4 convolutions with LeakyReLU, then two channels and a softmax over [fake, real].

    D sees one image, not the pair (Eqs. 1 and 4). The softmax is over two classes at each position, so it is the
    sigmoid of the logit difference, and that difference is the critic value f of Eqs. 1 and 4.

    Args:
        config: Architecture, with a number of filters of its own.
        initialization: Distribution from which the weights start.
        compute_dtype: Policy of the hidden layers; the output stays float32.
    """

    def __init__(
        self,
        config: DiscriminatorConfig,
        initialization: Initialization = "normal",
        compute_dtype: str = "float32",
        name: str = "discriminator",
    ) -> None:
        super().__init__(name=name)
        self.conditional, self.high_pass, spectral = config.conditional, config.high_pass, config.spectral

        def convolution(filters: int, stride: int, dtype: str) -> keras.Layer:
            start = initializer(initialization)
            layer = layers.Conv2D(filters, KERNEL_SIZE, stride, "same", kernel_initializer=start, dtype=dtype)
            return layers.SpectralNormalization(layer, dtype="float32") if spectral else layer

        # Keras normalizes in the outer layer's type and writes the result back: float32, or weights lose their digits.
        outer = "float32" if spectral else compute_dtype
        self.hidden = [
            HiddenLayer(convolution(n * config.base_filters, stride, compute_dtype), "none", outer, name=f"hidden_{i + 1}")
            for i, (n, stride) in enumerate(zip(HIDDEN_FILTERS, HIDDEN_STRIDES, strict=True))
        ]
        self.output_layer = convolution(2, 1, "float32")

    def features(self, x: Any, training: bool = False) -> Any:
        """phi of Eq. 2: activations of the last hidden layer, (B, H / 8, W / 8, 8 base_filters)."""
        if self.high_pass:
            x = DETAIL_GAIN * (x - ops.average_pool(x, DETAIL_SIZE, 1, "same"))
        for layer in self.hidden:
            x = layer(x, training=training)
        return x

    def call(self, x: Any, training: bool = False) -> tuple[Any, Any]:
        """Judges patches.

        Args:
            x: (B, H, W, 1) float32 in [-1, 1]; (B, H, W, 2), source and patch, if conditional.
            training: Whether spectral normalization updates its estimates.
        Returns:
            Features phi, and logits [fake, real], (B, H / 8, W / 8, 2) float32.
        """
        phi = self.features(x, training=training)
        return phi, self.output_layer(ops.cast(phi, "float32"))


def critic_value(logits: Any) -> Any:
    """f of Eqs. 1 and 4: logit of real minus logit of fake, mean over positions, (B,)."""
    return ops.mean(logits[..., 1] - logits[..., 0], axis=(1, 2))


def p_real(logits: Any) -> Any:
    """P(real) of each patch: the softmax's real channel, mean over positions, (B,) in [0, 1]."""
    return ops.mean(ops.softmax(logits, axis=-1)[..., 1], axis=(1, 2))


def build_discriminator(
    config: DiscriminatorConfig, initialization: Initialization = "normal", compute_dtype: str = "float32"
) -> Discriminator:
    """A discriminator with its weights created, for patches of one channel, or two (source and patch) if conditional.

    Raises:
        ValueError: If the number of filters is still open.
    """
    if not config.base_filters:
        raise ValueError("the discriminator needs a number of filters: DiscriminatorConfig(base_filters=...)")
    discriminator = Discriminator(config, initialization, compute_dtype)
    discriminator(ops.zeros((1, 256, 256, 1 + config.conditional)))
    return discriminator
