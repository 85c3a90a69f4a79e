"""One step of each side is the update derived by hand, and leaves the other side as it is."""

import subprocess
import sys
from functools import cache
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from stan_ct.ct.hounsfield import HUWindow
from stan_ct.networks.config import DiscriminatorConfig, GeneratorConfig, LossSettings
from stan_ct.networks.discriminator import build_discriminator
from stan_ct.networks.generator import build_generator
from stan_ct.networks.texture_loss import texture_loss
from stan_ct.training.checkpoints import Players, take
from stan_ct.training.competition import Competition

pytestmark = pytest.mark.usefixtures("shallow_networks")
ROOT = Path(__file__).parents[2]
RATE = 0.05
PAPER = {"adversarial": "wgan", "adversarial_weight": 0.01, "texture_weight": 0.0, "mask_losses": False}
RELATIVISTIC = {
    "adversarial": "relativistic",
    "adversarial_ratio": 3.0,
    "lipschitz": "zero_centered",
    "penalty_weight": 0.01,
    "feature_weight": 0.0,
    "latent_weight": 0.0,
}
NOTHING = {"adversarial_weight": 0.0, "feature_weight": 0.0, "latent_weight": 0.0, "l1_weight": 0.0, "lipschitz": "none"}


def patches(batch, seed):
    """Smooth noise in [-1, 1], (B, 256, 256, 1)."""
    coarse = np.random.default_rng(seed).uniform(-1, 1, (batch, 16, 16, 1)).astype(np.float32)
    return tf.image.resize(coarse, (256, 256), "bilinear")


SOURCE, TARGET = patches(2, 1), patches(2, 2)


@cache
def networks(spectral, number, conditional):
    """Tiny Gs and Ds, made once, and the weights they start each test with."""
    keras.utils.set_random_seed(0)
    generators = [build_generator(GeneratorConfig(2, residual=False), "he") for _ in range(number)]
    discriminators = [build_discriminator(DiscriminatorConfig(2, spectral, conditional), "he") for _ in range(number)]
    return generators, discriminators, [network.get_weights() for network in generators + discriminators]


def competition(number=1, conditional=False, spectral=False, optimizer=None, **losses):
    """A tiny competition; with plain SGD at a known rate, since Adam hides a factor on the gradient."""
    generators, discriminators, start = networks(spectral, number, conditional)
    for network, weights in zip(generators + discriminators, start, strict=True):
        network.set_weights(weights)
    optimizer = optimizer or keras.optimizers.SGD(RATE)
    return compiled(generators, discriminators, LossSettings(**{**PAPER, **losses}), optimizer)


def compiled(generators, discriminators, losses, optimizer=None):
    """A competition with the same optimizer for both sides."""
    model = Competition(generators, discriminators)
    model.compile(losses, optimizer, optimizer)
    return model


def adam():
    return keras.optimizers.Adam(1e-3, beta_1=0.5)


def states(model):
    """Weights and optimizer slots of every copy, by name."""
    return {name: take(variables) for name, variables in Players(model).all().items()}


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


@pytest.mark.parametrize(
    "lipschitz", [{"spectral": True}, {"lipschitz": "gradient_penalty"}, {"lipschitz": "clip"}, RELATIVISTIC]
)
@pytest.mark.parametrize("side", ["d", "g"])
def test_each_step_trains_its_active_copies(lipschitz, side):
    """A step changes every kernel and the slots of the copies asked for; all else stays bit-identical, spectral vectors too."""
    model = competition(2, optimizer=adam(), **lipschitz)
    step = model.d_step if side == "d" else model.g_step
    for active in ((1,), (0,), (0, 1)):
        before = states(model)
        step(SOURCE, TARGET, active)
        after, trained = states(model), {f"{side}{copy}" for copy in active}
        for name in before.keys() - trained:
            assert_same(before[name], after[name])
        for name in trained:
            pairs = list(zip(before[name], after[name], strict=True))
            assert all(np.abs(new - old).max() > 0 for old, new in pairs if old.ndim == 4)
    iterations = {n: [int(o.iterations) for o in made] for n, made in (("d", model.d_optimizers), ("g", model.g_optimizers))}
    assert iterations == {"d": [0, 0], "g": [0, 0], side: [2, 2]}


