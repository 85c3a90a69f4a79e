"""Options: fields of frozen dataclasses that carry their own help text and limits, from which command-line flags are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from stan_ct.errors import UsageError

Settings = TypeVar("Settings")
Many = Literal["", "commas", "repeated"]


def option(
    default: Any = MISSING,
    *,
    help: str,
    minimum: float | None = None,
    maximum: float | None = None,
    flag: str = "",
    may_change: bool = False,
    repeated: bool = False,
) -> Any:
    """A dataclass field that is also a command-line flag.

    Args:
        default: Its default, the only place where it is written; without one, the flag is required.
        help: One sentence for `--help`.
        minimum: Smallest value allowed.
        maximum: Largest value allowed.
        flag: Name of the flag, where it is not that of the field.
        may_change: Whether a resumed run may have another value than the run it goes on with.
        repeated: Whether the flag of a tuple takes one value at a time and may be repeated, as paths with commas require.
    """
    about = {"help": help, "minimum": minimum, "maximum": maximum, "flag": flag}
    return field(default=default, metadata={**about, "may_change": may_change, "repeated": repeated})


@dataclass(frozen=True)
class Option:
    """One flag of a settings class.

    Attributes:
        flag: Name of the flag.
        type: `bool`, `int`, `float` or `str`; `str` where there are choices; of a tuple, the type of its elements.
        default: Default value; None where the flag is required.
        help: One sentence.
        choices: Allowed words; empty where any value will do.
        minimum: Smallest value allowed, or None.
        maximum: Largest value allowed, or None.
        required: Whether the flag must be given.
        many: For a tuple, `commas` between its elements, or the flag `repeated` for each; empty for a single value.
    """

    flag: str
    type: type
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    required: bool = False
    many: Many = ""


def options(settings: type) -> list[Option]:
    """Options of a settings class and of the settings classes nested in it, in the order of their fields."""
    found: list[Option] = []
    types = get_type_hints(settings)
    for each in fields(settings):
        kind, about = types[each.name], each.metadata
        if is_dataclass(kind) and isinstance(kind, type):
            found += options(kind)
        elif "help" in about:
            many: Many = "" if get_origin(kind) is not tuple else "repeated" if about["repeated"] else "commas"
            choices = get_args(kind) if get_origin(kind) is Literal else ()
            required = each.default is MISSING
            default = None if required else each.default
            limits = (about["minimum"], about["maximum"])
            found.append(
                Option(_flag(each), _element(kind), default, about["help"], choices, *limits, required=required, many=many)
            )
    return found


def _element(kind: Any) -> type:
    """Type of one value: `str` of choices, the type of the elements of a tuple, else the type itself."""
    if get_origin(kind) is tuple:
        return get_args(kind)[0]
    return str if get_origin(kind) is Literal else kind


def build(settings: Callable[..., Settings], values: Mapping[str, Any]) -> Settings:
    """Settings from values by flag name; other names are ignored, missing ones keep their defaults.

    Raises:
        UsageError: If a value is out of its range, or no number where numbers are expected.
    """
    types, chosen = get_type_hints(settings), {}
    for each in fields(settings):  # type: ignore[arg-type] # Callable is how mypy wants a class that returns Settings
        kind = types[each.name]
        if is_dataclass(kind) and isinstance(kind, type):
            if options(kind):
                chosen[each.name] = build(kind, values)
        elif "help" in each.metadata and _flag(each) in values:
            chosen[each.name] = _value(_flag(each), kind, values[_flag(each)])
    return settings(**chosen)


def _value(flag: str, kind: Any, value: Any) -> Any:
    """Value of a field from that of its flag: of a tuple, its elements, which a flag holds as words."""
    if get_origin(kind) is not tuple:
        return value
    try:
        return tuple(_element(kind)(each) for each in value)
    except ValueError:
        given = ",".join(map(str, value))
        raise UsageError(f"--{flag} expects numbers with commas between them, such as 1,3, not {given!r}") from None


def check(settings: Any) -> None:
    """Compares every option of a settings object with its limits and choices.

    Raises:
        UsageError: For the first that is out of its range, with the range.
    """
    types = get_type_hints(type(settings))
    for each in fields(settings):
        if "help" not in each.metadata:
            continue
        value, kind = getattr(settings, each.name), types[each.name]
        choices = get_args(kind) if get_origin(kind) is Literal else ()
        if choices and value not in choices:
            raise UsageError(f"{each.name} must be one of {', '.join(choices)}, not {value!r}")
        for number in value if get_origin(kind) is tuple else (value,):
            _check_limits(each.name, number, each.metadata["minimum"], each.metadata["maximum"])


def _check_limits(name: str, number: Any, low: float | None, high: float | None) -> None:
    if low is not None and high is not None and not low <= number <= high:
        raise UsageError(f"{name} must be between {low:g} and {high:g}, not {number}")
    if low is not None and not low <= number:
        raise UsageError(f"{name} must be at least {low:g}, not {number}")


def _flag(each: Any) -> str:
    return each.metadata["flag"] or each.name
