"""The presets of data/flags are what they say."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLAGS = ROOT / "data" / "flags"
TABLE_1 = ("paper", "stan_ct_no_lat", "stan_ct_no_feat", "ganai", "cgan", "unet")
TRAIN = (*TABLE_1, "smoke", "default", "philips_train", "default_train")
PROBE = """
import sys
import train
from absl import flags
for name in sys.argv[1:]:
    flags.FLAGS.unparse_flags()
    for flag in list(flags.FLAGS):
        flags.FLAGS[flag].unparse()
    flags.FLAGS(["train.py", f"--flagfile=data/flags/{name}.flags", "--records_dir=R", "--output_dir=O"])
    print(repr(train.settings_from_flags()))
"""


@pytest.fixture(scope="module")
def presets():
    """Name -> the settings that train.py makes of a preset, as text."""
    result = subprocess.run([sys.executable, "-c", PROBE, *TRAIN], capture_output=True, text=True, check=False, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    return dict(zip(TRAIN, result.stdout.splitlines(), strict=True))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("paper", ("number=2", "copies='population'", "base_filters=64", "latent_weight=0.01", "adversarial='wgan'")),
        ("paper", ("use_front_end=False", "residual=False", "texture_weight=0.0", "ema=0.0", "inside_only=False")),
        ("stan_ct_no_lat", ("latent_weight=0.0", "feature_weight=0.01", "number=2")),
        ("stan_ct_no_feat", ("feature_weight=0.0", "latent_weight=0.01", "number=2")),
        ("ganai", ("copies='history'", "adversarial='cross_entropy'", "latent_weight=0.0", "feature_weight=0.0")),
        ("cgan", ("competition='joint'", "conditional=True", "number=1", "base_filters=64", "latent_weight=0.0")),
        ("unet", ("method='unet'", "adversarial_weight=0.0", "latent_weight=0.0", "l1_weight=1.0", "base_filters=64")),
        ("smoke", ("base_filters=8", "max_minutes=3.0")),
        ("default", ("base_filters=16", "residual=True", "use_front_end=True", "texture_weight=0.15", "ema=0.98", "number=1")),
        ("default", ("inside_only=True",)),
        ("philips_train", ("base_filters=16", "residual=True", "texture_weight=0.15", "max_minutes=30.0")),
        ("default_train", ("base_filters=16", "residual=True", "texture_weight=0.15", "inside_only=True")),
    ],
)
def test_preset(presets, name, settings):
    """Every preset is understood by train.py, and sets what it is named after."""
    assert [part for part in settings if part not in presets[name]] == []


def test_rows_of_table_1_differ_in_what_they_are_named_after_alone(presets):
    """The ablations equal the paper's preset but for one weight."""
    paper = presets["paper"]
    assert presets["stan_ct_no_lat"] == paper.replace("latent_weight=0.01", "latent_weight=0.0")
    assert presets["stan_ct_no_feat"] == paper.replace("feature_weight=0.01", "feature_weight=0.0")
