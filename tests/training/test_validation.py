"""What decides which G is best, and the threshold that goes with it."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
import tensorflow as tf

from stan_ct.ct.hounsfield import HUWindow
from stan_ct.networks.config import DiscriminatorConfig, GeneratorConfig, LossSettings
from stan_ct.networks.discriminator import build_discriminator
from stan_ct.networks.generator import build_generator
from stan_ct.training.competition import Competition
from stan_ct.training.validation import Judgement, Validation, absolute_error

WINDOW = HUWindow()


@dataclass(eq=False)
class Played:
    """A competition whose generators are plain functions."""

    generators: list[Callable]
    discriminators: list
    judge: Callable
    loss_settings: LossSettings = field(default_factory=LossSettings)


BASELINE = {"error": 0.4, "hu_rmse": 20.0, "spectrum_error": 0.2, "tissue_bias": 1.0}


def result(errors, p_real, **quality):
    """A result whose quality is the baseline's but for what is given."""
    same = {name: value for name, value in BASELINE.items() if name != "error"}
    return Judgement(errors, p_real, np.zeros((0, 256, 256)), same | quality, BASELINE)


def test_absolute_error():
    """The mean of |output - target| over all pixels, in HU."""
    target = np.zeros((2, 2, 2), np.float32)
    output = np.array([[[1, -1], [3, -3]], [[0, 0], [0, 8]]], np.float32)
    assert absolute_error(target)(output) == {"mae": 2.0}


def test_judgement():
    """The error is the mean of the errors; the strictest D has the lowest mean.

    The threshold is twice as far below the median as the 1 % quantile: 0.3 - 2 x 0.098.
    """
    strict = np.linspace(0.2, 0.4, 101)
    judgement = result({"contrast": 0.1, "energy": 0.4}, np.stack([np.full(101, 0.9), strict, strict + 0.01]))
    assert judgement.error == pytest.approx(0.25)
    assert judgement.strictest == 1
    assert judgement.qc_threshold == pytest.approx(0.104)


def test_judgement_without_opponents():
    """Without a D nobody is rejected."""
    judgement = result({"mae": 3.0}, np.zeros((0, 5)))
    assert (judgement.error, judgement.strictest, judgement.qc_threshold) == (3.0, 0, 0.0)


def test_score_by_hand():
    """Half the error, with the rest the baseline's: (.205 / .405 + 1) / 2; 4 HU of bias in place of 1: (1 + 4 / 3) / 2."""
    nobody = np.zeros((0, 5))
    assert result({"a": 0.4}, nobody).score == pytest.approx(1)
    assert result({"a": 0.2}, nobody).score == pytest.approx((0.205 / 0.405 + 1) / 2)
    assert result({"a": 0.4}, nobody, tissue_bias=4.0).score == pytest.approx((1 + 4 / 3) / 2)
    assert result({"a": 0.4}, nobody, hu_rmse=40.5).score == pytest.approx((1 + (2 + 10 * 1 + 2) / 3) / 2)
    assert result({"a": 0.4}, nobody, hu_rmse=19.75).score == pytest.approx((1 + (20.25 / 20.5 + 2) / 3) / 2)
    assert result({"a": 0.4}, nobody, spectrum_error=0.075).score == pytest.approx((1 + 2.5 / 3) / 2)
    assert result({"a": np.nan}, nobody).score == np.inf


def test_score_without_pairs_is_that_of_error_and_spectrum():
    """HU and tissues of other patients are not compared: half of .205 / .405 and half of 2."""
    baseline = {"error": 0.4, "spectrum_error": 0.2}
    made = Judgement({"a": 0.2}, np.zeros((0, 5)), np.zeros((0, 256, 256)), {"spectrum_error": 0.45}, baseline)
    assert made.score == pytest.approx((0.205 / 0.405 + 2) / 2)


def test_a_version_far_from_the_target_loses():
    """Texture that is a little better does not make up for twice the HU error."""
    nobody = np.zeros((0, 5))
    assert result({"a": 0.17}, nobody, hu_rmse=40.0).score > result({"a": 0.2}, nobody).score


def test_accuracy_is_the_share_of_places_where_d_prefers_the_target(numbered):
    """A D that likes what is bright and one that likes what is dark, against outputs of 1500 and -1024 HU: right or wrong."""

    def bright(patches, training=False):
        return None, tf.stack([0 * patches[:, ::8, ::8, 0], patches[:, ::8, ::8, 0]], -1)

    def dark(patches, training=False):
        return None, tf.stack([patches[:, ::8, ::8, 0], 0 * patches[:, ::8, ::8, 0]], -1)

    generators = [lambda x, training: x * 0 + 1.0, lambda x, training: x * 0 - 1.0]
    judges = [bright, dark]
    model = Played(generators, judges, lambda d, source, patches, training=False: judges[d](patches))
    validation = Validation(numbered, WINDOW, 0)
    expected = {"accuracy_d0_g0": 0.0, "accuracy_d1_g0": 1.0, "accuracy_d0_g1": 1.0, "accuracy_d1_g1": 0.0}
    seen = [patches[:, ::8, ::8].mean((1, 2, 3)) for patches in (validation.target, validation.source)]
    brighter = float((seen[0] > seen[1]).mean())
    assert 0 < brighter < 1
    expected |= {"accuracy_d0_source": brighter, "accuracy_d1_source": 1 - brighter}
    assert validation.accuracy(model) == pytest.approx(expected)


