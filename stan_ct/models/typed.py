"""Values out of JSON as frozen dataclasses: every value has the type of its field, or the first that has not is named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

LARGEST = 1e300
"""Numbers are smaller in amount."""


def typed(kind: Any, value: Any, name: str, types: Mapping[str, Any] | None = None) -> Any:
    """A value as its type says.

    Args:
        kind: `bool`, `int`, `float`, `str`, `Any`, a `Literal`, a tuple, a dict with text for keys, a dataclass, or one of
            these or None.
        value: Value out of JSON.
        name: Name of the value, for messages.
        types: Names of types that annotations use and their module does not import.
    Returns:
        The value; lists have become tuples, and objects dataclasses.
    Raises:
        TypeError: If it is of another type, or a number is not finite; an object that has keys too many or too few.
    """
    origin, parts = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin in (Union, UnionType):
        (other,) = (part for part in parts if part is not NoneType)
        return None if value is None else typed(other, value, name, types)
    if origin is Literal:
        if not isinstance(value, str) or value not in parts:
            raise TypeError(f"{name} is {_shown(value)}, expected one of {', '.join(parts)}")
        return value
    if origin is tuple:
        return _tuple(parts, value, name, types)
    if origin is dict:
        items = _object(value, name)
        return {key: typed(parts[1], each, f"{name}.{key}", types) for key, each in items.items()}
    if is_dataclass(kind) and isinstance(kind, type):
        return _dataclass(kind, value, name, types)
    return _plain(kind, value, name)


def _plain(kind: type, value: Any, name: str) -> Any:
    """A truth value, number or text."""
    numbers = (int, float) if kind is float else kind
    if not isinstance(value, numbers) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{name} is {_shown(value)}, expected {kind.__name__}")
    if isinstance(value, int | float) and kind is float and not abs(value) < LARGEST:  # NaN neither
        raise TypeError(f"{name} is {_shown(value)}, expected a finite number")
    return value


def _tuple(parts: tuple[Any, ...], value: Any, name: str, types: Mapping[str, Any] | None) -> tuple:
    if not isinstance(value, list | tuple):
        raise TypeError(f"{name} is {_shown(value)}, expected a list")
    kinds = [parts[0]] * len(value) if parts[-1] is Ellipsis else parts
    if len(kinds) != len(value):
        raise TypeError(f"{name} has {len(value)} values, expected {len(kinds)}")
    if set(kinds) == {float} and all(type(each) is float and abs(each) < LARGEST for each in value):
        return tuple(value)  # curves are long
    return tuple(typed(kind, each, name, types) for kind, each in zip(kinds, value, strict=True))


def _dataclass(kind: type, value: Any, name: str, types: Mapping[str, Any] | None) -> Any:
    items, hints = _object(value, name), get_type_hints(kind, localns=dict(types or {}))
    known = {each.name: each for each in fields(kind)}
    if unknown := items.keys() - known.keys():
        raise TypeError(f"{name} has {', '.join(sorted(map(_shown, unknown)))}, which is not known")
    lacking = [n for n, e in known.items() if n not in items and e.default is MISSING and e.default_factory is MISSING]
    if lacking:
        raise TypeError(f"{name} lacks {', '.join(map(repr, lacking))}")
    return kind(**{key: typed(hints[key], each, f"{name}.{key}", types) for key, each in items.items()})


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{name} is {_shown(value)}, expected an object")
    return value


def _shown(value: Any) -> str:
    """A value in at most 40 printable characters."""
    text = ascii(value) if not isinstance(value, int) or abs(value) < 10**40 else "a huge number"
    return text if len(text) <= 40 else f"{text[:37]}..."
