"""The generator G: a U-Net with fifteen hidden layers (paper Fig. 1, Sec. "STAN-CT architecture")."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from stan_ct.networks.blocks import HiddenLayer, initializer, upsampling_layer
from stan_ct.networks.config import GeneratorConfig, Initialization, Normalization
from stan_ct.networks.shapes import BOTTLENECK_FILTERS, ENCODER_FILTERS, KERNEL_SIZE

STRIDE = 256
"""Height and width of an input must be multiples of this: eight halvings."""


class Generator(keras.Model):
    """U-Net: seven encoder layers, a bottleneck, seven decoder layers, and the output layer.

    All convolutions of the paper's network are 4 x 4 with stride 2, so a 256 x 256 patch has a 1 x 1 bottleneck; seven skips
    lead from each encoder layer to its twin. Larger inputs with sides that are multiples of 256 pass as they are.

    Args:
        config: Architecture.
        initialization: Distribution from which the weights start.
        compute_dtype: Policy of the hidden layers (`mixed_bfloat16`, `mixed_float16`); the output stays float32.
    """

    def __init__(
        self,
        config: GeneratorConfig,
        initialization: Initialization = "normal",
        compute_dtype: str = "float32",
        name: str = "generator",
    ) -> None:
        super().__init__(name=name)
        self.residual, self.channels = config.residual, config.channels
        filters = [f * config.base_filters for f in ENCODER_FILTERS]

        def down(n: int, norm: Normalization, label: str) -> HiddenLayer:
            start = initializer(initialization)
            convolution = layers.Conv2D(n, KERNEL_SIZE, 2, "same", kernel_initializer=start, dtype=compute_dtype)
            return HiddenLayer(convolution, norm, compute_dtype, name=label)

        def up(n: int, norm: Normalization, label: str) -> HiddenLayer:
            layer = upsampling_layer(config.upsampling, n, initializer(initialization), compute_dtype)
            return HiddenLayer(layer, norm, compute_dtype, name=label)

        # No normalization on the first layer (absolute HU) nor on the 1 x 1 bottleneck (nothing to normalize over).
        self.encoder = [down(n, config.normalization if i else "none", f"encoder_{i + 1}") for i, n in enumerate(filters)]
        self.bottleneck = down(BOTTLENECK_FILTERS * config.base_filters, "none", "bottleneck")
        self.decoder = [up(n, config.normalization, f"decoder_{i + 1}") for i, n in enumerate(reversed(filters))]
        self.concatenate = layers.Concatenate(dtype=compute_dtype)
        last = keras.initializers.Zeros() if config.residual else initializer(initialization)
        self.full_resolution = config.full_resolution
        if config.full_resolution:
            self.detail = HiddenLayer(
                layers.Conv2D(
                    config.base_filters, 3, 1, "same", kernel_initializer=initializer(initialization), dtype=compute_dtype
                ),
                "none",
                compute_dtype,
                name="detail",
            )
            self.full_size = up(config.base_filters, "none", "full_size")
            self.output_layer = layers.Conv2D(1, 3, 1, "same", kernel_initializer=last, dtype="float32", name="output")
        else:
            self.output_layer = upsampling_layer(config.upsampling, 1, last, "float32", name="output")

    def encode(self, x: Any, training: bool = False) -> tuple[Any, list[Any]]:
        """(B, H, W, C) -> the latent z, (B, H / 256, W / 256, 8 base_filters), and the seven skips."""
        skips = []
        for layer in self.encoder:
            x = layer(x, training=training)
            skips.append(x)
        return self.bottleneck(x, training=training), skips

    def call(self, x: Any, training: bool = False) -> Any:
        """Standardizes patches.

        Args:
            x: (B, H, W, C) float32 in [-1, 1]: the slice to standardize, then the slices before and after it that
                `adjacent_slices` asks for; C = 1 without.
            training: Whether normalization layers use and update batch statistics.
        Returns:
            (B, H, W, 1) float32; in [-1, 1] unless `residual`.
        """
        z, skips = self.encode(x, training=training)
        for layer, skip in zip(self.decoder, reversed(skips), strict=True):
            z = self.concatenate([layer(z, training=training), skip])
        if self.full_resolution:
            z = self.concatenate([self.full_size(z, training=training), self.detail(x, training=training)])
        change = ops.tanh(self.output_layer(ops.cast(z, "float32")))
        return ops.cast(x[..., :1], "float32") + change if self.residual else change

    def latent(self, x: Any, training: bool = False) -> Any:
        """z(x), float32, of (B, H, W, 1): what the latent loss compares (Eq. 5); adjacent slices are as the one there is."""
        x = ops.repeat(x, self.channels, axis=-1) if self.channels > 1 else x
        return ops.cast(self.encode(x, training=training)[0], "float32")


def build_generator(
    config: GeneratorConfig, initialization: Initialization = "normal", compute_dtype: str = "float32"
) -> Generator:
    """A generator with its weights created."""
    generator = Generator(config, initialization, compute_dtype)
    generator(ops.zeros((1, STRIDE, STRIDE, config.channels)))
    return generator
