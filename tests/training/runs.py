"""Runs of the trainer that are small enough for a test, and what they leave behind."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stan_ct.models.folder import read_config
from stan_ct.networks.config import DiscriminatorConfig, GeneratorConfig, LossSettings
from stan_ct.training.phases import PhaseRules
from stan_ct.training.settings import TrainSettings

PAPER = LossSettings(adversarial="wgan", adversarial_weight=0.01, texture_weight=0.0, mask_losses=False)
LOSSES = replace(PAPER, adversarial_weight=0.5, feature_weight=0.25, latent_weight=2.0, l1_weight=3.0)
RULES = PhaseRules(num_copies=1, d_phase_steps=2, g_phase_steps=3, max_rollbacks=0, averaging_batches=1)
PLAIN = GeneratorConfig(base_filters=1, residual=False, full_resolution=False)


def settings(records, output, **changes):
    """Narrow networks, four batches to an epoch, phases of two steps of D and three of G that nobody wins."""
    small = {"batch_size": 2, "max_epochs": 1, "phases": RULES, "precision": "float32", "losses": LOSSES, "ema": 0.0}
    networks = {"generator": PLAIN, "discriminator": DiscriminatorConfig(spectral=True), "storage": "float32"}
    return TrainSettings(str(records), str(output), **{**small, **networks, "learning_rate": 1e-4, **changes})


def table(folder, name="history"):
    with open(folder / f"{name}.csv", newline="") as file:
        return list(csv.DictReader(file))


def counters(folder):
    return json.loads((folder / "checkpoints/last/counters.json").read_text())


def weights(folder, label="generator"):
    with np.load(folder / f"{label}.npz") as stored:
        return [stored[name] for name in stored.files]


def assert_same_run(first, second):
    """Two folders tell of the same run: final and best networks and slots bit for bit, tables to the last digit."""
    for name in ("history", "validation"):
        a, b = table(first, name), table(second, name)
        assert len(a) == len(b)
        for row, other in zip(a, b, strict=True):
            assert row.keys() == other.keys()
            for key, text in row.items():  # a total may be added up in another order where steps were compiled in another
                same = text == other[key] or float(other[key]) == pytest.approx(float(text), rel=1e-5)
                assert same, (name, row["step"], key, text, other[key])
    names = sorted(path.name for path in (first / "checkpoints/last").glob("player-*.npz"))
    assert names == sorted(path.name for path in (second / "checkpoints/last").glob("player-*.npz"))
    for path in [Path("checkpoints/last", name) for name in names] + [Path("generator.npz"), Path("discriminator.npz")]:
        with np.load(first / path) as a, np.load(second / path) as b:
            for key in a.files:
                np.testing.assert_array_equal(a[key], b[key], err_msg=str(path))
    assert read_config(first).qc_threshold == read_config(second).qc_threshold


def tree(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def without(records, folder, **changes):
    """The same records with another index."""
    folder.mkdir()
    for path in records.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps({**index, **changes}))
    return folder
