"""The presets train what they always have, and the defaults are the preset `default`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLAGS = ROOT / "data" / "flags"
TABLE_1 = ("authors", "stan_ct_no_lat", "stan_ct_no_feat", "ganai", "cgan", "unet")
SHIPPED = ("philips_train", "default_train", "thin_train")
TRAIN = ("paper", *TABLE_1, "smoke", "default", "relativistic", "phases", *SHIPPED, "fine_tune")
PROBE = """
import sys
import json
from dataclasses import asdict
from stan_ct.cli.train import command
from stan_ct.options import build
from stan_ct.training.settings import TrainSettings
for name in sys.argv[1:]:
    made = command()
    made.parse([*([f"--preset={name}"] if name else []), "R", "O"])
    print(json.dumps(asdict(build(TrainSettings, made.values.flag_values_dict()))))
"""


EXPECTED = json.loads(Path(__file__).with_name("presets.json").read_text())
"""Preset -> its settings, written before defaults changed: a change of defaults must not change what a preset trains."""


@pytest.fixture(scope="module")
def presets():
    """Name -> the settings that train.py makes of a preset; those without any preset by the empty name."""
    names = [*TRAIN, ""]
    result = subprocess.run([sys.executable, "-c", PROBE, *names], capture_output=True, text=True, check=False, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    return dict(zip(names, map(json.loads, result.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("name", TRAIN)
def test_preset(presets, name):
    """Every preset trains what it always has, whatever the defaults are."""
    assert presets[name] == EXPECTED[name]


def test_default_means_one_thing(presets):
    """Without any flags train.py does what the preset `default` says."""
    assert presets[""] == presets["default"]


def test_shipped_models_can_be_trained_again(presets):
    """Presets of shipped models are `relativistic`, but for name and budget, a weaker D for `default`, 2.5 D for `thin`."""
    changes = {
        "default_train": {"losses": presets["relativistic"]["losses"] | {"adversarial_ratio": 1.0}},
        "thin_train": {"generator": presets["relativistic"]["generator"] | {"adjacent_slices": 1}, "validation_patches": 220},
    }
    budget = ("name", "batch_size", "lr_schedule", "max_epochs", "max_steps", "max_minutes")
    for name in SHIPPED:
        shipped = presets[name]
        assert shipped == presets["relativistic"] | changes.get(name, {}) | {key: shipped[key] for key in budget}


def test_rows_of_table_1_differ_only_in_what_they_are_named_after(presets):
    """The ablations equal the preset authors but for one weight; that differs from the paper's in the weight of L_adv alone."""
    paper = presets["authors"]
    for name, weight in (("stan_ct_no_lat", "latent_weight"), ("stan_ct_no_feat", "feature_weight")):
        assert presets[name] == paper | {"losses": paper["losses"] | {weight: 0.0}}
    assert presets["paper"] == paper | {"losses": paper["losses"] | {"adversarial_weight": 1.0}}
