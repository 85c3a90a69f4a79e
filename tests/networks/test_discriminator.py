"""The discriminator is the paper's, layer by layer, and its two readings, P(real) and critic value, are one."""

from itertools import pairwise

import keras
import numpy as np
import pytest
import tensorflow as tf

from stan_ct.networks.config import DiscriminatorConfig
from stan_ct.networks.discriminator import build_discriminator, critic_value, p_real

STRIDES = (2, 2, 2, 1, 1, 1)
"""Of the five hidden layers and the output layer."""


def patches(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def forward(weights, x):
    """D by hand from its kernels and biases: features of the last hidden layer, and logits."""
    for number, stride in enumerate(STRIDES):
        features = x
        x = tf.nn.conv2d(x, weights[2 * number], stride, "SAME") + weights[2 * number + 1]
        if number < 5:
            x = tf.nn.leaky_relu(x, 0.2)
    return features, x


@pytest.fixture(scope="module")
def small():
    """A narrow D in which every layer matters: He's weights, and biases that are not zero."""
    keras.utils.set_random_seed(1)
    discriminator = build_discriminator(DiscriminatorConfig(base_filters=2), initialization="he")
    rng = np.random.default_rng(2)
    discriminator.set_weights([w if w.ndim == 4 else rng.normal(0, 0.2, w.shape) for w in discriminator.get_weights()])
    return discriminator


def test_paper_preset():
    """At width 64: 4 x 4 kernels 1-64-128-256-512-512-2, 6,965,698 parameters, starting from N(0, 0.02)."""
    discriminator = build_discriminator(DiscriminatorConfig(base_filters=64))
    widths = [1, 64, 128, 256, 512, 512, 2]
    expected = [(4, 4, c_in, c_out) for c_in, c_out in pairwise(widths)]
    kernels = [w for w in discriminator.get_weights() if w.ndim == 4]
    assert [k.shape for k in kernels] == expected
    assert sum(16 * s[2] * s[3] + s[3] for s in expected) == 6_965_698
    assert discriminator.count_params() == 6_965_698
    assert [k.std() for k in kernels[1:]] == pytest.approx([0.02] * 5, rel=0.05)
    biases = np.concatenate([w for w in discriminator.get_weights() if w.ndim == 1])
    np.testing.assert_array_equal(biases, 0)


@pytest.mark.parametrize("shape", [(2, 256, 256, 1), (1, 512, 256, 1), (3, 64, 64, 1)])
def test_forward_pass(small, shape):
    """Features and logits are those of the figure worked out in plain TensorFlow: strides 2-2-2-1-1, slope 0.2."""
    x = patches(*shape)
    features, logits = forward(small.get_weights(), x)
    got_features, got_logits = small(x)
    np.testing.assert_allclose(got_features, features, atol=1e-5)
    np.testing.assert_allclose(small.features(x), features, atol=1e-5)
    np.testing.assert_allclose(got_logits, logits, atol=1e-5)
    assert got_features.shape == (shape[0], shape[1] // 8, shape[2] // 8, 16)
    assert got_logits.shape == (shape[0], shape[1] // 8, shape[2] // 8, 2)
    assert np.asarray(logits).std() > 0.1


def test_one_image_not_the_pair(small):
    """D judges an image for itself: one gray channel, and no look at what else is in the batch."""
    x, other = patches(1, 64, 64, 1), patches(1, 64, 64, 1, seed=1)
    assert small.get_weights()[0].shape[2] == 1
    alone, beside = small(x)[1], small(np.concatenate([other, x]))[1]
    np.testing.assert_allclose(alone[0], beside[1], atol=1e-5)  # a batch of two is added up in another order
    assert np.abs(beside[0] - beside[1]).max() > 0.01


def test_p_real_by_hand():
    """P(real) is the mean of the softmax map, and not the softmax of the mean: (3/4 + 1/2) / 2 and (1/4 + 1/4) / 2."""
    logits = np.array([[[[1, 1 + np.log(3)], [2, 2]]], [[[np.log(3), 0], [np.log(3), 0]]]])  # (2, 1, 2, 2) [fake, real]
    np.testing.assert_allclose(p_real(tf.constant(logits)), [0.625, 0.25], rtol=1e-6)


def test_critic_value_by_hand():
    """f is real minus fake, mean over positions: (3 + 0) / 2 and (-1 - 2) / 2."""
    logits = np.array([[[[1.0, 4.0], [2.0, 2.0]]], [[[1.0, 0.0], [3.0, 1.0]]]])
    np.testing.assert_allclose(critic_value(tf.constant(logits)), [1.5, -1.5])


def test_sigmoid_of_critic_value_is_p_real(small):
    """At each position the sigmoid of f is the softmax's real channel, so f and P(real) name the same thing."""
    logits = np.asarray(small(patches(2, 64, 64, 1))[1], np.float64)
    f = logits[..., 1] - logits[..., 0]
    for b, i, j in np.ndindex(f.shape):
        one = tf.constant(logits[b : b + 1, i : i + 1, j : j + 1])
        assert float(critic_value(one)[0]) == pytest.approx(f[b, i, j], abs=1e-6)
        assert float(p_real(one)[0]) == pytest.approx(1 / (1 + np.exp(-f[b, i, j])), abs=1e-6)


def largest_gains(discriminator):
    """Spectral norm of each kernel as a matrix, (4 * 4 * c_in, c_out)."""
    return [np.linalg.norm(w.reshape(-1, w.shape[-1]), 2) for w in discriminator.get_weights() if w.ndim == 4]


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_spectral_normalization(dtype):
    """With `spectral`, training brings every kernel's largest singular value to 1; inference changes nothing."""
    keras.utils.set_random_seed(3)
    discriminator = build_discriminator(
        DiscriminatorConfig(base_filters=4, spectral=True), initialization="he", compute_dtype=dtype
    )
    x = patches(1, 32, 32, 1)
    before = discriminator.get_weights()
    assert min(largest_gains(discriminator)) > 1.3
    discriminator(x, training=False)
    for old, new in zip(before, discriminator.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    for _ in range(40):
        discriminator(x, training=True)
    assert largest_gains(discriminator) == pytest.approx([1.0] * 6, abs=0.02)


def test_spectral_normalization_keeps_float32_weights():
    """Under mixed_bfloat16 the normalized kernels keep float32's digits, or small updates would be rounded away."""
    keras.utils.set_random_seed(4)
    discriminator = build_discriminator(DiscriminatorConfig(base_filters=4, spectral=True), compute_dtype="mixed_bfloat16")
    discriminator(patches(1, 32, 32, 1), training=True)
    for kernel in (w for w in discriminator.get_weights() if w.ndim == 4):
        rounded = tf.cast(tf.cast(kernel, tf.bfloat16), tf.float32).numpy()
        assert np.mean(kernel == rounded) < 0.1


def test_float32_logits(small):
    """Under mixed_bfloat16 the features are bfloat16 and the logits float32, close to those of float32."""
    mixed = build_discriminator(DiscriminatorConfig(base_filters=2), compute_dtype="mixed_bfloat16")
    mixed.set_weights(small.get_weights())
    x = patches(1, 64, 64, 1)
    features, logits = mixed(x)
    assert (features.dtype, logits.dtype) == (tf.bfloat16, tf.float32)
    assert 1e-6 < np.abs(logits - small(x)[1]).mean() < 0.05


def test_high_pass(small):
    """With `high_pass` D judges 30 times the difference to the mean over 3 x 3 pixels: what is constant it does not see."""
    keras.utils.set_random_seed(1)
    detail = build_discriminator(DiscriminatorConfig(base_filters=2, high_pass=True))
    detail.set_weights(small.get_weights())
    x = patches(1, 256, 256, 1)
    mean = tf.nn.depthwise_conv2d(x, np.full((3, 3, 1, 1), 1 / 9, np.float32), (1, 1, 1, 1), "VALID")
    shown = 30 * (x[:, 1:-1, 1:-1] - mean)
    inner = slice(8, 24)  # positions whose field of view holds no border
    padded = tf.pad(shown, [(0, 0), (1, 1), (1, 1), (0, 0)])
    np.testing.assert_allclose(detail(x)[1][:, inner, inner], small(padded)[1][:, inner, inner], atol=1e-3)
    np.testing.assert_allclose(detail(x)[1], detail(x + 0.25)[1], atol=1e-3)
    assert np.abs(small(x)[1] - small(x + 0.25)[1]).max() > 0.01
