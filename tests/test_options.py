"""Options of settings classes: their limits hold, nested ones are found, and values by flag name build the settings."""

from dataclasses import dataclass, field
from typing import Literal

import pytest

from stan_ct.errors import UsageError
from stan_ct.options import Option, build, check, option, options


@dataclass(frozen=True)
class Inner:
    """Nested settings, with a flag of another name than the field."""

    size: int = option(3, help="Size.", minimum=1, flag="inner_size")
    kind: Literal["a", "b"] = option("a", help="Kind.")

    def __post_init__(self):
        check(self)


@dataclass(frozen=True)
class Outer:
    """Settings with a required option, a limited one, a nested class, and a field that is no option."""

    path: str = option(help="Path.")
    share: float = option(0.5, help="Share.", minimum=0, maximum=1)
    inner: Inner = field(default_factory=Inner)
    note: str = "no option"

    def __post_init__(self):
        check(self)


def test_options_are_found_in_order():
    """Every option, nested ones in their place, with type, default, limits and choices; other fields are none."""
    assert options(Outer) == [
        Option("path", str, None, "Path.", required=True),
        Option("share", float, 0.5, "Share.", minimum=0, maximum=1),
        Option("inner_size", int, 3, "Size.", minimum=1),
        Option("kind", str, "a", "Kind.", choices=("a", "b")),
    ]


def test_build():
    """Values by flag name find their fields; missing ones keep their defaults, and names of other settings are ignored."""
    assert build(Outer, {"path": "p", "inner_size": 7, "other": 1}) == Outer("p", inner=Inner(7))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"share": -0.01}, "share must be between 0 and 1, not -0.01"),
        ({"share": 1.01}, "share must be between 0 and 1, not 1.01"),
        ({"inner_size": 0}, "size must be at least 1, not 0"),
        ({"kind": "c"}, "kind must be one of a, b, not 'c'"),
    ],
)
def test_limits(values, message):
    """A value outside its limits is refused with what is allowed; the limits themselves are allowed."""
    with pytest.raises(UsageError, match=message.replace(".", r"\.")):
        build(Outer, {"path": "p", **values})
    for allowed in ({"share": 0.0}, {"share": 1.0}, {"inner_size": 1}, {"kind": "b"}):
        build(Outer, {"path": "p", **allowed})


@dataclass(frozen=True)
class Lists:
    """Settings that hold tuples."""

    folders: tuple[str, ...] = option(help="Folders.", repeated=True)
    sizes: tuple[float, ...] = option((1.0, 2.5), help="Sizes.", minimum=0)

    def __post_init__(self):
        check(self)


def test_tuples():
    """A tuple is a flag of many values, whose words become its elements; each element keeps the limits."""
    assert options(Lists) == [
        Option("folders", str, None, "Folders.", required=True, many="repeated"),
        Option("sizes", float, (1.0, 2.5), "Sizes.", minimum=0, many="commas"),
    ]
    assert build(Lists, {"folders": ["a", "b"], "sizes": ["3", "0"]}) == Lists(("a", "b"), (3.0, 0.0))
    with pytest.raises(UsageError, match="--sizes expects numbers with commas between them, such as 1,3, not '3,x'"):
        build(Lists, {"folders": ["a"], "sizes": ["3", "x"]})
    with pytest.raises(UsageError, match=r"sizes must be at least 0, not -0\.5"):
        build(Lists, {"folders": ["a"], "sizes": ["3", "-0.5"]})
