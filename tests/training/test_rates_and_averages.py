"""The moving average of G's weights, which is measured and saved, and the learning rate that falls."""

import numpy as np
import pytest

from stan_ct.errors import UsageError
from stan_ct.models.folder import load_weights, read_config
from stan_ct.networks.config import GeneratorConfig, LossSettings
from stan_ct.training import trainer
from stan_ct.training.phases import PhaseRules
from stan_ct.training.settings import TrainSettings
from stan_ct.training.trainer import train

pytestmark = pytest.mark.usefixtures("unoptimized_graphs", "shallow_networks")
RULES = PhaseRules(d_phase_steps=2, g_phase_steps=4)
NETWORK = GeneratorConfig(base_filters=2, residual=False, full_resolution=False)
LOSSES = LossSettings(texture_weight=0.0, mask_losses=False)


def trained(records, output, **changes):
    """A U-Net after four steps; the weights in its model folder, and those in its checkpoint."""
    small = {"generator": NETWORK, "batch_size": 2, "max_epochs": 1, "precision": "float32", "ema": 0.0, "losses": LOSSES}
    settings = {
        "method": "unet",
        "learning_rate": 1e-2,
        "phases": PhaseRules(g_phase_steps=4),
        **small,
        "storage": "float32",
        **changes,
    }
    train(TrainSettings(str(records), str(output), **settings))
    generator = read_config(output).build_generator()
    load_weights(output, "generator", generator)
    with np.load(output / "checkpoints/last/player-g0.npz") as stored:
        last = [stored[f"arr_{i}"] for i in range(len(generator.weights))]
    return generator.get_weights(), last


@pytest.fixture(scope="module")
def plain(records, tmp_path_factory):
    """Without averages, at a constant rate."""
    return trained(records, tmp_path_factory.mktemp("plain"))


def test_the_average_is_saved_and_training_goes_on_without_it(records, plain, tmp_path):
    """The checkpoint is that of a run without averages, bit for bit; the saved weights lag behind it."""
    (saved, last), (averaged, last_too) = plain, trained(records, tmp_path, ema=0.5)
    assert all(np.array_equal(a, b) for a, b in zip(last, last_too, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(saved, last, strict=True))
    gap = max(np.abs(a - b).max() for a, b in zip(averaged, last, strict=True))
    assert 1e-4 < gap < 4e-2  # Adam moves a weight by about the learning rate a step, and four steps were made


def test_momentum_out_of_range(records, tmp_path):
    """An average that never moves, or is none, is refused by the option's own bounds."""
    with pytest.raises(UsageError, match=r"ema must be between 0 and 0.99999, not 1.5"):
        trained(records, tmp_path, ema=1.5)


def rates(records, output, monkeypatch, **changes):
    """The learning rate of G and of D at every step of a run of four steps of G."""
    seen, step = [], trainer._Run._one_step

    def watching(run, stream):
        seen.append([float(o.learning_rate.numpy()) for o in run.model.g_optimizers + run.model.d_optimizers])
        step(run, stream)

    monkeypatch.setattr(trainer._Run, "_one_step", watching)
    trained(records, output, method="stan_ct", phases=RULES, **changes)
    monkeypatch.undo()
    return np.array(seen)


def test_learning_rate_falls_along_a_cosine(records, tmp_path, monkeypatch):
    """With `cosine` both rates follow half a cosine over the steps of G, and D's own steps do not count."""
    own = {"learning_rate": 1e-3, "discriminator_learning_rate": 0.1}
    falling = rates(records, tmp_path, monkeypatch, **own, lr_schedule="cosine")
    used = np.array([0, 0, 0, 1, 2, 3]) / 4  # two steps of D come first
    np.testing.assert_allclose(falling, 0.5 * (1 + np.cos(np.pi * used))[:, None] * [1e-3, 0.1], rtol=1e-6)


def test_learning_rate_stays_without_a_schedule(records, tmp_path, monkeypatch):
    """Otherwise rates are constant, and without a rate of its own D has G's."""
    np.testing.assert_allclose(rates(records, tmp_path, monkeypatch, learning_rate=1e-3), 1e-3)


def test_learning_rate_falls_with_the_minutes(records, tmp_path, monkeypatch):
    """Where minutes end the run, the rate goes by them: small from the first step on if the time is nearly over."""
    late = {"lr_schedule": "cosine", "max_epochs": 1, "max_minutes": 300.0, "learning_rate": 1e-3}
    resume = trainer._Run._resume

    def nearly_over(run):
        resume(run)
        run.seconds = 270 * 60.0  # so long that a slow machine does not use up the rest

    monkeypatch.setattr(trainer._Run, "_resume", nearly_over)
    first, *_, last = rates(records, tmp_path, monkeypatch, **late)
    assert last[0] < first[0]
    assert first[0] == pytest.approx(5e-4 * (1 + np.cos(np.pi * 0.9)), rel=1e-3)


def test_resuming_within_the_decay(records, plain, tmp_path, monkeypatch):
    """A run that stops and goes on ends with the weights of one that did not: the rate goes by what is used up."""
    whole = trained(records, tmp_path / "whole", lr_schedule="cosine")
    step = trainer._Run._one_step

    def dying(run, stream):
        if run.position == 2:
            run._checkpoint()
            raise KeyboardInterrupt
        step(run, stream)

    monkeypatch.setattr(trainer._Run, "_one_step", dying)
    with pytest.raises(KeyboardInterrupt):
        trained(records, tmp_path / "parts", lr_schedule="cosine")
    monkeypatch.undo()
    parts = trained(records, tmp_path / "parts", lr_schedule="cosine")
    assert all(np.array_equal(a, b) for a, b in zip(whole[1], parts[1], strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(whole[1], plain[1], strict=True))
