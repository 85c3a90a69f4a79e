"""One step of each side is the update derived by hand, and leaves the other side as it is."""

import subprocess
import sys
from functools import cache
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from stan_ct.networks.discriminator import build_discriminator
from stan_ct.networks.generator import build_generator
from stan_ct.networks.losses import LossSettings
from stan_ct.training.competition import Competition

ROOT = Path(__file__).parents[2]
RATE = 0.05
NOTHING = {"adversarial_weight": 0.0, "feature_weight": 0.0, "latent_weight": 0.0, "l1_weight": 0.0, "lipschitz": "none"}


def patches(batch, seed):
    """Smooth noise in [-1, 1], (B, 256, 256, 1)."""
    coarse = np.random.default_rng(seed).uniform(-1, 1, (batch, 16, 16, 1)).astype(np.float32)
    return tf.image.resize(coarse, (256, 256), "bilinear")


SOURCE, TARGET = patches(2, 1), patches(2, 2)


@cache
def networks(spectral):
    """A tiny G and D, made once, and the weights they start each test with."""
    keras.utils.set_random_seed(0)
    settings = {"base_filters": 2, "initialization": "he"}
    pair = build_generator(**settings), build_discriminator(**settings, spectral=spectral)
    return pair, [network.get_weights() for network in pair]


def competition(sgd=True, **losses):
    """A tiny competition; with plain SGD at a known rate, since Adam hides a factor on the gradient."""
    pair, start = networks(losses.get("lipschitz") == "spectral")
    for network, weights in zip(pair, start, strict=True):
        network.set_weights(weights)
    model = Competition(*pair, LossSettings(**losses), learning_rate=1e-3)
    if sgd:
        model.g_optimizer, model.d_optimizer = keras.optimizers.SGD(RATE), keras.optimizers.SGD(RATE)
        model.g_optimizer.build(model.generator.trainable_variables)
        model.d_optimizer.build(model.discriminator.trainable_variables)
    return model


def assert_same(before, after):
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(new, old)


def descended(variables, loss):
    """What one step of gradient descent makes of variables: w - rate * dL/dw."""
    with tf.GradientTape() as tape:
        value = loss()
    gradients = tape.gradient(value, variables, unconnected_gradients="zero")
    return float(value), [w.numpy() - RATE * g.numpy() for w, g in zip(variables, gradients, strict=True)]


def assert_updated(variables, expected, before):
    """The variables are as expected, to a thousandth of the largest change; and something did change."""
    change = max(np.abs(e - b).max() for e, b in zip(expected, before, strict=True))
    assert change > 1e-6
    for variable, value in zip(variables, expected, strict=True):
        np.testing.assert_allclose(variable, value, rtol=0, atol=1e-3 * change + 1e-7)


@pytest.mark.parametrize("lipschitz", ["spectral", "gradient_penalty", "clip"])
def test_each_step_trains_one_side(lipschitz):
    """d_step leaves G bit-identical and changes every kernel of D; g_step the reverse, moving estimates included."""
    model = competition(sgd=False, lipschitz=lipschitz)
    g, d = model.generator.get_weights(), model.discriminator.get_weights()
    model.d_step(SOURCE, TARGET)
    assert_same(g, model.generator.get_weights())
    trained = model.discriminator.get_weights()
    assert all(np.abs(new - old).max() > 0 for old, new in zip(d, trained, strict=True) if old.ndim == 4)
    model.g_step(SOURCE, TARGET)
    assert_same(trained, model.discriminator.get_weights())
    assert all(np.abs(new - old).max() > 0 for old, new in zip(g, model.generator.get_weights(), strict=True) if old.ndim == 4)
    assert (int(model.g_optimizer.iterations), int(model.d_optimizer.iterations)) == (1, 1)


def test_d_step_keeps_moving_averages():
    """D's training does not move the batch statistics of a G that is normalized; G's own training does."""
    keras.utils.set_random_seed(0)
    generator = build_generator(base_filters=1, normalization="batch", initialization="he")
    model = Competition(generator, build_discriminator(base_filters=1), LossSettings(lipschitz="none"))
    before = [w.numpy() for w in generator.non_trainable_variables]
    model.d_step(SOURCE, TARGET)
    assert_same(before, generator.non_trainable_variables)
    model.g_step(SOURCE, TARGET)
    assert all(np.abs(new - old).max() > 0 for old, new in zip(before, generator.non_trainable_variables, strict=True))


