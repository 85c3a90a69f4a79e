"""Texture features without a co-occurrence matrix are those of the matrix, and the loss on them moves G the right way."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.ndimage import gaussian_filter

from stan_ct.ct.hounsfield import HUWindow
from stan_ct.features.glcm import FEATURES, Discretization, features
from stan_ct.networks.texture_loss import FLOOR, texture_features, texture_loss

WINDOW = HUWindow(-1000.0, 920.0)
"""960 HU per unit of the network's range."""


def patches_of(hu):
    return tf.constant(WINDOW.to_network(np.asarray(hu, np.float32))[..., None])


def test_texture_loss_by_hand():
    """Stripes of 10 gray levels against stripes of 8: dissimilarity 1/5, contrast 9/25, homogeneity by formula; energy equal.

    Neighbours to the right and along both diagonals differ by the height of a stripe, those below not at all.
    """
    level = 1900 / 256
    stripes = np.zeros((1, 256, 256)) + 100.5 * level - 1000
    tall, low = stripes.copy(), stripes.copy()
    tall[..., ::2] += 10 * level
    low[..., ::2] += 8 * level
    homogeneity = [(1 + 3 / (1 + d**2)) / 4 for d in (10, 8)]
    expected = (0.2 + 9 / 25 + homogeneity[1] / homogeneity[0] - 1 + 0) / 4 / (1 + FLOOR)
    assert float(texture_loss(patches_of(tall), patches_of(low), WINDOW)) == pytest.approx(expected, rel=1e-3)


def test_texture_loss_is_about_features_not_pixels():
    """It is 0 for equal patches, whatever they hold, and almost 0 for another sample of the same noise; not for more noise."""
    first, second = np.random.default_rng(1).normal(0, 30, (2, 1, 256, 256))
    assert float(texture_loss(patches_of(first), patches_of(first), WINDOW)) == 0
    assert float(texture_loss(patches_of(first), patches_of(second), WINDOW)) < 0.03
    assert float(texture_loss(patches_of(first), patches_of(1.1 * second), WINDOW)) > 0.06


def test_texture_loss_goes_by_tiles():
    """Noise in the wrong half of a patch is an error, although the patch as a whole has the right features."""
    noise = np.random.default_rng(5).normal(0, 30, (1, 256, 256))
    left, right = noise.copy(), noise.copy()
    left[..., 128:] *= 0.5
    right[..., :128] *= 0.5
    assert float(texture_loss(patches_of(left), patches_of(right), WINDOW)) > 0.3


def test_features_agree_with_the_glcm():
    """They are the features of the co-occurrence matrix of the same gray levels."""
    hu = gaussian_filter(np.random.default_rng(2).normal(0, 200, (256, 256)), 1)
    *measured, energy = texture_features(tf.constant((hu[None] + 1000) * 256 / 1900, tf.float32)).numpy()[0]
    expected = dict(zip(FEATURES, features(hu, Discretization.fixed_number(256)), strict=True))
    np.testing.assert_allclose(measured, [expected[n] for n in ("dissimilarity", "contrast", "homogeneity")], rtol=0.02)
    assert energy == pytest.approx(expected["energy"], rel=0.06)


@pytest.mark.parametrize("mirrored", [False, True])
def test_all_four_directions_count(mirrored):
    """Stripes along one diagonal, 0, 10, 20, 10 levels high: neighbours along it are equal, across it they differ by 20 or 0.

    To the right and below they differ by 10. It is the same for stripes along the other diagonal.
    """
    rows, columns = np.indices((64, 64))
    gray = np.array([0.0, 10.0, 20.0, 10.0])[(rows + columns if mirrored else rows - columns) % 4]
    dissimilarity, contrast, homogeneity, _ = texture_features(tf.constant(gray[None], tf.float32)).numpy()[0]
    assert dissimilarity == pytest.approx((10 + 10 + 0 + 10) / 4, rel=1e-3)
    assert contrast == pytest.approx((100 + 100 + 0 + 200) / 4, rel=1e-3)
    assert homogeneity == pytest.approx((1 / 101 + 1 / 101 + 1 + (1 / 401 + 1) / 2) / 4, rel=1e-3)


@pytest.mark.parametrize(("height", "equal"), [(0.0, 1), (0.98, 1), (1.02, 0), (50.0, 0)])
def test_energy_of_bands(height, equal):
    """Bands of 16 rows: half of the shifts lead to an equal band, half to one of another height, in the same level or not."""
    gray = np.broadcast_to((np.arange(64) // 16 % 2)[:, None] * height, (64, 64))
    energy = texture_features(tf.constant(gray[None], tf.float32)).numpy()[0, 3]
    assert energy == pytest.approx(np.sqrt((1 + equal) / 2), rel=1e-4)


@pytest.mark.parametrize(("height", "slope"), [(0.98, -0.255), (1.98, -0.005), (2.02, 0.0)])
def test_energy_has_a_gradient(height, slope):
    """Bands less than `SAME` levels apart draw nearer to each other: (1 + e^2) / 2 with e = 1 - height / 2 falls by e / 2."""
    bands = tf.constant(np.broadcast_to((np.arange(64) // 16 % 2)[:, None], (64, 64))[None], tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(gain := tf.constant(height))
        squared = texture_features(bands * gain)[0, 3] ** 2
    assert float(tape.gradient(squared, gain)) == pytest.approx(slope, abs=1e-4)


def test_texture_loss_moves_g():
    """Its gradient makes a noise that is too weak stronger."""
    noise = np.random.default_rng(3).normal(0, 30, (1, 256, 256))
    weak = patches_of(0.8 * noise)
    with tf.GradientTape() as tape:
        gain = tf.Variable(1.0)
        loss = texture_loss(patches_of(noise), WINDOW.to_network(0) * (1 - gain) + weak * gain, WINDOW)
    assert float(tape.gradient(loss, gain)) < -0.5
