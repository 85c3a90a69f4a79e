"""Numbers of the networks, and the shapes of their weights in Keras's order; plain Python, to check files without Keras."""

from __future__ import annotations

import itertools

from stan_ct.networks.config import DiscriminatorConfig, GeneratorConfig

KERNEL_SIZE = 4
"""Side of the paper's convolutions, px."""
ENCODER_FILTERS = (1, 2, 4, 8, 8, 8, 8)
"""Filters of the generator's seven encoder layers, in units of `base_filters`; the decoder mirrors them."""
BOTTLENECK_FILTERS = 8
HIDDEN_FILTERS = (1, 2, 4, 8, 8)
"""Filters of the discriminator's five hidden layers, in units of `base_filters`."""
HIDDEN_STRIDES = (2, 2, 2, 1, 1)
"""Strides of these layers."""
DETAIL_SIZE, DETAIL_GAIN = 3, 30.0
"""Side of the moving average, px, that `high_pass` subtracts from a patch, and the factor by which the rest is amplified."""
LEAK = 0.2
"""Slope of the hidden layers' activation below 0."""
GROUPS, NORMALIZATION_EPSILON = 8, 1e-3
"""Number of groups of `group` normalization, and what normalization layers add to a variance."""

VECTORS = {"none": 0, "batch": 4, "group": 2}
"""Normalization -> number of its weights: scale and offset, and for `batch` moving mean and variance."""

Shape = tuple[int, ...]


def generator_shapes(config: GeneratorConfig) -> list[Shape]:
    """Shapes of the generator's weights."""
    base, norm, kind = config.base_filters, config.normalization, config.upsampling
    encoder = [n * base for n in ENCODER_FILTERS]
    decoder = encoder[::-1]
    shapes = _convolution(KERNEL_SIZE, config.channels, encoder[0])
    for before, filters in itertools.pairwise(encoder):
        shapes += _convolution(KERNEL_SIZE, before, filters) + _vectors(norm, filters)
    shapes += _convolution(KERNEL_SIZE, encoder[-1], BOTTLENECK_FILTERS * base)
    channels = BOTTLENECK_FILTERS * base
    for filters, skip in zip(decoder, decoder, strict=True):
        shapes += _upsampling(kind, channels, filters) + _vectors(norm, filters)
        channels = filters + skip
    if not config.full_resolution:
        return shapes + _upsampling(kind, channels, 1)
    return shapes + _convolution(3, config.channels, base) + _upsampling(kind, channels, base) + _convolution(3, 2 * base, 1)


def discriminator_shapes(config: DiscriminatorConfig) -> list[Shape]:
    """Shapes of the discriminator's weights."""
    shapes, channels = [], 1 + config.conditional
    for filters in (*(n * config.base_filters for n in HIDDEN_FILTERS), 2):
        kernel, bias = _convolution(KERNEL_SIZE, channels, filters)
        shapes += [kernel, (1, filters), bias] if config.spectral else [kernel, bias]
        channels = filters
    return shapes


def _convolution(side: int, channels: int, filters: int) -> list[Shape]:
    return [(side, side, channels, filters), (filters,)]


def _upsampling(kind: str, channels: int, filters: int) -> list[Shape]:
    if kind == "transposed":  # filters come before channels
        return [(KERNEL_SIZE, KERNEL_SIZE, filters, channels), (filters,)]
    return _convolution(3, channels, 4 * filters if kind == "pixel_shuffle" else filters)


def _vectors(normalization: str, filters: int) -> list[Shape]:
    return [(filters,)] * VECTORS[normalization]