def softmax(logits):
    """[fake, real] probabilities at each position."""
    e = tf.exp(logits - tf.reduce_max(logits, -1, keepdims=True))
    return e / tf.reduce_sum(e, -1, keepdims=True)


def critic(discriminator, x):
    logits = discriminator(x)[1]
    return tf.reduce_mean(logits[..., 1] - logits[..., 0])


D_LOSSES = {
    "Eq. 1": ({}, lambda d, x, s: critic(d, s) - critic(d, x)),
    "Eq. 3": ({"feature_weight": 2.0}, lambda d, x, s: critic(d, s) - critic(d, x) - 2 * features_apart(d, x, s)),
    "feature_sign": (
        {"feature_weight": 2.0, "feature_sign": 1},
        lambda d, x, s: critic(d, s) - critic(d, x) + 2 * features_apart(d, x, s),
    ),
    "probability": (
        {"critic_output": "probability"},
        lambda d, x, s: tf.reduce_mean(softmax(d(s)[1])[..., 1]) - tf.reduce_mean(softmax(d(x)[1])[..., 1]),
    ),
    "cross-entropy": (
        {"adversarial": "cross_entropy"},
        lambda d, x, s: (
            -tf.reduce_mean(tf.math.log(softmax(d(x)[1])[..., 1])) - tf.reduce_mean(tf.math.log(softmax(d(s)[1])[..., 0]))
        ),
    ),
    "gradient penalty": (
        {"lipschitz": "gradient_penalty", "penalty_weight": 3.0},
        lambda d, x, s: critic(d, s) - critic(d, x) + 3 * penalty(d, x, s),
    ),
}


def features_apart(discriminator, x, synthesized):
    return tf.reduce_mean(tf.abs(discriminator(synthesized)[0] - discriminator(x)[0]))


def penalty(discriminator, x, synthesized):
    """Mean (||grad f|| - 1)^2, f taken patch by patch, at random places between the two batches."""
    share = tf.random.uniform((2, 1, 1, 1))  # the step's own numbers: the seed is set before each
    norms = []
    for n in range(2):
        between = share[n] * x[n : n + 1] + (1 - share[n]) * synthesized[n : n + 1]
        with tf.GradientTape() as tape:
            tape.watch(between)
            value = critic(discriminator, between)
        norms.append(tf.norm(tape.gradient(value, between)))
    return (tf.square(norms[0] - 1) + tf.square(norms[1] - 1)) / 2


@pytest.mark.parametrize("name", D_LOSSES)
def test_d_step_by_hand(name):
    """One SGD step of D goes down the gradient of its loss as written in the paper, and logs that loss."""
    switches, loss = D_LOSSES[name]
    model = competition(**{**NOTHING, **switches})
    synthesized = model.generator(SOURCE)
    before = model.discriminator.get_weights()
    keras.utils.set_random_seed(1)
    value, expected = descended(model.discriminator.trainable_variables, lambda: loss(model.discriminator, TARGET, synthesized))
    keras.utils.set_random_seed(1)
    logs = model.d_step(SOURCE, TARGET)
    assert float(logs["total_d"]) == pytest.approx(value, rel=1e-4, abs=1e-6)
    assert_updated(model.discriminator.trainable_variables, expected, before)


def latents_apart(g, x, synthesized, through_target):
    z = g.encode(x)[0]
    return tf.reduce_mean(tf.abs((z if through_target else tf.stop_gradient(z)) - g.encode(synthesized)[0]))


