"""The generator is the paper's U-Net, layer by layer; a second forward pass in plain TensorFlow is the oracle."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from stan_ct.networks.blocks import PixelShuffle, ResizeConvolution, upsampling_layer
from stan_ct.networks.config import GeneratorConfig
from stan_ct.networks.generator import Generator, build_generator

# (filters in, filters out) of the sixteen convolutions, in units of 64, written out from Fig. 1; the decoder's inputs
# are what the layer below gives plus the skip of its twin. The first input and the last output are one gray channel.
ENCODER = [(None, 1), (1, 2), (2, 4), (4, 8), (8, 8), (8, 8), (8, 8)]
BOTTLENECK = (8, 8)
DECODER = [(8, 8), (8 + 8, 8), (8 + 8, 8), (8 + 8, 8), (8 + 8, 4), (4 + 4, 2), (2 + 2, 1)]
OUTPUT = (1 + 1, None)
LAYERS = [*ENCODER, BOTTLENECK, *DECODER, OUTPUT]


def paper_config(base_filters, residual=False, **switches):
    """The paper's architecture with so many filters."""
    return GeneratorConfig(base_filters, residual=residual, upsampling="transposed", full_resolution=False, **switches)


def patches(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def parameters(base_filters):
    """Weights and biases of 4 x 4 convolutions: 16 c_in c_out + c_out each."""
    widths = [tuple(1 if n is None else n * base_filters for n in pair) for pair in LAYERS]
    return sum(16 * c_in * c_out + c_out for c_in, c_out in widths)


def forward(weights, x, swap=lambda i, skip: skip):
    """G by hand from its kernels and biases: the latent z, the seven skips and the output."""
    pairs = [(tf.constant(k), tf.constant(b)) for k, b in zip(weights[::2], weights[1::2], strict=True)]

    def down(x, kernel, bias):
        return tf.nn.leaky_relu(tf.nn.conv2d(x, kernel, 2, "SAME") + bias, 0.2)

    def up(x, kernel, bias):
        size = (len(x), 2 * x.shape[1], 2 * x.shape[2], len(bias))
        return tf.nn.conv2d_transpose(x, kernel, size, 2, "SAME") + bias

    skips = []
    for i, pair in enumerate(pairs[:7]):
        x = down(x, *pair)
        skips.append(swap(i, x))
    z = x = down(x, *pairs[7])
    for pair, skip in zip(pairs[8:15], reversed(skips), strict=True):
        x = tf.concat([tf.nn.leaky_relu(up(x, *pair), 0.2), skip], -1)
    return z, skips, tf.tanh(up(x, *pairs[15]))


@pytest.fixture(scope="module")
def paper():
    """The preset of the paper, built once: 54 million weights."""
    return build_generator(paper_config(64))


@pytest.fixture(scope="module")
def small():
    """A narrow G in which every layer matters to the output: He's weights, and biases that are not zero."""
    keras.utils.set_random_seed(1)
    generator = build_generator(paper_config(2), initialization="he")
    rng = np.random.default_rng(2)
    generator.set_weights([w if w.ndim == 4 else rng.normal(0, 0.2, w.shape) for w in generator.get_weights()])
    return generator


def test_paper_preset(paper):
    """At width 64 G has the figure's sixteen 4 x 4 kernels and 54,403,457 parameters; at width 16, 3,401,825."""
    assert (parameters(64), parameters(16)) == (54_403_457, 3_401_825)
    assert paper.count_params() == parameters(64)
    assert build_generator(paper_config(16)).count_params() == parameters(16)
    expected = [tuple(1 if n is None else 64 * n for n in pair) for pair in LAYERS]
    transposed = [False] * 8 + [True] * 8
    kernels = [w.shape for w in paper.weights if len(w.shape) == 4]
    channels = [s[:1:-1] if t else s[2:] for s, t in zip(kernels, transposed, strict=True)]
    assert channels == expected
    assert {s[:2] for s in kernels} == {(4, 4)}


def test_hidden_layers(paper):
    """Fifteen hidden layers, each of stride 2 with a LeakyReLU of slope 0.2, no normalization by default."""
    hidden = [*paper.encoder, paper.bottleneck, *paper.decoder]
    assert len(hidden) == 15
    assert {layer.convolution.strides for layer in (*hidden,)} | {paper.output_layer.strides} == {(2, 2)}
    assert [float(layer.activation(tf.constant(-1.0))) for layer in hidden] == pytest.approx([-0.2] * 15)
    assert [layer.normalization for layer in hidden] == [None] * 15


def test_weights_start_normal(paper):
    """Kernels start from N(0, 0.02) and biases from 0."""
    for weight in paper.get_weights():
        if weight.ndim == 1:
            np.testing.assert_array_equal(weight, 0)
        else:
            few = 5 / np.sqrt(weight.size)  # five standard errors
            assert weight.mean() == pytest.approx(0, abs=0.02 * few)
            assert weight.std() == pytest.approx(0.02, rel=few)
            assert np.abs(weight).max() > 2.5 * 0.02 or weight.size < 2000  # not a truncated normal


def test_weights_start_he():
    """With `he`, kernels start with variance 2 / fan-in, so that a narrow G's latent does not die out."""
    keras.utils.set_random_seed(3)
    he = build_generator(paper_config(4), initialization="he")
    kernel = he.bottleneck.convolution.kernel.numpy()
    assert kernel.std() == pytest.approx(np.sqrt(2 / (16 * 32)), rel=0.05)
    x = patches(1, 256, 256, 1)
    assert np.abs(he.latent(x)).mean() > 0.01
    with pytest.raises(ValueError, match="initialization must be normal or he, not 'xavier'"):
        Generator(paper_config(1), initialization="xavier")


@pytest.mark.parametrize("shape", [(2, 256, 256, 1), (1, 512, 512, 1), (1, 256, 768, 1)])
def test_forward_pass(small, shape):
    """Latent, skips and output are those of the figure worked out in plain TensorFlow, for any multiples of 256."""
    x = patches(*shape)
    z, skips, expected = forward(small.get_weights(), x)
    got_z, got_skips = small.encode(x)
    np.testing.assert_allclose(got_z, z, atol=1e-5)
    np.testing.assert_allclose(small.latent(x), z, atol=1e-5)
    for got, skip in zip(got_skips, skips, strict=True):
        np.testing.assert_allclose(got, skip, atol=1e-5)
    np.testing.assert_allclose(small(x), expected, atol=1e-5)
    assert got_z.shape == (shape[0], shape[1] // 256, shape[2] // 256, 16)
    assert np.asarray(expected).std() > 0.1


@pytest.mark.parametrize("number", range(7))
def test_seven_skips(small, monkeypatch, number):
    """The decoder sees each encoder layer, at its own resolution: without it the output is another one."""
    x = patches(1, 256, 256, 1)

    def without(i, skip):
        return 0 * skip if i == number else skip

    z, skips = small.encode(x)
    side = 256 // 2 ** (number + 1)
    assert skips[number].shape == (1, side, side, 2 * (1, 2, 4, 8, 8, 8, 8)[number])
    before = np.asarray(small(x))
    monkeypatch.setattr(small, "encode", lambda *_, **__: (z, [without(i, s) for i, s in enumerate(skips)]))
    after = np.asarray(small(x))
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_allclose(after, forward(small.get_weights(), x, without)[2], atol=1e-5)


def test_output_range(small):
    """However large its last layer, the paper's G stays in [-1, 1] and reaches both ends."""
    keras.utils.set_random_seed(4)
    loud = build_generator(paper_config(2), initialization="he")
    loud.set_weights([*small.get_weights()[:-2], 50 * small.get_weights()[-2], small.get_weights()[-1]])
    output = np.asarray(loud(patches(1, 256, 256, 1)))
    assert (output.min(), output.max()) == (-1.0, 1.0)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("initialization", ["normal", "he"])
def test_residual_starts_as_identity(dtype, initialization):
    """An untrained residual G gives back its input bit for bit, beyond [-1, 1] too."""
    generator = build_generator(paper_config(2, residual=True), initialization=initialization, compute_dtype=dtype)
    x = 1.5 * patches(1, 256, 256, 1)
    np.testing.assert_array_equal(generator(x), x)


def test_residual_adds_tanh(small):
    """The output of a residual G is its input plus what the same weights give the paper's G."""
    generator = build_generator(paper_config(2, residual=True))
    generator.set_weights(small.get_weights())
    x = patches(1, 256, 256, 1)
    np.testing.assert_allclose(generator(x), x + np.asarray(small(x)), atol=1e-6)


def test_float32_output(small):
    """Under mixed_bfloat16 hidden layers compute in bfloat16, and the output is float32, finer than bfloat16."""
    mixed = build_generator(paper_config(2), compute_dtype="mixed_bfloat16")
    mixed.set_weights(small.get_weights())
    x = patches(1, 256, 256, 1)
    output = mixed(x)
    assert output.dtype == mixed.latent(x).dtype == tf.float32
    assert {skip.dtype for skip in mixed.encode(x)[1]} == {tf.bfloat16}
    assert {w.dtype for w in mixed.weights} == {"float32"}
    exact = np.asarray(small(x))
    assert 1e-6 < np.abs(output - exact).mean() < 0.02
    assert np.mean(output == tf.cast(tf.cast(output, tf.bfloat16), tf.float32)) < 0.5


@pytest.fixture(scope="module", params=["none", "batch", "group"])
def normalized(request):
    """G with each normalization, after it has seen other patches in training."""
    keras.utils.set_random_seed(5)
    generator = build_generator(paper_config(8, normalization=request.param), initialization="he")
    for seed in (6, 7):
        generator(3 * patches(2, 256, 256, 1, seed=seed) + 1, training=True)
    return request.param, generator


def test_patch_does_not_see_its_neighbours(normalized):
    """At inference a patch gives the same output whatever lies beside it in the batch."""
    _, generator = normalized
    x, other, another = patches(1, 256, 256, 1), 0.1 * patches(1, 256, 256, 1, seed=8), 5 * patches(1, 256, 256, 1, seed=9)
    first, second = (np.asarray(generator(np.concatenate([x, y])))[0] for y in (other, another))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(generator(x)[0], first, atol=1e-5)
    assert first.std() > 0.01


def test_where_normalization_lies(normalized):
    """The first layer and the bottleneck have none, all other hidden layers have it; it is used and told of training."""
    kind, generator = normalized
    hidden = [*generator.encoder, generator.bottleneck, *generator.decoder]
    expected = [kind != "none" and i not in (0, 7) for i in range(15)]
    assert [layer.normalization is not None for layer in hidden] == expected
    x = patches(1, 256, 256, 1)
    (z, skips), (z_training, _) = generator.encode(x), generator.encode(x, training=True)
    kernel, bias = generator.get_weights()[:2]
    np.testing.assert_allclose(skips[0], tf.nn.leaky_relu(tf.nn.conv2d(x, kernel, 2, "SAME") + bias, 0.2), atol=1e-5)
    assert np.abs(z).mean() > 1e-3
    assert np.abs(z_training).mean() > 1e-3  # batch norm over a single 1 x 1 patch would make it zero
    assert np.allclose(z, z_training, atol=1e-4) == (kind != "batch")
    second = np.asarray(skips[1])
    if kind == "group":  # 16 channels in groups of two: before the LeakyReLU, mean 0 and variance 1 of each
        linear = np.where(second < 0, second / 0.2, second).reshape(-1, 8, 2)
        np.testing.assert_allclose(linear.mean((0, 2)), 0, atol=1e-3)
        np.testing.assert_allclose(linear.var((0, 2)), 1, atol=1e-2)


def test_unknown_normalization():
    """A normalization that does not exist is refused by name."""
    with pytest.raises(ValueError, match="normalization must be one of none, batch, group, not 'instance'"):
        Generator(paper_config(1, normalization="instance"))


def test_resize_convolution_is_nearest_neighbour_and_a_convolution():
    """One transposed convolution gives what doubling every pixel and a 3 x 3 convolution give, two layers of Keras."""
    keras.utils.set_random_seed(2)
    layer = ResizeConvolution(5, keras.initializers.HeNormal(), "float32")
    x = patches(2, 6, 8, 3)
    found = layer(x)
    convolution = keras.layers.Conv2D(5, 3, padding="same")
    convolution.build((None, 12, 16, 3))
    convolution.set_weights(layer.get_weights())
    expected = convolution(keras.layers.UpSampling2D(2, interpolation="nearest")(x))
    assert layer.compute_output_shape((2, 6, 8, 3)) == found.shape == (2, 12, 16, 5)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_pixel_shuffle_puts_four_channels_into_two_by_two_pixels():
    """Channels a b c d of one pixel become rows ab, cd; from the start all four are alike (ICNR)."""
    keras.utils.set_random_seed(3)
    layer = PixelShuffle(3, keras.initializers.HeNormal(), "float32")
    start = np.asarray(layer(patches(2, 4, 6, 2)))
    assert layer.compute_output_shape((2, 4, 6, 2)) == start.shape == (2, 8, 12, 3)
    for row, column in ((0, 1), (1, 0), (1, 1)):
        np.testing.assert_array_equal(start[:, row::2, column::2], start[:, ::2, ::2])
    assert np.std(start) > 0.1
    layer.convolution.set_weights([np.zeros((3, 3, 2, 12)), np.arange(12.0)])
    np.testing.assert_array_equal(np.asarray(layer(patches(1, 1, 1, 2)))[0, ..., 0], [[0, 3], [6, 9]])


@pytest.mark.parametrize(("upsampling", "written"), [("transposed", True), ("resize", False), ("pixel_shuffle", False)])
def test_only_transposed_convolutions_write_a_lattice(upsampling, written):
    """Three layers in a row, as they start, make of a flat image one that is flat away from its border, or a lattice."""
    keras.utils.set_random_seed(4)
    x = np.full((1, 8, 8, 3), 0.7, np.float32)
    for _ in range(3):
        x = tf.nn.leaky_relu(upsampling_layer(upsampling, 3, keras.initializers.HeNormal(), "float32")(x), 0.2)
    places = np.asarray(x)[0, 24:40, 24:40].reshape(4, 4, 4, 4, 3).mean((0, 2))
    assert (np.ptp(places, axis=(0, 1)).max() > 1e-3) == written


def test_a_resize_convolution_cannot_learn_a_lattice():
    """Whatever its weights are: no gradient leads from a flat image to a checkerboard; with pixel shuffle one does."""
    rows, columns = np.mgrid[:16, :16]
    board = tf.constant((-1.0) ** (rows + columns), tf.float32)[None, :, :, None]
    for kind, learnt in (("resize", False), ("pixel_shuffle", True), ("transposed", True)):
        keras.utils.set_random_seed(6)
        layer = upsampling_layer(kind, 1, keras.initializers.HeNormal(), "float32")
        with tf.GradientTape() as tape:
            out = layer(tf.ones((1, 8, 8, 1)))
            likeness = tf.reduce_sum((out * board)[:, 4:12, 4:12])
        (gradient, *_) = tape.gradient(likeness, layer.trainable_variables)
        assert (np.abs(gradient).max() > 1e-3) == learnt


@pytest.mark.parametrize("upsampling", ["transposed", "resize", "pixel_shuffle"])
def test_full_resolution_sees_the_input(upsampling):
    """With every layer of the decoder at zero, output still depends on the input pixel by pixel through the last layer."""
    keras.utils.set_random_seed(5)
    generator = build_generator(GeneratorConfig(2, residual=False, upsampling=upsampling), initialization="he")
    generator.full_size.convolution.trainable_weights[0].assign(0 * generator.full_size.convolution.trainable_weights[0])
    x = patches(1, 256, 256, 1)
    changed = x.copy()
    changed[0, 100, 100] += 0.5
    difference = np.abs(np.asarray(generator(changed)) - np.asarray(generator(x)))[0, ..., 0]
    assert difference[98:103, 98:103].max() > 0
    difference[98:103, 98:103] = 0
    assert difference.max() < 1e-6


def test_adjacent_slices_are_seen_and_not_added():
    """An untrained residual generator gives back the first slice; a trained one changes it by what it sees of the others."""
    config = GeneratorConfig(1, adjacent_slices=1)
    generator, x = build_generator(config), patches(2, 256, 256, 3)
    np.testing.assert_array_equal(generator(x), x[..., :1])
    rng = np.random.default_rng(0)
    generator.set_weights([rng.normal(0, 0.2, w.shape) for w in generator.get_weights()])
    output = np.asarray(generator(x))
    assert output.shape == (2, 256, 256, 1)
    assert np.abs(output - x[..., :1]).max() <= 1.0
    for channel in (1, 2):
        other = np.array(x)
        other[..., channel] *= 0.5
        assert np.abs(np.asarray(generator(other)) - output).max() > 1e-4


def test_latent_of_one_slice():
    """z of a patch without neighbours is z of the patch as its own neighbours."""
    generator, x = build_generator(GeneratorConfig(1, adjacent_slices=1)), patches(1, 256, 256, 1)
    np.testing.assert_array_equal(generator.latent(x), generator.encode(np.repeat(x, 3, -1))[0])
