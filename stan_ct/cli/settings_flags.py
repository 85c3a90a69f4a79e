"""Flags made from a settings dataclass, and the settings made from the flags."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from absl import flags

from stan_ct.options import build, options

Settings = TypeVar("Settings")

_DEFINE: dict[type, Callable[..., Any]] = {
    bool: flags.DEFINE_bool,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
}


def define_flags(settings: type, values: flags.FlagValues) -> None:
    """Defines a flag for every option of a settings class; names, defaults, limits, choices and help are the dataclass's.

    Args:
        settings: Dataclass whose fields are made with :func:`stan_ct.options.option`, nested dataclasses included. A `Literal`
            becomes a flag with choices; a tuple one with commas between its elements, or one that may be repeated.
        values: Flags of the command.
    """
    for each in options(settings):
        about: dict[str, Any] = {"flag_values": values, "required": each.required}
        limits: dict[str, Any] = {} if each.many else {"lower_bound": each.minimum, "upper_bound": each.maximum}
        default = each.default
        if each.many:
            define: Callable[..., Any] = flags.DEFINE_multi_string if each.many == "repeated" else flags.DEFINE_list
            default = None if each.required else [f"{value:g}" if each.type is float else str(value) for value in default]
        elif each.choices:
            define, about = flags.DEFINE_enum, about | {"enum_values": each.choices}
        else:
            define = _DEFINE[each.type]
        bounded = limits if each.type in (int, float) else {}
        define(name=each.flag, default=default, help=each.help, **bounded, **about)


def settings_from_flags(settings: type[Settings], values: flags.FlagValues) -> Settings:
    """Settings with the values that the flags have.

    Raises:
        UsageError: If a value is out of its range.
    """
    return build(settings, values.flag_values_dict())