G_LOSSES = {
    "Eq. 4": ({"adversarial_weight": 2.0}, lambda g, d: -2 * critic(d, g(SOURCE))),
    "Eq. 5": ({"latent_weight": 2.0}, lambda g, d: 2 * latents_apart(g, TARGET, g(SOURCE), True)),
    "stop-gradient": (
        {"latent_weight": 2.0, "latent_stop_gradient": True},
        lambda g, d: 2 * latents_apart(g, TARGET, g(SOURCE), False),
    ),
    "L1": ({"l1_weight": 2.0}, lambda g, d: 2 * tf.reduce_mean(tf.abs(TARGET - g(SOURCE)))),
    "Eq. 6": (
        {"adversarial_weight": 0.5, "latent_weight": 3.0, "l1_weight": 2.0},
        lambda g, d: (
            -0.5 * critic(d, g(SOURCE))
            + 3 * latents_apart(g, TARGET, g(SOURCE), True)
            + 2 * tf.reduce_mean(tf.abs(TARGET - g(SOURCE)))
        ),
    ),
    "cross-entropy": (
        {"adversarial_weight": 1.0, "adversarial": "cross_entropy"},
        lambda g, d: -tf.reduce_mean(tf.math.log(softmax(d(g(SOURCE))[1])[..., 1])),
    ),
}


@pytest.mark.parametrize("name", G_LOSSES)
def test_g_step_by_hand(name):
    """One SGD step of G goes down the gradient of its loss as written in the paper, and logs that loss."""
    switches, loss = G_LOSSES[name]
    model = competition(**{**NOTHING, **switches})
    before = [w.numpy() for w in model.generator.trainable_variables]
    value, expected = descended(model.generator.trainable_variables, lambda: loss(model.generator, model.discriminator))
    logs = model.g_step(SOURCE, TARGET)
    assert float(logs["total_g"]) == pytest.approx(value, rel=1e-4)
    assert_updated(model.generator.trainable_variables, expected, before)


def test_logged_terms():
    """What the steps log is each term, unweighted, and the two P(real), from before the update; the terms make the total."""
    weights = {"adversarial_weight": 0.5, "latent_weight": 3.0, "l1_weight": 2.0, "feature_weight": 0.25}
    model = competition(lipschitz="none", **weights)
    synthesized, (phi, logits) = model.generator(SOURCE), model.discriminator(TARGET)
    phi_synthesized, logits_synthesized = model.discriminator(synthesized)
    p_target, p_synthesized = (tf.reduce_mean(softmax(x)[..., 1]) for x in (logits, logits_synthesized))
    f, f_synthesized = critic(model.discriminator, TARGET), critic(model.discriminator, synthesized)
    feature = tf.reduce_mean(tf.abs(phi - phi_synthesized))
    d_logs = {name: float(value) for name, value in model.d_step(SOURCE, TARGET).items()}
    assert d_logs == pytest.approx(
        {
            "adversarial_d": float(f_synthesized - f),
            "feature": float(feature),
            "total_d": float(f_synthesized - f - 0.25 * feature),
            "p_real_target": float(p_target),
            "p_real_synthesized": float(p_synthesized),
        },
        rel=1e-4,
        abs=1e-6,
    )
    f_synthesized = critic(model.discriminator, synthesized)  # D has learnt since
    latent, l1 = latents_apart(model.generator, TARGET, synthesized, True), tf.reduce_mean(tf.abs(TARGET - synthesized))
    p_synthesized = tf.reduce_mean(softmax(model.discriminator(synthesized)[1])[..., 1])
    g_logs = {name: float(value) for name, value in model.g_step(SOURCE, TARGET).items()}
    assert g_logs == pytest.approx(
        {
            "adversarial_g": float(-f_synthesized),
            "latent": float(latent),
            "l1": float(l1),
            "total_g": float(-0.5 * f_synthesized + 3 * latent + 2 * l1),
            "p_real_synthesized": float(p_synthesized),
        },
        rel=1e-4,
        abs=1e-6,
    )


def test_latent_without_weight(monkeypatch):
    """Where the latent loss has no weight it is logged as 0, and G's encoder is not run for it."""
    model = competition(**{**NOTHING, "l1_weight": 1.0})
    monkeypatch.setattr(model.generator, "latent", lambda *_: pytest.fail("computed"))
    assert float(model.g_step(SOURCE, TARGET)["latent"]) == 0.0