def test_source_is_the_baseline(numbered):
    """Of the source the score is 1, and its outputs are itself."""
    validation = Validation(numbered, WINDOW, 0)
    start = validation.of_source()
    assert start.score == pytest.approx(1)
    np.testing.assert_array_equal(start.outputs, validation.hu[0])
    assert start.quality["hu_rmse"] == pytest.approx(np.sqrt(np.mean((validation.hu[0] - validation.hu[1]) ** 2)), rel=1e-4)
    unpaired = Validation(numbered, WINDOW, 0, unpaired=True).of_source()
    assert unpaired.quality == {"spectrum_error": start.quality["spectrum_error"]}
    assert unpaired.score == pytest.approx(1)


@pytest.mark.parametrize(
    ("limit", "chosen"), [(0, [0, 1, 2, 3, 4]), (9, [0, 1, 2, 3, 4]), (5, [0, 1, 2, 3, 4]), (2, [0, 2]), (1, [0])]
)
def test_patches_are_spread_over_the_records(numbered, limit, chosen):
    """At most `limit` patches, evenly spread, the middle of each, the same every time."""
    validation = Validation(numbered, WINDOW, limit)
    assert validation.source.shape == validation.target.shape == (len(chosen), 256, 256, 1)
    np.testing.assert_allclose(WINDOW.to_hu(validation.source[:, 7, 9, 0]), [10 * n for n in chosen], atol=1e-3)


def test_source_errors(numbered):
    """What the source itself has as error is known from the start: here against noise in [-900, 900)."""
    validation = Validation(numbered, WINDOW, 0)
    assert validation.source_errors["mae"] == pytest.approx(450, rel=0.02)


@pytest.mark.parametrize("conditional", [False, True])
def test_generators_are_judged_in_hu(numbered, conditional):
    """Errors are those of what G makes, clipped to the window; P(real) is that of each D, patch by patch."""
    generators = [lambda x, training: x * 0 + 0.5, lambda x, training: x * 0 + 3.0]
    networks = [
        build_discriminator(DiscriminatorConfig(conditional=conditional, base_filters=1), initialization="he") for _ in range(2)
    ]
    model = Competition([], networks)
    model = Played(generators, networks, model.judge)
    validation = Validation(numbered, WINDOW, 0)
    target = WINDOW.to_hu(validation.target)
    for copy, hu in ((0, 1500 - 631), (1, 1500)):  # 0.5 is three quarters of -1024..1500
        judgement = validation(model, copy, batch=2)
        assert judgement.errors["mae"] == pytest.approx(np.abs(target - hu).mean(), rel=1e-5)
        patches = np.full_like(validation.source, WINDOW.to_network(np.float32(hu)))
        for d, network in enumerate(networks):
            seen = np.concatenate([validation.source, patches], -1) if conditional else patches
            logits = np.asarray(network(tf.constant(seen))[1], np.float64)
            expected = (1 / (1 + np.exp(logits[..., 0] - logits[..., 1]))).mean((1, 2))
            np.testing.assert_allclose(judgement.p_real[d], expected, rtol=1e-4)


def test_unet_is_judged_by_errors_alone(numbered):
    """Without Ds there is P(real) of none."""
    model = Competition([build_generator(GeneratorConfig(base_filters=1, residual=True))], [])
    validation = Validation(numbered, WINDOW, 3)
    judgement = validation(model, 0)
    assert judgement.p_real.shape == (0, 3)
    assert judgement.errors == pytest.approx(validation.source_errors)  # residual: an untrained G is the identity


def test_metric_is_made_of_the_target(numbered):
    """A metric is made once, of the target in HU, and given outputs in HU."""
    made = []

    def metric(target):
        made.append(target)
        return lambda output: {"highest": float(output.max())}

    validation = Validation(numbered, WINDOW, 0, metric)
    assert len(made) == 1
    assert made[0].shape == (5, 256, 256)
    assert np.abs(made[0]).max() == pytest.approx(900, abs=1)
    assert validation.source_errors == {"highest": pytest.approx(40, abs=1e-3)}


def test_latent(numbered):
    """The latent loss on validation patches: mean |z(x) - z(G(x'))| of the first G."""
    model = Competition([build_generator(GeneratorConfig(base_filters=1, residual=False), initialization="he")], [])
    validation, (generator,) = Validation(numbered, WINDOW, 3), model.generators
    z, z_made = (generator.encode(x)[0] for x in (validation.target, generator(validation.source)))
    assert validation.latent(model) == pytest.approx(float(np.abs(z - z_made).mean()), rel=1e-4)
