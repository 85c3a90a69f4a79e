"""Flags made from a settings dataclass, and the settings made from the flags."""

from __future__ import annotations

from typing import Any, TypeVar

from absl import flags

from stan_ct.options import build, options

Settings = TypeVar("Settings")


def define_flags(settings: type, values: flags.FlagValues) -> None:
    """Defines a flag for every option of a settings class; defaults and limits are the dataclass's."""
    for each in options(settings):
        about: dict[str, Any] = {"flag_values": values, "required": each.required}
        limits: dict[str, Any] = {"lower_bound": each.minimum, "upper_bound": each.maximum}
        if each.choices:
            flags.DEFINE_enum(each.flag, each.default, each.choices, each.help, **about)
        elif each.type is bool:
            flags.DEFINE_bool(each.flag, each.default, each.help, **about)
        elif each.type is int:
            flags.DEFINE_integer(each.flag, each.default, each.help, **limits, **about)
        elif each.type is float:
            flags.DEFINE_float(each.flag, each.default, each.help, **limits, **about)
        else:
            flags.DEFINE_string(each.flag, each.default, each.help, **about)


def settings_from_flags(settings: type[Settings], values: flags.FlagValues) -> Settings:
    """Settings with the values that the flags have.

    Raises:
        UsageError: If a value is out of its range.
    """
    return build(settings, values.flag_values_dict())
