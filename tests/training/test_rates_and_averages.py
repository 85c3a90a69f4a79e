"""The moving average of G's weights, which is measured and saved, and the learning rate that falls."""

from dataclasses import replace

import numpy as np
import pytest

from stan_ct.networks.model_folder import load_weights, read_config
from stan_ct.patches.dataset import read_index
from stan_ct.training.models import competition
from stan_ct.training.phases import PhaseRules
from stan_ct.training.settings import TrainSettings
from stan_ct.training.trainer import train


def trained(records, output, **changes):
    """A U-Net after four steps; the weights in its model folder, and those in its checkpoint."""
    small = {"base_filters": 2, "batch_size": 2, "max_epochs": 1, "precision": "float32", "initialization": "he"}
    settings = {"method": "unet", "learning_rate": 1e-2, "phases": PhaseRules(number=1, g_phase_steps=4), **small, **changes}
    train(TrainSettings(str(records), str(output), **settings))
    generator = read_config(output).generator()
    load_weights(output, "generator", generator)
    with np.load(output / "checkpoints/last/player-g0.npz") as stored:
        last = [stored[f"arr_{i}"] for i in range(len(generator.weights))]
    return generator.get_weights(), last


def test_the_average_is_saved_and_training_goes_on_without_it(records, tmp_path):
    """The checkpoint is that of a run without averages, bit for bit; the saved weights lag behind it."""
    plain, last = trained(records, tmp_path / "plain")
    averaged, last_too = trained(records, tmp_path / "averaged", ema=0.5)
    assert all(np.array_equal(a, b) for a, b in zip(last, last_too, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(plain, last, strict=True))
    gap = max(np.abs(a - b).max() for a, b in zip(averaged, last, strict=True))
    assert 1e-4 < gap < 4e-2  # Adam moves a weight by about the learning rate a step, and four steps were made


def test_momentum_out_of_range(records, tmp_path):
    """An average that never moves, or is none, is refused by the flag's own bounds."""
    with pytest.raises(ValueError, match="ema_momentum"):
        trained(records, tmp_path, ema=1.5)


def test_learning_rate_falls_along_a_cosine(records):
    """With `decay_steps` a network's rate is half after half its steps, and 0 from then on; without, it stays."""
    settings = TrainSettings(str(records), "unused", base_filters=2, learning_rate=1e-3, phases=PhaseRules(number=1))
    for decay, expected in ((4, [1e-3, 0.5e-3, 0, 0]), (0, [1e-3] * 4)):
        changed = replace(settings, decay_steps=decay)
        (optimizer,) = competition(changed, changed.config(read_index(records))).g_optimizers
        rates = []
        for step in (0, 2, 4, 9):
            optimizer.iterations.assign(step)
            rates.append(float(optimizer.learning_rate))
        np.testing.assert_allclose(rates, expected, atol=1e-9)


def test_resuming_within_the_decay(records, tmp_path):
    """A run that stops and goes on ends with the weights of one that did not: the rate goes by steps, which are kept."""
    whole = trained(records, tmp_path / "whole", learning_rate=1e-2, decay_steps=8, max_epochs=2)
    trained(records, tmp_path / "parts", learning_rate=1e-2, decay_steps=8)
    parts = trained(records, tmp_path / "parts", learning_rate=1e-2, decay_steps=8, max_epochs=2)
    assert all(np.array_equal(a, b) for a, b in zip(whole[1], parts[1], strict=True))
    constant = trained(records, tmp_path / "constant", learning_rate=1e-2, max_epochs=2)
    assert any(not np.array_equal(a, b) for a, b in zip(whole[1], constant[1], strict=True))
