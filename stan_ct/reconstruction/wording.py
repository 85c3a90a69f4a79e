"""Numbers and lists as people write them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

FEW = 3
"""Number of examples that are named where there are many."""


def with_minus(number: str) -> str:
    """A printed number with a true minus sign."""
    return number.replace("-", "\N{MINUS SIGN}")


def in_ascii(text: str) -> str:
    """A text with the signs of ASCII for those that have one there, and "?" for the others.

    Example:
        >>> in_ascii("\N{PLUS-MINUS SIGN}5 HU, slices 2\N{EN DASH}3")
        '+-5 HU, slices 2-3'
    """
    signs = {"\N{MINUS SIGN}": "-", "\N{EN DASH}": "-", "\N{PLUS-MINUS SIGN}": "+-", "\N{MULTIPLICATION SIGN}": "x"}
    for sign, plain in signs.items():
        text = text.replace(sign, plain)
    return text.encode("ascii", "replace").decode()


def counted(count: int, singular: str, plural: str = "") -> str:
    """A number and what it counts; by default the plural ends with s.

    Example:
        >>> counted(1, "slice"), counted(2, "slice"), counted(2, "series", "series")
        ('1 slice', '2 slices', '2 series')
    """
    return f"{count} {singular if count == 1 else plural or singular + 's'}"


def first_few(values: Sequence[str], separator: str = ", ") -> str:
    """The first few of the values, and how many more there are.

    Example:
        >>> first_few(["a", "b", "c", "d", "e"])
        'a, b, c and 2 more'
    """
    more = len(values) - FEW
    return separator.join(values[:FEW]) + (f" and {more} more" if more > 0 else "")


def in_words(key: str) -> str:
    """A key, such as `out_of_protocol`, in words."""
    return key.replace("_", " ")


def number_ranges(numbers: Iterable[int]) -> str:
    """Ascending numbers in short.

    Example:
        >>> number_ranges([1, 2, 3, 7, 9, 10])
        '1\N{EN DASH}3, 7, 9\N{EN DASH}10'
    """
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number in (ranges[-1][-1], ranges[-1][-1] + 1):
            ranges[-1][1:] = [number]
        else:
            ranges.append([number])
    return ", ".join("\N{EN DASH}".join(map(str, dict.fromkeys(ends))) for ends in ranges)
