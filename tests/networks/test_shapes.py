"""Shapes of weights, without Keras: those that Keras makes, for every switch of the architecture."""

import itertools

import pytest

from stan_ct.networks.config import DiscriminatorConfig, GeneratorConfig
from stan_ct.networks.discriminator import build_discriminator
from stan_ct.networks.generator import build_generator
from stan_ct.networks.shapes import discriminator_shapes, generator_shapes


@pytest.mark.parametrize("full_resolution", [False, True])
@pytest.mark.parametrize(
    ("upsampling", "normalization"),
    [("transposed", "none"), ("transposed", "batch"), ("resize", "none"), ("resize", "group"), ("pixel_shuffle", "batch")],
)
def test_generator(upsampling, normalization, full_resolution):
    """Fourteen hidden layers, the bottleneck and the output, with every kind of decoder and normalization."""
    adjacent = int(upsampling == "resize")
    switches = {"normalization": normalization, "upsampling": upsampling, "full_resolution": full_resolution}
    config = GeneratorConfig(8, adjacent_slices=adjacent, **switches)
    assert generator_shapes(config) == [weights.shape for weights in build_generator(config).get_weights()]


@pytest.mark.parametrize(("spectral", "conditional"), list(itertools.product([False, True], repeat=2)))
def test_discriminator(spectral, conditional):
    """Five hidden layers and the output, with one input or two, and a vector more where they are spectrally normalized."""
    config = DiscriminatorConfig(3, spectral=spectral, conditional=conditional)
    assert discriminator_shapes(config) == [weights.shape for weights in build_discriminator(config).get_weights()]
