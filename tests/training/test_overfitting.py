"""Networks of full depth learn."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from stan_ct.networks.config import DiscriminatorConfig, GeneratorConfig, LossSettings
from stan_ct.networks.discriminator import build_discriminator
from stan_ct.networks.generator import build_generator
from stan_ct.training.competition import Competition


@pytest.mark.usefixtures("unoptimized_graphs")
def test_overfits_four_pairs():
    """Trained on four pairs, alternating, G learns them: L1 falls to a third, to below that of a constant."""
    keras.utils.set_random_seed(0)
    coarse = np.random.default_rng(3).uniform(-1, 1, (4, 16, 16, 1)).astype(np.float32)
    source = tf.image.resize(coarse, (256, 256), "bilinear")
    target = 0.5 - 0.5 * source
    generator = build_generator(GeneratorConfig(base_filters=2, residual=False), initialization="he")
    discriminator = build_discriminator(DiscriminatorConfig(base_filters=2, spectral=True))
    model = Competition([generator], [discriminator])
    losses = LossSettings(adversarial="wgan", adversarial_weight=0.01, texture_weight=0.0, mask_losses=False)
    model.compile(losses, *(keras.optimizers.Adam(4e-3, beta_1=0.5) for _ in "dg"))
    g_step = tf.function(model.g_step, autograph=False)
    history = []
    for step in range(30):
        if step % 5 == 0:
            model.d_step(source, target)
        history.append(float(g_step(source, target)["l1"]))
    constant = float(tf.reduce_mean(tf.abs(target - tf.reduce_mean(target))))
    assert history[-1] < history[0] / 3
    assert history[-1] < constant / 2