def test_d_step_keeps_moving_averages():
    """D's training does not move the batch statistics of a G that is normalized; G's own training does."""
    keras.utils.set_random_seed(0)
    generator = build_generator(GeneratorConfig(base_filters=1, normalization="batch", residual=False), initialization="he")
    model = compiled([generator], [build_discriminator(DiscriminatorConfig(base_filters=1))], LossSettings(**PAPER))
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
    "minimized feature loss": (
        {"feature_weight": 2.0, "maximize_feature_loss": False},
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
    share = tf.random.stateless_uniform((2, 1, 1, 1), (0, 0))  # the step's own numbers: copy 0, iteration 0
    norms = []
    for n in range(2):
        between = share[n] * x[n : n + 1] + (1 - share[n]) * synthesized[n : n + 1]
        with tf.GradientTape() as tape:
            tape.watch(between)
            value = critic(discriminator, between)
        norms.append(tf.norm(tape.gradient(value, between)))
    return (tf.square(norms[0] - 1) + tf.square(norms[1] - 1)) / 2


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("name", D_LOSSES)
def test_d_step_by_hand(name, number):
    """One SGD step of a D goes down the gradient of its loss as written in the paper, the mean over all Gs, and logs it."""
    switches, loss = D_LOSSES[name]
    model = competition(number, **{**NOTHING, **switches})
    synthesized = [generator(SOURCE) for generator in model.generators]
    discriminator = model.discriminators[0]
    before = discriminator.get_weights()
    value, expected = descended(
        discriminator.trainable_variables, lambda: sum(loss(discriminator, TARGET, s) for s in synthesized) / number
    )
    logs = model.d_step(SOURCE, TARGET)
    assert float(logs["total_d"]) == pytest.approx(value, rel=1e-4, abs=1e-6)
    assert_updated(discriminator.trainable_variables, expected, before)


def latents_apart(g, x, synthesized, through_target):
    z = g.encode(x)[0]
    return tf.reduce_mean(tf.abs((z if through_target else tf.stop_gradient(z)) - g.encode(synthesized)[0]))


def kept_by_the_pipeline():
    """Where air is far below -1000 HU, or anything above 900 HU, in a window of -1024 to 1500 HU."""
    low, high = (2 * (hu + 1024) / 2524 - 1 for hu in (-1000, 900))
    kept = (tf.nn.avg_pool2d(SOURCE, 7, 1, "SAME") < low) | (high < SOURCE)
    assert 0 < np.mean(kept) < 1
    return kept


def squares(x):
    """(B, 256, 256, 1) -> (B, 16, 16, 16, 16, 1): rows of squares, rows within, columns of squares, columns within."""
    return tf.reshape(x, (-1, 16, 16, 16, 16, 1))


G_LOSSES = {
    "Eq. 4": ({"adversarial_weight": 2.0}, lambda g, d: -2 * critic(d, g(SOURCE))),
    "Eq. 5": ({"latent_weight": 2.0}, lambda g, d: 2 * latents_apart(g, TARGET, g(SOURCE), True)),
    "stop-gradient": (
        {"latent_weight": 2.0, "latent_stop_gradient": True},
        lambda g, d: 2 * latents_apart(g, TARGET, g(SOURCE), False),
    ),
    "texture": ({"texture_weight": 2.0}, lambda g, d: 2 * texture_loss(TARGET, g(SOURCE), HUWindow())),
    "squared": ({"squared_weight": 3.0}, lambda g, d: 3 * tf.reduce_mean((TARGET - g(SOURCE)) ** 2)),
    "local means": (
        {"local_mean_weight": 3.0},
        lambda g, d: 3 * tf.reduce_mean(tf.abs(tf.reduce_mean(squares(TARGET - g(SOURCE)), (2, 4)))),
    ),
    "masked": (
        {"l1_weight": 2.0, "mask_losses": True},
        lambda g, d: 2 * tf.reduce_mean(tf.where(kept_by_the_pipeline(), 0.0, tf.abs(TARGET - g(SOURCE)))),
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


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("name", G_LOSSES)
def test_g_step_by_hand(name, number):
    """One SGD step of a G goes down the gradient of its loss as written in the paper, the mean over all Ds, and logs it."""
    switches, loss = G_LOSSES[name]
    model = competition(number, **{**NOTHING, **switches})
    generator = model.generators[0]
    before = [w.numpy() for w in generator.trainable_variables]
    value, expected = descended(
        generator.trainable_variables, lambda: sum(loss(generator, d) for d in model.discriminators) / number
    )
    logs = model.g_step(SOURCE, TARGET)
    assert float(logs["total_g"]) == pytest.approx(value, rel=1e-4)
    assert_updated(generator.trainable_variables, expected, before)


def probability(network, x):
    """P(real), mean over a batch."""
    return float(tf.reduce_mean(softmax(network(x)[1])[..., 1]))


def test_logged_terms():
    """What the steps log is each term, unweighted, and the two P(real), from before the update; the terms make the total."""
    weights = {"adversarial_weight": 0.5, "latent_weight": 3.0, "l1_weight": 2.0, "feature_weight": 0.25}
    model = competition(lipschitz="none", **weights)
    (generator,), (discriminator,) = model.generators, model.discriminators
    synthesized = generator(SOURCE)
    f, f_synthesized = critic(discriminator, TARGET), critic(discriminator, synthesized)
    feature = features_apart(discriminator, TARGET, synthesized)
    p_target, p_synthesized = probability(discriminator, TARGET), probability(discriminator, synthesized)
    d_logs = {name: value.numpy().squeeze() for name, value in model.d_step(SOURCE, TARGET).items()}
    assert d_logs == pytest.approx(
        {
            "adversarial_d": float(f_synthesized - f),
            "feature": float(feature),
            "total_d": float(f_synthesized - f - 0.25 * feature),
            "p_real_target": p_target,
            "p_real_synthesized": p_synthesized,
        },
        rel=1e-4,
        abs=1e-6,
    )
    f_synthesized = critic(discriminator, synthesized)  # D has learnt since
    latent, l1 = latents_apart(generator, TARGET, synthesized, True), tf.reduce_mean(tf.abs(TARGET - synthesized))
    p_synthesized = probability(discriminator, synthesized)
    g_logs = {name: value.numpy().squeeze() for name, value in model.g_step(SOURCE, TARGET).items()}
    assert g_logs == pytest.approx(
        {
            "adversarial_g": float(-f_synthesized),
            "latent": float(latent),
            "l1": float(l1),
            "total_g": float(-0.5 * f_synthesized + 3 * latent + 2 * l1),
            "p_real_synthesized": p_synthesized,
        },
        rel=1e-4,
        abs=1e-6,
    )


@pytest.mark.parametrize("active", [(0,), (1,), (0, 1)])
def test_p_real_of_all_against_all(active):
    """P(real) comes as D x G: rows of the Ds that train, columns of the Gs that train; `train_step` names each pair."""
    model = competition(2, **NOTHING)
    made = [generator(SOURCE) for generator in model.generators]
    expected = np.array([[probability(d, x) for x in made] for d in model.discriminators])
    target = np.array([probability(d, TARGET) for d in model.discriminators])
    assert len(np.unique(expected.round(6))) == 4
    g_logs = model.g_step(SOURCE, TARGET, active)
    assert g_logs["p_real_synthesized"].shape == (2, len(active))
    np.testing.assert_allclose(g_logs["p_real_synthesized"], expected[:, active], rtol=1e-4)
    model = competition(2, **NOTHING)
    d_logs = model.d_step(SOURCE, TARGET, active)
    assert d_logs["p_real_synthesized"].shape == (len(active), 2)
    np.testing.assert_allclose(d_logs["p_real_target"], target[list(active)], rtol=1e-4)
    np.testing.assert_allclose(d_logs["p_real_synthesized"], expected[list(active)], rtol=1e-4)
    for phase, pairs in (("d", [(d, g) for d in active for g in (0, 1)]), ("g", [(d, g) for d in (0, 1) for g in active])):
        model = competition(2, **NOTHING)
        model.phase, model.active = phase, active
        logs = {name: float(value) for name, value in model.train_step((SOURCE, TARGET)).items() if name.startswith("p_real")}
        named = {f"p_real_synthesized_d{d}_g{g}": expected[d, g] for d, g in pairs}
        assert logs == pytest.approx(
            named | ({f"p_real_target_d{d}": target[d] for d in active} if phase == "d" else {}), rel=1e-4
        )


def test_logged_terms_of_two_add_up():
    """With two of each, what is logged is the mean over those that train, and the weighted terms make the logged total."""
    weights = {"adversarial_weight": 0.5, "latent_weight": 3.0, "l1_weight": 2.0, "feature_weight": 0.25, "penalty_weight": 2.0}
    model = competition(2, lipschitz="gradient_penalty", **weights)
    l1 = np.mean([np.abs(TARGET - generator(SOURCE)).mean() for generator in model.generators])
    d = {k: float(v) for k, v in model.d_step(SOURCE, TARGET, (0, 1)).items() if not k.startswith("p_real")}
    assert d["total_d"] == pytest.approx(d["adversarial_d"] - 0.25 * d["feature"] + 2 * d["penalty"], rel=1e-4)
    assert min(d["feature"], d["penalty"]) > 0
    g = {k: float(v) for k, v in model.g_step(SOURCE, TARGET, (0, 1)).items() if not k.startswith("p_real")}
    assert g["total_g"] == pytest.approx(0.5 * g["adversarial_g"] + 3 * g["latent"] + 2 * g["l1"], rel=1e-4)
    assert g["l1"] == pytest.approx(l1, rel=1e-4)


def test_equal_starts_stay_equal():
    """Two copies that start equal and see the same batches stay equal, weights, spectral vectors and slots."""
    model = competition(2, optimizer=adam(), spectral=True)
    for copies in (model.generators, model.discriminators):
        copies[1].set_weights(copies[0].get_weights())
    start = states(model)
    for _ in range(2):
        model.d_step(SOURCE, TARGET, (0, 1))
        model.g_step(SOURCE, TARGET, (0, 1))
    after = states(model)
    for side in "dg":
        assert np.abs(after[f"{side}0"][0] - start[f"{side}0"][0]).max() > 1e-4
        assert_same(after[f"{side}0"], after[f"{side}1"])


def test_gradient_penalty_is_reproducible():
    """The penalty draws the same numbers in a run that goes on, whatever else has drawn; others in each step, for each D."""
    seen = []
    for seed in (1, 2):
        model = competition(2, lipschitz="gradient_penalty", optimizer=keras.optimizers.SGD(0.0))
        model.discriminators[1].set_weights(model.discriminators[0].get_weights())
        tf.random.set_seed(seed)
        steps = [((0,), 0), ((1,), 0), ((0,), 1)]
        seen.append([float(model.d_step(SOURCE, TARGET, active)["penalty"]) for active, _ in steps])
    assert seen[0] == seen[1]
    assert len(set(seen[0])) == 3


def test_conditional_d_sees_the_source():
    """A conditional D judges source and patch together: another source is another judgement, in both steps."""
    model = competition(conditional=True, **NOTHING)
    generator, discriminator = model.generators[0], model.discriminators[0]
    made = generator(SOURCE)
    expected = [probability(discriminator, tf.concat([SOURCE, x], -1)) for x in (TARGET, made)]
    blind = probability(discriminator, tf.concat([TARGET, TARGET], -1))
    logs = model.d_step(SOURCE, TARGET)
    np.testing.assert_allclose([logs["p_real_target"][0], logs["p_real_synthesized"][0, 0]], expected, rtol=1e-4)
    assert abs(blind - expected[0]) > 1e-4
    expected = probability(discriminator, tf.concat([SOURCE, made], -1))
    assert float(model.g_step(SOURCE, TARGET)["p_real_synthesized"][0, 0]) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("side", ["d", "g"])
def test_adjacent_slices_are_for_g_alone(side):
    """D, masks and losses see the slice itself: with a G that ignores its neighbours, steps are those without any."""
    model = competition(conditional=True, mask_losses=True, latent_weight=0.0)
    generator = build_generator(GeneratorConfig(2, residual=False, adjacent_slices=1))
    seeing = [np.concatenate([w, 0 * w, 0 * w], 2) if w.shape[2:3] == (1,) else w for w in model.generators[0].get_weights()]
    generator.set_weights(seeing)
    start = model.discriminators[0].get_weights()
    step = getattr(model, f"{side}_step")
    expected = {name: np.asarray(value) for name, value in step(SOURCE, TARGET).items()}
    model.discriminators[0].set_weights(start)
    other = compiled([generator], model.discriminators, model.loss_settings, keras.optimizers.SGD(RATE))
    found = getattr(other, f"{side}_step")(tf.concat([SOURCE, patches(2, 5), patches(2, 6)], -1), TARGET)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_without_opponents():
    """Without Ds, G trains on L1 and the latent loss alone, and nobody judges it."""
    generators, _, (start, *_) = networks(False, 1, False)
    generators[0].set_weights(start)
    losses = LossSettings(**{**PAPER, "adversarial_weight": 1.0, "latent_weight": 0.5, "l1_weight": 2.0})
    model = compiled(generators, [], losses, keras.optimizers.SGD(RATE))
    (generator,) = model.generators
    value, expected = descended(
        generator.trainable_variables,
        lambda: (
            2 * tf.reduce_mean(tf.abs(TARGET - generator(SOURCE)))
            + 0.5 * latents_apart(generator, TARGET, generator(SOURCE), True)
        ),
    )
    logs = model.g_step(SOURCE, TARGET)
    assert logs["p_real_synthesized"].shape == (0, 1)
    assert (float(logs["adversarial_g"]), float(logs["total_g"])) == (0.0, pytest.approx(value, rel=1e-4))
    assert_updated(generator.trainable_variables, expected, start)


def test_latent_without_weight(monkeypatch):
    """Where the latent loss has no weight it is logged as 0, and G's encoder is not run for it."""
    model = competition(**{**NOTHING, "l1_weight": 1.0})
    monkeypatch.setattr(model.generators[0], "latent", lambda *_: pytest.fail("computed"))
    assert float(model.g_step(SOURCE, TARGET)["latent"]) == 0.0


def test_clip_bounds_weights():
    """With `clip` every weight of D, biases too, ends a step within 0.01, and some reach it."""
    model = competition(lipschitz="clip")
    (discriminator,) = model.discriminators
    assert max(np.abs(w).max() for w in discriminator.get_weights()) > 0.1
    model.d_step(SOURCE, TARGET)
    assert [np.abs(w).max() <= np.float32(0.01) for w in discriminator.get_weights()] == [True] * 4
    assert np.abs(discriminator.get_weights()[0]).max() == np.float32(0.01)


def test_adam_as_in_the_paper():
    """Every network has an Adam of its own, learning rate 1e-4, beta_1 0.5: its first step is the rate, along the gradient."""
    generators, discriminators, _ = networks(False, 2, False)
    model = compiled(generators, discriminators, LossSettings(**PAPER))
    trained, optimizers = model.generators + model.discriminators, model.g_optimizers + model.d_optimizers
    before = [network.get_weights() for network in trained]
    model.d_step(SOURCE, TARGET, (0, 1))
    model.g_step(SOURCE, TARGET, (0, 1))
    for network, old in zip(trained, before, strict=True):
        moved = np.abs(network.get_weights()[0] - old[0])
        assert np.median(moved) == pytest.approx(1e-4, rel=0.01)
    assert [o.beta_1 for o in optimizers] == [0.5] * 4
    assert len({id(o) for o in optimizers}) == 4


def test_d_sees_patches_that_are_rolled_alike():
    """Target and output are rolled by the same rows and columns, both for D and for G; the next step draws others."""
    model = competition(**RELATIVISTIC, discriminator_shift=8)
    shifts = [tf.random.stateless_uniform((2,), (step, 8), 0, 8, tf.int32) for step in (0, 1)]
    assert shifts[0].numpy().tolist() != shifts[1].numpy().tolist()
    for step, side in ((0, "d"), (0, "g"), (1, "d")):
        target, synthesized = (tf.roll(x, shifts[step], (1, 2)) for x in (TARGET, model.generators[0](SOURCE)))
        discriminator = model.discriminators[0]
        apart = [float(critic(discriminator, x[n : n + 1])) for x in (target, synthesized) for n in range(2)]
        won = np.mean(np.logaddexp(0, [(apart[2 + n] - apart[n]) * (1 if side == "d" else -1) for n in range(2)]))
        logs = (model.d_step if side == "d" else model.g_step)(SOURCE, TARGET)
        assert float(logs[f"adversarial_{side}"]) == pytest.approx(won, rel=1e-5)


def test_penalty_at_intervals():
    """The penalty is computed on every third step of D, three times as strong; steps of G do not count."""
    model = competition(**RELATIVISTIC, penalty_interval=3)
    penalized = []
    for phase in "dgddgdd":
        model.phase = phase
        logs = model.run_step((SOURCE, TARGET))
        if phase == "d":
            penalized.append("penalty" in logs)
            expected = float(logs["adversarial_d"]) + 3 * 0.01 * float(logs.get("penalty", 0.0))
            assert float(logs["total_d"]) == pytest.approx(expected, rel=1e-5)
    assert penalized == [True, False, False, True, False]


TWO_REPLICAS = """
import keras, numpy as np, tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from stan_ct.networks import discriminator, generator
from stan_ct.networks.config import DiscriminatorConfig, GeneratorConfig, LossSettings
from stan_ct.networks.discriminator import build_discriminator
from stan_ct.networks.generator import build_generator
from stan_ct.training.competition import Competition

generator.ENCODER_FILTERS = discriminator.HIDDEN_FILTERS = (1,)  # one level, as in the other tests
discriminator.HIDDEN_STRIDES = (4,)


def weights(strategy, batches):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        makers = ((build_generator, GeneratorConfig(1, residual=False)), (build_discriminator, DiscriminatorConfig(1)))
        sides = [[make(config, "he") for _ in "ab"] for make, config in makers]
        weights = {"adversarial_weight": 1.0, "feature_weight": 1.0, "latent_weight": 1.0, "texture_weight": 0.0}
        losses = LossSettings(adversarial="wgan", mask_losses=False, **weights)
        model = Competition(*sides)
        model.compile(losses, keras.optimizers.SGD(0.02), keras.optimizers.SGD(0.02))
    networks = sides[0] + sides[1]
    start = [w for network in networks for w in network.get_weights()]
    for step in (model.d_step, model.g_step):
        strategy.run(step, args=(*batches, (0, 1)))
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
        [sys.executable, "-c", TWO_REPLICAS], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    replicas, moved, apart, among = map(float, done.stdout.split())
    assert replicas == 2
    assert moved > 1e-4
    assert apart < 1e-3 * moved
    assert among == 0


def values(discriminator, x):
    """f of each patch, (B,)."""
    logits = discriminator(x)[1]
    return tf.reduce_mean(logits[..., 1] - logits[..., 0], axis=(1, 2))


def test_relativistic_d_step_by_hand():
    """D descends mean ln(1 + exp(f(G(x')) - f(x))) + w (R1 + R2), patch by patch in pairs of the same place."""
    model = competition(**RELATIVISTIC)
    (g,), (d,) = model.generators, model.discriminators
    made = g(SOURCE)

    def loss():
        squares = []
        for patches_ in (TARGET, made):
            with tf.GradientTape() as tape:
                tape.watch(patches_)
                total = tf.reduce_sum(values(d, patches_))
            squares.append(tf.reduce_mean(tf.reduce_sum(tape.gradient(total, patches_) ** 2, axis=(1, 2, 3))))
        paired = tf.reduce_mean(tf.math.log(1 + tf.exp(values(d, made) - values(d, TARGET))))
        return paired + 0.01 * (squares[0] + squares[1])

    before = [w.numpy() for w in d.trainable_variables]
    value, expected = descended(d.trainable_variables, loss)
    won = np.mean(1 / (1 + np.exp(np.asarray(values(d, made) - values(d, TARGET)))))
    logs = model.d_step(SOURCE, TARGET)
    assert_updated(d.trainable_variables, expected, before)
    assert float(logs["total_d"]) == pytest.approx(value, rel=1e-4)
    assert float(logs["p_real_target"][0]) == pytest.approx(won, rel=1e-4)
    assert float(logs["p_real_synthesized"][0, 0]) == pytest.approx(1 - won, rel=1e-4)


def test_relativistic_g_step_by_hand():
    """G descends L1 + w L_adv(G), where w makes the gradient of L_adv(G) at G's output three times as long as that of L1."""
    model = competition(**RELATIVISTIC)
    (g,), (d,) = model.generators, model.discriminators

    def terms(made):
        paired = tf.reduce_mean(tf.math.log(1 + tf.exp(values(d, TARGET) - values(d, made))))
        return paired, tf.reduce_mean(tf.abs(made - TARGET))

    made = g(SOURCE)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(made)
        paired, l1 = terms(made)
    lengths = [float(tf.norm(tape.gradient(term, made))) for term in (paired, l1)]
    weight = 3 * lengths[1] / lengths[0]

    def loss():
        paired, l1 = terms(g(SOURCE))
        return l1 + weight * paired

    before = [w.numpy() for w in g.trainable_variables]
    value, expected = descended(g.trainable_variables, loss)
    logs = model.g_step(SOURCE, TARGET)
    assert_updated(g.trainable_variables, expected, before)
    assert float(logs["adversarial_weight"]) == pytest.approx(weight, rel=1e-3)
    assert float(logs["total_g"]) == pytest.approx(value, rel=1e-3)


def test_g_step_without_pairs_holds_g_to_its_input():
    """Whatever the target shows, a G that starts as the identity is at its input, and D alone moves it."""
    g, d = build_generator(GeneratorConfig(2), "he"), networks(False, 1, False)[1][0]
    held = {"l1_weight": 0.0, "squared_weight": 1.0, "low_pass_weight": 1.0, "adversarial_ratio": 0.5, "unpaired": True}
    model = compiled([g], [d], LossSettings(**{**PAPER, **RELATIVISTIC, **held}), keras.optimizers.SGD(RATE))
    before = g.get_weights()
    with tf.GradientTape() as tape:
        tape.watch(made := tf.identity(SOURCE))
        paired = tf.reduce_mean(tf.math.log(1 + tf.exp(values(d, TARGET) - values(d, made))))
    length = float(tf.norm(tape.gradient(paired, made)))
    logs = model.g_step(SOURCE, TARGET)
    assert [float(logs[name]) for name in ("l1", "squared", "low_pass")] == [0, 0, 0]
    assert float(logs["adversarial_weight"]) == pytest.approx(0.5 / np.sqrt(SOURCE.shape.num_elements()) / length, rel=1e-3)
    assert any((old != new).any() for old, new in zip(before, g.get_weights(), strict=True))
