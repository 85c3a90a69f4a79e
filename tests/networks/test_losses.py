"""Eqs. 1 - 6 on numbers small enough to be worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from stan_ct.ct.hounsfield import HUWindow
from stan_ct.networks.config import LossSettings
from stan_ct.networks.losses import (
    adversarial_loss_d,
    adversarial_loss_g,
    feature_loss,
    latent_loss,
    mask_to_target,
    mean_absolute,
    total_loss_d,
    total_loss_g,
    verdicts,
)

PLAIN = LossSettings(adversarial="wgan", texture_weight=0.0)
# Two patches of 1 x 2 positions, [fake, real]. Critic values: target (4 + 2) / 2 = 3 and (1 + 1) / 2 = 1, mean 2;
# synthesized (-1 - 3) / 2 = -2 and (2 + 0) / 2 = 1, mean -0.5.
TARGET = tf.constant([[[[0.0, 4.0], [1.0, 3.0]]], [[[0.0, 1.0], [-1.0, 0.0]]]])
SYNTHESIZED = tf.constant([[[[1.0, 0.0], [3.0, 0.0]]], [[[0.0, 2.0], [5.0, 5.0]]]])
# Logits whose softmax is a round number: P(real) 3/4 for the target, 1/5 for the synthesized patch.
LIKELY = tf.constant([[[[0.0, np.log(3.0)]]]], tf.float32)
UNLIKELY = tf.constant([[[[np.log(4.0), 0.0]]]], tf.float32)


def test_adversarial_losses():
    """L_adv(D) = mean f(G(x')) - mean f(x) = -0.5 - 2, and L_adv(G) = -mean f(G(x')) = 0.5 (Eqs. 1, 4)."""
    assert float(adversarial_loss_d(TARGET, SYNTHESIZED, PLAIN)) == pytest.approx(-2.5)
    assert float(adversarial_loss_g(SYNTHESIZED, PLAIN)) == pytest.approx(0.5)


def test_adversarial_losses_on_probability():
    """With `critic_output=probability` f is P(real): 1/5 - 3/4 and -1/5."""
    settings = replace(PLAIN, critic_output="probability")
    assert float(adversarial_loss_d(LIKELY, UNLIKELY, settings)) == pytest.approx(0.2 - 0.75, rel=1e-5)
    assert float(adversarial_loss_g(UNLIKELY, settings)) == pytest.approx(-0.2, rel=1e-5)


def test_adversarial_losses_as_cross_entropy():
    """Cross-entropy: D pays -ln P(real | x) - ln P(fake | G(x')) = ln 4/3 + ln 5/4, G pays -ln P(real | G(x')) = ln 5."""
    settings = replace(PLAIN, adversarial="cross_entropy")
    assert float(adversarial_loss_d(LIKELY, UNLIKELY, settings)) == pytest.approx(np.log(4 / 3) + np.log(5 / 4), rel=1e-5)
    assert float(adversarial_loss_g(UNLIKELY, settings)) == pytest.approx(np.log(5), rel=1e-5)
    undecided = tf.zeros((2, 1, 3, 2))
    assert float(adversarial_loss_d(undecided, undecided, settings)) == pytest.approx(np.log(4), rel=1e-5)


def test_adversarial_losses_in_pairs():
    """Critic values 3, 1 against -2, 1: D pays ln(1 + e^-5) and ln 2, G ln(1 + e^5) and ln 2; pairs matter."""
    settings = replace(PLAIN, adversarial="relativistic")
    low, high, even = np.log1p(np.exp(-5)), np.log1p(np.exp(5)), np.log(2)
    assert float(adversarial_loss_d(TARGET, SYNTHESIZED, settings)) == pytest.approx((low + even) / 2, rel=1e-5)
    assert float(adversarial_loss_g(SYNTHESIZED, settings, TARGET)) == pytest.approx((high + even) / 2, rel=1e-5)
    swapped = np.log1p(np.exp(-2)) + np.log1p(np.exp(-3))  # 3 against 1, 1 against -2
    assert float(adversarial_loss_d(TARGET, SYNTHESIZED[::-1], settings)) == pytest.approx(swapped / 2, rel=1e-5)


def test_verdicts():
    """P(real) of each patch by the softmax; in pairs sigmoid of the difference of critic values, 5 and 0."""
    target, synthesized = verdicts(LIKELY, UNLIKELY, PLAIN)
    assert (float(target[0]), float(synthesized[0])) == pytest.approx((0.75, 0.2))
    won, lost = verdicts(TARGET, SYNTHESIZED, replace(PLAIN, adversarial="relativistic"))
    np.testing.assert_allclose(won, [1 / (1 + np.exp(-5)), 0.5], rtol=1e-5)
    np.testing.assert_allclose(lost, [1 / (1 + np.exp(5)), 0.5], rtol=1e-4)


@pytest.mark.parametrize("switch", [{}, {"critic_output": "probability"}, {"adversarial": "cross_entropy"}])
def test_adversarial_losses_pull_apart(switch):
    """D's loss falls as targets look more real and synthesized patches less; G's falls as they look more real."""
    settings = replace(PLAIN, **switch)
    with tf.GradientTape() as tape:
        tape.watch([LIKELY, UNLIKELY])
        d_loss = adversarial_loss_d(LIKELY, UNLIKELY, settings)
    at_target, at_synthesized = (g.numpy()[..., 1] for g in tape.gradient(d_loss, [LIKELY, UNLIKELY]))
    assert at_target.max() < 0 < at_synthesized.min()
    with tf.GradientTape() as tape:
        tape.watch(UNLIKELY)
        g_loss = adversarial_loss_g(UNLIKELY, settings)
    assert tape.gradient(g_loss, UNLIKELY).numpy()[..., 1].max() < 0


def test_feature_loss():
    """L_feat is the mean over all V elements of |phi(G(x')) - phi(x)|: (1 + 2 + 0 + 3) / 4 (Eq. 2)."""
    a, b = tf.reshape([1.0, -2.0, 3.0, 4.0], (1, 2, 1, 2)), tf.reshape([2.0, 0.0, 3.0, 1.0], (1, 2, 1, 2))
    assert float(feature_loss(a, b)) == float(feature_loss(b, a)) == 1.5


def test_latent_loss():
    """L_lat is the mean of |z(x) - z(G(x'))|: (2 + 0.5) / 2 (Eq. 5), whether or not the gradient is stopped."""
    z, z_synthesized = tf.constant([[1.0, 1.0]]), tf.constant([[-1.0, 1.5]])
    for stop in (False, True):
        assert float(latent_loss(z, z_synthesized, replace(PLAIN, latent_stop_gradient=stop))) == 1.25


@pytest.mark.parametrize(("stop", "expected"), [(False, [[0.5, -0.5]]), (True, None)])
def test_latent_gradient(stop, expected):
    """As printed the gradient passes through z(x) too; `latent_stop_gradient` leaves z(G(x')) alone with it."""
    z, z_synthesized = tf.constant([[1.0, 1.0]]), tf.constant([[-1.0, 1.5]])
    with tf.GradientTape() as tape:
        tape.watch([z, z_synthesized])
        loss = latent_loss(z, z_synthesized, replace(PLAIN, latent_stop_gradient=stop))
    at_target, at_synthesized = tape.gradient(loss, [z, z_synthesized])
    np.testing.assert_array_equal(at_synthesized, [[-0.5, 0.5]])
    assert at_target is None if expected is None else np.array_equal(at_target, expected)


def test_mean_absolute_is_float32():
    """The mean of many bfloat16 numbers is taken in float32: (1 + 1000 / 2) / 1001 is not rounded to three digits."""
    a = tf.cast(tf.concat([[1.0], tf.fill([1000], 0.5)], 0), tf.bfloat16)
    mean = mean_absolute(a, tf.zeros_like(a))
    assert mean.dtype == tf.float32
    assert float(mean) == pytest.approx(501 / 1001, rel=1e-6)


@pytest.mark.parametrize(("maximize", "expected"), [(True, 2.0 - 0.25 * 8.0), (False, 2.0 + 0.25 * 8.0)])
def test_total_loss_d(maximize, expected):
    """L(D) = L_adv(D) - lambda1 L_feat: D maximizes L_feat (Eq. 3); or minimizes it, as it is told."""
    settings = replace(PLAIN, feature_weight=0.25, maximize_feature_loss=maximize)
    terms = {"adversarial_d": 2.0, "feature": 8.0}
    assert total_loss_d(terms, settings) == expected
    assert total_loss_d({**terms, "penalty": 0.5}, replace(settings, penalty_weight=4.0)) == expected + 2.0
    assert total_loss_d({**terms, "penalty": 0.5}, replace(settings, penalty_weight=4.0, penalty_interval=3)) == expected + 6.0


def test_total_loss_g():
    """L(G) = w L_adv(G) + lambda2 L_lat + lambda3 L1 = 0.5 * 2 + 0.25 * 4 + 3 * 1 (Eq. 6)."""
    settings = replace(PLAIN, adversarial_weight=0.5, latent_weight=0.25, l1_weight=3.0)
    assert total_loss_g({"adversarial_g": 2.0, "latent": 4.0, "l1": 1.0}, settings) == 5.0


def test_total_loss_g_with_texture():
    """The texture loss adds to Eq. 6 with its weight, 0 by default."""
    terms = {"adversarial_g": 0.0, "latent": 0.0, "l1": 1.0, "texture": 2.0}
    assert total_loss_g(terms, PLAIN) == 1.0
    assert total_loss_g(terms, replace(PLAIN, texture_weight=0.25)) == 1.5


def test_mask_to_target():
    """Air far below -1000 HU and what is above 900 HU is the target's; noisy air around -985 HU and tissue are G's."""
    hu = np.full((1, 64, 64, 1), 40.0, np.float32)
    hu[:, :20] = -1020
    hu[:, 20:40] = -985 + np.random.default_rng(0).normal(0, 30, (20, 64, 1))
    hu[:, 50:52] = 950
    window = HUWindow()
    judged = np.asarray(mask_to_target(window.to_network(hu), np.ones_like(hu), np.zeros_like(hu), window))[0, :, :, 0]
    assert (judged[:19] == 1).all()
    assert (judged[25:50] == 0).all()
    assert (judged[50:52] == 1).all()
    assert (judged[52:] == 0).all()