def test_clip_bounds_weights():
    """With `clip` every weight of D, biases too, ends a step within the bound, and some reach it."""
    model = competition(lipschitz="clip", clip_value=0.03)
    assert max(np.abs(w).max() for w in model.discriminator.get_weights()) > 0.1
    model.d_step(SOURCE, TARGET)
    assert [np.abs(w).max() <= np.float32(0.03) for w in model.discriminator.get_weights()] == [True] * 12
    assert np.abs(model.discriminator.get_weights()[0]).max() == np.float32(0.03)


def test_adam_as_in_the_paper():
    """Both optimizers are Adam with beta_1 0.5: its first step is the learning rate, in the gradient's direction."""
    model = competition(sgd=False, lipschitz="none")
    pair = model.generator, model.discriminator
    before = [network.get_weights() for network in pair]
    model.d_step(SOURCE, TARGET)
    model.g_step(SOURCE, TARGET)
    for network, old in zip(pair, before, strict=True):
        moved = np.abs(network.get_weights()[0] - old[0])
        assert np.median(moved) == pytest.approx(1e-3, rel=0.01)
    assert [o.beta_1 for o in (model.g_optimizer, model.d_optimizer)] == [0.5, 0.5]
    assert model.g_optimizer is not model.d_optimizer


def test_overfits_four_pairs():
    """Trained on four pairs, alternating, G learns them: L1 falls to a third, to below that of a constant."""
    keras.utils.set_random_seed(0)
    source = patches(4, 3)
    target = 0.5 - 0.5 * source
    generator = build_generator(base_filters=4, initialization="he")
    discriminator = build_discriminator(base_filters=4, spectral=True)
    model = Competition(generator, discriminator, LossSettings(), learning_rate=4e-3)
    g_step = tf.function(model.g_step)
    history = []
    for step in range(40):
        if step % 5 == 0:
            model.d_step(source, target)
        history.append(float(g_step(source, target)["l1"]))
    constant = float(tf.reduce_mean(tf.abs(target - tf.reduce_mean(target))))
    assert history[-1] < history[0] / 3
    assert history[-1] < constant / 2


TWO_REPLICAS = """
import keras, numpy as np, tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from stan_ct.networks.discriminator import build_discriminator
from stan_ct.networks.generator import build_generator
from stan_ct.networks.losses import LossSettings
from stan_ct.training.competition import Competition


def weights(strategy, batches):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        networks = [make(base_filters=1, initialization="he") for make in (build_generator, build_discriminator)]
        model = Competition(*networks, LossSettings(1.0, 1.0, 1.0, 1.0, lipschitz="none"))
        model.g_optimizer, model.d_optimizer = keras.optimizers.SGD(0.02), keras.optimizers.SGD(0.02)
        for optimizer, network in zip((model.g_optimizer, model.d_optimizer), networks):
            optimizer.build(network.trainable_variables)
    start = [w for network in networks for w in network.get_weights()]
    for step in (model.d_step, model.g_step):
        strategy.run(step, args=batches)
    return start, networks


rng = np.random.default_rng(0)
source, target = (tf.constant(rng.uniform(-1, 1, (2, 256, 256, 1)), tf.float32) for _ in range(2))
start, whole = weights(tf.distribute.get_strategy(), (source, target))
mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
halves = [
    mirrored.experimental_distribute_values_from_function(lambda c: x[c.replica_id_in_sync_group :][:1])
    for x in (source, target)
]
_, halved = weights(mirrored, tuple(halves))
moved = apart = among = 0
for before, a, b in zip(start, [w for n in whole for w in n.weights], [w for n in halved for w in n.weights]):
    first, second = (copy.numpy() for copy in mirrored.experimental_local_results(b.value))
    moved = max(moved, np.abs(a.numpy() - before).max())
    apart = max(apart, np.abs(a.numpy() - first).max())
    among = max(among, np.abs(first - second).max())
print(mirrored.num_replicas_in_sync, moved, apart, among)
"""


def test_two_replicas():
    """Two replicas with half a batch each make the step of one with the whole batch, and stay equal to each other."""
    done = subprocess.run(
        [sys.executable, "-c", TWO_REPLICAS], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    replicas, moved, apart, among = map(float, done.stdout.split())
    assert replicas == 2
    assert moved > 1e-4
    assert apart < 1e-3 * moved
    assert among == 0
