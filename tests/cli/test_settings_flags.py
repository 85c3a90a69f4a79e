"""Flags made from a settings class: their defaults, limits and names are the dataclass's, and they give the settings back."""

import pytest
from absl import flags

from stan_ct.cli.settings_flags import define_flags, settings_from_flags
from stan_ct.networks.config import GeneratorConfig
from stan_ct.options import options
from stan_ct.training.settings import TrainSettings

NEEDED = ["--records_dir=R", "--output_dir=O"]


def parsed(*arguments):
    """Flag values after a command line of train.py."""
    values = flags.FlagValues()
    define_flags(TrainSettings, values)
    values(["train.py", *arguments])
    return values


def test_without_flags_settings_are_the_defaults():
    """Defaults are written in the dataclass alone."""
    assert settings_from_flags(TrainSettings, parsed(*NEEDED)) == TrainSettings("R", "O")


def test_flags_reach_nested_settings():
    """A flag sets its field wherever it is nested; the discriminator's filters have a flag of their own."""
    settings = settings_from_flags(
        TrainSettings, parsed(*NEEDED, "--base_filters=4", "--noresidual", "--discriminator_filters=2")
    )
    assert settings.generator == GeneratorConfig(base_filters=4, residual=False)
    assert settings.discriminator.base_filters == 2


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--batch_size=0", "batch_size"),
        ("--ema=1", "ema"),
        ("--adversarial=hinge", "adversarial"),
        ("--theta_d=1.5", "theta_d"),
    ],
)
def test_values_out_of_range_are_refused(argument, message):
    """Limits and choices of the dataclass are those of its flag."""
    with pytest.raises(flags.IllegalFlagValueError, match=message):
        parsed(*NEEDED, argument)


def test_required_flags():
    """An option without a default must be given."""
    with pytest.raises(flags.IllegalFlagValueError, match="records_dir"):
        parsed("--output_dir=O")


def test_every_option_has_a_sentence():
    """Help is one sentence that ends with a full stop, and no flag stands for two fields."""
    found = options(TrainSettings)
    assert [each.flag for each in found if not each.help.endswith(".") or len(each.help) < 8] == []
    assert len({each.flag for each in found}) == len(found)
